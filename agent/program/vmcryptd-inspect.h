/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptd-inspect.h - asks the helper that may look at disks
 *
 * One JSON object each way over /run/vmcrypt/inspect.sock. Several who ask for the volumes at the
 * same time share one look. Never blocks the loop.
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/json.h"

#define INSPECT_SOCKET          "/run/vmcrypt/inspect.sock"
#define INSPECT_REPLY_MAX_BYTES (4 * 1024 * 1024)
#define INSPECT_VOLUMES_TIMEOUT_S                                                                  \
	60 /* a second is usual; a machine at work on many volumes takes longer */
#define INSPECT_CHECK_TIMEOUT_S 180 /* it makes a round trip to the vault, with retries */
#define INSPECT_SHARED_MS       500 /* so long is a look at the volumes good for others too */

struct inspector;

/* @r: 0, and then @reply is borrowed and an object; or -errno */
typedef void (*inspect_done)(int r, struct json_object *reply, void *userdata);

int inspector_new(struct sd_event *event, struct inspector **ret);
struct inspector *inspector_free(struct inspector *inspector);
void inspector_freep(struct inspector **inspector);

int inspect_volumes(struct inspector *inspector, const char *volume_type, inspect_done done,
		    void *userdata);
int inspect_check(struct inspector *inspector, struct json_object *request, inspect_done done,
		  void *userdata);

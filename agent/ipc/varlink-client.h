/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ipc/varlink-client.h - calls one method at a time and waits for the replies
 *
 * For programs that have nothing else to do meanwhile. Bounds what a reply may be; never logs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

#define VARLINK_REPLY_MAX_BYTES                                                                    \
	(8 * 1024 * 1024) /* the status of a machine with hundreds of volumes */

struct varlink_client;

struct varlink_answer {
	char *error;                    /* whole name, or NULL */
	struct json_object *parameters; /* an object, maybe empty */
	bool continues;                 /* another one follows */
};

void varlink_answer_clear(struct varlink_answer *answer);

int varlink_client_connect(const char *path, struct varlink_client **ret);
struct varlink_client *varlink_client_free(struct varlink_client *client);
void varlink_client_freep(struct varlink_client **client);

int varlink_client_call(struct varlink_client *client, const char *method,
			struct json_object *parameters, bool wants_more);
int varlink_client_receive(struct varlink_client *client, int timeout_ms,
			   struct varlink_answer *ret);
int varlink_client_fd(const struct varlink_client *client);

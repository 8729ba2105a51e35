/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptd-show.h - calls that need a look at the disks
 *
 * Show, Volumes and Check: the inspector looks, the jobs' reports add rate and time left, the
 * caller gets one reply, or with "more" one each second while a worker runs.
 */
#pragma once

#include <systemd/sd-event.h>

#include "ipc/varlink-server.h"
#include "program/vmcryptd-inspect.h"
#include "program/vmcryptd-jobs.h"

struct shows;

int shows_new(struct sd_event *event, struct jobs *jobs, struct inspector *inspector,
	      struct shows **ret);
struct shows *shows_free(struct shows *shows);
void shows_job_changed(struct shows *shows);

int show_status(struct shows *shows, struct varlink_call *call);
int show_volumes(struct shows *shows, struct varlink_call *call, const char *volume_type);
int show_check(struct shows *shows, struct varlink_call *call, const struct request *request);
int show_reply_failed(struct varlink_call *call, const char *what, const char *remedy);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/convert.h - the long part: a process for each volume that moves its data
 *
 * The child has locked all its memory, touches no filesystem, and tells its progress through shared
 * memory; so a step of one volume can hang without holding the others or the report. It stops only
 * between two steps.
 */
#pragma once

#include "job/job.h"

struct conversion {
	struct job *job;
	pid_t pid;                         /* 0: has ended */
	int condition;                     /* when it has ended: 0, REENCRYPT_E_* or -errno */
	struct conversion_state *shared;   /* with the child */
	struct conversion_sample *samples; /* of the last half minute, for the rate */
	size_t n_samples;
};

void convert_request_stop(void); /* async-signal-safe */
bool convert_is_stopping(void);

int convert_start(struct job *job, struct conversion *ret);
int convert_wait(struct plan *plan, struct conversion *conversions, size_t n);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/job.h - runs the steps of one volume
 *
 * A step can look at the world and say whether it is done already, and its yes implies every step
 * above it. So the run asks from the bottom up and begins below the first yes: a restart is a run,
 * there is no other resume code. Asked from the top, a finished volume whose snapshot has been
 * tidied away would look like one that has never begun, and would be formatted again.
 */
#pragma once

#include "job/plan.h"
#include "key/client.h"

struct step {
	const char *name;             /* as in log, journal, report */
	int (*done)(struct job *job); /* 1 yes, 0 no, <0 cannot tell; asks the disk. NULL: always
					 asked */
	int (*apply)(struct job *job);
	int (*undo)(struct job *job); /* NULL: nothing to undo */
	bool commits;                 /* from here on only forward */
};

struct steps {
	const struct step *steps;
	size_t n;
};

enum {
	JOB_E_LATER =
		1,  /* the key service did not answer, or a stop was asked for: run again later */
	JOB_E_BOOT, /* the next boot is waited for */
	JOB_E_STOPPED, /* stopped between two steps, also those of a conversion, as asked */
};

int job_look(struct job *job);
bool job_is_at_another(const struct job *job);
bool job_is_away(const struct job *job);
bool job_outlasts_silence(const struct job *job);
int job_wait_for_disk(struct job *job);
int job_run(struct job *job, const struct steps *steps, const char *until);
int job_passphrase(struct job *job);
int job_attach(struct job *job);
const char *job_header_file(const struct job *job);
int job_header_ending(const struct job *job, char **ret);
int job_settle(void);
int job_reload(void);
int job_fail(struct job *job, int r, const char *code, const char *remedy, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
void job_step(struct job *job, const char *name);
int job_fail_key(struct job *job, const struct key_result *result, const char *what);

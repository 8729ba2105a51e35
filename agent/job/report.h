/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/report.h - what people and machines are told
 *
 * A fault is one reason: a stable code, the volume, the step, one sentence on what happened and one
 * on what to do. The report of a job holds its faults and the progress of its volumes; the worker
 * replaces /run/vmcrypt/jobs/ID/report.json with it (and /var/lib/vmcrypt/jobs/ID/report.json when
 * the job ends), and the daemon passes it on unchanged.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"

enum fault_level {
	FAULT_ERROR,   /* stops the job (or would) */
	FAULT_WARNING, /* goes on */
};

struct fault {
	enum fault_level level;
	const char *code; /* "volume-busy": stable, lower case, from the table in preflight.c and
			     steps.c */
	char *volume;     /* UUID, or NULL for the machine */
	char *step;       /* or NULL */
	char *what, *remedy;
};

struct faults {
	struct fault *faults;
	size_t n;
};

void faults_clear(struct faults *faults);
int faults_add(struct faults *faults, enum fault_level level, const char *code, const char *volume,
	       const char *step, const char *remedy, const char *what_format, ...)
	__attribute__((format(printf, 7, 8)));
size_t faults_count(const struct faults *faults, enum fault_level level);
int faults_to_json(const struct faults *faults, struct json_object **ret);

enum job_state {
	JOB_WAITING, /* for the next boot, or paused */
	JOB_RUNNING,
	JOB_DONE,
	JOB_FAILED,
};

struct report_volume {
	char *uuid;       /* of the filesystem */
	const char *step; /* name of the step that runs, or NULL */
	enum job_state state;
	uint64_t size_bytes, done_bytes; /* of the conversion */
	uint64_t rate_bytes;             /* a second, over the last half minute; 0 = unknown */
	int64_t left_s;                  /* -1 = unknown */
};

struct report {
	char *job;
	const char *kind;
	enum job_state state;
	bool is_prepared;   /* every volume is past the point of no return: a client need not wait
			       longer */
	bool needs_restart; /* a volume waits for the next boot */
	char *recovery_socket; /* connect, read the recovery key to the end: it comes once. NULL =
				  none waits */
	struct faults faults;
	struct report_volume *volumes;
	size_t n_volumes;
};

const char *job_state_to_string(enum job_state state);
int report_to_json(const struct report *report, struct json_object **ret);
void report_clear(struct report *report);

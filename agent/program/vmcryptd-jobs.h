/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptd-jobs.h - every job that is known, and what is told of it
 *
 * A job is open until its folder holds a final report; the worker does the work, this follows it.
 * At start each open job that is not paused is started again: a restart is a run. Never looks at a
 * disk.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/json.h"
#include "job/request.h"

struct job_entry {
	struct job_entry *next;
	struct jobs *jobs;
	char *id;
	struct request *request; /* NULL: request.json is damaged, the job is never started */

	struct json_object *report; /* what is told now: varlink type Report; never NULL */
	bool is_final;
	bool is_paused;
	bool is_active; /* its worker runs, or has been asked to */

	bool is_new;      /* no worker has run yet */
	bool is_stopping; /* the worker has been asked to stop */
	bool has_spoken;  /* the report is a worker's */
	struct sd_event_source *watch, *settle;
};

struct jobs;

int jobs_new(struct sd_event *event, void (*changed)(const struct job_entry *entry, void *userdata),
	     void *userdata, struct jobs **ret);
struct jobs *jobs_free(struct jobs *jobs);
void jobs_freep(struct jobs **jobs);

int jobs_load(struct jobs *jobs);
const struct job_entry *jobs_find_overlap(const struct jobs *jobs, const struct request *request);
int jobs_add(struct jobs *jobs, struct request *request, const struct job_entry **ret);
int jobs_cancel(struct jobs *jobs, const char *id, const struct request *request);
int jobs_pause(struct jobs *jobs);
int jobs_resume(struct jobs *jobs);

bool jobs_are_active(const struct jobs *jobs);
bool job_entry_is_prepared(const struct job_entry *entry);
int jobs_reports(const struct jobs *jobs, struct json_object **ret);

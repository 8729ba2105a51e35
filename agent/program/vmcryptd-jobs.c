/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptd-jobs.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "program/vmcryptd-entry.h"
#include "program/vmcryptd-report.h"
#include "program/vmcryptd-store.h"

#define CREATE_TRIES 8 /* for a free number within this second, out of 65,536 */

static void entry_append(struct jobs *jobs, struct job_entry *entry)
{
	struct job_entry **link = &jobs->entries;

	while (*link)
		link = &(*link)->next;
	*link = entry;
}

static struct job_entry *entry_find(const struct jobs *jobs, const char *id)
{
	for (struct job_entry *at = jobs->entries; at; at = at->next)
		if (strcmp(at->id, id) == 0)
			return at;
	return NULL;
}

static void on_not_started(const char *id, const char *what, void *userdata)
{
	struct jobs *jobs = userdata;
	struct job_entry *entry = entry_find(jobs, id);
	_cleanup_(freep) char *sentence = NULL;

	if (!entry)
		return;
	entry->is_active = false;
	if (text_format(&sentence, "The worker could not be started: %s", what) < 0)
		return;
	if (entry->is_new) {
		struct json_object *report;

		log_error("Job %s: %s", id, sentence);
		/* no worker has touched anything: the job ends here, and is not started some day
		 * later */
		if (daemon_report_override(
			    entry->report, JOB_FAILED, "worker-not-started",
			    "Nothing has been changed. Ask again when the service manager "
			    "starts units.",
			    sentence, &report) < 0)
			return;
		entry->is_final = store_job_write_final(id, report) == 0;
		entry_set_report(entry, report);
	} else {
		entry_died(entry, "worker-not-started", sentence);
	}
}

static void on_ended(const char *id, void *userdata)
{
	struct jobs *jobs = userdata;
	struct job_entry *entry = entry_find(jobs, id);
	bool was_stopping;

	if (!entry || entry->is_final)
		return;
	was_stopping = entry->is_stopping;
	/* first what it has left, which is not its last word yet: that is said below */
	entry_refresh(entry);
	entry->is_active = entry->is_new = entry->is_stopping = false;
	if (entry->is_final)
		return;
	if (entry->is_paused)
		entry_override(entry, JOB_WAITING, NULL, NULL, NULL);
	else if (was_stopping)
		entry_restart(entry);
	else if (entry->has_spoken && strcmp(entry_state(entry), "running") != 0)
		/* it waits, or it has failed and said why */
		jobs->changed(entry, jobs->userdata);
	else
		entry_died(
			entry, "worker-died",
			"The worker has ended without saying why. The volumes keep their data and "
			"can be unlocked.");
}

static const struct units_callbacks callbacks = {
	.not_started = on_not_started,
	.ended = on_ended,
};

int jobs_new(struct sd_event *event, void (*changed)(const struct job_entry *entry, void *userdata),
	     void *userdata, struct jobs **ret)
{
	_cleanup_(jobs_freep) struct jobs *jobs = calloc(1, sizeof(*jobs));
	int r;

	if (!jobs)
		return -ENOMEM;
	jobs->event = sd_event_ref(event);
	jobs->changed = changed;
	jobs->userdata = userdata;
	r = units_new(event, &callbacks, jobs, &jobs->units);
	if (r < 0)
		return r;
	*ret = steal(jobs);
	return 0;
}

struct jobs *jobs_free(struct jobs *jobs)
{
	if (!jobs)
		return NULL;
	while (jobs->entries) {
		struct job_entry *entry = jobs->entries;

		jobs->entries = entry->next;
		(void)entry_free(entry);
	}
	(void)units_free(jobs->units);
	(void)sd_event_unref(jobs->event);
	free(jobs);
	return NULL;
}

void jobs_freep(struct jobs **jobs)
{
	(void)jobs_free(*jobs);
}

static int entry_new(struct jobs *jobs, const char *id, struct job_entry **ret)
{
	struct job_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return -ENOMEM;
	entry->jobs = jobs;
	entry->id = strdup(id);
	if (!entry->id) {
		free(entry);
		return -ENOMEM;
	}
	*ret = entry;
	return 0;
}

static int load_one(struct jobs *jobs, const char *id)
{
	_cleanup_(entry_freep) struct job_entry *entry = NULL;
	int r;

	r = entry_new(jobs, id, &entry);
	if (r == 0)
		r = store_job_read_request(id, &entry->request);
	if (r >= 0)
		r = store_job_is_paused(id);
	if (r < 0)
		return r;
	entry->is_paused = r > 0;
	store_job_arm_reboot(id);
	r = daemon_report_blank(id, entry->request, &entry->report);
	if (r < 0)
		return r;
	entry_refresh(entry);
	if (!entry->request && !entry->is_final)
		entry_override(entry, JOB_FAILED, "request-damaged",
			       "See \"vmcryptctl show\" for the state of the volumes, and ask "
			       "again for what is missing.",
			       "The job's request cannot be read, so the job is not started.");
	entry_append(jobs, steal(entry));
	return 0;
}

/* Old finished jobs are history: only the last ones are kept. */
static void prune(struct jobs *jobs)
{
	size_t n = 0;

	for (const struct job_entry *at = jobs->entries; at; at = at->next)
		n += at->is_final;
	for (struct job_entry **link = &jobs->entries; *link && n > STORE_FINISHED_KEPT;) {
		struct job_entry *entry = *link;

		if (!entry->is_final || store_job_remove(entry->id) < 0) {
			link = &entry->next;
			continue;
		}
		*link = entry->next;
		(void)entry_free(entry);
		n--;
	}
}

/** jobs_load() - find all jobs, and start the open ones. Return: 0 or -errno. */
int jobs_load(struct jobs *jobs)
{
	_cleanup_(store_names_clear) struct store_names names = { 0 };
	int r;

	r = store_list_jobs(&names);
	if (r < 0)
		return log_error_errno(r, "Cannot read " STORE_JOBS_DIRECTORY ": %m");
	for (size_t i = 0; i < names.n; i++) {
		r = load_one(jobs, names.names[i]);
		if (r < 0)
			return log_error_errno(r, "Job %s: cannot be loaded: %m", names.names[i]);
	}
	prune(jobs);
	for (struct job_entry *at = jobs->entries; at; at = at->next)
		if (at->request && !at->is_final && !at->is_paused)
			entry_restart(at);
	return 0;
}

/** jobs_find_overlap() - an open job that may want the same volumes, or NULL */
const struct job_entry *jobs_find_overlap(const struct jobs *jobs, const struct request *request)
{
	for (struct job_entry *at = jobs->entries; at; at = at->next) {
		if (at->is_final || !at->request || !request_may_overlap(at->request, request))
			continue;
		/* it may have ended a moment ago */
		entry_refresh(at);
		if (!at->is_final)
			return at;
	}
	return NULL;
}

/**
 * jobs_add() - make a job durable and start it
 * @request: taken over with 0, else still the caller's
 * @ret:     borrowed
 *
 * Return: 0, or -errno with nothing left behind; -ENOTCONN and the like: no service manager.
 */
int jobs_add(struct jobs *jobs, struct request *request, const struct job_entry **ret)
{
	_cleanup_(entry_freep) struct job_entry *entry = NULL;
	_cleanup_(freep) char *id = NULL;
	int r;

	/* first, so that no job is written that could not start */
	r = units_connect(jobs->units);
	for (int i = 0; r == 0 && i < CREATE_TRIES; i++) {
		r = store_job_create(request, &id);
		if (r != -EEXIST)
			break;
		r = i + 1 < CREATE_TRIES ? 0 : r;
	}
	if (r < 0)
		return r;
	r = entry_new(jobs, id, &entry);
	if (r == 0) {
		entry->request = request;
		entry->is_new = true;
		r = daemon_report_blank(id, entry->request, &entry->report);
	}
	if (r == 0 && request->wants_reboot)
		r = store_job_keep_reboot(id);
	if (r == 0)
		r = entry_start(entry);
	if (r < 0) {
		if (entry)
			entry->request = NULL;
		(void)store_job_remove(id);
		return r;
	}
	log_notice("Job %s: %s.", id, request_kind_to_string(request->kind));
	*ret = entry;
	entry_append(jobs, steal(entry));
	prune(jobs);
	return 0;
}

/**
 * jobs_cancel() - take back a job that does nothing but wait, for a boot, its key or its disk
 * @request: which asks for that
 *
 * Its worker undoes what was prepared, and ends it.
 *
 * Return: 0, -EBUSY (it does more than wait) or -errno.
 */
int jobs_cancel(struct jobs *jobs, const char *id, const struct request *request)
{
	struct job_entry *entry = entry_find(jobs, id);
	bool comes_back;
	int r;

	if (!entry || entry->is_paused)
		return -EBUSY;
	/* half encrypted, and on no machine now: that it is gone for good is said by its name */
	if (entry_misses(entry) && !daemon_report_names_all(entry->report, "volume-away", request))
		return -EBUSY;
	comes_back = entry_comes_back(entry);
	if (entry->request->kind != REQUEST_ENCRYPT && !(comes_back && entry_misses(entry)))
		return -EBUSY;
	if (!comes_back && (entry->is_active || !json_get_bool(entry->report, "restart", false)))
		return -EBUSY;
	r = store_job_cancel(id, request);
	if (r == 0)
		r = entry_blank(entry);
	/* started again when it has stopped */
	if (r == 0 && comes_back) {
		r = units_stop(entry->jobs->units, id);
		entry->is_stopping = r == 0;
		return r;
	}
	if (r < 0)
		return r;
	entry_restart(entry);
	return 0;
}

/** jobs_pause() - stop all open jobs at the next safe place, until jobs_resume(). Return: 0 or
 * -errno. */
int jobs_pause(struct jobs *jobs)
{
	int first = 0, r;

	for (struct job_entry *at = jobs->entries; at; at = at->next) {
		if (at->is_final || !at->request || at->is_paused)
			continue;
		r = store_job_set_paused(at->id, true);
		if (r == 0)
			at->is_paused = true;
		if (r == 0 && at->is_active) {
			r = units_stop(jobs->units, at->id);
			at->is_stopping = r == 0;
		} else if (r == 0) {
			entry_override(at, JOB_WAITING, NULL, NULL, NULL);
		}
		if (r < 0)
			first = first ? first
				      : log_error_errno(r, "Job %s: cannot pause: %m", at->id);
	}
	return first;
}

/** jobs_resume() - go on with all open jobs, also those whose worker died. Return: 0 or -errno. */
int jobs_resume(struct jobs *jobs)
{
	int first = 0, r;

	for (struct job_entry *at = jobs->entries; at; at = at->next) {
		if (at->is_final || !at->request)
			continue;
		r = at->is_paused ? store_job_set_paused(at->id, false) : 0;
		if (r < 0) {
			first = first ? first
				      : log_error_errno(r, "Job %s: cannot resume: %m", at->id);
			continue;
		}
		at->is_paused = false;
		/* one that is still stopping is started again when it has stopped */
		if (at->is_active)
			continue;
		r = entry_blank(at);
		if (r < 0)
			return r;
		entry_restart(at);
	}
	return first;
}

/** jobs_are_active() - does any worker run? */
bool jobs_are_active(const struct jobs *jobs)
{
	for (const struct job_entry *at = jobs->entries; at; at = at->next)
		if (at->is_active && !at->is_final)
			return true;
	return false;
}

/**
 * jobs_reports() - what is told of all open jobs, and of the last that has ended
 * @ret: array of varlink type Report; owned by the caller
 *
 * Return: 0 or -ENOMEM.
 */
int jobs_reports(const struct jobs *jobs, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();
	const struct job_entry *last = NULL;

	if (!array)
		return -ENOMEM;
	for (const struct job_entry *at = jobs->entries; at; at = at->next)
		if (at->is_final)
			last = at;
	for (const struct job_entry *at = jobs->entries; at; at = at->next) {
		struct json_object *report;

		if (at->is_final && at != last)
			continue;
		report = json_object_get(at->report);
		if (json_object_array_add(array, report) < 0) {
			json_object_put(report);
			return -ENOMEM;
		}
	}
	*ret = steal(array);
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptd-jobs.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "job/report.h"
#include "program/vmcryptd-report.h"
#include "program/vmcryptd-store.h"
#include "program/vmcryptd-units.h"

#define SETTLE_USEC  200000ULL /* a report is read at most five times a second */
#define CREATE_TRIES 8         /* for a free number within this second, out of 65,536 */
#define FOLLOW_REMEDY                                                                               \
	"Nothing more is done until it goes on: see \"journalctl -u vmcrypt-worker@%s\", then run " \
	"\"vmcryptctl resume\"."

struct jobs {
	struct sd_event *event;
	struct units *units;
	struct job_entry *entries; /* oldest first */
	void (*changed)(const struct job_entry *entry, void *userdata);
	void *userdata;
};

static struct job_entry *entry_free(struct job_entry *entry)
{
	if (!entry)
		return NULL;
	(void)sd_event_source_disable_unref(entry->watch);
	(void)sd_event_source_disable_unref(entry->settle);
	(void)request_free(entry->request);
	json_object_put(entry->report);
	free(entry->id);
	free(entry);
	return NULL;
}

static void entry_freep(struct job_entry **entry)
{
	(void)entry_free(*entry);
}

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

static const char *entry_state(const struct job_entry *entry)
{
	return json_get_string(entry->report, "state");
}

/** job_entry_is_prepared() - is every volume past the point of no return? */
bool job_entry_is_prepared(const struct job_entry *entry)
{
	return json_get_bool(entry->report, "prepared", false);
}

/* One setter: what is told changes here, is logged when the state does, and reaches who waits for
 * it. */
static void entry_set_report(struct job_entry *entry, struct json_object *report)
{
	_cleanup_(json_putp) struct json_object *old = entry->report;
	const char *before = old ? entry_state(entry) : NULL;

	entry->report = report;
	if (before && strcmp(before, entry_state(entry)) != 0)
		log_notice("Job %s: %s.", entry->id, entry_state(entry));
	entry->jobs->changed(entry, entry->jobs->userdata);
	if (job_entry_is_prepared(entry) && json_get_bool(entry->report, "restart", false) &&
	    store_job_take_reboot(entry->id,
				  daemon_report_has(entry->report, "boot-split-waits"))) {
		int r = units_reboot(entry->jobs->units);

		if (r < 0)
			(void)log_error_errno(r, "Job %s: cannot reboot the machine: %m",
					      entry->id);
		else
			log_notice("Job %s: the machine reboots, as asked.", entry->id);
	}
}

/* Forget what an earlier worker has said. */
static int entry_blank(struct job_entry *entry)
{
	struct json_object *report = NULL;
	int r;

	r = daemon_report_blank(entry->id, entry->request, &report);
	if (r == 0)
		r = store_job_forget_run(entry->id);
	if (r < 0) {
		json_object_put(report);
		return r;
	}
	json_object_put(entry->report);
	entry->report = report;
	entry->has_spoken = false;
	return 0;
}

/* Tell another state than the worker's last report does. */
static void entry_override(struct job_entry *entry, enum job_state state, const char *code,
			   const char *remedy, const char *what)
{
	struct json_object *report;

	if (code)
		log_error("Job %s: %s", entry->id, what);
	if (daemon_report_override(entry->report, state, code, remedy, what, &report) == 0)
		entry_set_report(entry, report);
}

static void entry_died(struct job_entry *entry, const char *code, const char *what)
{
	_cleanup_(freep) char *remedy = NULL;

	if (text_format(&remedy, FOLLOW_REMEDY, entry->id) < 0)
		return;
	entry_override(entry, JOB_FAILED, code, remedy, what);
}

/* Read what the worker has left; a report that is not one leaves the last good one. */
static void entry_refresh(struct job_entry *entry)
{
	struct json_object *report = NULL;
	int r;

	if (entry->is_final)
		return;
	r = store_job_read_final(entry->id, &report);
	if (r == 0 || r == STORE_E_DAMAGED)
		entry->is_final = true;
	if (r == STORE_E_DAMAGED) {
		entry_override(entry, JOB_FAILED, "report-damaged",
			       "Run \"vmcryptctl show\" for the state of the volumes, which is "
			       "read from the disks.",
			       "The job has ended, but its last report cannot be read.");
		return;
	}
	if (r == STORE_E_ABSENT)
		r = store_job_read_run(entry->id, &report);
	if (r == 0)
		entry->has_spoken = true;
	if (r == 0 && json_object_equal(report, entry->report)) {
		json_object_put(report);
		return;
	}
	if (r == 0)
		entry_set_report(entry, report);
	else if (r < 0 || r == STORE_E_DAMAGED)
		log_warning("Job %s: cannot read the worker's report.", entry->id);
}

static int on_settle(struct sd_event_source *source, uint64_t usec, void *userdata)
{
	struct job_entry *entry = userdata;

	entry->settle = sd_event_source_disable_unref(entry->settle);
	entry_refresh(entry);
	return 0;
}

static int on_file(struct sd_event_source *source, const struct inotify_event *event,
		   void *userdata)
{
	struct job_entry *entry = userdata;

	if (!entry->settle)
		(void)sd_event_add_time_relative(entry->jobs->event, &entry->settle,
						 CLOCK_MONOTONIC, SETTLE_USEC, 0, on_settle, entry);
	return 0;
}

static int entry_watch(struct job_entry *entry)
{
	_cleanup_(freep) char *path = NULL;
	int r;

	if (entry->watch)
		return 0;
	r = store_job_prepare_run(entry->id);
	if (r == 0)
		r = text_format(&path, STORE_RUN_DIRECTORY "/%s", entry->id);
	if (r == 0)
		r = sd_event_add_inotify(entry->jobs->event, &entry->watch, path,
					 IN_MOVED_TO | IN_CLOSE_WRITE, on_file, entry);
	return r < 0 ? r : 0;
}

static int entry_start(struct job_entry *entry)
{
	int r;

	r = entry_watch(entry);
	if (r == 0)
		r = units_start(entry->jobs->units, entry->id);
	if (r < 0)
		return r;
	entry->is_active = true;
	entry->is_stopping = false;
	return 0;
}

/* Started again: by the daemon itself, or by a person after a pause or a fault. */
static void entry_restart(struct job_entry *entry)
{
	int r;

	r = entry_start(entry);
	if (r < 0) {
		_cleanup_(freep) char *what = NULL;

		(void)text_format(&what, "The service manager cannot be reached: %s.",
				  strerror(-r));
		entry_died(entry, "worker-not-started", what ? what : "Out of memory.");
		return;
	}
	log_notice("Job %s: started again.", entry->id);
	entry->jobs->changed(entry, entry->jobs->userdata);
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
 * jobs_cancel() - take back a job that does nothing but wait for a boot
 *
 * Its worker undoes what was prepared, and ends it.
 *
 * Return: 0, -EBUSY (it does more than wait) or -errno.
 */
int jobs_cancel(struct jobs *jobs, const char *id)
{
	struct job_entry *entry = entry_find(jobs, id);
	int r;

	if (!entry || entry->is_active || entry->is_paused ||
	    !json_get_bool(entry->report, "restart", false))
		return -EBUSY;
	r = store_job_cancel(id);
	if (r == 0)
		r = entry_blank(entry);
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

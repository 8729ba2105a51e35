/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptd-entry.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "program/vmcryptd-report.h"
#include "program/vmcryptd-store.h"

#define SETTLE_USEC 200000ULL /* a report is read at most five times a second */
#define FOLLOW_REMEDY                                                                               \
	"Nothing more is done until it goes on: see \"journalctl -u vmcrypt-worker@%s\", then run " \
	"\"vmcryptctl resume\"."

struct job_entry *entry_free(struct job_entry *entry)
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

void entry_freep(struct job_entry **entry)
{
	(void)entry_free(*entry);
}

const char *entry_state(const struct job_entry *entry)
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
void entry_set_report(struct job_entry *entry, struct json_object *report)
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
int entry_blank(struct job_entry *entry)
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
void entry_override(struct job_entry *entry, enum job_state state, const char *code,
		    const char *remedy, const char *what)
{
	struct json_object *report;

	if (code)
		log_error("Job %s: %s", entry->id, what);
	if (daemon_report_override(entry->report, state, code, remedy, what, &report) == 0)
		entry_set_report(entry, report);
}

void entry_died(struct job_entry *entry, const char *code, const char *what)
{
	_cleanup_(freep) char *remedy = NULL;

	if (text_format(&remedy, FOLLOW_REMEDY, entry->id) < 0)
		return;
	entry_override(entry, JOB_FAILED, code, remedy, what);
}

/* Read what the worker has left; a report that is not one leaves the last good one. */
void entry_refresh(struct job_entry *entry)
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

int entry_start(struct job_entry *entry)
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
void entry_restart(struct job_entry *entry)
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

bool entry_misses(const struct job_entry *entry)
{
	return daemon_report_has(entry->report, "volume-away");
}

/* Its worker comes back every half a minute: to ask for a key before anything is committed, or to
 * look for a disk. */
bool entry_comes_back(const struct job_entry *entry)
{
	/* "failed": so has another of its volumes */
	bool waits = strcmp(entry_state(entry), "waiting") == 0 ||
		     strcmp(entry_state(entry), "failed") == 0;

	return entry->is_active && entry->has_spoken && !entry->is_stopping && waits &&
	       (entry_misses(entry) || !job_entry_is_prepared(entry));
}

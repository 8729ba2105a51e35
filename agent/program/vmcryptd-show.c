/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptd-show.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "job/report.h"

#define TICK_USEC 1000000ULL /* of a stream of Show */

enum show_kind {
	SHOW_STATUS,
	SHOW_VOLUMES,
	SHOW_CHECK,
};

struct show {
	struct shows *shows;
	struct show *next;
	enum show_kind kind;
	struct varlink_call *call; /* NULL: the caller has gone, only the look is waited for */
	struct request *request;   /* of a check, or NULL */
	bool is_looking;
};

struct shows {
	struct sd_event *event;
	struct jobs *jobs;
	struct inspector *inspector;
	struct sd_event_source *tick;
	struct show *shows;
};

static void show_free(struct show *show)
{
	struct show **link = &show->shows->shows;

	while (*link && *link != show)
		link = &(*link)->next;
	if (*link)
		*link = show->next;
	(void)request_free(show->request);
	free(show);
}

static void on_gone(struct varlink_call *call, void *userdata)
{
	struct show *show = userdata;

	show->call = NULL;
	if (!show->is_looking)
		show_free(show);
}

/** show_reply_failed() - the interface's general error. Return: as varlink_reply(). */
int show_reply_failed(struct varlink_call *call, const char *what, const char *remedy)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	int r;

	if (!parameters)
		return -ENOMEM;
	r = json_set_string(parameters, "what", what);
	if (r == 0)
		r = json_set_string(parameters, "remedy", remedy);
	return r < 0 ? r : varlink_error(call, "Failed", steal(parameters));
}

static int reply_no_look(struct varlink_call *call, int error)
{
	_cleanup_(freep) char *what = NULL;
	int r;

	(void)log_warning_errno(error, "The disks cannot be looked at: %m");
	r = text_format(&what, "The disks cannot be looked at: %s.", strerror(-error));
	return r < 0 ? r
		     : show_reply_failed(call, what,
					 "See \"systemctl status vmcrypt-inspect.socket\" and the "
					 "journal, then try again.");
}

/* The progress of a volume in the reports, by its UUID, or NULL. */
static struct json_object *find_progress(struct json_object *reports, const char *uuid)
{
	for (size_t i = 0; uuid && i < json_object_array_length(reports); i++) {
		struct json_object *report = json_object_array_get_idx(reports, i);
		struct json_object *volumes = json_get_array(report, "volumes");
		const char *state = json_get_string(report, "state");

		if (!volumes || !state || strcmp(state, "running") != 0)
			continue;
		for (size_t j = 0; j < json_object_array_length(volumes); j++) {
			struct json_object *progress = json_object_array_get_idx(volumes, j);
			const char *other = json_get_string(progress, "uuid");

			if (other && strcasecmp(other, uuid) == 0)
				return progress;
		}
	}
	return NULL;
}

/* The inspected volumes, with rate and time left from the reports. */
static int merge(struct json_object *inspected, struct json_object *reports,
		 struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *volumes = NULL;

	if (json_object_deep_copy(inspected, &volumes, NULL) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < json_object_array_length(volumes); i++) {
		struct json_object *volume = json_object_array_get_idx(volumes, i);
		struct json_object *progress =
			find_progress(reports, json_get_string(volume, "uuid"));
		int64_t rate_bytes = json_get_int(progress, "rate_bytes", 0);
		int64_t left_s = json_get_int(progress, "left_s", -1);
		int r = 0;

		if (rate_bytes > 0)
			r = json_set_int(volume, "rate_bytes", rate_bytes);
		if (r == 0 && left_s >= 0)
			r = json_set_int(volume, "left_s", left_s);
		if (r < 0)
			return r;
	}
	*ret = steal(volumes);
	return 0;
}

static int make_volumes(const struct show *show, struct json_object *look, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	_cleanup_(json_putp) struct json_object *reports = NULL;
	struct json_object *inspected = json_get_array(look, "volumes"), *volumes;
	const char *os = json_get_string(look, "os"), *data = json_get_string(look, "data");
	int r;

	if (!inspected || (show->kind == SHOW_STATUS && (!os || !data)))
		return -EBADMSG;
	if (!parameters)
		return -ENOMEM;
	r = jobs_reports(show->shows->jobs, &reports);
	if (r == 0)
		r = merge(inspected, reports, &volumes);
	if (r == 0 && show->kind == SHOW_STATUS)
		r = json_set_string(parameters, "os", os);
	if (r == 0 && show->kind == SHOW_STATUS)
		r = json_set_string(parameters, "data", data);
	if (r == 0)
		r = json_set(parameters, "volumes", volumes);
	if (r == 0 && show->kind == SHOW_STATUS)
		r = json_set(parameters, "reports", steal(reports));
	if (r < 0)
		return r;
	*ret = steal(parameters);
	return 0;
}

/* An open job is a reason too, which the inspector does not know. */
static int add_running(const struct show *show, struct json_object *array)
{
	const struct job_entry *entry =
		show->request->kind == REQUEST_CHECK
			? NULL
			: jobs_find_overlap(show->shows->jobs, show->request);
	_cleanup_(faults_clear) struct faults faults = { 0 };
	_cleanup_(json_putp) struct json_object *added = NULL;
	int r;

	if (!entry)
		return 0;
	r = faults_add(&faults, FAULT_ERROR, "job-running", NULL, NULL,
		       "Wait until it has ended: \"vmcryptctl show --watch\".",
		       "The job %s has not ended yet.", entry->id);
	if (r == 0)
		r = faults_to_json(&faults, &added);
	if (r < 0)
		return r;
	return json_object_array_add(array, json_object_get(json_object_array_get_idx(added, 0))) <
			       0
		       ? -ENOMEM
		       : 0;
}

static int make_check(const struct show *show, struct json_object *look, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	struct json_object *faults = json_get_array(look, "faults");
	struct json_object *plan = json_get_array(look, "plan");
	int r;

	if (!faults || !plan)
		return -EBADMSG;
	if (!parameters)
		return -ENOMEM;
	r = add_running(show, faults);
	if (r == 0)
		r = json_set(parameters, "faults", json_object_get(faults));
	if (r == 0)
		r = json_set(parameters, "plan", json_object_get(plan));
	if (r < 0)
		return r;
	*ret = steal(parameters);
	return 0;
}

static int make_reply(const struct show *show, struct json_object *look, struct json_object **ret)
{
	switch (show->kind) {
	case SHOW_STATUS:
	case SHOW_VOLUMES:
		return make_volumes(show, look, ret);
	case SHOW_CHECK:
		return make_check(show, look, ret);
	}
	return -EINVAL;
}

/* Answer with an error and be done. */
static void show_fail(struct show *show, int r, struct json_object *look)
{
	const char *what = json_get_string(look, "error"), *remedy;
	struct varlink_call *call = show->call;

	show_free(show);
	remedy = json_get_string(look, "remedy");
	if (what)
		(void)show_reply_failed(call, what, remedy ? remedy : "");
	else
		(void)reply_no_look(call, r);
}

static void on_looked(int r, struct json_object *look, void *userdata)
{
	struct json_object *parameters = NULL;
	struct show *show = userdata;
	struct varlink_call *call = show->call;

	show->is_looking = false;
	if (!call) {
		show_free(show);
		return;
	}
	if (r == 0)
		r = json_get_string(look, "error") ? -EIO : make_reply(show, look, &parameters);
	if (r < 0) {
		show_fail(show, r, look);
		return;
	}
	if (show->kind == SHOW_STATUS && varlink_call_wants_more(call) &&
	    jobs_are_active(show->shows->jobs)) {
		(void)varlink_reply_more(call, parameters);
		return;
	}
	show_free(show);
	(void)varlink_reply(call, parameters);
}

static void on_look_failed(struct show *show, int r)
{
	show->is_looking = false;
	show_fail(show, r, NULL);
}

static void show_look(struct show *show)
{
	int r;

	show->is_looking = true;
	r = inspect_volumes(show->shows->inspector, "All", on_looked, show);
	if (r < 0)
		on_look_failed(show, r);
}

/* Streams are looked after each second; the last look is the one that finds no worker running. */
static int on_tick(struct sd_event_source *source, uint64_t usec, void *userdata)
{
	struct shows *shows = userdata;
	struct show *next;

	for (struct show *at = shows->shows; at; at = next) {
		next = at->next;
		if (at->kind == SHOW_STATUS && at->call && !at->is_looking)
			show_look(at);
	}
	shows_job_changed(shows);
	return 0;
}

/** shows_job_changed() - let the clock of the streams run, if there is any */
void shows_job_changed(struct shows *shows)
{
	int enabled;

	/* a clock that runs is left alone: changes come more often than it ticks */
	if (!shows || !shows->shows || sd_event_source_get_enabled(shows->tick, &enabled) < 0 ||
	    enabled != SD_EVENT_OFF)
		return;
	(void)sd_event_source_set_time_relative(shows->tick, TICK_USEC);
	(void)sd_event_source_set_enabled(shows->tick, SD_EVENT_ONESHOT);
}

int shows_new(struct sd_event *event, struct jobs *jobs, struct inspector *inspector,
	      struct shows **ret)
{
	struct shows *shows = calloc(1, sizeof(*shows));
	int r;

	if (!shows)
		return -ENOMEM;
	*shows = (struct shows){ .event = event, .jobs = jobs, .inspector = inspector };
	r = sd_event_add_time_relative(event, &shows->tick, CLOCK_MONOTONIC, TICK_USEC, 0, on_tick,
				       shows);
	if (r >= 0)
		r = sd_event_source_set_enabled(shows->tick, SD_EVENT_OFF);
	if (r < 0) {
		(void)shows_free(shows);
		return r;
	}
	*ret = shows;
	return 0;
}

/** shows_free() - after the server and the inspector, which both hold what is in here */
struct shows *shows_free(struct shows *shows)
{
	if (!shows)
		return NULL;
	while (shows->shows)
		show_free(shows->shows);
	(void)sd_event_source_disable_unref(shows->tick);
	free(shows);
	return NULL;
}

static int show_new(struct shows *shows, struct varlink_call *call, enum show_kind kind,
		    struct show **ret)
{
	struct show *show = calloc(1, sizeof(*show));

	if (!show)
		return -ENOMEM;
	*show = (struct show){ .shows = shows, .next = shows->shows, .kind = kind, .call = call };
	shows->shows = show;
	varlink_call_on_gone(call, on_gone, show);
	*ret = show;
	return 0;
}

/** show_status() - answer Show. Return: 0 or -ENOMEM. */
int show_status(struct shows *shows, struct varlink_call *call)
{
	struct show *show;
	int r;

	r = show_new(shows, call, SHOW_STATUS, &show);
	if (r < 0)
		return r;
	show_look(show);
	shows_job_changed(shows);
	return 0;
}

/** show_volumes() - answer Volumes; @volume_type is All, OS or Data. Return: 0 or -ENOMEM. */
int show_volumes(struct shows *shows, struct varlink_call *call, const char *volume_type)
{
	struct show *show;
	int r;

	r = show_new(shows, call, SHOW_VOLUMES, &show);
	if (r < 0)
		return r;
	show->is_looking = true;
	r = inspect_volumes(shows->inspector, volume_type, on_looked, show);
	if (r < 0)
		on_look_failed(show, r);
	return 0;
}

/** show_check() - answer Check; @request is copied. Return: 0 or -ENOMEM. */
int show_check(struct shows *shows, struct varlink_call *call, const struct request *request)
{
	_cleanup_(request_problems_clear) struct request_problems problems = { 0 };
	_cleanup_(json_putp) struct json_object *object = NULL;
	struct show *show;
	int r;

	r = request_to_json(request, &object);
	if (r < 0)
		return r;
	r = show_new(shows, call, SHOW_CHECK, &show);
	if (r < 0)
		return r;
	show->is_looking = true;
	r = request_from_json(object, &show->request, &problems);
	if (r == 0 && !show->request)
		r = -ENOTRECOVERABLE;
	if (r == 0)
		r = inspect_check(shows->inspector, object, on_looked, show);
	if (r < 0)
		on_look_failed(show, r);
	return 0;
}

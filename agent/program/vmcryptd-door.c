/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptd-door.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "ipc/varlink-server.h"
#include "job/report.h"
#include "program/vmcryptd-inspect.h"
#include "program/vmcryptd-jobs.h"
#include "program/vmcryptd-show.h"
#include "program/vmcryptd-store.h"

/* clang-format off */
static const char description[] =
#include "program/io.vmcrypt.Agent.inc"
	;
/* clang-format on */

/* A call that waits for its job; without "more" only until the job is prepared. */
struct waiter {
	struct waiter *next;
	struct door *door;
	struct varlink_call *call;
	char *id;
};

struct door {
	struct sd_event *event;
	struct jobs *jobs;
	struct inspector *inspector;
	struct shows *shows;
	struct varlink_server *server;
	struct waiter *waiters;
};

static int reply_failed(struct varlink_call *call, const char *what, const char *remedy)
{
	return show_reply_failed(call, what, remedy);
}

static void waiter_free(struct waiter *waiter)
{
	struct waiter **link = &waiter->door->waiters;

	while (*link && *link != waiter)
		link = &(*link)->next;
	if (*link)
		*link = waiter->next;
	free(waiter->id);
	free(waiter);
}

static void on_waiter_gone(struct varlink_call *call, void *userdata)
{
	waiter_free(userdata);
}

static int reply_report(struct varlink_call *call, const struct job_entry *entry, bool is_last)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	int r;

	if (!parameters)
		return -ENOMEM;
	r = json_set(parameters, "report", json_object_get(entry->report));
	if (r < 0)
		return r;
	return is_last ? varlink_reply(call, steal(parameters))
		       : varlink_reply_more(call, steal(parameters));
}

/* Return: true when the call has had its last reply. */
static bool report_to(struct varlink_call *call, const struct job_entry *entry)
{
	/* a job whose worker has ended is not going on by itself: it waits, has failed or is done
	 */
	bool has_ended = entry->is_final || !entry->is_active;
	bool wants_more = varlink_call_wants_more(call);
	bool is_last = has_ended || (!wants_more && job_entry_is_prepared(entry));

	if (is_last || wants_more)
		(void)reply_report(call, entry, is_last);
	return is_last;
}

static void on_job_changed(const struct job_entry *entry, void *userdata)
{
	struct door *door = userdata;
	struct waiter *next;

	for (struct waiter *at = door->waiters; at; at = next) {
		next = at->next;
		if (strcmp(at->id, entry->id) == 0 && report_to(at->call, entry))
			waiter_free(at);
	}
	shows_job_changed(door->shows);
}

static int wait_for(struct door *door, struct varlink_call *call, const struct job_entry *entry)
{
	struct waiter *waiter;

	if (report_to(call, entry))
		return 0;
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		return -ENOMEM;
	*waiter = (struct waiter){ .door = door, .call = call, .id = strdup(entry->id) };
	if (!waiter->id) {
		free(waiter);
		return -ENOMEM;
	}
	waiter->next = door->waiters;
	door->waiters = waiter;
	varlink_call_on_gone(call, on_waiter_gone, waiter);
	return 0;
}

static int reply_problems(struct varlink_call *call, const struct request_problems *problems)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();
	int r = 0;

	if (!parameters || !array)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < problems->n; i++) {
		const struct request_problem *problem = &problems->problems[i];
		struct json_object *fault = json_object_new_object();
		_cleanup_(freep) char *code = NULL;

		if (!fault || json_object_array_add(array, fault) < 0) {
			json_object_put(fault);
			return -ENOMEM;
		}
		r = text_format(&code, "request-%s", problem->parameter);
		if (r == 0)
			r = json_set_string(fault, "level", "error");
		if (r == 0)
			r = json_set_string(fault, "code", code);
		if (r == 0)
			r = json_set_string(fault, "what", problem->what);
		if (r == 0)
			r = json_set_string(fault, "remedy", problem->remedy);
	}
	if (r == 0)
		r = json_set(parameters, "faults", steal(array));
	return r < 0 ? r : varlink_error(call, "InvalidRequest", steal(parameters));
}

static int reply_job_running(struct varlink_call *call, const struct job_entry *entry)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	int r;

	if (!parameters)
		return -ENOMEM;
	r = json_set_string(parameters, "job", entry->id);
	return r < 0 ? r : varlink_error(call, "JobRunning", steal(parameters));
}

/**
 * read_request() - the call's request, with the kind that its method means
 * @kind: "encrypt", "decrypt" or "grow"; NULL = as the request says, encrypt when it does not
 * @ret:  NULL when the caller has been told what is wrong
 *
 * Return: 0 or -errno.
 */
static int read_request(struct varlink_call *call, struct json_object *parameters, const char *kind,
			struct request **ret)
{
	_cleanup_(request_problems_clear) struct request_problems problems = { 0 };
	_cleanup_(json_putp) struct json_object *object = NULL;
	const char *given;
	int r;

	*ret = NULL;
	r = json_object_deep_copy(json_get_object(parameters, "request"), &object, NULL);
	if (r < 0)
		return -ENOMEM;
	given = json_get_string(object, "kind");
	if (kind && given && strcmp(kind, given) != 0)
		return varlink_error_parameter(call, "request");
	if (strlen(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN)) >
	    REQUEST_MAX_BYTES / 2) /* stored with indentation */
		return varlink_error_parameter(call, "request");
	if (!given && !json_object_object_get(object, "kind")) {
		r = json_set_string(object, "kind", kind ? kind : "encrypt");
		if (r < 0)
			return r;
	}
	r = request_from_json(object, ret, &problems);
	if (r < 0)
		return r;
	return *ret ? 0 : reply_problems(call, &problems);
}

/* Is all that this asks to have back what waits for a boot there? */
static bool takes_back(const struct request *request, const struct request *waiting)
{
	return request->kind == REQUEST_DECRYPT &&
	       (request->n_volumes > 0 || (request->wants_os == waiting->wants_os &&
					   request->wants_data <= waiting->wants_data));
}

static int start_job(struct door *door, struct varlink_call *call, struct request *taken)
{
	_cleanup_(request_freep) struct request *request = taken;
	const struct job_entry *entry;
	int r;

	entry = jobs_find_overlap(door->jobs, request);
	/* the way back from what has not begun yet */
	if (entry && takes_back(request, entry->request) &&
	    jobs_cancel(door->jobs, entry->id, request) == 0)
		return wait_for(door, call, entry);
	if (entry)
		return reply_job_running(call, entry);
	r = jobs_add(door->jobs, request, &entry);
	if (r < 0) {
		_cleanup_(freep) char *what = NULL;

		(void)log_error_errno(r, "Cannot start a job: %m");
		r = text_format(&what, "The job could not be started: %s.", strerror(-r));
		return r < 0 ? r
			     : reply_failed(
				       call, what,
				       "Nothing has been changed. See \"journalctl -u vmcryptd\", "
				       "then ask again.");
	}
	request = NULL;
	return wait_for(door, call, entry);
}

static int start_request(struct door *door, struct varlink_call *call,
			 struct json_object *parameters, const char *kind)
{
	struct request *request;
	int r;

	r = read_request(call, parameters, kind, &request);
	return r < 0 || !request ? r : start_job(door, call, request);
}

static int on_enable(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	return start_request(userdata, call, parameters, "encrypt");
}

static int on_disable(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	return start_request(userdata, call, parameters, "decrypt");
}

static int on_grow(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	return start_request(userdata, call, parameters, "grow");
}

static int on_check(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	_cleanup_(request_freep) struct request *request = NULL;
	struct door *door = userdata;
	int r;

	r = read_request(call, parameters, NULL, &request);
	return r < 0 || !request ? r : show_check(door->shows, call, request);
}

static int on_volumes(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	static const char *const types[] = { "All", "OS", "Data" };
	const char *wanted = json_get_string(parameters, "volume_type");
	struct door *door = userdata;

	if (!wanted)
		wanted = types[0];
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (strcasecmp(wanted, types[i]) == 0)
			return show_volumes(door->shows, call, types[i]);
	return varlink_error_parameter(call, "volume_type");
}

static int on_show(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	struct door *door = userdata;

	return show_status(door->shows, call);
}

static int reply_reports(struct door *door, struct varlink_call *call, int result)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	struct json_object *reports;
	int r;

	if (result < 0)
		return reply_failed(call, "A job could not be paused or started again.",
				    "See \"journalctl -u vmcryptd\", then try again.");
	if (!parameters)
		return -ENOMEM;
	r = jobs_reports(door->jobs, &reports);
	if (r == 0)
		r = json_set(parameters, "reports", reports);
	return r < 0 ? r : varlink_reply(call, steal(parameters));
}

static int on_pause(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	struct door *door = userdata;

	return reply_reports(door, call, jobs_pause(door->jobs));
}

static int on_resume(struct varlink_call *call, struct json_object *parameters, void *userdata)
{
	struct door *door = userdata;

	return reply_reports(door, call, jobs_resume(door->jobs));
}

static int on_snapshot_list(struct varlink_call *call, struct json_object *parameters,
			    void *userdata)
{
	_cleanup_(json_putp) struct json_object *reply = json_object_new_object();
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();
	_cleanup_(store_names_clear) struct store_names names = { 0 };
	int r;

	if (!reply || !array)
		return -ENOMEM;
	r = store_list_snapshots(&names);
	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		struct json_object *summary = NULL;

		r = store_snapshot_summary(names.names[i], &summary);
		if (r > 0) /* half written, or not ours */
			r = 0;
		else if (r == 0 && json_object_array_add(array, summary) < 0)
			r = -ENOMEM;
	}
	if (r == 0)
		r = json_set(reply, "snapshots", steal(array));
	return r < 0 ? r : varlink_reply(call, steal(reply));
}

static int reply_no_snapshot(struct varlink_call *call, const char *name)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	int r;

	if (!parameters)
		return -ENOMEM;
	r = json_set_string(parameters, "name", name);
	return r < 0 ? r : varlink_error(call, "NoSuchSnapshot", steal(parameters));
}

/* Return: 0 with the manifest, or 0 with NULL when the caller has been told, or -errno. */
static int find_snapshot(struct varlink_call *call, const char *name, struct json_object **ret)
{
	int r = STORE_E_ABSENT;

	*ret = NULL;
	if (!name)
		return varlink_error_parameter(call, "name");
	if (request_is_snapshot_name(name))
		r = store_snapshot_read(name, ret);
	if (r == STORE_E_ABSENT)
		return reply_no_snapshot(call, name);
	if (r == STORE_E_DAMAGED)
		return reply_failed(call, "The snapshot's manifest cannot be read.",
				    "Use another snapshot, as \"vmcryptctl snapshot list\" shows.");
	return r;
}

static int on_snapshot_show(struct varlink_call *call, struct json_object *parameters,
			    void *userdata)
{
	_cleanup_(json_putp) struct json_object *reply = json_object_new_object();
	struct json_object *manifest;
	int r;

	if (!reply)
		return -ENOMEM;
	r = find_snapshot(call, json_get_string(parameters, "name"), &manifest);
	if (r < 0 || !manifest)
		return r;
	r = json_set(reply, "snapshot", manifest);
	return r < 0 ? r : varlink_reply(call, steal(reply));
}

static int on_snapshot_restore(struct varlink_call *call, struct json_object *parameters,
			       void *userdata)
{
	_cleanup_(request_problems_clear) struct request_problems problems = { 0 };
	_cleanup_(json_putp) struct json_object *manifest = NULL, *object = NULL;
	const char *name = json_get_string(parameters, "name");
	struct request *request;
	int r;

	r = find_snapshot(call, name, &manifest);
	if (r < 0 || !manifest)
		return r;
	object = json_object_new_object();
	r = object ? json_set_string(object, "kind", "restore") : -ENOMEM;
	if (r == 0)
		r = json_set_string(object, "snapshot", name);
	if (r == 0)
		r = request_from_json(object, &request, &problems);
	if (r < 0)
		return r;
	return request ? start_job(userdata, call, request) : reply_problems(call, &problems);
}

/* clang-format off */
static const struct varlink_parameter request_parameter[] = { { "request", json_type_object, true } };
static const struct varlink_parameter type_parameter[]    = { { "volume_type", json_type_string, false } };
static const struct varlink_parameter name_parameter[]    = { { "name", json_type_string, true } };

static const struct varlink_method methods[] = {
	{ "Enable",          true,  request_parameter, 1, on_enable },
	{ "Disable",         true,  request_parameter, 1, on_disable },
	{ "Grow",            true,  request_parameter, 1, on_grow },
	{ "Check",           true,  request_parameter, 1, on_check },
	{ "Volumes",         false, type_parameter,    1, on_volumes },
	{ "Show",            false, NULL,              0, on_show },
	{ "Pause",           true,  NULL,              0, on_pause },
	{ "Resume",          true,  NULL,              0, on_resume },
	{ "SnapshotList",    true,  NULL,              0, on_snapshot_list },
	{ "SnapshotShow",    true,  name_parameter,    1, on_snapshot_show },
	{ "SnapshotRestore", true,  name_parameter,    1, on_snapshot_restore },
};
/* clang-format on */

static const struct varlink_interface interface = {
	.name = DOOR_INTERFACE,
	.description = description,
	.vendor = "vmcrypt",
	.product = "vmcryptd",
	.version = VMCRYPT_VERSION,
	.url = "",
	.methods = methods,
	.n_methods = ARRAY_SIZE(methods),
};

/** door_new() - with all jobs loaded, and the open ones started; still closed. Return: 0 or -errno.
 */
int door_new(struct sd_event *event, struct door **ret)
{
	_cleanup_(door_freep) struct door *door = calloc(1, sizeof(*door));
	int r;

	if (!door)
		return -ENOMEM;
	door->event = sd_event_ref(event);
	r = inspector_new(event, &door->inspector);
	if (r == 0)
		r = jobs_new(event, on_job_changed, door, &door->jobs);
	if (r == 0)
		r = shows_new(event, door->jobs, door->inspector, &door->shows);
	if (r == 0)
		r = varlink_server_new(event, &interface, door, &door->server);
	if (r == 0)
		r = jobs_load(door->jobs);
	if (r < 0)
		return r;
	*ret = steal(door);
	return 0;
}

/** door_open() - serve @fd, a listening socket; taken over. Return: 0 or -errno. */
int door_open(struct door *door, int fd)
{
	return varlink_server_listen(door->server, fd);
}

struct door *door_free(struct door *door)
{
	if (!door)
		return NULL;
	/* first the connections, whose calls the others hold */
	(void)varlink_server_free(door->server);
	(void)inspector_free(door->inspector);
	(void)shows_free(door->shows);
	(void)jobs_free(door->jobs);
	(void)sd_event_unref(door->event);
	free(door);
	return NULL;
}

void door_freep(struct door **door)
{
	(void)door_free(*door);
}

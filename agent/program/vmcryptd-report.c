/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptd-report.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

/**
 * daemon_report_blank() - of a job that no worker has spoken of yet
 * @request: NULL when it is damaged
 *
 * Return: 0 or -ENOMEM.
 */
int daemon_report_blank(const char *id, const struct request *request, struct json_object **ret)
{
	_cleanup_(report_clear) struct report report = {
		.job = strdup(id),
		.kind = request ? request_kind_to_string(request->kind) : "unknown",
		.state = JOB_WAITING,
	};

	return report.job ? report_to_json(&report, ret) : -ENOMEM;
}

/**
 * daemon_report_override() - a worker's last report with another state, and maybe one more fault
 * @last: unchanged
 * @code: of the fault, or NULL for none
 * @what: its sentence
 *
 * Return: 0 or -ENOMEM.
 */
int daemon_report_override(struct json_object *last, enum job_state state, const char *code,
			   const char *remedy, const char *what, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *report = NULL, *added = NULL;
	_cleanup_(faults_clear) struct faults faults = { 0 };
	struct json_object *array;
	int r;

	r = json_object_deep_copy(last, &report, NULL) < 0 ? -ENOMEM : 0;
	if (r == 0)
		r = json_set_string(report, "state", job_state_to_string(state));
	if (r == 0 && code)
		r = faults_add(&faults, FAULT_ERROR, code, NULL, NULL, remedy, "%s", what);
	if (r == 0)
		r = faults_to_json(&faults, &added);
	if (r < 0)
		return r;
	array = json_get_array(report, "faults");
	for (size_t i = 0; array && i < json_object_array_length(added); i++)
		(void)json_object_array_add(array,
					    json_object_get(json_object_array_get_idx(added, i)));
	/* nobody serves it any more */
	json_object_object_del(report, "recovery_socket");
	*ret = steal(report);
	return 0;
}

/** daemon_report_names_all() - does @request name each volume that has a fault with this code? */
bool daemon_report_names_all(struct json_object *report, const char *code,
			     const struct request *request)
{
	struct json_object *faults = json_get_array(report, "faults");

	for (size_t i = 0; faults && i < json_object_array_length(faults); i++) {
		struct json_object *fault = json_object_array_get_idx(faults, i);
		const char *found = json_get_string(fault, "code");
		const char *volume = json_get_string(fault, "volume");
		bool is_named = !found || strcmp(found, code) != 0;

		for (size_t k = 0; !is_named && volume && k < request->n_volumes; k++)
			is_named = strcasecmp(volume, request->volumes[k]) == 0;
		if (!is_named)
			return false;
	}
	return true;
}

/** daemon_report_has() - is there a fault with this code? */
bool daemon_report_has(struct json_object *report, const char *code)
{
	struct json_object *faults = json_get_array(report, "faults");

	for (size_t i = 0; faults && i < json_object_array_length(faults); i++) {
		const char *found = json_get_string(json_object_array_get_idx(faults, i), "code");

		if (found && strcmp(found, code) == 0)
			return true;
	}
	return false;
}

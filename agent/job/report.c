/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

void faults_clear(struct faults *faults)
{
	for (size_t i = 0; i < faults->n; i++) {
		free(faults->faults[i].volume);
		free(faults->faults[i].step);
		free(faults->faults[i].what);
		free(faults->faults[i].remedy);
	}
	free(faults->faults);
	*faults = (struct faults){ 0 };
}

/**
 * faults_add() - one more reason
 * @code:        stable, lower case; kept by pointer: a literal
 * @volume:      UUID, or NULL for the machine; copied
 * @step:        or NULL; copied
 * @remedy:      one sentence on what to do; copied
 * @what_format: one sentence on what happened
 *
 * Return: 0 or -ENOMEM.
 */
int faults_add(struct faults *faults, enum fault_level level, const char *code, const char *volume,
	       const char *step, const char *remedy, const char *what_format, ...)
{
	struct fault *larger, fault = { .level = level, .code = code };
	va_list arguments;

	larger = reallocarray(faults->faults, faults->n + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	faults->faults = larger;

	va_start(arguments, what_format);
	if (vasprintf(&fault.what, what_format, arguments) < 0)
		fault.what = NULL;
	va_end(arguments);
	fault.volume = volume ? strdup(volume) : NULL;
	fault.step = step ? strdup(step) : NULL;
	fault.remedy = strdup(remedy);
	if (!fault.what || !fault.remedy || (volume && !fault.volume) || (step && !fault.step)) {
		free(fault.what);
		free(fault.volume);
		free(fault.step);
		free(fault.remedy);
		return -ENOMEM;
	}
	faults->faults[faults->n++] = fault;
	return 0;
}

size_t faults_count(const struct faults *faults, enum fault_level level)
{
	size_t n = 0;

	for (size_t i = 0; i < faults->n; i++)
		n += faults->faults[i].level == level;
	return n;
}

static const char *fault_level_to_string(enum fault_level level)
{
	switch (level) {
	case FAULT_ERROR:
		return "error";
	case FAULT_WARNING:
		return "warning";
	}
	return NULL;
}

/** faults_to_json() - the array of varlink type Fault. Return: 0 or -ENOMEM. */
int faults_to_json(const struct faults *faults, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < faults->n; i++) {
		const struct fault *fault = &faults->faults[i];
		struct json_object *object = json_object_new_object();
		int r;

		if (!object || json_object_array_add(array, object) < 0) {
			json_object_put(object);
			return -ENOMEM;
		}
		r = json_set_string(object, "level", fault_level_to_string(fault->level));
		if (r == 0)
			r = json_set_string(object, "code", fault->code);
		if (r == 0)
			r = json_set_string(object, "volume", fault->volume);
		if (r == 0)
			r = json_set_string(object, "step", fault->step);
		if (r == 0)
			r = json_set_string(object, "what", fault->what);
		if (r == 0)
			r = json_set_string(object, "remedy", fault->remedy);
		if (r < 0)
			return r;
	}
	*ret = steal(array);
	return 0;
}

const char *job_state_to_string(enum job_state state)
{
	switch (state) {
	case JOB_WAITING:
		return "waiting";
	case JOB_RUNNING:
		return "running";
	case JOB_DONE:
		return "done";
	case JOB_FAILED:
		return "failed";
	}
	return NULL;
}

static int volume_progress_to_json(const struct report_volume *volume, struct json_object *array)
{
	struct json_object *object = json_object_new_object();
	int r;

	if (!object || json_object_array_add(array, object) < 0) {
		json_object_put(object);
		return -ENOMEM;
	}
	r = json_set_string(object, "uuid", volume->uuid);
	if (r == 0)
		r = json_set_string(object, "step", volume->step);
	if (r == 0)
		r = json_set_string(object, "state", job_state_to_string(volume->state));
	if (r == 0)
		r = json_set_int(object, "size_bytes", (int64_t)volume->size_bytes);
	if (r == 0)
		r = json_set_int(object, "done_bytes", (int64_t)volume->done_bytes);
	if (r == 0)
		r = json_set_int(object, "rate_bytes", (int64_t)volume->rate_bytes);
	if (r == 0)
		r = json_set_int(object, "left_s", volume->left_s);
	return r;
}

/** report_to_json() - the varlink type Report. Return: 0 or -ENOMEM. */
int report_to_json(const struct report *report, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	struct json_object *faults, *volumes;
	int r;

	if (!object)
		return -ENOMEM;
	r = json_set_string(object, "job", report->job);
	if (r == 0)
		r = json_set_string(object, "kind", report->kind);
	if (r == 0)
		r = json_set_string(object, "state", job_state_to_string(report->state));
	if (r == 0)
		r = json_set_bool(object, "prepared", report->is_prepared);
	if (r == 0)
		r = json_set_bool(object, "restart", report->needs_restart);
	if (r == 0)
		r = json_set_string(object, "recovery_socket", report->recovery_socket);
	if (r == 0)
		r = faults_to_json(&report->faults, &faults);
	if (r == 0)
		r = json_set(object, "faults", faults);
	if (r < 0)
		return r;
	volumes = json_object_new_array();
	r = json_set(object, "volumes", volumes);
	for (size_t i = 0; r == 0 && i < report->n_volumes; i++)
		r = volume_progress_to_json(&report->volumes[i], volumes);
	if (r < 0)
		return r;
	*ret = steal(object);
	return 0;
}

void report_clear(struct report *report)
{
	free(report->job);
	free(report->recovery_socket);
	faults_clear(&report->faults);
	for (size_t i = 0; i < report->n_volumes; i++)
		free(report->volumes[i].uuid);
	free(report->volumes);
	*report = (struct report){ 0 };
}

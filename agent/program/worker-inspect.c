/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-worker --inspect: one question, one answer
 *
 * For the daemon, which looks at no disk itself: {"method":"volumes","volume_type":"Data"} or
 * {"method":"check","request":{…}} on standard input, ended by NUL; the answer likewise on standard
 * output.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "job/preflight.h"
#include "job/status.h"
#include "program/worker.h"

#define QUESTION_MAX_BYTES REQUEST_MAX_BYTES

static int read_question(struct json_object **ret)
{
	_cleanup_(freep) char *text = malloc(QUESTION_MAX_BYTES);
	size_t used = 0;

	while (text && used < QUESTION_MAX_BYTES) {
		ssize_t n = read(STDIN_FILENO, text + used, QUESTION_MAX_BYTES - used);
		char *end;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		end = memchr(text + used, '\0', (size_t)n);
		used += (size_t)n;
		if (end)
			return json_parse(text, (size_t)(end - text), ret);
	}
	return text ? -EFBIG : -ENOMEM;
}

static int write_answer(struct json_object *answer)
{
	const char *text = json_object_to_json_string_ext(answer, JSON_C_TO_STRING_NOSLASHESCAPE);
	size_t left = text ? strlen(text) + 1 : 0;

	while (left > 0) {
		ssize_t n = write(STDOUT_FILENO, text, left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		left -= (size_t)n;
	}
	return 0;
}

static int answer_volumes(struct json_object *question, struct json_object **ret)
{
	const char *type = json_get_string(question, "volume_type");
	bool is_all = !type || strcasecmp(type, "All") == 0;

	return status_read(is_all || strcasecmp(type, "OS") == 0,
			   is_all || strcasecmp(type, "Data") == 0, ret);
}

static int answer_check(struct json_object *question, struct json_object **ret)
{
	_cleanup_(plan_freep) struct plan *plan = calloc(1, sizeof(*plan));
	_cleanup_(inventory_freep) struct inventory *inventory = NULL;
	_cleanup_(json_putp) struct json_object *answer = json_object_new_object();
	struct request_problems problems = { 0 };
	struct json_object *faults, *jobs;
	int r;

	if (!plan || !answer)
		return -ENOMEM;
	plan->is_look = true;
	r = request_from_json(json_get_object(question, "request"), &plan->request, &problems);
	request_problems_clear(&problems);
	if (r == 0 && !plan->request)
		r = -EINVAL;
	if (r == 0)
		r = inventory_read(&inventory);
	if (r == 0)
		r = plan_decide(plan, inventory);
	if (r == 0)
		r = preflight_run(plan, inventory);
	if (r == 0)
		r = faults_to_json(&plan->report.faults, &faults);
	if (r == 0)
		r = json_set(answer, "faults", faults);
	if (r == 0)
		r = plan_to_json(plan, &jobs);
	if (r == 0)
		r = json_set(answer, "plan", jobs);
	if (r == 0)
		*ret = steal(answer);
	return r;
}

static int answer_error(int error, struct json_object **ret)
{
	_cleanup_(json_putp) struct json_object *answer = json_object_new_object();
	int r;

	if (!answer)
		return -ENOMEM;
	r = json_set_string(answer, "error", strerror(-error));
	if (r == 0)
		r = json_set_string(answer, "remedy", "See the journal of vmcrypt-inspect.");
	if (r == 0)
		*ret = steal(answer);
	return r;
}

/** worker_inspect() - answer one question. Return: an exit status. */
int worker_inspect(void)
{
	_cleanup_(json_putp) struct json_object *question = NULL, *answer = NULL;
	const char *method;
	int r;

	r = read_question(&question);
	if (r < 0)
		return log_error_errno(r, "Inspect: no question could be read: %m"), EXIT_FAILURE;
	method = json_get_string(question, "method");
	if (method && strcmp(method, "volumes") == 0)
		r = answer_volumes(question, &answer);
	else if (method && strcmp(method, "check") == 0)
		r = answer_check(question, &answer);
	else
		r = -EOPNOTSUPP;
	if (r < 0) {
		(void)log_error_errno(r, "Inspect: %s: %m", method ? method : "no method");
		r = answer_error(r, &answer);
	}
	if (r == 0)
		r = write_answer(answer);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

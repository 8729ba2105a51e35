/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptctl-fault.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "program/vmcryptctl-table.h"

#define SENTENCE_MAX_LETTERS 1000
#define INTERFACE            "io.vmcrypt.Agent."

static void print_sentence(FILE *out, const char *before, const char *text, const char *after)
{
	_cleanup_(freep) char *clean = NULL;

	if (text && text_clean(text, SENTENCE_MAX_LETTERS, &clean) == 0)
		(void)fprintf(out, "%s%s%s", before, clean, after);
}

static void print_fault(struct json_object *fault, FILE *out)
{
	const char *level = json_get_string(fault, "level"), *what, *remedy;

	what = json_get_string(fault, "what");
	remedy = json_get_string(fault, "remedy");
	print_sentence(out, "", level ? level : "error", "");
	print_sentence(out, " ", json_get_string(fault, "code"), "");
	print_sentence(out, " (volume ", json_get_string(fault, "volume"), ")");
	print_sentence(out, ": ", what, "");
	if (remedy && *remedy)
		print_sentence(out, "\n  → ", remedy, "");
	(void)fputc('\n', out);
}

/**
 * fault_print_list() - one fault a paragraph
 * @faults: array of varlink type Fault, or NULL
 *
 * Return: how many of them are errors.
 */
int fault_print_list(struct json_object *faults, FILE *out)
{
	size_t n = faults ? json_object_array_length(faults) : 0;
	int errors = 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *fault = json_object_array_get_idx(faults, i);
		const char *level = json_get_string(fault, "level");

		print_fault(fault, out);
		errors += !level || strcmp(level, "warning") != 0;
	}
	return errors;
}

static int print_denied(struct json_object *parameters, FILE *out)
{
	(void)fputs("Only root may do this.\n  → Run it with sudo.\n", out);
	return CTL_DENIED;
}

static int print_invalid(struct json_object *parameters, FILE *out)
{
	(void)fputs("The request makes no sense, so nothing has been started:\n", out);
	(void)fault_print_list(json_get_array(parameters, "faults"), out);
	return CTL_FAILED;
}

static int print_running(struct json_object *parameters, FILE *out)
{
	print_sentence(out, "Another job, ", json_get_string(parameters, "job"),
		       ", has not ended yet.\n  → Watch it with \"vmcryptctl show --watch\"; "
		       "\"vmcryptctl resume\" makes one go on that stands still. What only waits "
		       "for a boot is taken back by \"vmcryptctl disable\" for the same "
		       "--volume-type.\n");
	return CTL_BUSY;
}

static int print_no_snapshot(struct json_object *parameters, FILE *out)
{
	print_sentence(out, "There is no snapshot \"", json_get_string(parameters, "name"),
		       "\".\n  → \"vmcryptctl snapshot list\" shows all.\n");
	return CTL_FAILED;
}

static int print_failed(struct json_object *parameters, FILE *out)
{
	print_sentence(out, "", json_get_string(parameters, "what"), "\n");
	print_sentence(out, "  → ", json_get_string(parameters, "remedy"), "\n");
	return CTL_FAILED;
}

/* clang-format off */
static const struct {
	const char *name;
	int (*print)(struct json_object *parameters, FILE *out);
} errors[] = {
	{ INTERFACE "PermissionDenied", print_denied },
	{ INTERFACE "InvalidRequest",   print_invalid },
	{ INTERFACE "JobRunning",       print_running },
	{ INTERFACE "NoSuchSnapshot",   print_no_snapshot },
	{ INTERFACE "Failed",           print_failed },
};
/* clang-format on */

/** fault_print_error() - an error reply. Return: the exit code. */
int fault_print_error(const char *error, struct json_object *parameters, FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (strcmp(errors[i].name, error) == 0)
			return errors[i].print(parameters, out);
	print_sentence(out, "The agent refused the call: ", error, "");
	print_sentence(out, " (", json_get_string(parameters, "parameter"), ")");
	(void)fputs(".\n  → Are vmcryptctl and vmcryptd of the same version?\n", out);
	return CTL_FAILED;
}

/** fault_print_system() - the agent could not be reached, or fell silent. Return: the exit code. */
int fault_print_system(int r, FILE *out)
{
	switch (-r) {
	case ENOENT:
	case ECONNREFUSED:
		(void)fputs("The agent does not run.\n"
			    "  → Start it with \"systemctl start vmcryptd.socket\".\n",
			    out);
		return CTL_TEMPORARY;
	case ECONNRESET:
	case EPIPE:
		(void)fputs("The agent has closed the connection.\n"
			    "  → Jobs go on without it; see \"vmcryptctl show\", and "
			    "\"journalctl -u vmcryptd\" for why.\n",
			    out);
		return CTL_TEMPORARY;
	case ETIMEDOUT:
		(void)fputs("The agent did not answer in time.\n"
			    "  → Try again; if it stays silent, see \"journalctl -u vmcryptd\".\n",
			    out);
		return CTL_TEMPORARY;
	case EACCES:
		(void)fputs("The agent's socket may not be opened.\n  → Run it with sudo.\n", out);
		return CTL_DENIED;
	default:
		(void)fprintf(out, "The agent cannot be asked: %s.\n", strerror(-r));
		return CTL_FAILED;
	}
}

static bool is_refusal(struct json_object *faults)
{
	size_t n = faults ? json_object_array_length(faults) : 0, refused = 0, total = 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *fault = json_object_array_get_idx(faults, i);
		const char *level = json_get_string(fault, "level");
		const char *step = json_get_string(fault, "step");

		if (level && strcmp(level, "warning") == 0)
			continue;
		total++;
		refused += step && strcmp(step, "preflight") == 0;
	}
	return total > 0 && refused == total;
}

static bool has_errors(struct json_object *faults)
{
	size_t n = faults ? json_object_array_length(faults) : 0;

	for (size_t i = 0; i < n; i++) {
		const char *level = json_get_string(json_object_array_get_idx(faults, i), "level");

		if (!level || strcmp(level, "warning") != 0)
			return true;
	}
	return false;
}

/** fault_report_exit_code() - of a job that goes on, waits or has ended so */
int fault_report_exit_code(struct json_object *report)
{
	struct json_object *faults = json_get_array(report, "faults");
	const char *state = json_get_string(report, "state");

	if (state && strcmp(state, "failed") == 0)
		return is_refusal(faults) ? CTL_REFUSED : CTL_FAILED;
	if (state && strcmp(state, "waiting") == 0)
		return has_errors(faults) ? CTL_TEMPORARY : CTL_OK;
	return CTL_OK;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcryptctl - the agent's face for people and scripts
 *
 * One call over the agent's socket, its replies as a table, as sentences or as JSON. Decides
 * nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "ipc/varlink-client.h"
#include "program/vmcryptctl-fault.h"
#include "program/vmcryptctl-options.h"
#include "program/vmcryptctl-recover.h"
#include "program/vmcryptctl-recovery.h"
#include "program/vmcryptctl-table.h"
#include "program/vmcryptctl-watch.h"

#define SOCKET_PATH      "/run/vmcrypt/vmcrypt.sock"
#define INTERFACE        "io.vmcrypt.Agent."
#define REPLY_TIMEOUT_MS 90000  /* the agent gives up after 60 s */
#define CHECK_TIMEOUT_MS 200000 /* the agent gives up after 180 s */
#define FOREVER_MS       (-1)

static const char help[] =
	"vmcryptctl COMMAND [OPTION…] - encrypt the volumes of this machine\n"
	"\n"
	"  enable              encrypt volumes; they stay in use meanwhile\n"
	"  disable             decrypt volumes\n"
	"  grow                let encrypted volumes follow disks that have become larger\n"
	"  check               say what would stand in the way of enable, change nothing;\n"
	"                      without options: can every kernel unlock the root?\n"
	"  show                the state of the volumes, read from the disks\n"
	"  volumes             every block device, and which ones a volume type selects\n"
	"  recover [VOLUME]    how to open and repair volumes on another machine\n"
	"  pause, resume       stop the running jobs at a safe place, and let them go on\n"
	"  snapshot list       what was saved before volumes were changed\n"
	"  snapshot show NAME\n"
	"  snapshot restore NAME\n"
	"\n"
	"Which volumes, and where their passphrases are kept:\n"
	"  --volume-type All|OS|Data\n"
	"  --volume UUID                         only this one; may be repeated\n"
	"  --disk-encryption-keyvault URL        https://NAME.vault.azure.net\n"
	"  --key-encryption-key URL              https://NAME.vault.azure.net/keys/KEY\n"
	"  --key-encryption-algorithm NAME       RSA-OAEP-256 (default), RSA-OAEP, RSA1_5\n"
	"  --encryption-identity CLIENT_ID       of a user-assigned identity\n"
	"  --key-provider keyvault|file\n"
	"  --key-directory DIR                   with the provider file\n"
	"\n"
	"How:\n"
	"  --encrypt-format-all                  make new filesystems: destroys the data\n"
	"  --next-boot                           begin while the machine boots next\n"
	"  --reboot                              reboot as soon as only a boot is left to do\n"
	"  --recovery-key                        make one more key, and show it once\n"
	"  --recovery-key-fd N                   write it to this descriptor instead\n"
	"  --detached-header                     where nothing else gives room for a header\n"
	"  --allow-other-region                  with a vault of another region\n"
	"  --plan                                say what would be done, change nothing\n"
	"  --watch                               show the progress until the end\n"
	"  --no-wait                             return as soon as the job is written down\n"
	"  --yes                                 ask no questions\n"
	"  --json pretty|short|off\n"
	"  --help, --version\n"
	"\n"
	"See vmcryptctl(8).\n";

/* One run of the program. */
struct run {
	const struct options *options;
	struct varlink_client *client;
	struct watch watch;
	bool has_style;        /* standard output is a terminal, and NO_COLOR is not set */
	bool has_recovery_key; /* it has been handed over */
};

static void print_json(const struct run *run, struct json_object *object)
{
	int flags = run->options->json == JSON_MODE_PRETTY
			    ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED
			    : JSON_C_TO_STRING_PLAIN;

	(void)puts(json_object_to_json_string_ext(object, flags | JSON_C_TO_STRING_NOSLASHESCAPE));
	(void)fflush(stdout);
}

static bool wants_json(const struct run *run)
{
	return run->options->json != JSON_MODE_OFF;
}

/**
 * next_reply() - wait for a reply that is no error
 * @ret: clear it with varlink_answer_clear(), also on failure
 *
 * Return: CTL_OK, or the exit code when the person has been told what is wrong.
 */
static int next_reply(struct run *run, int timeout_ms, struct varlink_answer *ret)
{
	int r;

	r = varlink_client_receive(run->client, timeout_ms, ret);
	if (r < 0)
		return fault_print_system(r, stderr);
	if (!ret->error)
		return CTL_OK;
	if (wants_json(run)) {
		_cleanup_(json_putp) struct json_object *object = json_object_new_object();

		if (object && json_set_string(object, "error", ret->error) == 0 &&
		    json_set(object, "parameters", json_object_get(ret->parameters)) == 0)
			print_json(run, object);
	}
	return fault_print_error(ret->error, ret->parameters, stderr);
}

static int start_call(struct run *run, const char *method, struct json_object *parameters,
		      bool wants_more)
{
	int r;

	r = varlink_client_call(run->client, method, parameters, wants_more);
	return r < 0 ? fault_print_system(r, stderr) : CTL_OK;
}

static int set_parameter(struct json_object **ret, const char *name, struct json_object *value)
{
	*ret = json_object_new_object();
	if (!*ret) {
		json_object_put(value);
		return fault_print_system(-ENOMEM, stderr);
	}
	return json_set(*ret, name, value) < 0 ? fault_print_system(-ENOMEM, stderr) : CTL_OK;
}

/* Standard input and output may well be redirected: a question needs a person at both ends. */
static int confirm_format(void)
{
	char line[16];

	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
		(void)fputs("--encrypt-format-all destroys all data on the selected volumes.\n"
			    "  → Say --yes too if that is wanted.\n",
			    stderr);
		return CTL_FAILED;
	}
	(void)fputs("All data on the selected volumes will be destroyed. Type yes to go on: ",
		    stderr);
	if (!fgets(line, sizeof(line), stdin) || strcmp(line, "yes\n") != 0) {
		(void)fputs("Nothing has been changed.\n", stderr);
		return CTL_FAILED;
	}
	return CTL_OK;
}

/* The key comes once: no later reply brings it back, so a failure here has to be said loudly. */
static int take_recovery_key(struct run *run, struct json_object *report)
{
	const char *path = json_get_string(report, "recovery_socket");
	int r;

	if (!path || run->has_recovery_key ||
	    !json_get_bool(run->options->request, "recovery_key", false))
		return 0;
	watch_erase(&run->watch);
	r = recovery_take(path, run->options->recovery_fd);
	if (r < 0) {
		(void)fprintf(stderr,
			      "The recovery key could not be taken over: %s.\n"
			      "  → The volumes are encrypted without one that you know.\n",
			      strerror(-r));
		return r;
	}
	run->has_recovery_key = true;
	return 0;
}

static void print_prepared(const struct run *run, struct json_object *report)
{
	const char *kind = json_get_string(report, "kind");
	bool is_decrypt = kind && strcmp(kind, "decrypt") == 0;

	if (!wants_json(run) && json_get_bool(report, "restart", false))
		(void)puts(
			"Prepared. Reboot when it suits: the rest is done while the machine starts, and "
			"after that in the background.\nIf the key cannot be had then, the machine "
			"starts as it was.");
	else if (!wants_json(run))
		(void)printf(
			"Prepared. The volumes are being %s in the background and stay in use; "
			"a restart does no harm.\nSee how far it is with \"vmcryptctl show\".\n",
			is_decrypt ? "decrypted" : "encrypted");
}

static int print_end(struct run *run, struct json_object *report)
{
	const char *state = json_get_string(report, "state");
	int code = fault_report_exit_code(report);

	if (code == CTL_OK && json_get_bool(run->options->request, "recovery_key", false) &&
	    !run->has_recovery_key && run->options->verb == VERB_ENABLE) {
		(void)fputs("There was no recovery key to hand over.\n"
			    "  → See \"journalctl -u vmcrypt-worker@*\".\n",
			    stderr);
		code = CTL_FAILED;
	}
	(void)fault_print_list(json_get_array(report, "faults"), stderr);
	if (!state || wants_json(run))
		return code;
	if (strcmp(state, "done") == 0)
		(void)puts("Done.");
	else if (strcmp(state, "waiting") == 0 && json_get_bool(report, "restart", false))
		(void)puts("The job waits for a reboot, and goes on by itself after it.");
	else if (strcmp(state, "waiting") == 0)
		(void)puts("The job is written down and waits: for the next boot, for "
			   "\"vmcryptctl resume\", or for what is said above.");
	return code;
}

/* Its worker has ended for now, not by a stop, and nothing is past the point of no return. */
static bool waits_with_fault(struct json_object *report)
{
	const char *state = json_get_string(report, "state");

	/* "failed": so has another of its volumes */
	return state && (strcmp(state, "waiting") == 0 || strcmp(state, "failed") == 0) &&
	       !json_get_bool(report, "prepared", false) &&
	       fault_report_exit_code(report) != CTL_OK;
}

/* Follow a job as long as was asked for: until written down, until prepared, or to the end. */
static int follow_job(struct run *run)
{
	for (;;) {
		_cleanup_(varlink_answer_clear) struct varlink_answer answer = { 0 };
		struct json_object *report;
		int code;

		code = next_reply(run, FOREVER_MS, &answer);
		if (code != CTL_OK)
			return code;
		report = json_get_object(answer.parameters, "report");
		if (take_recovery_key(run, report) < 0)
			return CTL_FAILED;
		if (run->options->is_no_wait) {
			if (wants_json(run))
				print_json(run, answer.parameters);
			else
				(void)printf("Job %s is written down.\n",
					     json_get_string(report, "job"));
			return answer.continues ? CTL_OK : fault_report_exit_code(report);
		}
		if (wants_json(run) && (run->options->is_watch || !answer.continues))
			print_json(run, answer.parameters);
		else if (!wants_json(run) && watch_report(&run->watch, report) < 0)
			return fault_print_system(-ENOMEM, stderr);
		if (!answer.continues)
			return print_end(run, report);
		/* no answer, which may take long to come: why is said now */
		if (!run->options->is_watch && waits_with_fault(report)) {
			if (wants_json(run))
				print_json(run, answer.parameters);
			return print_end(run, report);
		}
		/* growing takes seconds, and nothing of it is left to the background */
		if (!run->options->is_watch && run->options->verb != VERB_GROW &&
		    json_get_bool(report, "prepared", false)) {
			if (wants_json(run))
				print_json(run, answer.parameters);
			print_prepared(run, report);
			return print_end(run, report);
		}
	}
}

static int run_check(struct run *run, const char *kind)
{
	_cleanup_(varlink_answer_clear) struct varlink_answer answer = { 0 };
	_cleanup_(json_putp) struct json_object *parameters = NULL;
	struct json_object *plan;
	int code, errors;

	if (json_set_string(run->options->request, "kind", kind) < 0)
		return fault_print_system(-ENOMEM, stderr);
	code = set_parameter(&parameters, "request", json_object_get(run->options->request));
	if (code == CTL_OK)
		code = start_call(run, INTERFACE "Check", parameters, false);
	if (code == CTL_OK)
		code = next_reply(run, CHECK_TIMEOUT_MS, &answer);
	if (code != CTL_OK)
		return code;
	if (wants_json(run))
		print_json(run, answer.parameters);
	plan = json_get_array(answer.parameters, "plan");
	if (!wants_json(run) && plan && json_object_array_length(plan) > 0 &&
	    table_print_plan(plan, run->has_style, stdout) < 0)
		return fault_print_system(-ENOMEM, stderr);
	(void)fflush(stdout);
	errors = fault_print_list(json_get_array(answer.parameters, "faults"), stderr);
	if (errors == 0 && !wants_json(run))
		(void)puts(strcmp(kind, "check") == 0
				   ? "Nothing stands in the way of the next boot."
				   : "Nothing stands in the way.");
	return errors > 0 ? CTL_REFUSED : CTL_OK;
}

static int run_job(struct run *run, const char *method, struct json_object *parameters)
{
	int code;

	code = start_call(run, method, parameters, true);
	return code != CTL_OK ? code : follow_job(run);
}

static int run_request(struct run *run, const char *method, const char *kind)
{
	_cleanup_(json_putp) struct json_object *parameters = NULL;
	const struct options *options = run->options;
	int code = CTL_OK;

	if (options->is_plan)
		return run_check(run, kind);
	if (options->recovery_fd >= 0 && fcntl(options->recovery_fd, F_GETFD) < 0) {
		(void)fprintf(stderr, "The descriptor %d is not open.\n", options->recovery_fd);
		return CTL_FAILED;
	}
	if (json_get_bool(options->request, "format_all", false) && !options->is_yes)
		code = confirm_format();
	if (code == CTL_OK)
		code = set_parameter(&parameters, "request", json_object_get(options->request));
	return code != CTL_OK ? code : run_job(run, method, parameters);
}

static int run_show(struct run *run)
{
	bool is_watch = run->options->is_watch;
	int code, r;

	code = start_call(run, INTERFACE "Show", NULL, is_watch);
	while (code == CTL_OK) {
		_cleanup_(varlink_answer_clear) struct varlink_answer answer = { 0 };
		struct json_object *reports;

		code = next_reply(run, REPLY_TIMEOUT_MS, &answer);
		if (code != CTL_OK)
			break;
		if (wants_json(run)) {
			print_json(run, answer.parameters);
			r = 0;
		} else if (is_watch) {
			r = watch_status(&run->watch, answer.parameters, run->has_style);
		} else {
			r = table_print_status(answer.parameters, run->has_style, stdout);
		}
		if (r < 0)
			return fault_print_system(r, stderr);
		if (answer.continues)
			continue;
		(void)fflush(stdout);
		reports = json_get_array(answer.parameters, "reports");
		for (size_t i = 0; reports && i < json_object_array_length(reports); i++)
			(void)fault_print_list(
				json_get_array(json_object_array_get_idx(reports, i), "faults"),
				stderr);
		break;
	}
	return code;
}

static int print_recover(struct run *run, struct json_object *reply)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	int r;

	if (wants_json(run))
		r = recover_to_json(reply, run->options->name, &object);
	else
		r = recover_print(reply, run->options->name, stdout);
	if (r == RECOVER_E_UNKNOWN) {
		(void)fputs("There is no such volume, or it is not encrypted.\n"
			    "  → \"vmcryptctl show\" names all.\n",
			    stderr);
		return CTL_FAILED;
	}
	if (r < 0)
		return fault_print_system(r, stderr);
	if (object)
		print_json(run, object);
	return CTL_OK;
}

/* Where the machine cannot say what it has, the general way is better than nothing. */
static int run_recover(struct run *run)
{
	_cleanup_(varlink_answer_clear) struct varlink_answer answer = { 0 };
	int code;

	code = start_call(run, INTERFACE "Show", NULL, false);
	if (code == CTL_OK)
		code = next_reply(run, REPLY_TIMEOUT_MS, &answer);
	if (code == CTL_OK)
		return print_recover(run, answer.parameters);
	if (!wants_json(run))
		recover_print_general(stdout);
	return code;
}

/* A call with one reply, which is printed by @print. */
static int run_simple(struct run *run, const char *method, struct json_object *parameters,
		      int (*print)(struct json_object *reply, bool has_style, FILE *out))
{
	_cleanup_(varlink_answer_clear) struct varlink_answer answer = { 0 };
	int code;

	code = start_call(run, method, parameters, false);
	if (code == CTL_OK)
		code = next_reply(run, REPLY_TIMEOUT_MS, &answer);
	if (code != CTL_OK)
		return code;
	if (wants_json(run)) {
		print_json(run, answer.parameters);
		return CTL_OK;
	}
	return print(answer.parameters, run->has_style, stdout) < 0
		       ? fault_print_system(-ENOMEM, stderr)
		       : CTL_OK;
}

static int print_jobs(struct json_object *reply, bool has_style, FILE *out)
{
	struct json_object *reports = json_get_array(reply, "reports");
	size_t n = reports ? json_object_array_length(reports) : 0, open = 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *report = json_object_array_get_idx(reports, i);
		const char *job = json_get_string(report, "job");
		const char *state = json_get_string(report, "state");

		if (!job || !state || strcmp(state, "done") == 0)
			continue;
		open++;
		(void)fprintf(out, "Job %s: %s.\n", job, state);
	}
	if (open == 0)
		(void)fputs("There is no open job.\n", out);
	return 0;
}

static int print_pause(struct json_object *reply, bool has_style, FILE *out)
{
	(void)fputs("Jobs stop at the next safe place, until \"vmcryptctl resume\".\n", out);
	return print_jobs(reply, has_style, out);
}

static int print_manifest(struct json_object *reply, bool has_style, FILE *out)
{
	struct json_object *manifest = json_get_object(reply, "snapshot");

	(void)fprintf(out, "%s\n",
		      json_object_to_json_string_ext(
			      manifest, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
						JSON_C_TO_STRING_NOSLASHESCAPE));
	return 0;
}

static int run_volumes(struct run *run)
{
	const char *type = json_get_string(run->options->request, "volume_type");
	_cleanup_(json_putp) struct json_object *parameters = NULL;
	int code = CTL_OK;

	if (type)
		code = set_parameter(&parameters, "volume_type", json_object_new_string(type));
	return code != CTL_OK
		       ? code
		       : run_simple(run, INTERFACE "Volumes", parameters, table_print_volumes);
}

static int run_named(struct run *run, bool is_restore)
{
	_cleanup_(json_putp) struct json_object *parameters = NULL;
	int code;

	code = set_parameter(&parameters, "name", json_object_new_string(run->options->name));
	if (code != CTL_OK)
		return code;
	return is_restore ? run_job(run, INTERFACE "SnapshotRestore", parameters)
			  : run_simple(run, INTERFACE "SnapshotShow", parameters, print_manifest);
}

static int run_verb(struct run *run)
{
	switch (run->options->verb) {
	case VERB_ENABLE:
		return run_request(run, INTERFACE "Enable", "encrypt");
	case VERB_DISABLE:
		return run_request(run, INTERFACE "Disable", "decrypt");
	case VERB_GROW:
		return run_request(run, INTERFACE "Grow", "grow");
	case VERB_CHECK:
		/* asked for nothing: what is encrypted already */
		return run_check(run, json_object_object_length(run->options->request) > 0
					      ? "encrypt"
					      : "check");
	case VERB_SHOW:
		return run_show(run);
	case VERB_VOLUMES:
		return run_volumes(run);
	case VERB_RECOVER:
		return run_recover(run);
	case VERB_PAUSE:
		return run_simple(run, INTERFACE "Pause", NULL, print_pause);
	case VERB_RESUME:
		return run_simple(run, INTERFACE "Resume", NULL, print_jobs);
	case VERB_SNAPSHOT_LIST:
		return run_simple(run, INTERFACE "SnapshotList", NULL, table_print_snapshots);
	case VERB_SNAPSHOT_SHOW:
		return run_named(run, false);
	case VERB_SNAPSHOT_RESTORE:
		return run_named(run, true);
	case VERB_SNAPSHOT:
	case VERB_HELP:
	case VERB_VERSION:
		break;
	}
	return CTL_FAILED;
}

static int run(const struct options *options)
{
	_cleanup_(varlink_client_freep) struct varlink_client *client = NULL;
	struct run state = { .options = options };
	const char *no_color = getenv("NO_COLOR");
	int code, r;

	/* anybody else is refused at the door, and may lock too little memory for the rest to work
	 */
	if (geteuid() == 0 && json_get_bool(options->request, "recovery_key", false))
		(void)secret_process_harden();
	r = varlink_client_connect(SOCKET_PATH, &client);
	if ((r == -ENOENT || r == -ECONNREFUSED) && options->verb == VERB_RECOVER &&
	    options->json == JSON_MODE_OFF) {
		/* so it is on the machine that a disk is recovered with */
		recover_print_general(stdout);
		return fflush(stdout) == 0 ? CTL_OK : CTL_FAILED;
	}
	if (r < 0)
		return fault_print_system(r, stderr);
	state.client = client;
	state.has_style = isatty(STDOUT_FILENO) && (!no_color || !*no_color);
	state.watch = (struct watch){ .out = stdout, .is_terminal = isatty(STDOUT_FILENO) };
	code = run_verb(&state);
	watch_clear(&state.watch);
	if (fflush(stdout) != 0 && code == CTL_OK)
		code = CTL_FAILED;
	return code;
}

int main(int argc, char *argv[])
{
	_cleanup_(options_clear) struct options options = { .recovery_fd = -1 };
	_cleanup_(freep) char *problem = NULL;
	int r;

	r = options_parse(argc, argv, &options, &problem);
	if (r == OPTIONS_E_WRONG) {
		_cleanup_(freep) char *clean = NULL;

		if (text_clean(problem, TABLE_CELL_MAX, &clean) == 0)
			(void)fprintf(stderr, "%s\n  → See \"vmcryptctl --help\".\n", clean);
		return CTL_FAILED;
	}
	if (r < 0)
		return fault_print_system(r, stderr);
	if (options.verb == VERB_HELP) {
		(void)fputs(help, stdout);
		return CTL_OK;
	}
	if (options.verb == VERB_VERSION) {
		(void)puts("vmcryptctl " VMCRYPT_VERSION);
		return CTL_OK;
	}
	return run(&options);
}

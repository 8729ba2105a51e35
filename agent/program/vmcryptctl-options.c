/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptctl-options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

#define ARGUMENT_MAX_LETTERS 4096 /* longer than any path or address that we take */
#define ECHO_MAX             80

enum {
	ON_ENABLE = 1 << VERB_ENABLE,
	ON_DISABLE = 1 << VERB_DISABLE,
	ON_GROW = 1 << VERB_GROW,
	ON_CHECK = 1 << VERB_CHECK,
	ON_SHOW = 1 << VERB_SHOW,
	ON_VOLUMES = 1 << VERB_VOLUMES,
	ON_RESTORE = 1 << VERB_SNAPSHOT_RESTORE,
	ON_ENCRYPT = ON_ENABLE | ON_CHECK,
	ON_JOBS = ON_ENABLE | ON_DISABLE | ON_GROW | ON_RESTORE,
	ON_ALL = INT_MAX,
};

enum option_kind {
	OPTION_TEXT,   /* a text of the request */
	OPTION_SWITCH, /* a switch of the request */
	OPTION_VOLUME,
	OPTION_RECOVERY_FD,
	OPTION_PLAN,
	OPTION_JSON,
	OPTION_WATCH,
	OPTION_NO_WAIT,
	OPTION_YES,
	OPTION_HELP,
	OPTION_VERSION,
};

/* clang-format off */
static const struct {
	const char *name;
	const char *parameter; /* of the request */
	enum option_kind kind;
	int has_argument;
	int verbs;
} rows[] = {
	{ "volume-type",                "volume_type",        OPTION_TEXT,        required_argument, ON_ENCRYPT | ON_DISABLE | ON_GROW | ON_VOLUMES },
	{ "disk-encryption-keyvault",   "vault",              OPTION_TEXT,        required_argument, ON_ENCRYPT },
	{ "key-encryption-key",         "kek",                OPTION_TEXT,        required_argument, ON_ENCRYPT },
	{ "key-encryption-algorithm",   "algorithm",          OPTION_TEXT,        required_argument, ON_ENCRYPT },
	{ "encryption-identity",        "client_id",          OPTION_TEXT,        required_argument, ON_ENCRYPT | ON_DISABLE },
	{ "key-provider",               "provider",           OPTION_TEXT,        required_argument, ON_ENCRYPT },
	{ "key-directory",              "key_directory",      OPTION_TEXT,        required_argument, ON_ENCRYPT },
	{ "encrypt-format-all",         "format_all",         OPTION_SWITCH,      no_argument,       ON_ENCRYPT },
	{ "next-boot",                  "next_boot",          OPTION_SWITCH,      no_argument,       ON_ENCRYPT | ON_DISABLE },
	{ "recovery-key",               "recovery_key",       OPTION_SWITCH,      no_argument,       ON_ENCRYPT },
	{ "recovery-key-fd",            "recovery_key",       OPTION_RECOVERY_FD, required_argument, ON_ENABLE },
	{ "detached-header",            "detached_header",    OPTION_SWITCH,      no_argument,       ON_ENCRYPT },
	{ "allow-other-region",         "allow_other_region", OPTION_SWITCH,      no_argument,       ON_ENCRYPT | ON_DISABLE },
	{ "reboot",                     "reboot",             OPTION_SWITCH,      no_argument,       ON_ENABLE | ON_DISABLE },
	{ "volume",                     "volumes",            OPTION_VOLUME,      required_argument, ON_ENCRYPT | ON_DISABLE | ON_GROW },
	{ "plan",                       NULL,                 OPTION_PLAN,        no_argument,       ON_ENABLE | ON_DISABLE | ON_GROW },
	{ "json",                       NULL,                 OPTION_JSON,        required_argument, ON_ALL },
	{ "watch",                      NULL,                 OPTION_WATCH,       no_argument,       ON_JOBS | ON_SHOW },
	{ "no-wait",                    NULL,                 OPTION_NO_WAIT,     no_argument,       ON_JOBS },
	{ "yes",                        NULL,                 OPTION_YES,         no_argument,       ON_JOBS },
	{ "help",                       NULL,                 OPTION_HELP,        no_argument,       ON_ALL },
	{ "version",                    NULL,                 OPTION_VERSION,     no_argument,       ON_ALL },
};

static const struct {
	const char *name;
	enum verb verb;
} verbs[] = {
	{ "enable",   VERB_ENABLE },
	{ "disable",  VERB_DISABLE },
	{ "grow",     VERB_GROW },
	{ "check",    VERB_CHECK },
	{ "show",     VERB_SHOW },
	{ "volumes",  VERB_VOLUMES },
	{ "recover",  VERB_RECOVER },
	{ "pause",    VERB_PAUSE },
	{ "resume",   VERB_RESUME },
	{ "snapshot", VERB_SNAPSHOT },
	{ "help",     VERB_HELP },
}, snapshot_verbs[] = {
	{ "list",     VERB_SNAPSHOT_LIST },
	{ "show",     VERB_SNAPSHOT_SHOW },
	{ "restore",  VERB_SNAPSHOT_RESTORE },
};
/* clang-format on */

/* Which options were there, by their row. */
struct seen {
	bool rows[ARRAY_SIZE(rows)];
};

void options_clear(struct options *options)
{
	json_object_put(options->request);
	*options = (struct options){ .recovery_fd = -1 };
}

#define wrong(ret_problem, ...)                                                                    \
	(text_format((ret_problem), __VA_ARGS__) < 0 ? -ENOMEM : OPTIONS_E_WRONG)

static int add_volume(struct json_object *request, const char *uuid)
{
	struct json_object *array = json_get_array(request, "volumes"), *text;

	if (!array) {
		array = json_object_new_array();
		if (json_set(request, "volumes", array) < 0)
			return -ENOMEM;
	}
	text = json_object_new_string(uuid);
	if (!text || json_object_array_add(array, text) < 0) {
		json_object_put(text);
		return -ENOMEM;
	}
	return 0;
}

static int take_json_mode(const char *text, struct options *options, char **ret_problem)
{
	if (strcmp(text, "off") == 0)
		options->json = JSON_MODE_OFF;
	else if (strcmp(text, "pretty") == 0)
		options->json = JSON_MODE_PRETTY;
	else if (strcmp(text, "short") == 0)
		options->json = JSON_MODE_SHORT;
	else
		return wrong(ret_problem, "--json takes pretty, short or off.");
	return 0;
}

static int take_option(size_t row, const char *argument, struct options *options,
		       char **ret_problem)
{
	uint64_t number;

	switch (rows[row].kind) {
	case OPTION_TEXT:
		return json_set_string(options->request, rows[row].parameter, argument);
	case OPTION_SWITCH:
		return json_set_bool(options->request, rows[row].parameter, true);
	case OPTION_VOLUME:
		return add_volume(options->request, argument);
	case OPTION_RECOVERY_FD:
		if (number_parse_u64(argument, 1, INT_MAX, &number) < 0)
			return wrong(ret_problem, "--recovery-key-fd takes the number of an open "
						  "descriptor.");
		options->recovery_fd = (int)number;
		return json_set_bool(options->request, rows[row].parameter, true);
	case OPTION_PLAN:
		options->is_plan = true;
		return 0;
	case OPTION_JSON:
		return take_json_mode(argument, options, ret_problem);
	case OPTION_WATCH:
		options->is_watch = true;
		return 0;
	case OPTION_NO_WAIT:
		options->is_no_wait = true;
		return 0;
	case OPTION_YES:
		options->is_yes = true;
		return 0;
	case OPTION_HELP:
		options->verb = VERB_HELP;
		return 0;
	case OPTION_VERSION:
		options->verb = VERB_VERSION;
		return 0;
	}
	return -EINVAL;
}

static int read_options(int argc, char *argv[], struct options *options, struct seen *seen,
			char **ret_problem)
{
	struct option table[ARRAY_SIZE(rows) + 1] = { 0 };
	int c, r;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		table[i] = (struct option){ .name = rows[i].name,
					    .has_arg = rows[i].has_argument,
					    .val = 256 + (int)i };
	optind = 0; /* begin anew, also in tests */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
		size_t row = (size_t)(c - 256);

		if (c == 'h') {
			options->verb = VERB_HELP;
			continue;
		}
		if (c == ':')
			return wrong(ret_problem, "%.*s needs a value.", ECHO_MAX,
				     argv[optind - 1]);
		if (c == '?')
			return wrong(ret_problem, "The option %.*s is not known, or not clear.",
				     ECHO_MAX, argv[optind - 1]);
		if (seen->rows[row] && rows[row].kind == OPTION_TEXT)
			return wrong(ret_problem, "--%s is given twice.", rows[row].name);
		seen->rows[row] = true;
		r = take_option(row, optarg, options, ret_problem);
		if (r != 0)
			return r;
	}
	return 0;
}

static int read_verb(int n, char *words[], struct options *options, char **ret_problem)
{
	int used = 1;

	if (n == 0)
		return wrong(ret_problem, "Say what to do: enable, disable, grow, check, show, "
					  "volumes, recover, pause, resume or snapshot.");
	options->verb = VERB_HELP;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(words[0], verbs[i].name) != 0)
			continue;
		options->verb = verbs[i].verb;
		break;
	}
	if (options->verb == VERB_HELP && strcmp(words[0], "help") != 0)
		return wrong(ret_problem, "The command \"%.*s\" is not known.", ECHO_MAX, words[0]);
	if (options->verb == VERB_SNAPSHOT) {
		for (size_t i = 0; n > 1 && i < ARRAY_SIZE(snapshot_verbs); i++)
			if (strcmp(words[1], snapshot_verbs[i].name) == 0)
				options->verb = snapshot_verbs[i].verb;
		if (options->verb == VERB_SNAPSHOT)
			return wrong(ret_problem, "Say snapshot list, snapshot show NAME or "
						  "snapshot restore NAME.");
		used = 2;
	}
	if (options->verb == VERB_SNAPSHOT_SHOW || options->verb == VERB_SNAPSHOT_RESTORE) {
		if (n < 3)
			return wrong(ret_problem,
				     "Name a snapshot, as \"vmcryptctl snapshot list\" "
				     "shows them.");
		options->name = words[2];
		used = 3;
	}
	if (options->verb == VERB_RECOVER && n > 1) {
		options->name = words[1];
		used = 2;
	}
	if (n > used)
		return wrong(ret_problem, "\"%.*s\" is one word too many.", ECHO_MAX, words[used]);
	return 0;
}

static int check_together(const struct options *options, const struct seen *seen, const char *verb,
			  char **ret_problem)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (seen->rows[i] && !(rows[i].verbs & (1 << options->verb)))
			return wrong(ret_problem, "--%s has no meaning with %s.", rows[i].name,
				     verb);
	if (options->is_plan && (options->is_watch || options->is_no_wait))
		return wrong(ret_problem,
			     "--plan changes nothing, so there is nothing to wait for: "
			     "leave --watch and --no-wait out.");
	if (options->is_watch && options->is_no_wait)
		return wrong(ret_problem, "Choose one of --watch and --no-wait.");
	if (options->verb != VERB_ENABLE || options->is_plan ||
	    !json_get_bool(options->request, "recovery_key", false))
		return 0;
	if (options->is_no_wait)
		return wrong(ret_problem,
			     "A recovery key is handed over while the job is prepared: "
			     "leave --no-wait out.");
	if (options->json != JSON_MODE_OFF && options->recovery_fd < 0)
		return wrong(ret_problem, "A recovery key does not go into JSON: give a descriptor "
					  "with --recovery-key-fd.");
	return 0;
}

/**
 * options_parse() - read the command line
 * @ret:         clear with options_clear(), also on failure
 * @ret_problem: with OPTIONS_E_WRONG one sentence; owned by the caller
 *
 * Return: 0, OPTIONS_E_WRONG or -ENOMEM.
 */
int options_parse(int argc, char *argv[], struct options *ret, char **ret_problem)
{
	struct seen seen = { 0 };
	int r;

	*ret = (struct options){ .verb = VERB_SHOW, .recovery_fd = -1 };
	ret->request = json_object_new_object();
	if (!ret->request)
		return -ENOMEM;
	for (int i = 1; i < argc; i++)
		if (strlen(argv[i]) > ARGUMENT_MAX_LETTERS)
			return wrong(ret_problem, "Argument %d is longer than %d letters.", i,
				     ARGUMENT_MAX_LETTERS);
	r = read_options(argc, argv, ret, &seen, ret_problem);
	if (r != 0 || ret->verb == VERB_HELP || ret->verb == VERB_VERSION)
		return r;
	r = read_verb(argc - optind, argv + optind, ret, ret_problem);
	if (r != 0 || ret->verb == VERB_HELP)
		return r;
	return check_together(ret, &seen, argv[optind], ret_problem);
}

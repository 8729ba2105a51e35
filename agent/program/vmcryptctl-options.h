/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptctl-options.h - the command line
 *
 * Names as in "az vm encryption". Says what is wrong in one sentence; does nothing else.
 */
#pragma once

#include <stdbool.h>

#include "base/json.h"

enum verb {
	VERB_ENABLE,
	VERB_DISABLE,
	VERB_GROW,
	VERB_CHECK,
	VERB_SHOW,
	VERB_VOLUMES,
	VERB_RECOVER,
	VERB_PAUSE,
	VERB_RESUME,
	VERB_SNAPSHOT, /* completed by its second word: one of the next three */
	VERB_SNAPSHOT_LIST,
	VERB_SNAPSHOT_SHOW,
	VERB_SNAPSHOT_RESTORE,
	VERB_HELP,
	VERB_VERSION,
};

enum json_mode {
	JSON_MODE_OFF,
	JSON_MODE_PRETTY,
	JSON_MODE_SHORT,
};

enum {
	OPTIONS_E_WRONG = 1, /* ret_problem says what */
};

struct options {
	enum verb verb;
	enum json_mode json;
	struct json_object *request; /* varlink type Request; owned */
	const char *name;            /* of a snapshot, or a volume's UUID; borrowed from argv */
	int recovery_fd;             /* -1: to the terminal */
	bool is_plan, is_watch, is_no_wait, is_yes;
};

void options_clear(struct options *options);
int options_parse(int argc, char *argv[], struct options *ret, char **ret_problem);

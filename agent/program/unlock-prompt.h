/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/unlock-prompt.h - asks a person for a recovery key, while others go on trying
 *
 * On the console where it is ours; else by systemd-ask-password, so that systemd's agents (console,
 * Plymouth) show the question; or by Plymouth, where it has the keyboard and there is no systemd.
 * What is typed goes straight into a secret. Never waits: the caller polls the descriptors. Never
 * opens a volume.
 */
#pragma once

#include <stdbool.h>

#include "base/secret.h"
#include "program/unlock-console.h"
#include "program/unlock-tool.h"

#define UNLOCK_PROMPT_AGAIN_S 60 /* without a key to press: shown again so long after "no" */

enum {
	UNLOCK_PROMPT_E_MORE = 1, /* nothing whole was typed yet */
	UNLOCK_PROMPT_E_CLOSED,   /* the person does not want to be asked; or nobody can be */
	UNLOCK_PROMPT_E_FORM,     /* no recovery key: groups or letters that do not occur */
	UNLOCK_PROMPT_E_TYPO,     /* one of its groups has a mistake */
};

/* What decides whether to ask now. */
struct unlock_prompt_look {
	bool is_answerable; /* the header is there, and a key would help */
	bool is_shown;
	bool is_pressed;   /* a key, while nothing was asked */
	bool is_refused;   /* waiting alone brings nothing */
	bool was_closed;   /* by the person */
	bool has_key;      /* there is a key to press, see unlock_prompt_key_fd() */
	unsigned waited_s; /* since the header is there, or since the prompt was closed */
	unsigned after_s;
};

struct unlock_prompt {
	struct unlock_console *console; /* borrowed */
	const char *tool;               /* or NULL: on the console */
	const char *plymouth;           /* the tool, while it asks; or NULL: not there */
	bool was_plymouth_asked;
	struct secret *typed; /* so far; NULL = not shown */
	struct unlock_tool asking, watching;
	int fd;
};

bool unlock_prompt_is_due(const struct unlock_prompt_look *look);

void unlock_prompt_init(struct unlock_prompt *prompt, struct unlock_console *console);
int unlock_prompt_show(struct unlock_prompt *prompt, const char *question);
int unlock_prompt_watch(struct unlock_prompt *prompt);
int unlock_prompt_key_fd(const struct unlock_prompt *prompt);
bool unlock_prompt_is_pressed(struct unlock_prompt *prompt);
bool unlock_prompt_is_shown(const struct unlock_prompt *prompt);
int unlock_prompt_read(struct unlock_prompt *prompt, struct secret **ret, unsigned *ret_group);
void unlock_prompt_end(struct unlock_prompt *prompt);

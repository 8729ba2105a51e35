/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/unlock-plymouth.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/process.h"

#define PING_TIMEOUT_S   3   /* its own is 30 s */
#define QUIT_TIMEOUT_S   5   /* the splash may come to its end first */
#define PROMPT_MAX_BYTES 254 /* a byte says how many, with the NUL; the client aborts at more */

/** unlock_plymouth_answers() - is it there, and does its daemon run? */
bool unlock_plymouth_answers(const char *tool)
{
	const char *const argv[] = { tool, "--ping", NULL };

	return access(tool, X_OK) == 0 && process_run(argv, PING_TIMEOUT_S, NULL, NULL) == 0;
}

/**
 * unlock_plymouth_ask() - have it ask for a recovery key
 * @question: Plymouth adds the colon
 * @ret:      says what was typed, without a newline, and ends with 0, also when nothing was typed;
 *            ends at once with another status where Plymouth cannot ask
 *
 * A question cannot be taken back: stopped, it stays on the screen, and gets the next answer. The
 * answer stays in the daemon's memory. Both until unlock_plymouth_quit().
 *
 * Return: 0 or -errno.
 */
int unlock_plymouth_ask(const char *tool, const char *question, struct unlock_tool *ret)
{
	char prompt[sizeof("--prompt=") + PROMPT_MAX_BYTES];
	const char *const argv[] = { tool, "ask-for-password", prompt, NULL };
	size_t size = strlen(question);

	if (size > 0 && question[size - 1] == ':')
		size--;
	if (size > PROMPT_MAX_BYTES)
		size = PROMPT_MAX_BYTES;
	(void)snprintf(prompt, sizeof(prompt), "--prompt=%.*s", (int)size, question);
	return unlock_tool_start(argv, ret);
}

/**
 * unlock_plymouth_watch() - have it tell of the next key that is pressed while it asks nothing
 * @ret: says the key and ends with 0; ends with another status when Plymouth has gone
 *
 * Return: 0 or -errno.
 */
int unlock_plymouth_watch(const char *tool, struct unlock_tool *ret)
{
	const char *const argv[] = { tool, "watch-keystroke", NULL };

	return unlock_tool_start(argv, ret);
}

/** unlock_plymouth_ignore() - take unlock_plymouth_watch() back: its tool ends */
void unlock_plymouth_ignore(const char *tool)
{
	const char *const argv[] = { tool, "ignore-keystroke", NULL };

	(void)process_run(argv, PING_TIMEOUT_S, NULL, NULL);
}

/**
 * unlock_plymouth_quit() - end the daemon, and with it the memory that a recovery key may lie in
 *
 * Nobody misses it: the boot goes on without, and the booted system starts its own.
 */
void unlock_plymouth_quit(const char *tool)
{
	const char *const argv[] = { tool, "quit", NULL };
	int r;

	r = process_run(argv, QUIT_TIMEOUT_S, NULL, NULL);
	if (r < 0)
		log_debug_errno(r, "Plymouth: does not quit: %m");
}

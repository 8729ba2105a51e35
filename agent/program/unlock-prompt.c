/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/unlock-prompt.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "key/passphrase.h"
#include "key/recovery.h"
#include "program/unlock-plymouth.h"

#define SYSTEMD "/run/systemd/system"

/**
 * unlock_prompt_is_due() - should a person be asked for a recovery key now?
 *
 * At once on a key press, at once when waiting alone brings nothing, else after some time. Who has
 * closed the prompt is not asked again before pressing a key; where there is no key to press, time
 * does it.
 */
bool unlock_prompt_is_due(const struct unlock_prompt_look *look)
{
	if (!look->is_answerable || look->is_shown)
		return false;
	if (look->is_pressed)
		return true;
	if (look->was_closed)
		return !look->has_key && look->waited_s >= UNLOCK_PROMPT_AGAIN_S;
	return look->is_refused || look->waited_s >= look->after_s;
}

/**
 * unlock_prompt_init() - find out by what to ask
 * @console: borrowed as long as @prompt is used; may be none, and is none where Plymouth has it
 *
 * systemd-ask-password is for its agents alone: on a terminal that controls no session, as an
 * initramfs without systemd has, it shows no question, and shows what is typed. A console that we
 * opened ourselves is then only for the key that brings the question.
 * Source: systemd 252, src/shared/ask-password-api.c, ask_password_tty().
 */
void unlock_prompt_init(struct unlock_prompt *prompt, struct unlock_console *console)
{
	static const char *const tools[] = { "/usr/bin/systemd-ask-password",
					     "/bin/systemd-ask-password" };

	*prompt = (struct unlock_prompt){
		.console = console, .asking.fd = -EBADF, .watching.fd = -EBADF, .fd = -EBADF
	};
	if (access(SYSTEMD, F_OK) < 0) {
		if (unlock_plymouth_answers(UNLOCK_PLYMOUTH)) {
			prompt->tool = prompt->plymouth = UNLOCK_PLYMOUTH;
			unlock_console_drop(console);
		}
		return;
	}
	if (console->fd >= 0 && !console->is_own)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(tools) && !prompt->tool; i++)
		if (access(tools[i], X_OK) == 0)
			prompt->tool = tools[i];
}

static bool is_plymouth(const struct unlock_prompt *prompt)
{
	return prompt->tool && prompt->tool == prompt->plymouth;
}

/**
 * unlock_prompt_watch() - have key presses seen while nothing is asked
 *
 * Return: 0 (also when they are already), or -errno: there is no key to press.
 */
int unlock_prompt_watch(struct unlock_prompt *prompt)
{
	if (!is_plymouth(prompt))
		return unlock_console_watch(prompt->console);
	return prompt->watching.child > 0
		       ? 0
		       : unlock_plymouth_watch(prompt->plymouth, &prompt->watching);
}

/** unlock_prompt_key_fd() - readable when a key was pressed; < 0: there is none to press now */
int unlock_prompt_key_fd(const struct unlock_prompt *prompt)
{
	if (prompt->typed)
		return -EBADF;
	return is_plymouth(prompt) ? prompt->watching.fd : prompt->console->fd;
}

static void stop_watching(struct unlock_prompt *prompt)
{
	if (prompt->watching.child > 0)
		unlock_plymouth_ignore(prompt->plymouth);
	unlock_tool_stop(&prompt->watching);
}

/* It does not ask: the console does from now on. */
static void leave_tool(struct unlock_prompt *prompt)
{
	log_debug("Tool %s: cannot be used.", prompt->tool);
	stop_watching(prompt);
	prompt->tool = NULL;
	if (prompt->console->fd < 0)
		(void)unlock_console_open(prompt->console);
	(void)unlock_prompt_watch(prompt);
}

/** unlock_prompt_is_pressed() - was it a key that made unlock_prompt_key_fd() readable? */
bool unlock_prompt_is_pressed(struct unlock_prompt *prompt)
{
	if (!is_plymouth(prompt))
		return unlock_console_is_pressed(prompt->console);
	if (prompt->watching.child <= 0)
		return false;
	if (unlock_tool_end(&prompt->watching) != 0) {
		leave_tool(prompt);
		return false;
	}
	(void)unlock_prompt_watch(prompt);
	return true;
}

bool unlock_prompt_is_shown(const struct unlock_prompt *prompt)
{
	return prompt->typed != NULL;
}

static int ask_by_tool(struct unlock_prompt *prompt, const char *question)
{
	const char *const argv[] = {
		prompt->tool, "--no-tty", "--id=vmcrypt", "--icon=drive-harddisk", "--timeout=0",
		question,     NULL
	};
	int r;

	if (is_plymouth(prompt)) {
		prompt->was_plymouth_asked = true;
		r = unlock_plymouth_ask(prompt->plymouth, question, &prompt->asking);
	} else {
		r = unlock_tool_start(argv, &prompt->asking);
	}
	prompt->fd = prompt->asking.fd;
	return r;
}

static int ask_on_console(struct unlock_prompt *prompt, const char *question)
{
	int r;

	if (prompt->console->fd < 0)
		(void)unlock_console_open(prompt->console);
	r = unlock_console_hide(prompt->console);
	if (r < 0)
		return r;
	unlock_console_write(prompt->console, question);
	unlock_console_write(prompt->console, " (not shown) ");
	prompt->fd = prompt->console->fd;
	return 0;
}

/**
 * unlock_prompt_show() - ask; the answer comes through prompt->fd
 * @question: one line
 *
 * Return: 0 (also when it is shown already) or -errno: nobody can be asked now.
 */
int unlock_prompt_show(struct unlock_prompt *prompt, const char *question)
{
	_cleanup_(secret_freep) struct secret *typed = NULL;
	int r;

	if (prompt->typed)
		return 0;
	r = secret_new(PASSPHRASE_MAX_BYTES + 1, &typed);
	if (r < 0)
		return r;
	unlock_console_restore(prompt->console); /* an agent may read from it */
	r = prompt->tool ? ask_by_tool(prompt, question) : ask_on_console(prompt, question);
	if (r < 0)
		return r;
	prompt->typed = steal(typed);
	return 0;
}

/* Not shown any more; the console is as it was. Return: the tool's status. */
static int close_prompt(struct unlock_prompt *prompt)
{
	int status;

	prompt->fd = -EBADF;
	status = unlock_tool_end(&prompt->asking);
	prompt->typed = secret_free(prompt->typed);
	unlock_console_restore(prompt->console);
	if (prompt->tool)
		(void)unlock_prompt_watch(prompt);
	return status;
}

static void withdraw(struct unlock_prompt *prompt)
{
	unlock_tool_stop(&prompt->asking);
	(void)close_prompt(prompt);
	unlock_console_write(prompt->console, "\n");
}

/**
 * unlock_prompt_end() - nobody need be asked any more; not shown is fine
 *
 * Where Plymouth has asked, it quits: it cannot be told that a question is withdrawn, and keeps
 * what was typed.
 */
void unlock_prompt_end(struct unlock_prompt *prompt)
{
	if (prompt->typed)
		withdraw(prompt);
	if (!prompt->was_plymouth_asked) {
		stop_watching(prompt);
		return;
	}
	/* before it complains that Plymouth has gone */
	unlock_tool_stop(&prompt->watching);
	unlock_plymouth_quit(prompt->plymouth);
}

/* Take what is there. Return: 0 = whole (a line, or the end), UNLOCK_PROMPT_E_MORE. */
static int take(struct unlock_prompt *prompt)
{
	size_t size = secret_size(prompt->typed);

	while (size < secret_capacity(prompt->typed)) {
		ssize_t n = read(prompt->fd, secret_bytes(prompt->typed) + size,
				 secret_capacity(prompt->typed) - size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return UNLOCK_PROMPT_E_MORE;
		if (n <= 0)
			break;
		size += (size_t)n;
		secret_set_size(prompt->typed, size);
		/* a terminal gives a line at once; a second read would wait for the next */
		if (secret_bytes(prompt->typed)[size - 1] == '\n')
			break;
	}
	return 0;
}

/**
 * unlock_prompt_read() - what was typed, when prompt->fd is readable
 * @ret:       on 0 the recovery key as it was printed; owned by the caller
 * @ret_group: on UNLOCK_PROMPT_E_TYPO the group with the mistake, from 1
 *
 * But for UNLOCK_PROMPT_E_MORE the prompt is not shown any more; nor is it when the tool turns out
 * not to run, which looks the same: shown again, it is on the console.
 *
 * Return: 0, UNLOCK_PROMPT_E_MORE, _CLOSED, _FORM, _TYPO, or -errno.
 */
int unlock_prompt_read(struct unlock_prompt *prompt, struct secret **ret, unsigned *ret_group)
{
	_cleanup_(secret_freep) struct secret *typed = NULL;
	size_t size;
	int r;

	if (!prompt->typed || take(prompt) != 0)
		return UNLOCK_PROMPT_E_MORE;
	typed = steal(prompt->typed);
	size = secret_size(typed);
	r = close_prompt(prompt);
	if (r == UNLOCK_TOOL_NONE || (r != 0 && size == 0 && is_plymouth(prompt))) {
		leave_tool(prompt);
		return UNLOCK_PROMPT_E_MORE;
	}
	while (size > 0 && strchr("\r\n \t", secret_bytes(typed)[size - 1]))
		size--;
	if (r != 0 || size == 0)
		return UNLOCK_PROMPT_E_CLOSED;
	r = recovery_normalize(typed, ret, ret_group);
	if (r == RECOVERY_E_FORM)
		return UNLOCK_PROMPT_E_FORM;
	return r == RECOVERY_E_TYPO ? UNLOCK_PROMPT_E_TYPO : r;
}

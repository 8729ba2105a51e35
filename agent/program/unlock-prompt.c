/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/unlock-prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "key/passphrase.h"
#include "key/recovery.h"

#define SYSTEMD      "/run/systemd/system"
#define EXIT_NO_TOOL 127 /* as a shell says it */

/**
 * unlock_prompt_is_due() - should a person be asked for a recovery key now?
 *
 * At once on a key press, at once when waiting alone brings nothing, else after some time. Who has
 * closed the prompt is not asked again before pressing a key; without a console there is no key to
 * press, and time does it.
 */
bool unlock_prompt_is_due(const struct unlock_prompt_look *look)
{
	if (!look->is_answerable || look->is_shown)
		return false;
	if (look->is_pressed)
		return true;
	if (look->was_closed)
		return !look->has_console && look->waited_s >= UNLOCK_PROMPT_AGAIN_S;
	return look->is_refused || look->waited_s >= look->after_s;
}

/**
 * unlock_prompt_init() - find out by what to ask
 * @console: borrowed as long as @prompt is used; may be none
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

	*prompt = (struct unlock_prompt){ .console = console, .fd = -EBADF };
	if ((console->fd >= 0 && !console->is_own) || access(SYSTEMD, F_OK) < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(tools) && !prompt->tool; i++)
		if (access(tools[i], X_OK) == 0)
			prompt->tool = tools[i];
}

bool unlock_prompt_is_shown(const struct unlock_prompt *prompt)
{
	return prompt->typed != NULL;
}

static _Noreturn void ask(const char *tool, const char *question, int output, pid_t parent)
{
	static char *environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
				       NULL };
	const char *const argv[] = {
		tool,     "--no-tty", "--id=vmcrypt", "--icon=drive-harddisk", "--timeout=0",
		question, NULL
	};
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	/* the question does not outlive who asks it */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		_exit(EXIT_NO_TOOL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0)
		_exit(EXIT_NO_TOOL);
	(void)close_range(3, ~0U, 0);
	(void)execve(tool, (char *const *)argv, environment);
	_exit(EXIT_NO_TOOL);
}

static int start_tool(struct unlock_prompt *prompt, const char *question)
{
	int pipes[2], r;
	pid_t parent = getpid();

	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	prompt->child = fork();
	r = -errno;
	if (prompt->child == 0)
		ask(prompt->tool, question, pipes[1], parent);
	(void)close(pipes[1]);
	if (prompt->child < 0) {
		prompt->child = 0;
		(void)close(pipes[0]);
		return r;
	}
	prompt->fd = pipes[0];
	return 0;
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
	r = prompt->tool ? start_tool(prompt, question) : ask_on_console(prompt, question);
	if (r < 0)
		return r;
	prompt->typed = steal(typed);
	return 0;
}

/* Return: its exit status, or 128 + signal. */
static int end_child(struct unlock_prompt *prompt)
{
	int status = 0;

	if (prompt->child <= 0)
		return 0;
	while (waitpid(prompt->child, &status, 0) < 0)
		if (errno != EINTR)
			break;
	prompt->child = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Not shown any more; the console is as it was. Return: the tool's status. */
static int close_prompt(struct unlock_prompt *prompt)
{
	int status;

	if (prompt->tool && prompt->fd >= 0)
		(void)close(prompt->fd);
	prompt->fd = -EBADF;
	status = end_child(prompt);
	prompt->typed = secret_free(prompt->typed);
	unlock_console_restore(prompt->console);
	if (prompt->tool)
		(void)unlock_console_watch(prompt->console);
	return status;
}

/** unlock_prompt_withdraw() - the question is no longer needed; not shown is fine */
void unlock_prompt_withdraw(struct unlock_prompt *prompt)
{
	if (!prompt->typed)
		return;
	if (prompt->child > 0)
		(void)kill(prompt->child, SIGTERM);
	(void)close_prompt(prompt);
	unlock_console_write(prompt->console, "\n");
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
	r = close_prompt(prompt);
	if (r == EXIT_NO_TOOL) {
		log_debug("Tool %s: cannot be run.", prompt->tool);
		prompt->tool = NULL;
		return UNLOCK_PROMPT_E_MORE;
	}
	size = secret_size(typed);
	while (size > 0 && strchr("\r\n \t", secret_bytes(typed)[size - 1]))
		size--;
	if (r != 0 || size == 0)
		return UNLOCK_PROMPT_E_CLOSED;
	r = recovery_normalize(typed, ret, ret_group);
	if (r == RECOVERY_E_FORM)
		return UNLOCK_PROMPT_E_FORM;
	return r == RECOVERY_E_TYPO ? UNLOCK_PROMPT_E_TYPO : r;
}

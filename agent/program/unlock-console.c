/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/unlock-console.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define CONSOLE "/dev/console"

/* for the signal handler, which has no other way to it */
static const struct unlock_console *volatile held;

static const int ending_signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };

/* tcsetattr() and raise() may be called here: signal-safety(7) */
static void restore_and_end(int number)
{
	const struct unlock_console *console = held;

	if (console)
		(void)tcsetattr(console->fd, TCSANOW, &console->before);
	(void)signal(number, SIG_DFL);
	(void)raise(number);
}

static void set_handlers(bool is_ours)
{
	struct sigaction action = { .sa_handler = is_ours ? restore_and_end : SIG_DFL };

	(void)sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < ARRAY_SIZE(ending_signals); i++)
		(void)sigaction(ending_signals[i], &action, NULL);
	/* in the background of somebody's shell: an error instead of being stopped */
	action.sa_handler = is_ours ? SIG_IGN : SIG_DFL;
	(void)sigaction(SIGTTOU, &action, NULL);
	(void)sigaction(SIGTTIN, &action, NULL);
}

/**
 * unlock_console_take() - use a terminal that is open already
 * @fd:      borrowed until unlock_console_drop()
 * @console: stays where it is: the signal handler looks at it
 *
 * Return: 0, -ENOTTY, -EACCES (one that can only be read) or another -errno; then there is no
 * console.
 */
int unlock_console_take(int fd, struct unlock_console *console)
{
	*console = (struct unlock_console){ .fd = -EBADF };
	if (tcgetattr(fd, &console->before) < 0)
		return -errno;
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) !=
	    O_RDWR) /* "< /dev/console": nobody would see a question */
		return -EACCES;
	console->fd = fd;
	held = console;
	set_handlers(true);
	return 0;
}

/** unlock_console_open() - the machine's own. Return: as unlock_console_take(). */
int unlock_console_open(struct unlock_console *console)
{
	_cleanup_(closep) int fd = open(CONSOLE, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	int r;

	*console = (struct unlock_console){ .fd = -EBADF };
	if (fd < 0)
		return -errno;
	r = unlock_console_take(fd, console);
	if (r < 0)
		return r;
	console->is_own = true;
	(void)steal_fd(fd);
	return 0;
}

/** unlock_console_drop() - as it was found; none is fine */
void unlock_console_drop(struct unlock_console *console)
{
	if (console->fd < 0)
		return;
	unlock_console_restore(console);
	set_handlers(false);
	held = NULL;
	if (console->is_own)
		(void)close(console->fd);
	console->fd = -EBADF;
}

static int set_mode(struct unlock_console *console, tcflag_t without, tcflag_t with)
{
	struct termios mode = console->before;

	if (console->fd < 0)
		return -ENOTTY;
	mode.c_lflag = (mode.c_lflag & ~without) | with;
	if (!(mode.c_lflag & ICANON)) {
		mode.c_cc[VMIN] = 0; /* a read never waits */
		mode.c_cc[VTIME] = 0;
	}
	/* what was typed before, at the boot loader perhaps, is no answer */
	if (tcsetattr(console->fd, TCSAFLUSH, &mode) < 0) {
		int r = -errno;

		unlock_console_drop(console);
		return r;
	}
	return 0;
}

/** unlock_console_watch() - see single keys, show none. Return: 0 or -errno: no console (any more).
 */
int unlock_console_watch(struct unlock_console *console)
{
	return set_mode(console, ICANON | ECHO | ECHONL, 0);
}

/**
 * unlock_console_is_pressed() - has a key been pressed since unlock_console_watch()?
 *
 * Takes what was typed. A terminal that has gone is dropped.
 */
bool unlock_console_is_pressed(struct unlock_console *console)
{
	struct pollfd poll_fd = { .fd = console->fd, .events = POLLIN };
	char keys[64];
	ssize_t n;

	if (console->fd < 0 || poll(&poll_fd, 1, 0) <= 0)
		return false;
	n = read(console->fd, keys, sizeof(keys));
	explicit_bzero(keys, sizeof(keys));
	if (n > 0) {
		(void)tcflush(console->fd, TCIFLUSH);
		return true;
	}
	if ((poll_fd.revents & (POLLHUP | POLLERR | POLLNVAL)) ||
	    (n < 0 && errno != EINTR && errno != EAGAIN))
		unlock_console_drop(console);
	return false;
}

/** unlock_console_hide() - lines again, but not shown. Return: 0 or -errno: no console (any more).
 */
int unlock_console_hide(struct unlock_console *console)
{
	return set_mode(console, ECHO, ICANON | ECHONL);
}

/** unlock_console_restore() - for somebody else to use meanwhile */
void unlock_console_restore(const struct unlock_console *console)
{
	if (console->fd >= 0)
		(void)tcsetattr(console->fd, TCSANOW, &console->before);
}

/** unlock_console_write() - as much of it as goes; a prompt that cannot be written is not missed */
void unlock_console_write(const struct unlock_console *console, const char *text)
{
	if (console->fd >= 0)
		(void)!write(console->fd, text, strlen(text));
}

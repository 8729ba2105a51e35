/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/unlock-console.h - the console: a key press, a line that is not shown, and as it was
 *
 * A terminal that is ours while we wait: keys are seen one by one without being shown, a line is
 * read without being shown. Whatever ends the process, the terminal is left as it was found. There
 * may be none; then nothing is ever pressed.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

struct unlock_console {
	int fd; /* -EBADF: none */
	bool is_own;
	struct termios before;
};

int unlock_console_take(int fd, struct unlock_console *console);
int unlock_console_open(struct unlock_console *console);
void unlock_console_drop(struct unlock_console *console);

int unlock_console_watch(struct unlock_console *console);
bool unlock_console_is_pressed(struct unlock_console *console);
int unlock_console_hide(struct unlock_console *console);
void unlock_console_restore(const struct unlock_console *console);
void unlock_console_write(const struct unlock_console *console, const char *text);

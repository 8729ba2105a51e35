/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048 /* longer lines are cut: a log is read by people */

static enum log_level max_level = LOG_LEVEL_NOTICE;

void log_set_max_level(enum log_level level)
{
	max_level = level;
}

/** log_set_from_environment() - VMCRYPT_LOG=debug shows everything; set by a person or a unit */
void log_set_from_environment(void)
{
	const char *value = getenv("VMCRYPT_LOG");

	if (value && strcmp(value, "debug") == 0)
		max_level = LOG_LEVEL_DEBUG;
}

bool log_is_enabled(enum log_level level)
{
	return level <= max_level;
}

/**
 * log_internal() - one line, one write
 * @error: 0, or a negative errno that %m in @format then means
 *
 * The prefix "<3>" is for the journal; on a terminal it would only disturb.
 *
 * Return: @error when negative, else 0: so that a caller can log and return in one line.
 */
int log_internal(enum log_level level, int error, const char *format, ...)
{
	int saved_errno = errno;
	char line[LINE_MAX_BYTES];
	size_t used = 0;
	va_list arguments;
	int n;

	if (level > max_level)
		return error < 0 ? error : 0;

	if (!isatty(STDERR_FILENO))
		used = (size_t)snprintf(line, sizeof(line), "<%d>", (int)level);
	errno = -error;
	va_start(arguments, format);
	n = vsnprintf(line + used, sizeof(line) - used - 1, format, arguments);
	va_end(arguments);
	if (n > 0)
		used += (size_t)n < sizeof(line) - used - 1 ? (size_t)n : sizeof(line) - used - 2;
	/* text from outside must not begin a line of its own */
	for (size_t i = 0; i < used; i++)
		if ((unsigned char)line[i] < ' ' && line[i] != '\t')
			line[i] = ' ';
	line[used++] = '\n';
	(void)!write(STDERR_FILENO, line, used);
	errno = saved_errno;
	return error < 0 ? error : 0;
}

/** log_fold() - turn an unanswered condition into an error; errors and 0 pass unchanged */
int log_fold(int r, const char *file, int line)
{
	if (r <= 0)
		return r;
	log_error("%s:%d: condition %d was not handled; this is a bug.", file, line, r);
	return -ENOTRECOVERABLE;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* base/log.h - one line to stderr with a level prefix
 *
 * Works under systemd (which reads the prefix), in an initramfs and in a log file alike. Rooms at
 * the bottom (base key vault volume boot ipc) log at debug only; job/ and program/ log, once. No
 * secret can be written here: its type has no format.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,   /* needs a person */
	LOG_LEVEL_WARNING = 4, /* went on otherwise */
	LOG_LEVEL_NOTICE = 5,  /* a step begins or ends */
	LOG_LEVEL_DEBUG = 7,
};

void log_set_max_level(enum log_level level);
void log_set_from_environment(void);
bool log_is_enabled(enum log_level level);
int log_internal(enum log_level level, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int log_fold(int r, const char *file, int line);

#define log_error(...)            ((void)log_internal(LOG_LEVEL_ERROR, 0, __VA_ARGS__))
#define log_warning(...)          ((void)log_internal(LOG_LEVEL_WARNING, 0, __VA_ARGS__))
#define log_notice(...)           ((void)log_internal(LOG_LEVEL_NOTICE, 0, __VA_ARGS__))
#define log_debug(...)            ((void)log_internal(LOG_LEVEL_DEBUG, 0, __VA_ARGS__))
#define log_error_errno(r, ...)   log_internal(LOG_LEVEL_ERROR, r, __VA_ARGS__)
#define log_warning_errno(r, ...) log_internal(LOG_LEVEL_WARNING, r, __VA_ARGS__)
#define log_debug_errno(r, ...)   log_internal(LOG_LEVEL_DEBUG, r, __VA_ARGS__)

/* A positive condition that nobody answered is a bug: say where, go on as an error. */
#define fold(r) log_fold((r), __FILE__, __LINE__)

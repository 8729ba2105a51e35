/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* base/cleanup.h - ownership by scope
 *
 * _cleanup_(f) runs f(&variable) when the variable goes out of scope; steal() hands the value over
 * and leaves NULL behind. Statement expressions and attributes live here only.
 */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

#define steal(pointer)                                                                             \
	({                                                                                         \
		__typeof__(pointer) _stolen = (pointer);                                           \
		(pointer) = NULL;                                                                  \
		_stolen;                                                                           \
	})

#define steal_fd(fd)                                                                               \
	({                                                                                         \
		int _stolen = (fd);                                                                \
		(fd) = -EBADF;                                                                     \
		_stolen;                                                                           \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline void freep(void *pointer)
{
	free(*(void **)pointer);
}

static inline void closep(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static inline void fclosep(FILE **file)
{
	if (*file)
		(void)fclose(*file);
}

static inline void closedirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* unit/test.h - what every unit test begins with
 *
 * cmocka and the headers that it wants before itself; a folder that goes away with the test;
 * secrets from text. A failure here is a failure of the test.
 */
#pragma once

/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

static inline int scratch_drop(const char *path, const struct stat *status, int kind,
			       struct FTW *walk)
{
	return remove(path);
}

/* cmocka's set-up and tear-down: *state is the path of an empty folder, 0700, without symbolic
 * links */
static inline int scratch_make(void **state)
{
	char *path = strdup("/tmp/vmcrypt-unit-XXXXXX");

	*state = path;
	return path && mkdtemp(path) ? 0 : -1;
}

static inline int scratch_remove(void **state)
{
	int r = nftw(*state, scratch_drop, 8, FTW_DEPTH | FTW_PHYS);

	free(*state);
	return r;
}

/* folder/name, owned by the caller */
static inline char *scratch_path(void **state, const char *name)
{
	char *path;

	assert_true(asprintf(&path, "%s/%s", (const char *)*state, name) > 0);
	return path;
}

static inline void write_file(const char *path, const char *text, mode_t mode)
{
	_cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
}

static inline char *read_file(const char *path)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = calloc(1, 65536);

	assert_true(fd >= 0);
	assert_non_null(text);
	assert_true(read(fd, text, 65535) >= 0);
	return text;
}

/* how many entries a folder has, hidden ones too */
static inline size_t count_entries(const char *path)
{
	_cleanup_(closedirp) DIR *folder = opendir(path);
	size_t n = 0;

	assert_non_null(folder);
	while (readdir(folder))
		n++;
	return n - 2;
}

/* a row of a table that fails is named before its assertion ends the test */
#define assert_row(name, condition)                                                                \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_msg("%s: %s", name, #condition);                                      \
	} while (0)

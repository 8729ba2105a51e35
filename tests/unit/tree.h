/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* unit/tree.h - a root of the test's own, file by file */
#pragma once

#include <libgen.h>

#include "base/file.h"
#include "test.h"

/* a file below the test's folder, with its parents */
static inline void put(void **state, const char *name, const char *text, mode_t mode)
{
	_cleanup_(freep) char *path = scratch_path(state, name),
			      *folder = scratch_path(state, name);

	assert_int_equal(directory_make(dirname(folder), 0755), 0);
	write_file(path, text, mode);
}

/* @text NULL: there is no such file */
static inline void assert_content(void **state, const char *name, const char *text)
{
	_cleanup_(freep) char *path = scratch_path(state, name), *found = NULL;

	if (access(path, F_OK) < 0) {
		assert_null(text);
		return;
	}
	found = read_file(path);
	assert_non_null(text);
	assert_string_equal(found, text);
}

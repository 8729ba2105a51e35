/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/fstab-line.h - one line of fstab: whose entry it is, and how it is made harmless
 *
 * What boot/fstab.c puts together to a file. Looks at links below /dev; never reads or writes
 * fstab.
 */
#pragma once

#include "boot/fstab.h"
#include "boot/table.h"

/* Order of the fields. Source: fstab(5). */
enum { FSTAB_SPEC, FSTAB_TARGET, FSTAB_TYPE, FSTAB_OPTIONS };

/* Which entries are meant. Only a real file's specs are looked up below /dev; a text stands for
 * itself. */
struct fstab_search {
	const struct fstab_device *device;
	bool resolves;
};

int fstab_line_is_meant(const struct fstab_search *search, const struct table_line *line);
bool fstab_line_may_fail(const struct table_line *line);
struct table_field fstab_line_options(const struct table_line *line);
const char *fstab_option_find(const struct table_field *options, const char *name);
char *fstab_line_encrypted(const struct table_line *line, const struct table_field *raw_spec);

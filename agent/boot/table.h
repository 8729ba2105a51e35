/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/table.h - tables of the fstab kind, line by line
 *
 * What fstab(5) and crypttab(5) share: a line is an entry of fields between blanks, or it is empty
 * or a comment. Points into the caller's text and copies nothing, so that an editor can keep every
 * byte that it does not mean to change. Reads whole files; never writes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TABLE_FIELDS_MAX 6 /* fstab has six, crypttab four; what follows belongs to nobody */

struct table_field {
	const char *at;
	size_t size;
};

struct table_line {
	size_t number; /* from 1 */
	const char *at;
	size_t size;         /* without the line's end */
	size_t ending_bytes; /* 0 (last line), 1 (\n) or 2 (\r\n) */
	size_t n;            /* fields found; 0 = empty or comment */
	struct table_field fields[TABLE_FIELDS_MAX];
};

bool table_next(const char **at, struct table_line *line);
bool table_field_is(const struct table_field *field, const char *text);
char *table_field_decode(const struct table_field *field);
int table_field_encode(FILE *out, const char *text);
void table_put(FILE *out, const char *from, const char *to);
char *table_finish(FILE *out, char **text);
const char *table_tag_value(const char *spec, const char *tag, size_t *ret_size);
int table_read(const char *path, size_t max_bytes, char **ret_path, char **ret_text);

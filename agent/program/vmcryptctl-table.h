/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptctl-table.h - replies as tables for people
 *
 * Text from outside (labels, mount points, sentences) never reaches the terminal with control
 * characters in it. All of this goes to a stream that the caller gives, so it can be looked at in
 * tests.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"

#define TABLE_CELL_MAX 160 /* letters of one cell; longer text is cut */

struct table {
	char **cells; /* row by row, the heading first */
	size_t n_columns, n_cells;
};

void table_clear(struct table *table);
int table_add(struct table *table, const char *text);
void table_print(const struct table *table, bool has_style, FILE *out);

int text_clean(const char *text, size_t max_letters, char **ret);
void text_size(uint64_t bytes, char *out, size_t out_bytes);
void text_duration(int64_t seconds, char *out, size_t out_bytes);

int table_print_status(struct json_object *reply, bool has_style, FILE *out);
int table_print_volumes(struct json_object *reply, bool has_style, FILE *out);
int table_print_plan(struct json_object *plan, bool has_style, FILE *out);
int table_print_snapshots(struct json_object *reply, bool has_style, FILE *out);

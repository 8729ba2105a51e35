/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/table.h - the partition table of a disk
 *
 * Dumps it, and moves the end of one partition into the gap behind it. Starts, numbers, UUIDs,
 * types, names and flags never change. Tables are libfdisk's work.
 */
#pragma once

#include <stdint.h>

enum {
	TABLE_E_NO_GAP = 1,  /* something lies behind, or nothing is left */
	TABLE_E_UNSUPPORTED, /* neither GPT nor a primary partition of an MBR */
};

#define TABLE_ALL UINT64_MAX /* all that there is */

int table_dump(const char *disk, char **ret_text);
int table_gap(const char *disk, unsigned number, uint64_t *ret_bytes);
int table_grow(const char *disk, unsigned number, uint64_t by_bytes);

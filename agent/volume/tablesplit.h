/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/tablesplit.h - a new partition behind one that may become shorter, in one write of the
 * table
 *
 * Starts, numbers, UUIDs, types and names of what is there never change. Tables are libfdisk's
 * work.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "volume/table.h"

#define TABLE_LINKS "/dev/disk/by-partuuid/"

/* All in bytes from the beginning of the disk, of whole sectors. */
struct table_split {
	unsigned number;      /* of the partition that may become shorter */
	uint64_t keeps_bytes; /* what it keeps, at most what it has; 0 = all: it is not touched */
	uint64_t start_bytes, size_bytes; /* the new one */
	const char *uuid;                 /* its PARTUUID on GPT; an MBR has none */
};

struct table_place {
	uint64_t start_bytes, size_bytes; /* of the partition */
	uint64_t gap_bytes;               /* behind it */
};

int table_place(const char *disk, unsigned number, struct table_place *ret);
int table_can_add(const char *disk);
int table_find_free(const char *disk, uint64_t size_bytes, uint64_t *ret_start_bytes);
int table_find(const char *disk, uint64_t start_bytes, uint64_t size_bytes, unsigned *ret_number);
int table_mend(const char *disk, const char *uuid);
int table_mend_missing(const char *link);
int table_split(const char *disk, const struct table_split *split);

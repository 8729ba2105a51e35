/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/bootmap.h - where a boot loader reads, in an ext filesystem that is about to change
 *
 * The inodes and blocks of a folder and all that is below it, but for our own, and of the way
 * there. A boot loader reads without a journal and asks for no checksum: as long as these stay
 * where they are, it finds the same files in any mixture of the old and the new state. Reads the
 * device (libext2fs); changes nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* In that folder, ours: written while a job runs, anywhere, and read by no boot loader. */
#define BOOTMAP_OURS "vmcrypt"

struct bootmap {
	uint64_t digest;            /* equal when everything lies at the same places */
	uint64_t end_bytes;         /* behind the last group or block that any of it lies in */
	uint64_t folders_end_bytes; /* the same without the blocks of files */
};

/* Where nothing is in use, seen from the end. */
struct bootmap_free {
	uint64_t used_bytes;                 /* what is in use from there on */
	uint64_t offset_bytes, length_bytes; /* the longest run; 0 = none */
	bool has_end;                        /* the last piece of the device is free */
};

int bootmap_read(const char *device, const char *folder, struct bootmap *ret);
int bootmap_find_free(const char *device, uint64_t from_bytes, uint64_t end_bytes,
		      unsigned grain_bytes, struct bootmap_free *ret);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/geometry.h - how large a filesystem says that it is, and in what state
 *
 * Reads the superblocks of ext2/3/4, xfs and btrfs by their on-disk formats; changes nothing.
 * libblkid tells sizes only from 2.39 on, and never the state.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GEOMETRY_BLOCK_BYTES 4096 /* holds the superblock of each format, see geometry_offset() */

struct geometry {
	uint64_t bytes;       /* where the filesystem ends on this device; of whole blocks */
	unsigned block_bytes; /* what its size is counted in */
	unsigned unit_bytes;  /* the largest encryption sector that it bears: xfs and btrfs sector,
				 ext block */
	uint64_t free_bytes;  /* an estimate; btrfs: not in any chunk of this device */
	uint8_t uuid[16];

	unsigned devices; /* how many it spans: members, external journal or log, realtime device */
	uint64_t device_id; /* btrfs: its number for this device */

	uint64_t group_bytes; /* xfs: an allocation group */
	unsigned groups;

	bool has_errors;     /* it has noted errors or an unfinished repair */
	bool needs_recovery; /* its journal is to be replayed at the next mount, or it is mounted */
	bool is_rigid;       /* ext: cannot shrink (stable_inodes) */
};

uint64_t geometry_offset(const char *type);
int geometry_parse(const char *type, const uint8_t block[GEOMETRY_BLOCK_BYTES],
		   struct geometry *ret);
int geometry_read(const char *device, const char *type, struct geometry *ret);
int geometry_read_mounted(const char *device, const char *type, const char *mount_point,
			  struct geometry *ret);

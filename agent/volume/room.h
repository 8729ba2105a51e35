/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/room.h - room for a LUKS2 header behind the data
 *
 * The backing device grows by 32 MiB (a gap behind its partition, free extents of its volume
 * group), or its filesystem gives way. Finds out without touching anything (room_find()), then does
 * it (room_make()).
 */
#pragma once

#include "volume/inventory.h"

#define ROOM_BYTES                                                                                 \
	(32ULL * 1024 * 1024) /* twice the data shift of 16 MiB: header and moved first segment */

enum room_way {
	ROOM_IS_THERE,   /* the filesystem already ends 32 MiB before the device does */
	ROOM_PARTITION,  /* grow the partition into the gap behind it */
	ROOM_EXTENTS,    /* grow the logical volume by free extents */
	ROOM_FILESYSTEM, /* the filesystem gives way */
	ROOM_DETACHED,   /* no room: a detached header, when it was asked for */
	ROOM_NONE,
};

int room_find(const struct inventory *inventory, const struct volume *volume, enum room_way *ret,
	      char **ret_detail);
/* ROOM_PARTITION, ROOM_EXTENTS: at any time. ROOM_FILESYSTEM: xfs and btrfs while mounted, ext
 * unmounted. Idempotent. Returns 0, FILESYSTEM_E_*, or -errno. */
int room_make(const struct inventory *inventory, const struct volume *volume, enum room_way way,
	      const char *changes, char **ret_detail);
/* First of all at each start: until then, a volume that was cut while it gave way may be one that
 * nothing recognises. */
int room_finish(const char *device, const char *changes, char **ret_detail);
bool room_needs_changes(const struct volume *volume, enum room_way way);
int room_changes_bytes(const struct volume *volume, uint64_t *ret);
const char *room_way_to_string(enum room_way way);

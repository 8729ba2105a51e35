/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/filesystem.h - the filesystem on a volume: check, shrink, grow, make, mount
 *
 * Runs the tools that own each format (e2fsck, resize2fs, xfs_growfs, btrfs, mkfs.*). ext is shrunk
 * unmounted, xfs and btrfs mounted; all grow mounted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "volume/inventory.h"

enum {
	FILESYSTEM_E_UNCLEAN = 1, /* errors that only a person should repair */
	FILESYSTEM_E_NO_ROOM,     /* cannot give way by so much */
	FILESYSTEM_E_BUSY,        /* cannot be unmounted; ask holders_find() */
	FILESYSTEM_E_NO_TOOL,     /* the filesystem's tools are not installed */
	FILESYSTEM_E_UNSUPPORTED,
};

/* All take the device's path, blkid's TYPE and, where it must be mounted, its mount point (NULL =
 * it is not mounted); *ret_detail is a sentence or the tool's own words, or NULL; owned by the
 * caller. */
bool filesystem_is_supported(const char *type);
int filesystem_probe(const char *device, char **ret_type, char **ret_uuid,
		     uint64_t *ret_size_bytes);
int filesystem_check(const char *device, const char *type, char **ret_detail);
int filesystem_can_shrink(const char *device, const char *type, const char *mount_point,
			  uint64_t by_bytes, char **ret_detail);
int filesystem_shrink(const char *device, const char *type, const char *mount_point,
		      uint64_t to_bytes, const char *changes, char **ret_detail);
int filesystem_grow(const char *device, const char *type, const char *mount_point,
		    char **ret_detail);
int filesystem_make(const char *device, const char *type, const char *uuid, const char *label,
		    char **ret_detail);

int filesystem_can_make(const char *type, uint64_t size_bytes, const char *folder,
			char **ret_detail);

/* Unmount all of a volume's mounts, last first; on failure those already gone are mounted again. */
int filesystem_unmount_all(const struct volume *volume);
/* Mount @device in all places where @was (the volume as read before) had been, first first, same
 * options. */
int filesystem_mount_all(const char *device, const struct volume *was);
int filesystem_mount_one(const char *device, const char *target, const char *type,
			 const char *options);

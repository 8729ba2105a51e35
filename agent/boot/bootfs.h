/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/bootfs.h - the filesystem of /boot
 *
 * Which one it is, how much room it has, and how to make a change there visible to a boot loader.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bootfs {
	char *device;      /* path of its block device, or NULL (tmpfs, a folder of the host …) */
	char *uuid, *type; /* the former NULL when it has none */
	bool is_separate;  /* not the root's */
	uint64_t free_bytes;
};

void bootfs_clear(struct bootfs *bootfs);
int bootfs_find(const char *path, const char *mountinfo, struct bootfs *ret);
int bootfs_settle(const char *path);

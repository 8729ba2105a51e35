/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/cow.h - a device seen through a file that takes all changes (dm-snapshot)
 *
 * While such a mapping is there, nothing is written to the device below and nobody can mount it.
 * The file lies on another device (or is a piece of the same that nothing else uses), is as large
 * as it will ever be, and what it holds survives a power cut as of the last flush; the kernel can
 * merge it into the device, and do that again from the start of what was not yet done. Knows
 * nothing of filesystems: overlay.h does.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define COW_CHUNK_BYTES 4096 /* what is copied at once; the largest sector that a disk may have */

enum {
	COW_E_NO_TARGET = 1, /* the kernel has no dm-snapshot, or no loop devices */
	COW_E_BUSY,          /* the device or the mapping is in use */
	COW_E_NO_ROOM,       /* no room for the file */
	COW_E_FULL,          /* more has changed than the file takes: it is of no use any more */
};

int cow_make(const char *file, uint64_t size_bytes, int *ret_fd);
int cow_piece(const char *name, const char *device, uint64_t offset_bytes, uint64_t length_bytes);
int cow_is_valid(const char *file, bool *ret);
int cow_open(const char *name, const char *device, const char *file);
int cow_merge(const char *name, const char *device, const char *file);
int cow_check(const char *name);
int cow_close(const char *name);
int cow_path(const char *name, char **ret);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/format.h - what differs between ext2/3/4, xfs and btrfs
 *
 * One row of operations a format, made in ext.c, xfs.c and btrfs.c and called by filesystem.c only;
 * and ext's steps, for tail.c.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct format_target {
	const char *device, *type;
	const char *mount_point; /* NULL = not mounted */
	const char *changes;     /* shrink of ext: see overlay_begin() */
	char **detail;           /* what to tell; never NULL */
};

/* Contracts as of filesystem_check() and so on. */
struct format {
	const char *const *types; /* ends in NULL */
	int (*check)(const struct format_target *target);
	int (*can_shrink)(const struct format_target *target, uint64_t by_bytes);
	int (*shrink)(const struct format_target *target, uint64_t to_bytes);
	int (*grow)(const struct format_target *target);
	int (*make)(const struct format_target *target, const char *uuid, const char *label);
	int (*try_make)(const struct format_target *target); /* on a sparse file of that size */
};

extern const struct format format_ext, format_xfs, format_btrfs;

int format_run(const struct format_target *target, const char *const argv[], int *ret_status);
int format_say(const struct format_target *target, int r, const char *text, ...)
	__attribute__((format(printf, 3, 4)));
int format_is_busy(const char *device);

int ext_repair(const struct format_target *target);
int ext_replay_journal(const struct format_target *target);
int ext_shrink_in_overlay(const struct format_target *target, uint64_t to_bytes);

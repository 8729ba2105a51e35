/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "volume/filesystem.h"
#include "volume/format.h"
#include "volume/geometry.h"
#include "volume/overlay.h"

/* e2fsck(8), EXIT CODE; the bits add up */
#define FSCK_CORRECTED   1
#define FSCK_REBOOT      2
#define FSCK_UNCORRECTED 4
#define FSCK_OPERATIONAL 8 /* cannot open it, in use, out of memory */

/* What must stay free: a full ext4 cannot even be mounted comfortably, and resize2fs's estimate is
 * one. */
#define SPARE_BYTES (16ULL * 1024 * 1024)

static const char *const types[] = { "ext2", "ext3", "ext4", NULL };

static int check(const struct format_target *target)
{
	const char *argv[] = { "e2fsck", "-n", target->device, NULL };
	struct geometry geometry;
	int status, r;

	r = geometry_read(target->device, target->type, &geometry);
	if (r < 0)
		return r;
	if (geometry.has_errors)
		return format_say(
			target, FILESYSTEM_E_UNCLEAN,
			"its superblock says that errors were found and not yet repaired");
	r = format_is_busy(target->device);
	if (r < 0)
		return r;
	/* a journal to replay makes e2fsck -n see errors that are none */
	if (r > 0 || geometry.needs_recovery)
		return 0;
	r = format_run(target, argv, &status);
	if (r != 0)
		return r;
	if (status & FSCK_UNCORRECTED)
		return FILESYSTEM_E_UNCLEAN;
	return status == 0 ? 0 : -EIO;
}

/* "Estimated minimum size of the filesystem: 12345" */
static int parse_minimum(const char *text, uint64_t *ret_blocks)
{
	const char *colon = strrchr(text, ':');
	_cleanup_(freep) char *number = NULL;
	int r;

	if (!colon)
		return -EPROTO;
	colon += 1 + strspn(colon + 1, " ");
	r = text_format(&number, "%.*s", (int)strspn(colon, "0123456789"), colon);
	return r < 0 ? r : number_parse_u64(number, 1, UINT64_MAX, ret_blocks);
}

static int can_shrink(const struct format_target *target, uint64_t by_bytes)
{
	const char *argv[] = { "resize2fs", "-P", target->device, NULL };
	struct geometry geometry;
	uint64_t minimum;
	int status, r;

	r = geometry_read_mounted(target->device, target->type, target->mount_point, &geometry);
	if (r < 0)
		return r;
	if (geometry.is_rigid)
		return format_say(target, FILESYSTEM_E_NO_ROOM,
				  "its feature stable_inodes forbids shrinking");
	if (geometry.bytes < by_bytes || geometry.free_bytes < by_bytes + SPARE_BYTES)
		return format_say(target, FILESYSTEM_E_NO_ROOM, "it is full: %llu bytes are free",
				  (unsigned long long)geometry.free_bytes);
	r = format_run(target, argv, &status);
	if (r != 0)
		return r;
	if (status != 0 || !*target->detail || parse_minimum(*target->detail, &minimum) < 0)
		return -EPROTO;
	if (minimum > (geometry.bytes - by_bytes - SPARE_BYTES) / geometry.block_bytes)
		return format_say(target, FILESYSTEM_E_NO_ROOM,
				  "resize2fs cannot make it smaller than %llu bytes",
				  (unsigned long long)(minimum * geometry.block_bytes));
	free(*target->detail);
	*target->detail = NULL;
	return 0;
}

/**
 * ext_repair() - a whole check, as resize2fs wants it first; repairs what is safe without a person
 *
 * Return: 0, FILESYSTEM_E_* or -errno.
 */
int ext_repair(const struct format_target *target)
{
	const char *argv[] = { "e2fsck", "-f", "-p", target->device, NULL };
	int status, r;

	r = format_is_busy(target->device);
	if (r != 0)
		return r < 0 ? r : FILESYSTEM_E_BUSY;
	r = format_run(target, argv, &status);
	if (r != 0)
		return r;
	if (status & FSCK_UNCORRECTED)
		return FILESYSTEM_E_UNCLEAN;
	return (status & ~(FSCK_CORRECTED | FSCK_REBOOT)) == 0 ? 0 : -EIO;
}

/**
 * ext_replay_journal() - what a mount would do first
 *
 * A journal is made to be replayed and cut and replayed again, and may be larger than an overlay.
 *
 * Return: 0, FILESYSTEM_E_* or -errno.
 */
int ext_replay_journal(const struct format_target *target)
{
	const char *argv[] = { "e2fsck", "-p", "-E", "journal_only", target->device, NULL };
	int status, r;

	r = format_is_busy(target->device);
	if (r != 0)
		return r < 0 ? r : FILESYSTEM_E_BUSY;
	r = format_run(target, argv, &status);
	if (r != 0)
		return r;
	if (status & FSCK_UNCORRECTED)
		return FILESYSTEM_E_UNCLEAN;
	return (status & ~(FSCK_CORRECTED | FSCK_REBOOT)) == 0 ? 0 : -EIO;
}

static int condition_of(const struct format_target *target, int r)
{
	switch (r) {
	case OVERLAY_E_NO_ROOM:
		return format_say(target, FILESYSTEM_E_NO_ROOM,
				  "the changes to it do not fit beside %s while they are made",
				  target->changes);
	case OVERLAY_E_BUSY:
		return FILESYSTEM_E_BUSY;
	case OVERLAY_E_NO_TARGET:
		return format_say(target, FILESYSTEM_E_NO_TOOL,
				  "the kernel has no dm-snapshot or no loop devices");
	case OVERLAY_E_LOST:
		return format_say(target, FILESYSTEM_E_UNCLEAN,
				  "it was being made smaller, and %s is not there to go on with",
				  target->changes);
	default:
		return r;
	}
}

/**
 * ext_shrink_in_overlay() - check, repair what is safe, shrink
 *
 * Neither e2fsck nor resize2fs order their writes: here they may write in any order.
 *
 * Return: 0, FILESYSTEM_E_* or -errno.
 */
int ext_shrink_in_overlay(const struct format_target *target, uint64_t to_bytes)
{
	_cleanup_(freep) char *blocks = NULL;
	struct geometry geometry;
	int status, r;

	r = ext_repair(target);
	if (r != 0)
		return r;
	r = geometry_read(target->device, target->type, &geometry);
	if (r == 0)
		r = text_format(&blocks, "%llu",
				(unsigned long long)(to_bytes / geometry.block_bytes));
	if (r < 0)
		return r;
	r = format_run(target, (const char *const[]){ "resize2fs", target->device, blocks, NULL },
		       &status);
	if (r != 0)
		return r;
	if (status != 0)
		return FILESYSTEM_E_NO_ROOM;
	r = geometry_read(target->device, target->type, &geometry);
	if (r < 0)
		return r;
	return geometry.bytes <= to_bytes ? 0 : FILESYSTEM_E_NO_ROOM;
}

static int shrink(const struct format_target *target, uint64_t to_bytes)
{
	_cleanup_(overlay_freep) struct overlay *overlay = NULL;
	struct format_target within = *target;
	struct geometry geometry;
	int r;

	if (target->mount_point)
		return FILESYSTEM_E_BUSY;
	if (!target->changes)
		return -EINVAL;
	r = geometry_read(target->device, target->type, &geometry);
	if (r == 0 && geometry.needs_recovery)
		r = ext_replay_journal(target);
	if (r == 0)
		r = geometry_read(target->device, target->type, &geometry);
	if (r != 0)
		return r;
	r = overlay_begin(target->device, &geometry, target->changes, &overlay);
	if (r != 0)
		return condition_of(target, r);
	within.device = overlay_path(overlay);
	r = ext_shrink_in_overlay(&within, to_bytes);
	/* what the tools then said was a consequence */
	if (r != 0 && overlay_check(overlay) == OVERLAY_E_NO_ROOM)
		return condition_of(target, OVERLAY_E_NO_ROOM);
	return r != 0 ? r : condition_of(target, overlay_keep(overlay));
}

static int grow(const struct format_target *target)
{
	const char *argv[] = { "resize2fs", target->device, NULL };
	int status, r;

	if (!target->mount_point) {
		r = ext_repair(target);
		if (r != 0)
			return r;
	}
	r = format_run(target, argv, &status);
	if (r != 0)
		return r;
	return status == 0 ? 0 : -EIO;
}

static int make(const struct format_target *target, const char *uuid, const char *label)
{
	_cleanup_(freep) char *tool = NULL;
	int status, r;

	r = text_format(&tool, "mkfs.%s", target->type);
	if (r < 0)
		return r;
	r = format_run(target,
		       (const char *const[]){ tool, "-q", "-F", "-E", "nodiscard", "-U", uuid, "-L",
					      label ? label : "", target->device, NULL },
		       &status);
	if (r != 0)
		return r;
	return status == 0 ? 0 : -EIO;
}

static int try_make(const struct format_target *target)
{
	_cleanup_(freep) char *tool = NULL;
	int status, r;

	r = text_format(&tool, "mkfs.%s", target->type);
	if (r == 0)
		r = format_run(
			target,
			(const char *const[]){ tool, "-n", "-q", "-F", target->device, NULL },
			&status);
	if (r != 0)
		return r;
	return status == 0 ? 0 : FILESYSTEM_E_NO_ROOM;
}

const struct format format_ext = {
	.types = types,
	.check = check,
	.can_shrink = can_shrink,
	.shrink = shrink,
	.grow = grow,
	.make = make,
	.try_make = try_make,
};

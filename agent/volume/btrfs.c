/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "volume/filesystem.h"
#include "volume/format.h"
#include "volume/geometry.h"

#define MINIMUM_BYTES                                                                              \
	(256ULL * 1024 * 1024) /* the kernel shrinks no device below this (fs/btrfs/ioctl.c) */

/* Chunks beyond the new end are moved to room that is in no chunk yet; without some of it that
 * fails. */
#define SPARE_BYTES (16ULL * 1024 * 1024)

static const char *const types[] = { "btrfs", NULL };

static int check(const struct format_target *target)
{
	struct btrfs_ioctl_get_dev_stats counters = { .nr_items = BTRFS_DEV_STAT_VALUES_MAX };
	_cleanup_(closep) int fd = -EBADF;
	struct geometry geometry;
	int r;

	r = geometry_read(target->device, target->type, &geometry);
	if (r < 0)
		return r;
	if (geometry.has_errors)
		return format_say(target, FILESYSTEM_E_UNCLEAN,
				  "its superblock says that it has errors");
	if (!target->mount_point)
		return 0;
	counters.devid = geometry.device_id;
	fd = open(target->mount_point, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, BTRFS_IOC_GET_DEV_STATS, &counters) < 0)
		return -errno;
	for (size_t i = 0; i < BTRFS_DEV_STAT_VALUES_MAX; i++)
		if (counters.values[i] > 0)
			return format_say(target, FILESYSTEM_E_UNCLEAN,
					  "its device has had errors; see btrfs device stats %s",
					  target->mount_point);
	return 0;
}

static int can_shrink(const struct format_target *target, uint64_t by_bytes)
{
	struct geometry geometry;
	int r;

	r = geometry_read_mounted(target->device, target->type, target->mount_point, &geometry);
	if (r < 0)
		return r;
	if (geometry.bytes < MINIMUM_BYTES + by_bytes)
		return format_say(target, FILESYSTEM_E_NO_ROOM,
				  "btrfs shrinks no device below 256 MiB");
	if (geometry.free_bytes < by_bytes + SPARE_BYTES)
		return format_say(
			target, FILESYSTEM_E_NO_ROOM,
			"only %llu bytes of it are unallocated; btrfs balance may free some",
			(unsigned long long)geometry.free_bytes);
	return 0;
}

static int resize(const struct format_target *target, const char *size)
{
	_cleanup_(freep) char *argument = NULL;
	struct geometry geometry;
	int status, r;

	if (!target->mount_point)
		return format_say(target, FILESYSTEM_E_UNSUPPORTED,
				  "btrfs is resized only while mounted");
	r = geometry_read(target->device, target->type, &geometry);
	if (r == 0)
		r = text_format(&argument, "%llu:%s", (unsigned long long)geometry.device_id, size);
	if (r < 0)
		return r;
	r = format_run(target,
		       (const char *const[]){ "btrfs", "filesystem", "resize", argument,
					      target->mount_point, NULL },
		       &status);
	if (r != 0)
		return r;
	return status == 0 ? 0 : FILESYSTEM_E_NO_ROOM;
}

static int shrink(const struct format_target *target, uint64_t to_bytes)
{
	_cleanup_(freep) char *size = NULL;
	struct geometry geometry;
	int r;

	r = geometry_read(target->device, target->type, &geometry);
	if (r == 0)
		r = text_format(&size, "%llu",
				(unsigned long long)(to_bytes / geometry.block_bytes *
						     geometry.block_bytes));
	return r < 0 ? r : resize(target, size);
}

static int grow(const struct format_target *target)
{
	int r = resize(target, "max");

	return r == FILESYSTEM_E_NO_ROOM ? -EIO : r;
}

static int make(const struct format_target *target, const char *uuid, const char *label)
{
	int status, r;

	r = format_run(target,
		       (const char *const[]){ "mkfs.btrfs", "-q", "-f", "-K", "-U", uuid,
					      target->device, label ? "-L" : NULL, label, NULL },
		       &status);
	if (r != 0)
		return r;
	return status == 0 ? 0 : -EIO;
}

static int try_make(const struct format_target *target)
{
	int status, r;

	r = format_run(target,
		       (const char *const[]){ "mkfs.btrfs", "-q", "-f", target->device, NULL },
		       &status);
	if (r != 0)
		return r;
	return status == 0 ? 0 : FILESYSTEM_E_NO_ROOM;
}

const struct format format_btrfs = {
	.types = types,
	.check = check,
	.can_shrink = can_shrink,
	.shrink = shrink,
	.grow = grow,
	.make = make,
	.try_make = try_make,
};

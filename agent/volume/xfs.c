/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/fsmap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "volume/filesystem.h"
#include "volume/format.h"
#include "volume/geometry.h"

#define GROUP_MIN_BLOCKS 64 /* XFS_MIN_AG_BLOCKS of fs/xfs/libxfs/xfs_fs.h */
#define EXTENTS_AT_ONCE  512
#define EXTENTS_MAX      (1U << 22) /* of one allocation group; more is too slow to look at */

/* What must stay free of a filesystem that nobody has looked into */
#define SPARE_BYTES (64ULL * 1024 * 1024)

static const char *const types[] = { "xfs", NULL };

static int check(const struct format_target *target)
{
	struct geometry geometry;
	int r;

	r = geometry_read(target->device, target->type, &geometry);
	if (r < 0)
		return r;
	return geometry.has_errors ? format_say(target, FILESYSTEM_E_UNCLEAN,
						"its superblock says that it needs xfs_repair")
				   : 0;
}

/* Linux 5.12 can shrink the last allocation group. */
static bool kernel_shrinks(void)
{
	struct utsname names;
	unsigned major_number, minor_number;

	if (uname(&names) < 0 || sscanf(names.release, "%u.%u", &major_number, &minor_number) != 2)
		return false;
	return major_number > 5 || (major_number == 5 && minor_number >= 12);
}

/* As the kernel puts device numbers into 32 bits (new_encode_dev()) */
static uint32_t encode(dev_t devno)
{
	return (minor(devno) & 0xff) | major(devno) << 8 | (minor(devno) & ~0xffU) << 12;
}

/* How many bytes of @from_bytes..@to_bytes are free? All extents from @group_bytes on are looked
 * at, since the kernel leaves out one that begins before the asked range. */
static int count_free(const struct format_target *target, uint64_t group_bytes, uint64_t from_bytes,
		      uint64_t to_bytes, uint64_t *ret)
{
	_cleanup_(closep) int fd = -EBADF;
	_cleanup_(freep) struct fsmap_head *map = NULL;
	struct stat status;
	uint64_t n_free = 0;
	unsigned seen = 0;

	fd = open(target->mount_point, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || stat(target->device, &status) < 0)
		return -errno;
	map = calloc(1, fsmap_sizeof(EXTENTS_AT_ONCE));
	if (!map)
		return -ENOMEM;
	map->fmh_count = EXTENTS_AT_ONCE;
	map->fmh_keys[0].fmr_device = map->fmh_keys[1].fmr_device = encode(status.st_rdev);
	map->fmh_keys[0].fmr_physical = group_bytes;
	map->fmh_keys[1].fmr_physical = map->fmh_keys[1].fmr_owner = UINT64_MAX;
	map->fmh_keys[1].fmr_offset = UINT64_MAX;
	map->fmh_keys[1].fmr_flags = UINT32_MAX;
	while (seen < EXTENTS_MAX) {
		const struct fsmap *last;

		if (ioctl(fd, FS_IOC_GETFSMAP, map) < 0)
			return -errno;
		if (map->fmh_entries == 0)
			break;
		for (uint32_t i = 0; i < map->fmh_entries; i++) {
			const struct fsmap *extent = &map->fmh_recs[i];
			uint64_t begin = extent->fmr_physical, end = begin + extent->fmr_length;

			if (!(extent->fmr_flags & FMR_OF_SPECIAL_OWNER) ||
			    extent->fmr_owner != FMR_OWN_FREE)
				continue;
			begin = begin < from_bytes ? from_bytes : begin;
			end = end > to_bytes ? to_bytes : end;
			if (begin < end)
				n_free += end - begin;
		}
		seen += map->fmh_entries;
		last = &map->fmh_recs[map->fmh_entries - 1];
		if (last->fmr_flags & FMR_OF_LAST)
			break;
		fsmap_advance(map);
	}
	*ret = n_free;
	return 0;
}

static int can_shrink(const struct format_target *target, uint64_t by_bytes)
{
	struct geometry geometry;
	uint64_t to_bytes, last_bytes, n_free = 0;
	int r;

	if (!kernel_shrinks())
		return format_say(target, FILESYSTEM_E_NO_ROOM,
				  "xfs shrinks only from Linux 5.12 on");
	r = geometry_read_mounted(target->device, target->type, target->mount_point, &geometry);
	if (r < 0)
		return r;
	if (geometry.groups < 2 || geometry.bytes < by_bytes)
		return format_say(target, FILESYSTEM_E_NO_ROOM,
				  "it has a single allocation group, and only others shrink");
	to_bytes = (geometry.bytes - by_bytes) / geometry.block_bytes * geometry.block_bytes;
	last_bytes = (geometry.groups - 1) * geometry.group_bytes;
	if (to_bytes < last_bytes + GROUP_MIN_BLOCKS * geometry.block_bytes)
		return format_say(target, FILESYSTEM_E_NO_ROOM,
				  "its last allocation group is too small to give way");
	if (!target->mount_point)
		return geometry.free_bytes >= by_bytes + SPARE_BYTES
			       ? 0
			       : format_say(target, FILESYSTEM_E_NO_ROOM, "it is full");
	r = count_free(target, last_bytes, to_bytes, geometry.bytes, &n_free);
	if (r < 0)
		return r;
	if (n_free < geometry.bytes - to_bytes)
		return format_say(target, FILESYSTEM_E_NO_ROOM,
				  "files lie in its last %llu bytes, and xfs cannot move them",
				  (unsigned long long)(geometry.bytes - to_bytes));
	return 0;
}

static int shrink(const struct format_target *target, uint64_t to_bytes)
{
	_cleanup_(freep) char *blocks = NULL;
	struct geometry geometry;
	int status, r;

	if (!target->mount_point)
		return format_say(target, FILESYSTEM_E_UNSUPPORTED,
				  "xfs shrinks only while mounted");
	r = geometry_read_mounted(target->device, target->type, target->mount_point, &geometry);
	if (r < 0)
		return r;
	r = can_shrink(target, geometry.bytes - to_bytes);
	if (r != 0)
		return r;
	r = text_format(&blocks, "%llu", (unsigned long long)(to_bytes / geometry.block_bytes));
	if (r < 0)
		return r;
	r = format_run(
		target,
		(const char *const[]){ "xfs_growfs", "-D", blocks, target->mount_point, NULL },
		&status);
	if (r != 0)
		return r;
	return status == 0 ? 0 : FILESYSTEM_E_NO_ROOM;
}

static int grow(const struct format_target *target)
{
	const char *argv[] = { "xfs_growfs", "-d", target->mount_point, NULL };
	int status, r;

	if (!target->mount_point)
		return format_say(target, FILESYSTEM_E_UNSUPPORTED, "xfs grows only while mounted");
	r = format_run(target, argv, &status);
	if (r != 0)
		return r;
	return status == 0 ? 0 : -EIO;
}

static int make(const struct format_target *target, const char *uuid, const char *label)
{
	_cleanup_(freep) char *metadata = NULL;
	int status, r;

	r = text_format(&metadata, "uuid=%s", uuid);
	if (r < 0)
		return r;
	r = format_run(target,
		       (const char *const[]){ "mkfs.xfs", "-q", "-f", "-K", "-m", metadata,
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
		       (const char *const[]){ "mkfs.xfs", "-N", "-q", "-f", target->device, NULL },
		       &status);
	if (r != 0)
		return r;
	return status == 0 ? 0 : FILESYSTEM_E_NO_ROOM;
}

const struct format format_xfs = {
	.types = types,
	.check = check,
	.can_shrink = can_shrink,
	.shrink = shrink,
	.grow = grow,
	.make = make,
	.try_make = try_make,
};

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/filesystem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/process.h"
#include "volume/format.h"
#include "volume/geometry.h"
#include "volume/mounttable.h"
#include "volume/superblock.h"

#define DETAIL_MAX_BYTES 2000 /* the end of a tool's words, where it says why it gave up */
#define NOT_INSTALLED    127  /* of process_run() */

static const struct format *const formats[] = { &format_ext, &format_xfs, &format_btrfs };

/**
 * format_run() - run a format's tool and keep its words
 * @target:     detail becomes the end of the tool's output, NULL when it said nothing
 * @ret_status: exit status
 *
 * Return: 0, FILESYSTEM_E_NO_TOOL or -errno. No time limit: a check of a large filesystem takes
 * hours, and one that moves data must not be cut.
 */
int format_run(const struct format_target *target, const char *const argv[], int *ret_status)
{
	_cleanup_(freep) char *output = NULL;
	size_t size_bytes;
	int status, r;

	r = process_run(argv, 0, &status, &output);
	if (r < 0)
		return r;
	if (status == NOT_INSTALLED)
		return format_say(target, FILESYSTEM_E_NO_TOOL, "%s is not installed", argv[0]);
	size_bytes = strlen(output);
	while (size_bytes > 0 && strchr(" \r\n", output[size_bytes - 1]))
		output[--size_bytes] = '\0';
	free(*target->detail);
	*target->detail = NULL;
	if (size_bytes > 0) {
		size_t skipped = size_bytes > DETAIL_MAX_BYTES ? size_bytes - DETAIL_MAX_BYTES : 0;

		*target->detail = strdup(output + skipped);
		if (!*target->detail)
			return -ENOMEM;
	}
	*ret_status = status;
	return 0;
}

/** format_say() - tell why, in place of what was told before. Return: @r, or -ENOMEM. */
int format_say(const struct format_target *target, int r, const char *text, ...)
{
	va_list arguments;
	char *detail;
	int n;

	va_start(arguments, text);
	n = vasprintf(&detail, text, arguments);
	va_end(arguments);
	if (n < 0)
		return -ENOMEM;
	free(*target->detail);
	*target->detail = detail;
	return r;
}

/**
 * format_is_busy() - is a device mounted, in any namespace, or claimed by a mapping, an array,
 * swap?
 *
 * Return: 1 yes, 0 no, or -errno.
 */
int format_is_busy(const char *device)
{
	_cleanup_(closep) int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return 0;
	return errno == EBUSY ? 1 : -errno;
}

static const struct format *find(const char *type)
{
	for (size_t i = 0; type && i < ARRAY_SIZE(formats); i++)
		for (const char *const *name = formats[i]->types; *name; name++)
			if (strcmp(*name, type) == 0)
				return formats[i];
	return NULL;
}

bool filesystem_is_supported(const char *type)
{
	return find(type) != NULL;
}

/**
 * filesystem_probe() - what is on a device
 * @ret_type:       blkid's TYPE
 * @ret_uuid:       NULL when it has none
 * @ret_size_bytes: by its superblock; 0 = unknown
 *
 * Return: 0, -ENODATA (nothing that is known) or -errno.
 */
int filesystem_probe(const char *device, char **ret_type, char **ret_uuid, uint64_t *ret_size_bytes)
{
	struct volume volume = { .path = (char *)device };
	struct stat status;
	int r;

	if (stat(device, &status) < 0)
		return -errno;
	r = superblock_read(&volume);
	if (r == 0 && !volume.filesystem)
		r = access(device, R_OK) < 0 ? -errno : -ENODATA;
	if (r == 0) {
		*ret_type = steal(volume.filesystem);
		*ret_uuid = steal(volume.uuid);
		*ret_size_bytes = volume.filesystem_bytes;
	}
	superblock_clear(&volume);
	return r;
}

static int target_of(const char *device, char **ret)
{
	struct stat status;

	if (stat(device, &status) < 0)
		return -errno;
	*ret = NULL;
	return S_ISBLK(status.st_mode) ? mounttable_target(status.st_rdev, ret) : 0;
}

/**
 * filesystem_check() - does a filesystem say that it needs a repair? Changes nothing.
 *
 * ext: e2fsck -n when unmounted; mounted, the error flag and count of its superblock. xfs: the
 * superblock's flags for an unfinished mkfs, growth or repair (a dirty log is replayed at the next
 * mount and is no error; xfs_repair -n would read the whole disk). btrfs: the superblock's error
 * flag, and when mounted the device's error counters.
 *
 * Return: 0, FILESYSTEM_E_UNCLEAN, FILESYSTEM_E_NO_TOOL, FILESYSTEM_E_UNSUPPORTED or -errno.
 */
int filesystem_check(const char *device, const char *type, char **ret_detail)
{
	const struct format *format = find(type);
	_cleanup_(freep) char *mount_point = NULL;
	struct format_target target = { .device = device, .type = type, .detail = ret_detail };
	int r;

	*ret_detail = NULL;
	if (!format)
		return FILESYSTEM_E_UNSUPPORTED;
	r = target_of(device, &mount_point);
	if (r < 0)
		return r;
	target.mount_point = mount_point;
	return format->check(&target);
}

/**
 * filesystem_can_shrink() - could it give way? Changes nothing.
 * @mount_point: NULL = not mounted; xfs is then judged by its superblock alone, so the shrink may
 * still refuse
 * @by_bytes:    from the end of the filesystem as it is now
 *
 * Return: 0, FILESYSTEM_E_NO_ROOM, FILESYSTEM_E_NO_TOOL, FILESYSTEM_E_UNSUPPORTED or -errno.
 */
int filesystem_can_shrink(const char *device, const char *type, const char *mount_point,
			  uint64_t by_bytes, char **ret_detail)
{
	const struct format *format = find(type);
	struct format_target target = {
		.device = device, .type = type, .mount_point = mount_point, .detail = ret_detail
	};

	*ret_detail = NULL;
	return format ? format->can_shrink(&target, by_bytes) : FILESYSTEM_E_UNSUPPORTED;
}

/**
 * filesystem_shrink() - make a filesystem end at or before a place
 * @mount_point: xfs, btrfs: where it is mounted; ext: must not be mounted
 * @to_bytes:    from the start of the device; rounded down to the filesystem's blocks
 * @changes:     ext: a file on another device, see room_make()
 *
 * Nothing is done to one that ends there already; it never grows. What its superblock (or the
 * kernel) says afterwards decides, not the tool's status.
 *
 * Return: 0, FILESYSTEM_E_UNCLEAN, FILESYSTEM_E_NO_ROOM, FILESYSTEM_E_BUSY, FILESYSTEM_E_NO_TOOL,
 * FILESYSTEM_E_UNSUPPORTED or -errno.
 */
int filesystem_shrink(const char *device, const char *type, const char *mount_point,
		      uint64_t to_bytes, const char *changes, char **ret_detail)
{
	const struct format *format = find(type);
	struct format_target target = { .device = device,
					.type = type,
					.mount_point = mount_point,
					.changes = changes,
					.detail = ret_detail };
	struct geometry geometry;
	int r;

	*ret_detail = NULL;
	if (!format)
		return FILESYSTEM_E_UNSUPPORTED;
	r = geometry_read_mounted(device, type, mount_point, &geometry);
	if (r < 0)
		return r;
	if (geometry.bytes <= to_bytes)
		return 0;
	r = format->shrink(&target, to_bytes);
	if (r != 0)
		return r;
	r = file_sync_path(device);
	if (r == 0)
		r = geometry_read_mounted(device, type, mount_point, &geometry);
	if (r < 0)
		return r;
	return geometry.bytes <= to_bytes ? 0
					  : format_say(&target, FILESYSTEM_E_NO_ROOM,
						       "it still ends at %llu bytes, not at %llu",
						       (unsigned long long)geometry.bytes,
						       (unsigned long long)to_bytes);
}

/**
 * filesystem_grow() - to the end of its device
 * @mount_point: where it is mounted; NULL only for ext
 *
 * Return: 0, FILESYSTEM_E_UNCLEAN (ext, unmounted), FILESYSTEM_E_NO_TOOL, FILESYSTEM_E_UNSUPPORTED
 * (also xfs and btrfs that are not mounted) or -errno.
 */
int filesystem_grow(const char *device, const char *type, const char *mount_point,
		    char **ret_detail)
{
	const struct format *format = find(type);
	struct format_target target = {
		.device = device, .type = type, .mount_point = mount_point, .detail = ret_detail
	};

	*ret_detail = NULL;
	return format ? format->grow(&target) : FILESYSTEM_E_UNSUPPORTED;
}

/**
 * filesystem_make() - a new, empty filesystem over whatever is there
 * @uuid:  what it shall be known by
 * @label: or NULL
 *
 * Without discarding the device first: that takes minutes on some clouds.
 *
 * Return: 0, FILESYSTEM_E_BUSY, FILESYSTEM_E_NO_TOOL, FILESYSTEM_E_UNSUPPORTED or -errno.
 */
int filesystem_make(const char *device, const char *type, const char *uuid, const char *label,
		    char **ret_detail)
{
	const struct format *format = find(type);
	struct format_target target = { .device = device, .type = type, .detail = ret_detail };
	int r;

	*ret_detail = NULL;
	if (!format)
		return FILESYSTEM_E_UNSUPPORTED;
	r = format_is_busy(device);
	if (r != 0)
		return r < 0 ? r : FILESYSTEM_E_BUSY;
	r = superblock_wipe(device);
	if (r < 0)
		return r;
	r = format->make(&target, uuid, label && label[0] ? label : NULL);
	return r == 0 ? file_sync_path(device) : r;
}

/**
 * filesystem_can_make() - is there a size too small for it?
 * @folder: for a sparse file, which is gone afterwards
 *
 * Cost: on btrfs a few MiB there for a moment.
 *
 * Return: 0, FILESYSTEM_E_NO_ROOM, FILESYSTEM_E_NO_TOOL, FILESYSTEM_E_UNSUPPORTED or -errno.
 */
int filesystem_can_make(const char *type, uint64_t size_bytes, const char *folder,
			char **ret_detail)
{
	const struct format *format = find(type);
	_cleanup_(freep) char *file = NULL;
	_cleanup_(closep) int fd = -EBADF;
	struct format_target target = { .type = type, .detail = ret_detail };
	int r;

	*ret_detail = NULL;
	if (!format)
		return FILESYSTEM_E_UNSUPPORTED;
	r = text_format(&file, "%s/try-XXXXXX", folder);
	if (r < 0)
		return r;
	fd = mkostemp(file, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	target.device = file;
	r = ftruncate(fd, (off_t)size_bytes) < 0 ? -errno : format->try_make(&target);
	(void)unlink(file);
	return r;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/bootfs.h"

#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

void bootfs_clear(struct bootfs *bootfs)
{
	free(bootfs->device);
	free(bootfs->uuid);
	free(bootfs->type);
	*bootfs = (struct bootfs){ 0 };
}

static void table_unrefp(struct libmnt_table **table)
{
	mnt_unref_table(*table);
}

static void probe_freep(blkid_probe *probe)
{
	blkid_free_probe(*probe);
}

/* The kernel's own mount of the root is called /dev/root, which is no file. */
static int find_device(struct libmnt_fs *fs, char **ret)
{
	_cleanup_(freep) char *by_number = NULL;
	const char *source = mnt_fs_get_source(fs);
	dev_t number = mnt_fs_get_devno(fs);
	struct stat status;

	if (source && source[0] == '/' && stat(source, &status) == 0 && !S_ISDIR(status.st_mode))
		return text_copy(source, ret);
	if (text_format(&by_number, "/dev/block/%u:%u", major(number), minor(number)) < 0)
		return -ENOMEM;
	*ret = stat(by_number, &status) == 0 ? steal(by_number) : NULL;
	return 0;
}

static int find_uuid(const char *device, char **ret)
{
	_cleanup_(probe_freep) blkid_probe probe = NULL;
	const char *uuid = NULL;

	probe = blkid_new_probe_from_filename(device);
	if (!probe)
		return -errno;
	if (blkid_probe_enable_superblocks(probe, 1) < 0 ||
	    blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_UUID | BLKID_SUBLKS_TYPE) < 0 ||
	    blkid_do_safeprobe(probe) < 0)
		return -EIO;
	(void)blkid_probe_lookup_value(probe, "UUID", &uuid, NULL);
	return text_copy(uuid, ret);
}

/**
 * bootfs_find() - the filesystem that a folder lies on
 * @path:      "/boot"; need not be a mount point
 * @mountinfo: "/proc/self/mountinfo"
 * @ret:       free with bootfs_clear()
 *
 * Return: 0, -ENOENT (nothing is mounted there) or -errno.
 */
int bootfs_find(const char *path, const char *mountinfo, struct bootfs *ret)
{
	_cleanup_(table_unrefp) struct libmnt_table *table = NULL;
	_cleanup_(bootfs_clear) struct bootfs found = { 0 };
	struct libmnt_fs *fs, *root;
	int r;

	table = mnt_new_table_from_file(mountinfo);
	if (!table)
		return errno > 0 ? -errno : -ENOMEM;
	fs = mnt_table_find_mountpoint(table, path, MNT_ITER_BACKWARD);
	root = mnt_table_find_target(table, "/", MNT_ITER_BACKWARD);
	if (!fs)
		return -ENOENT;
	found.is_separate = !root || mnt_fs_get_devno(root) != mnt_fs_get_devno(fs);
	r = text_copy(mnt_fs_get_fstype(fs), &found.type);
	if (r == 0)
		r = find_device(fs, &found.device);
	if (r == 0 && found.device)
		r = find_uuid(found.device, &found.uuid);
	if (r == 0)
		r = directory_free_bytes(path, &found.free_bytes);
	if (r < 0)
		return r;
	*ret = found;
	found = (struct bootfs){ 0 };
	return 0;
}

/**
 * bootfs_settle() - what was changed is durable, and a boot loader can see it
 * @path: file or folder on the filesystem
 *
 * A boot loader does not replay a journal. After a sync a file's new name may be in the journal
 * only; freezing a filesystem empties it. The root is never frozen: we might not come to thaw it.
 *
 * Return: 0 or -errno.
 */
int bootfs_settle(const char *path)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status, root;
	struct statfs fs;

	if (fd < 0 || syncfs(fd) < 0 || fstat(fd, &status) < 0 || stat("/", &root) < 0 ||
	    fstatfs(fd, &fs) < 0)
		return -errno;
	if (status.st_dev == root.st_dev ||
	    (fs.f_type != XFS_SUPER_MAGIC && fs.f_type != EXT4_SUPER_MAGIC))
		return 0;
	if (ioctl(fd, FIFREEZE, 0) < 0) {
		/* frozen by another, or not ours to freeze: it is durable in any case */
		log_debug("Filesystem of %s: cannot be frozen for a moment.", path);
		return 0;
	}
	while (ioctl(fd, FITHAW, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

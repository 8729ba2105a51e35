/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/mounttable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/file.h"

void mounttable_freep(struct libmnt_table **table)
{
	if (*table)
		mnt_unref_table(*table);
}

static void iteratorp(struct libmnt_iter **iterator)
{
	if (*iterator)
		mnt_free_iter(*iterator);
}

/** mounttable_open() - the mounts of our namespace, in mount order. Return: 0 or -errno. */
int mounttable_open(struct libmnt_table **ret)
{
	_cleanup_(mounttable_freep) struct libmnt_table *table = mnt_new_table();
	int r;

	if (!table)
		return -ENOMEM;
	r = mnt_table_parse_mtab(table, NULL);
	if (r != 0)
		return r < 0 ? r : -EIO;
	if (mnt_table_get_nents(table) > MOUNTTABLE_MAX)
		return -E2BIG;
	*ret = steal(table);
	return 0;
}

/**
 * mounttable_devno() - the block device behind a mount, or 0
 *
 * btrfs shows device numbers of its own making (major 0): there the source's name is asked.
 */
dev_t mounttable_devno(struct libmnt_fs *fs)
{
	dev_t devno = mnt_fs_get_devno(fs);
	const char *source = mnt_fs_get_srcpath(fs);
	struct stat status;

	if (major(devno) != 0)
		return devno;
	if (!source || source[0] != '/' || strcmp(mnt_fs_get_fstype(fs), "btrfs") != 0 ||
	    stat(source, &status) < 0 || !S_ISBLK(status.st_mode))
		return 0;
	return status.st_rdev;
}

static bool is_top(struct libmnt_fs *fs)
{
	const char *root = mnt_fs_get_root(fs);

	return !root || strcmp(root, "/") == 0;
}

/**
 * mounttable_target() - where a device's filesystem can be reached
 * @ret: a mount point, the whole filesystem's rather than a folder's; NULL when it is not mounted
 *
 * Return: 0 or -errno.
 */
int mounttable_target(dev_t devno, char **ret)
{
	_cleanup_(mounttable_freep) struct libmnt_table *table = NULL;
	_cleanup_(iteratorp) struct libmnt_iter *iterator = NULL;
	_cleanup_(freep) char *target = NULL;
	struct libmnt_fs *fs;
	bool has_top = false;
	int r;

	r = mounttable_open(&table);
	if (r < 0)
		return r;
	iterator = mnt_new_iter(MNT_ITER_FORWARD);
	if (!iterator)
		return -ENOMEM;
	while (!has_top && mnt_table_next_fs(table, iterator, &fs) == 0) {
		if (mounttable_devno(fs) != devno || !mnt_fs_get_target(fs))
			continue;
		has_top = is_top(fs);
		if (target && !has_top)
			continue;
		free(target);
		target = strdup(mnt_fs_get_target(fs));
		if (!target)
			return -ENOMEM;
	}
	*ret = steal(target);
	return 0;
}

static int copy(const char *text, char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

static int add_mount(struct volume *volume, struct libmnt_fs *fs)
{
	struct volume_mount *larger, *mount;
	unsigned long propagation = 0;
	int r;

	larger = reallocarray(volume->mounts, volume->n_mounts + 1, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	volume->mounts = larger;
	mount = &volume->mounts[volume->n_mounts++];
	*mount = (struct volume_mount){ 0 };
	(void)mnt_fs_get_propagation(fs, &propagation);
	r = copy(mnt_fs_get_target(fs), &mount->target);
	if (r == 0)
		r = copy(mnt_fs_get_root(fs), &mount->root);
	if (r == 0)
		r = copy(mnt_fs_get_fstype(fs), &mount->filesystem);
	if (r == 0)
		r = text_format(&mount->options, "%s%s",
				mnt_fs_get_options(fs) ? mnt_fs_get_options(fs) : "rw",
				propagation & MS_SHARED ? "" : ",private");
	if (r == 0 && strcmp(mount->target, "/") == 0)
		volume->is_root = true;
	return r;
}

/* A filesystem of several devices is named by one of them in the mount table, and busy on all. */
static int add_to_all(struct inventory *inventory, struct volume *named, struct libmnt_fs *fs)
{
	int r;

	r = add_mount(named, fs);
	if (r < 0 || named->filesystem_devices < 2 || !named->uuid)
		return r;
	for (size_t i = 0; i < inventory->n; i++) {
		struct volume *volume = &inventory->volumes[i];

		if (volume == named || !volume->uuid || !volume->filesystem ||
		    volume->n_children > 0 || strcmp(volume->uuid, named->uuid) != 0 ||
		    strcmp(volume->filesystem, named->filesystem) != 0)
			continue;
		r = add_mount(volume, fs);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_mounts(struct inventory *inventory)
{
	_cleanup_(mounttable_freep) struct libmnt_table *table = NULL;
	_cleanup_(iteratorp) struct libmnt_iter *iterator = NULL;
	struct libmnt_fs *fs;
	int r;

	r = mounttable_open(&table);
	if (r < 0)
		return r;
	iterator = mnt_new_iter(MNT_ITER_FORWARD);
	if (!iterator)
		return -ENOMEM;
	while (mnt_table_next_fs(table, iterator, &fs) == 0) {
		dev_t devno = mounttable_devno(fs);
		struct volume *volume = devno ? inventory_find_devno(inventory, devno) : NULL;

		if (!volume || !mnt_fs_get_target(fs) || !mnt_fs_get_fstype(fs))
			continue;
		r = add_to_all(inventory, volume, fs);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_swaps(struct inventory *inventory)
{
	_cleanup_(mounttable_freep) struct libmnt_table *table = mnt_new_table();
	_cleanup_(iteratorp) struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *fs;

	if (!table || !iterator)
		return -ENOMEM;
	if (mnt_table_parse_swaps(table, NULL) != 0)
		return 0; /* a kernel without swap has no such file */
	while (mnt_table_next_fs(table, iterator, &fs) == 0) {
		const char *source = mnt_fs_get_source(fs);
		struct volume *volume;
		struct stat status;

		if (!source || stat(source, &status) < 0 || !S_ISBLK(status.st_mode))
			continue;
		volume = inventory_find_devno(inventory, status.st_rdev);
		if (volume)
			volume->is_swap_active = true;
	}
	return 0;
}

static bool is_named_by(struct libmnt_fs *entry, const struct volume *volume)
{
	const char *source = mnt_fs_get_source(entry), *tag, *value;
	struct stat status;

	if (mnt_fs_get_tag(entry, &tag, &value) == 0) {
		const char *own = strcmp(tag, "UUID") == 0        ? volume->uuid
				  : strcmp(tag, "LABEL") == 0     ? volume->label
				  : strcmp(tag, "PARTUUID") == 0  ? volume->partition_uuid
				  : strcmp(tag, "PARTLABEL") == 0 ? volume->partition_label
								  : NULL;

		return own && (strcmp(tag, "UUID") == 0 || strcmp(tag, "PARTUUID") == 0
				       ? strcasecmp(own, value)
				       : strcmp(own, value)) == 0;
	}
	return source && source[0] == '/' && stat(source, &status) == 0 &&
	       S_ISBLK(status.st_mode) && status.st_rdev == volume->devno;
}

static int read_fstab(struct inventory *inventory)
{
	_cleanup_(mounttable_freep) struct libmnt_table *table = mnt_new_table();
	_cleanup_(iteratorp) struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *entry;

	if (!table || !iterator)
		return -ENOMEM;
	if (mnt_table_parse_fstab(table, NULL) != 0)
		return 0; /* none, as in an initramfs */
	if (mnt_table_get_nents(table) > MOUNTTABLE_MAX)
		return -E2BIG;
	while (mnt_table_next_fs(table, iterator, &entry) == 0)
		for (size_t i = 0; i < inventory->n; i++) {
			struct volume *volume = &inventory->volumes[i];
			const char *target = mnt_fs_get_target(entry);

			/* a container can bear the tag of what lies on it, as md and multipath
			 * members do */
			if (!is_named_by(entry, volume) || volume->n_children > 0)
				continue;
			volume->has_fstab_entry = true;
			if (volume->fstab_target || !target || target[0] != '/')
				continue;
			volume->fstab_target = strdup(target);
			if (!volume->fstab_target)
				return -ENOMEM;
		}
	return 0;
}

/**
 * mounttable_read() - fill in mounts, active swaps and fstab entries of all volumes
 * @inventory: devices linked and probed
 *
 * Return: 0 or -errno.
 */
int mounttable_read(struct inventory *inventory)
{
	int r;

	r = read_mounts(inventory);
	if (r == 0)
		r = read_swaps(inventory);
	if (r == 0)
		r = read_fstab(inventory);
	return r;
}

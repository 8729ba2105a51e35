/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <libmount/libmount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/filesystem.h"
#include "volume/format.h"
#include "volume/mounttable.h"

#define ASIDE                                                                                      \
	"/run/vmcrypt-mount-XXXXXX" /* where a filesystem is mounted of which only a folder is     \
				       wanted */

static void contextp(struct libmnt_context **context)
{
	if (*context)
		mnt_free_context(*context);
}

static void iteratorp(struct libmnt_iter **iterator)
{
	if (*iterator)
		mnt_free_iter(*iterator);
}

/* The system call's errno comes positive, libmount's own failures negative; its codes lie above all
 * errnos. */
static int to_errno(int r)
{
	if (r > 0)
		return -r;
	return r <= -MNT_ERR_NOFSTAB ? -EINVAL : r;
}

static int mount_at(const char *source, const char *target, const char *type, const char *options)
{
	_cleanup_(contextp) struct libmnt_context *context = mnt_new_context();
	int r;

	if (!context)
		return -ENOMEM;
	(void)mnt_context_set_optsmode(context, MNT_OMODE_NOTAB);
	(void)mnt_context_disable_helpers(context, 1);
	/* silently read-only would be worse than not mounted */
	(void)mnt_context_enable_rwonly_mount(context, 1);
	r = mnt_context_set_source(context, source);
	if (r == 0)
		r = mnt_context_set_target(context, target);
	if (r == 0 && type)
		r = mnt_context_set_fstype(context, type);
	if (r == 0 && options && options[0])
		r = mnt_context_set_options(context, options);
	if (r == 0)
		r = mnt_context_mount(context);
	r = to_errno(r);
	log_debug("Mount %s on %s: %s.", source, target, r < 0 ? strerror(-r) : "done");
	return r;
}

static int unmount_at(const char *target)
{
	_cleanup_(contextp) struct libmnt_context *context = mnt_new_context();
	int r;

	if (!context)
		return -ENOMEM;
	(void)mnt_context_disable_helpers(context, 1);
	r = mnt_context_set_target(context, target);
	if (r == 0)
		r = mnt_context_umount(context);
	r = to_errno(r);
	log_debug("Unmount %s: %s.", target, r < 0 ? strerror(-r) : "done");
	return r;
}

/**
 * filesystem_mount_one() - mount a device
 * @target:  is there
 * @type:    NULL = let libmount see
 * @options: as of mount -o; NULL = none
 *
 * Return: 0 or -errno.
 */
int filesystem_mount_one(const char *device, const char *target, const char *type,
			 const char *options)
{
	return mount_at(device, target, type, options);
}

/* What a plain mount with these options shows: the filesystem's root, or btrfs's subvolume. */
static int root_of(const struct volume_mount *mount, char **ret)
{
	char *value = NULL;
	size_t size_bytes = 0;

	if (mount->filesystem && strcmp(mount->filesystem, "btrfs") == 0 && mount->options &&
	    mnt_optstr_get_option(mount->options, "subvol", &value, &size_bytes) == 0 && value)
		return text_format(ret, "%s%.*s", value[0] == '/' ? "" : "/", (int)size_bytes,
				   value);
	return text_format(ret, "/");
}

/* What is left of @path below @root, "" when they are the same; NULL = it is not below */
static const char *below(const char *path, const char *root)
{
	size_t n = strlen(root);

	if (strcmp(root, "/") == 0)
		return strcmp(path, "/") == 0 ? "" : path;
	if (strncmp(path, root, n) != 0 || (path[n] != '\0' && path[n] != '/'))
		return NULL;
	return path + n;
}

static int bind_at(const char *from, const char *rest, const struct volume_mount *mount)
{
	_cleanup_(freep) char *source = NULL, *options = NULL;
	int r;

	r = text_format(&source, "%s%s", strcmp(from, "/") == 0 ? "" : from, rest);
	if (r == 0)
		r = text_format(&options, "bind%s%s", mount->options ? "," : "",
				mount->options ? mount->options : "");
	return r < 0 ? r : mount_at(source[0] ? source : "/", mount->target, NULL, options);
}

/* A folder of a filesystem that is mounted nowhere as a whole. */
static int bind_from_aside(const char *device, const char *rest, const struct volume_mount *mount)
{
	char aside[] = ASIDE;
	int r, later;

	if (!mkdtemp(aside))
		return -errno;
	r = mount_at(device, aside, mount->filesystem, mount->options);
	if (r == 0) {
		r = bind_at(aside, rest, mount);
		later = unmount_at(aside);
		if (r == 0)
			r = later;
	}
	(void)rmdir(aside);
	return r;
}

static int mount_again(const char *device, const struct volume *was, size_t index)
{
	const struct volume_mount *mount = &was->mounts[index];
	const char *root = mount->root ? mount->root : "/";
	_cleanup_(freep) char *base = NULL;
	const char *rest;
	int r;

	r = root_of(mount, &base);
	if (r < 0)
		return r;
	if (strcmp(base, root) == 0)
		return mount_at(device, mount->target, mount->filesystem, mount->options);
	/* a bind mount: from a place that shows it already, else from one made for the moment */
	for (size_t i = 0; i < index; i++) {
		const struct volume_mount *other = &was->mounts[i];

		rest = below(root, other->root ? other->root : "/");
		if (rest && strcmp(other->target, mount->target) != 0)
			return bind_at(other->target, rest, mount);
	}
	rest = below(root, base);
	return rest ? bind_from_aside(device, rest, mount) : -EINVAL;
}

/**
 * filesystem_mount_all() - mount a device where a volume had been mounted
 * @device: the volume itself, or the mapping over it
 * @was:    only its mounts are looked at
 *
 * Return: 0 or -errno; what could be mounted before the failure stays mounted.
 */
int filesystem_mount_all(const char *device, const struct volume *was)
{
	for (size_t i = 0; i < was->n_mounts; i++) {
		int r = mount_again(device, was, i);

		if (r < 0)
			return r;
	}
	return 0;
}

enum place {
	PLACE_GONE,
	PLACE_OURS,
	PLACE_COVERED, /* something else is mounted over it */
};

/* Is what one would unmount at the target really ours? */
static int look(const struct volume_mount *mount, dev_t devno, enum place *ret)
{
	_cleanup_(mounttable_freep) struct libmnt_table *table = NULL;
	_cleanup_(iteratorp) struct libmnt_iter *iterator = NULL;
	struct libmnt_fs *fs;
	bool is_first = true;
	int r;

	*ret = PLACE_GONE;
	r = mounttable_open(&table);
	if (r < 0)
		return r;
	iterator = mnt_new_iter(MNT_ITER_BACKWARD);
	if (!iterator)
		return -ENOMEM;
	while (mnt_table_next_fs(table, iterator, &fs) == 0) {
		const char *target = mnt_fs_get_target(fs), *root = mnt_fs_get_root(fs);

		if (!target || strcmp(target, mount->target) != 0)
			continue;
		if (mounttable_devno(fs) == devno &&
		    (!mount->root || !root || strcmp(mount->root, root) == 0)) {
			*ret = is_first ? PLACE_OURS : PLACE_COVERED;
			return 0;
		}
		is_first = false;
	}
	return 0;
}

static void put_back(const struct volume *volume, const bool *is_unmounted)
{
	for (size_t i = 0; i < volume->n_mounts; i++) {
		int r = is_unmounted[i] ? mount_again(volume->path, volume, i) : 0;

		if (r < 0)
			log_debug("Mount on %s: cannot be put back: %s.", volume->mounts[i].target,
				  strerror(-r));
	}
}

/**
 * filesystem_unmount_all() - take a volume out of use
 * @volume: path and mounts are looked at
 *
 * Last mount first; a mount that is gone meanwhile is passed over. Done only when nobody has the
 * device mounted, in other namespaces neither. Never lazily.
 *
 * Return: 0, FILESYSTEM_E_BUSY or -errno; but for 0, what had been unmounted is mounted again.
 */
int filesystem_unmount_all(const struct volume *volume)
{
	_cleanup_(freep) bool *is_unmounted = calloc(volume->n_mounts + 1, sizeof(*is_unmounted));
	struct stat status;
	int r = 0;

	if (!is_unmounted)
		return -ENOMEM;
	if (stat(volume->path, &status) < 0)
		return -errno;
	for (size_t i = volume->n_mounts; r == 0 && i-- > 0;) {
		enum place place;

		r = look(&volume->mounts[i], status.st_rdev, &place);
		if (r < 0 || place == PLACE_GONE)
			continue;
		r = place == PLACE_OURS ? unmount_at(volume->mounts[i].target) : -EBUSY;
		is_unmounted[i] = r == 0;
	}
	if (r == 0) {
		r = format_is_busy(volume->path);
		if (r > 0)
			r = -EBUSY;
		/* a mapping that waited for its last user has gone with it */
		if (r == -ENOENT || r == -ENXIO || r == -ENODEV)
			r = 0;
	}
	if (r == 0)
		return 0;
	put_back(volume, is_unmounted);
	return r == -EBUSY ? FILESYSTEM_E_BUSY : r;
}

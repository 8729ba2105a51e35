/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/lower.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "volume/bootmap.h"

#define DEPTH        16
#define EXTENTS      64 /* asked for at once */
#define TRIES        128
#define LARGE_BYTES  (8 * 1024 * 1024)  /* small files of all folders come from one place */
#define SPARE_BYTES  (64 * 1024 * 1024) /* other programs go on writing */
#define COPY_WAIT_S  600
#define ASIDE_SUFFIX ".vmcrypt-lower" /* and hidden: no boot loader shall take it for a kernel */

/* nftw() has no context */
static const char *top;
static uint64_t limit;
static int result;

/* Does any of its blocks lie behind the limit? Return: 1, 0 or -errno. */
static int reaches(int fd)
{
	_cleanup_(freep) struct fiemap *map =
		calloc(1, sizeof(*map) + EXTENTS * sizeof(struct fiemap_extent));
	uint64_t from = 0;

	if (!map)
		return -ENOMEM;
	for (;;) {
		map->fm_start = from;
		map->fm_length = FIEMAP_MAX_OFFSET - from;
		map->fm_flags = FIEMAP_FLAG_SYNC;
		map->fm_extent_count = EXTENTS;
		if (ioctl(fd, FS_IOC_FIEMAP, map) < 0)
			return -errno;
		for (unsigned i = 0; i < map->fm_mapped_extents; i++) {
			const struct fiemap_extent *extent = &map->fm_extents[i];

			if (extent->fe_physical + extent->fe_length > limit)
				return 1;
			from = extent->fe_logical + extent->fe_length;
			if (extent->fe_flags & FIEMAP_EXTENT_LAST)
				return 0;
		}
		if (map->fm_mapped_extents == 0)
			return 0;
	}
}

static int reaches_at(const char *path)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : reaches(fd);
}

/* Has the filesystem room for it beside what others write? Return: 0, -ENOSPC or -errno. */
static int has_room(uint64_t size_bytes)
{
	uint64_t free_bytes;
	int r = directory_free_bytes(top, &free_bytes);

	if (r < 0)
		return r;
	return free_bytes >= size_bytes + SPARE_BYTES ? 0 : -ENOSPC;
}

/* An empty file; @ret_fd is set where there is one. Return: 0, 1 (it reaches behind the limit) or
 * -errno. */
static int try_place(const char *path, off_t size_bytes, int *ret_fd)
{
	int fd = -EBADF, r = has_room((uint64_t)size_bytes);

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	r = -posix_fallocate(fd, 0, size_bytes);
	return r < 0 ? r : reaches(fd);
}

/* An empty file with all its blocks below the limit. What is offered behind it is held meanwhile,
 * in files without a name, so that it is not offered again. Return: 0, -ENOSPC or -errno. */
static int reserve(const char *path, off_t size_bytes)
{
	off_t asked_bytes = size_bytes < LARGE_BYTES ? LARGE_BYTES : size_bytes;
	int held[TRIES], n = 0, r = 1;

	while (r > 0 && n < TRIES) {
		int fd = -EBADF;

		r = try_place(path, asked_bytes, &fd);
		if (fd >= 0)
			held[n++] = fd;
		if (r == 0 && ftruncate(fd, size_bytes) < 0)
			r = -errno;
		if (r != 0 && fd >= 0)
			(void)unlink(path);
	}
	while (n > 0)
		(void)close(held[--n]);
	return r > 0 ? -ENOSPC : r;
}

static int run(const char *const argv[])
{
	int status, r = process_run(argv, COPY_WAIT_S, &status, NULL);

	return r == 0 && status != 0 ? -EIO : r;
}

/* In place: the blocks that were reserved take the content. */
static int copy(const char *from, const char *to)
{
	_cleanup_(freep) char *in = NULL, *out = NULL;
	int r;

	if (text_format(&in, "if=%s", from) < 0 || text_format(&out, "of=%s", to) < 0)
		return -ENOMEM;
	r = run((const char *const[]){ "dd", in, out, "bs=1M", "conv=notrunc", "status=none",
				       NULL });
	if (r == 0)
		r = run((const char *const[]){ "cp", "-p", "--attributes-only", "--preserve=all",
					       from, to, NULL });
	return r == 0 ? file_sync_path(to) : r;
}

static bool is_aside(const char *path)
{
	const char *name = strrchr(path, '/') + 1;
	size_t size = strlen(name), suffix = strlen(ASIDE_SUFFIX);

	return name[0] == '.' && size > suffix && strcmp(name + size - suffix, ASIDE_SUFFIX) == 0;
}

static int lower(const char *path, off_t size_bytes)
{
	const char *name = strrchr(path, '/') + 1;
	_cleanup_(freep) char *aside = NULL;
	int r = text_format(&aside, "%.*s.%s" ASIDE_SUFFIX, (int)(name - path), path, name);

	if (r < 0)
		return r;
	(void)unlink(aside);
	r = reserve(aside, size_bytes);
	if (r < 0)
		return r;
	r = copy(path, aside);
	if (r == 0)
		r = reaches_at(aside);
	if (r == 0 && rename(aside, path) < 0)
		r = -errno;
	if (r != 0) {
		(void)unlink(aside);
		return r < 0 ? r : -ENOSPC;
	}
	log_debug("File %s: brought lower.", path);
	return file_sync_parent(path);
}

static bool is_ours(const char *path)
{
	return strncmp(path + strlen(top), "/" BOOTMAP_OURS "/", strlen("/" BOOTMAP_OURS "/")) == 0;
}

static int on_file(const char *path, const struct stat *status, int kind, struct FTW *where)
{
	if (kind != FTW_F || !S_ISREG(status->st_mode) || is_ours(path))
		return 0;
	/* a power cut has left it */
	if (is_aside(path)) {
		(void)unlink(path);
		return 0;
	}
	if (status->st_size == 0)
		return 0;
	result = reaches_at(path);
	/* a second name would keep what is there */
	if (result > 0)
		result = status->st_nlink == 1 ? lower(path, status->st_size) : -EMLINK;
	return result < 0;
}

/**
 * lower_files() - no regular file of a folder, but for BOOTMAP_OURS, has a block behind a limit
 * @folder:      on a mounted ext4; other filesystems below it are left out
 * @limit_bytes: from the beginning of the device
 *
 * Return: 0, -ENOSPC (there is no other place), -EMLINK or -errno.
 */
int lower_files(const char *folder, uint64_t limit_bytes)
{
	top = folder;
	limit = limit_bytes;
	result = 0;
	if (nftw(folder, on_file, DEPTH, FTW_MOUNT | FTW_PHYS) < 0 && result == 0)
		return -errno;
	return result;
}

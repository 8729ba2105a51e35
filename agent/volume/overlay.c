/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a power cut can leave, and what overlay_finish() makes of it:
 *
 *   file   superblock   the cut came                            so
 *   -      whole        before, or after all                    nothing
 *   yes    whole        while the tools worked: the device      the file goes
 *                       has not been touched; or at the very
 *                       end: all is merged
 *   yes    sealed       after the seal                          merged (again), unsealed; the file
 * goes
 *   -      sealed       never                                   refused
 *
 * The seal is one write that changes two bytes of one sector, so it cannot be torn. The superblock
 * within the overlay is sealed first: so the merge brings no whole one, in whatever order it goes.
 * The unseal comes after everything else is flushed.
 */
#include "volume/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/cow.h"

/* ext4: Documentation/filesystems/ext4/super.rst; the superblock lies at 1024 */
#define HEAD_BYTES COW_CHUNK_BYTES /* read and written at once, past the page cache */
#define MAGIC_AT   (1024 + 0x38)
#define UUID_AT    (1024 + 0x68)
#define UUID_BYTES 16

static const uint8_t magic_whole[] = { 0x53, 0xef };
static const uint8_t magic_sealed[] = { 'v', 'm' };

/*
 * What the tools change: 32 MiB of blocks move at most, and whatever names them: the directories of
 * moved inodes, extents. Each group's bitmaps and descriptors are written, those several times for
 * the backups. Each changed chunk has 16 bytes of the store's own beside it. Tried with full and
 * fragmented filesystems; too little is found out in time and costs a refusal, so a small /boot may
 * give less.
 */
#define MOVED_BYTES     (32ULL * 1024 * 1024)
#define MINIMUM_BYTES   (MOVED_BYTES + 16ULL * 1024 * 1024)
#define WANTED_BYTES    (128ULL * 1024 * 1024)
#define CHUNKS_OF_GROUP 4
#define SPARE_BYTES     (8ULL * 1024 * 1024) /* the place's own filesystem goes on working */

struct overlay {
	char *device, *file, *name, *path;
	int file_fd, path_fd; /* open all the time: so no write that fails goes unheard */
	bool is_open, is_kept;
};

enum state {
	STATE_OTHER, /* no ext filesystem */
	STATE_WHOLE,
	STATE_SEALED,
};

static int condition_of(int r)
{
	switch (r) {
	case COW_E_NO_TARGET:
		return OVERLAY_E_NO_TARGET;
	case COW_E_BUSY:
		return OVERLAY_E_BUSY;
	case COW_E_NO_ROOM:
	case COW_E_FULL:
		return OVERLAY_E_NO_ROOM;
	default:
		return r;
	}
}

static int read_head(int fd, uint8_t *head)
{
	ssize_t n = pread(fd, head, HEAD_BYTES, 0);

	if (n < 0)
		return -errno;
	return n == HEAD_BYTES ? 0 : -EBADMSG;
}

static enum state state_of(const uint8_t *head)
{
	if (memcmp(head + MAGIC_AT, magic_whole, sizeof(magic_whole)) == 0)
		return STATE_WHOLE;
	if (memcmp(head + MAGIC_AT, magic_sealed, sizeof(magic_sealed)) == 0)
		return STATE_SEALED;
	return STATE_OTHER;
}

/* Two bytes change, all others are written as they were. */
static int set_magic(const char *path, const uint8_t from[2], const uint8_t to[2])
{
	_Alignas(HEAD_BYTES) uint8_t head[HEAD_BYTES];
	_cleanup_(closep) int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ssize_t n;
	int r;

	if (fd < 0)
		return -errno;
	r = read_head(fd, head);
	if (r < 0)
		return r;
	if (memcmp(head + MAGIC_AT, to, 2) != 0) {
		if (memcmp(head + MAGIC_AT, from, 2) != 0)
			return -EBADMSG;
		memcpy(head + MAGIC_AT, to, 2);
		n = pwrite(fd, head, HEAD_BYTES, 0);
		if (n != HEAD_BYTES)
			return n < 0 ? -errno : -EIO;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* Called by the filesystem, whose UUID a sealed superblock still has; not by "vmcrypt-", since so
 * are the mappings of volumes. */
static int name_of(const uint8_t uuid[UUID_BYTES], char **ret)
{
	char text[2 * UUID_BYTES + 1];

	for (size_t i = 0; i < UUID_BYTES; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", uuid[i]);
	return text_format(ret, "vmcryptpart-%s", text);
}

/* The device is sealed: onwards. Return: 0, COW_E_* or -errno. */
static int merge(const char *device, const char *file, const char *name)
{
	int r;

	r = cow_merge(name, device, file);
	if (r != 0)
		return r;
	log_debug("Overlay %s: merged.", name);
	r = set_magic(device, magic_sealed, magic_whole);
	return r < 0 ? r : file_remove_durably(file);
}

/**
 * overlay_finish() - what a power cut has left of an overlay goes, or is merged to its end
 * @file: as of overlay_begin()
 *
 * Idempotent. Without such a file, or with another filesystem there, nothing is done.
 *
 * Return: 0, OVERLAY_E_BUSY, OVERLAY_E_NO_TARGET, OVERLAY_E_LOST or -errno.
 */
int overlay_finish(const char *device, const char *file)
{
	_Alignas(HEAD_BYTES) uint8_t head[HEAD_BYTES];
	_cleanup_(freep) char *name = NULL;
	_cleanup_(closep) int fd = -EBADF;
	bool is_valid;
	enum state state;
	int r;

	fd = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = read_head(fd, head);
	if (r < 0)
		return r;
	state = state_of(head);
	if (state == STATE_OTHER)
		return 0;
	if (access(file, F_OK) < 0)
		return errno != ENOENT ? -errno : state == STATE_SEALED ? OVERLAY_E_LOST : 0;

	/* of a worker that died without the machine */
	r = name_of(head + UUID_AT, &name);
	if (r == 0)
		r = cow_close(name);
	if (r != 0)
		return condition_of(r);
	if (state == STATE_WHOLE)
		return file_remove_durably(file);
	r = cow_is_valid(file, &is_valid);
	if (r < 0)
		return r;
	return is_valid ? condition_of(merge(device, file, name)) : OVERLAY_E_LOST;
}

static uint64_t group_bytes(const struct geometry *geometry)
{
	/* a bitmap of one block covers it */
	return 8 * (uint64_t)geometry->block_bytes * geometry->block_bytes;
}

static uint64_t bytes_with(const struct geometry *geometry, uint64_t base_bytes)
{
	uint64_t groups = geometry->bytes / group_bytes(geometry) + 1;
	uint64_t chunk_bytes =
		geometry->block_bytes > COW_CHUNK_BYTES ? geometry->block_bytes : COW_CHUNK_BYTES;

	return base_bytes + groups * CHUNKS_OF_GROUP * chunk_bytes;
}

/** overlay_minimum_bytes() - what the place must have free, or the overlay is not begun */
uint64_t overlay_minimum_bytes(const struct geometry *geometry)
{
	return bytes_with(geometry, MINIMUM_BYTES) + SPARE_BYTES;
}

/* Return: 0, OVERLAY_E_NO_ROOM or -errno. */
static int choose_size(const struct geometry *geometry, const char *file, uint64_t *ret_bytes)
{
	uint64_t wanted = bytes_with(geometry, WANTED_BYTES), there;
	_cleanup_(freep) char *folder = NULL;
	int r;

	r = text_copy(file, &folder);
	if (r < 0)
		return r;
	if (!strrchr(folder, '/'))
		return -EINVAL;
	*strrchr(folder, '/') = '\0';
	r = directory_make(folder, 0700);
	if (r == 0)
		r = directory_free_bytes(folder, &there);
	if (r < 0)
		return r;
	if (there < overlay_minimum_bytes(geometry))
		return OVERLAY_E_NO_ROOM;
	there = (there - SPARE_BYTES) / COW_CHUNK_BYTES * COW_CHUNK_BYTES;
	*ret_bytes = there < wanted ? there : wanted;
	return 0;
}

/**
 * overlay_begin() - from now on, changes at overlay_path() go to a file
 * @device:   with an ext filesystem that is not mounted; nothing else can use it until the end
 * @geometry: as geometry_read() has just told
 * @file:     absolute, on another device, for this device only; its folder is made if absent. After
 * a power cut it must be found again: overlay_finish() wants the same.
 *
 * Cost: the file, 128 MiB and 0.01% of the filesystem, or as much as there is.
 *
 * Return: 0, OVERLAY_E_NO_ROOM, OVERLAY_E_BUSY, OVERLAY_E_NO_TARGET, OVERLAY_E_LOST or -errno.
 */
int overlay_begin(const char *device, const struct geometry *geometry, const char *file,
		  struct overlay **ret)
{
	_cleanup_(overlay_freep) struct overlay *overlay = calloc(1, sizeof(*overlay));
	uint64_t size_bytes;
	int r;

	if (!overlay)
		return -ENOMEM;
	overlay->file_fd = overlay->path_fd = -EBADF;
	r = overlay_finish(device, file);
	if (r == 0)
		r = choose_size(geometry, file, &size_bytes);
	if (r != 0)
		return r;
	r = text_copy(device, &overlay->device);
	if (r == 0)
		r = text_copy(file, &overlay->file);
	if (r == 0)
		r = name_of(geometry->uuid, &overlay->name);
	if (r == 0)
		r = cow_path(overlay->name, &overlay->path);
	if (r == 0)
		r = cow_make(file, size_bytes, &overlay->file_fd);
	if (r != 0)
		return condition_of(r);
	overlay->is_open = true;
	r = cow_open(overlay->name, device, file);
	if (r != 0)
		return condition_of(r);
	overlay->path_fd = open(overlay->path, O_RDWR | O_CLOEXEC);
	if (overlay->path_fd < 0)
		return -errno;
	log_debug("Overlay %s: begun, %llu bytes.", overlay->name, (unsigned long long)size_bytes);
	*ret = steal(overlay);
	return 0;
}

/** overlay_path() - a block device; borrowed */
const char *overlay_path(const struct overlay *overlay)
{
	return overlay->path;
}

/** overlay_check() - has all that was written been kept? Return: 0, OVERLAY_E_NO_ROOM or -errno. */
int overlay_check(const struct overlay *overlay)
{
	return condition_of(cow_check(overlay->name));
}

/**
 * overlay_keep() - the changes become the device's
 *
 * Nothing has overlay_path() open any more. When this fails, the device is as before, or sealed
 * until overlay_finish() gets through.
 *
 * Return: 0, OVERLAY_E_NO_ROOM, OVERLAY_E_BUSY or -errno.
 */
int overlay_keep(struct overlay *overlay)
{
	int r;

	r = set_magic(overlay->path, magic_whole, magic_sealed);
	if (r == 0 && fsync(overlay->path_fd) < 0)
		r = -errno;
	if (cow_check(overlay->name) != 0)
		r = cow_check(overlay->name);
	if (r == 0 && fsync(overlay->file_fd) < 0)
		r = -errno;
	if (r != 0)
		return condition_of(r);

	log_debug("Overlay %s: complete.", overlay->name);
	/* before the mapping lets go of the device: nobody can mount it in between */
	overlay->is_kept = true;
	r = set_magic(overlay->device, magic_whole, magic_sealed);
	if (r < 0)
		return r;
	log_debug("Overlay %s: sealed.", overlay->name);
	closep(&overlay->path_fd);
	overlay->path_fd = -EBADF;
	r = cow_close(overlay->name);
	if (r != 0)
		return condition_of(r);
	return condition_of(merge(overlay->device, overlay->file, overlay->name));
}

/** overlay_free() - what was not kept is thrown away. NULL is fine. Return: NULL. */
struct overlay *overlay_free(struct overlay *overlay)
{
	if (!overlay)
		return NULL;
	closep(&overlay->path_fd);
	closep(&overlay->file_fd);
	/* else the file stays, and overlay_finish() decides by what is on the device */
	if (overlay->is_open && cow_close(overlay->name) == 0 && !overlay->is_kept)
		(void)file_remove_durably(overlay->file);
	free(overlay->device);
	free(overlay->file);
	free(overlay->name);
	free(overlay->path);
	free(overlay);
	return NULL;
}

void overlay_freep(struct overlay **overlay)
{
	overlay_free(*overlay);
}

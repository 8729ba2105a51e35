/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/cow.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "volume/device.h"

#define LOOP_CONTROL      "/dev/loop-control"
#define LOOP_TRIES        64 /* somebody else may take the free one before us */
#define MODPROBE_WAIT_S   30
#define MERGE_INTERVAL_MS 20
#define SECTOR_BYTES      512

/* The head of a persistent store: struct disk_header of drivers/md/dm-snap-persistent.c */
#define STORE_MAGIC   0x70416e53
#define STORE_VERSION 1

struct store_head {
	uint32_t magic, valid, version, chunk_sectors;
};

static void on_message(int level, const char *file, int line, int error, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

static void on_message(int level, const char *file, int line, int error, const char *format, ...)
{
	char text[256];
	va_list arguments;

	/* the library's own debug lines are many */
	if ((level & 7) > 4)
		return;
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	log_debug("libdevmapper: %s", text);
}

static void taskp(struct dm_task **task)
{
	if (*task)
		dm_task_destroy(*task);
}

static void poolp(struct dm_pool **pool)
{
	if (*pool)
		dm_pool_destroy(*pool);
}

static int task_new(int type, const char *name, struct dm_task **ret)
{
	dm_log_with_errno_init(on_message);
	*ret = dm_task_create(type);
	if (!*ret)
		return -ENOMEM;
	return !name || dm_task_set_name(*ret, name) ? 0 : -ENOMEM;
}

static int task_run(struct dm_task *task)
{
	int error;

	if (dm_task_run(task))
		return 0;
	error = dm_task_get_errno(task);
	return error > 0 ? -error : -EIO;
}

/* Runs it and waits until udev has seen what it did, where udev runs. Nothing may be known by what
 * is on such a mapping: the device below carries the same names. */
static int task_run_settled(struct dm_task *task)
{
	const uint16_t flags = DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG |
			       DM_UDEV_DISABLE_DISK_RULES_FLAG | DM_UDEV_DISABLE_OTHER_RULES_FLAG;
	uint32_t cookie = 0;
	int r;

	if (!dm_task_set_cookie(task, &cookie, flags))
		return -EIO;
	r = task_run(task);
	(void)dm_udev_wait(cookie);
	return r;
}

static void load_module(const char *name)
{
	const char *const argv[] = { "modprobe", "-q", name, NULL };
	int status;

	/* built in, or loaded by the kernel itself: what counts is whether the thing is there */
	(void)process_run(argv, MODPROBE_WAIT_S, &status, NULL);
}

static int find_target(const char *target, bool *ret)
{
	_cleanup_(taskp) struct dm_task *task = NULL;
	struct dm_versions *version;
	uint32_t step = 0;
	int r;

	r = task_new(DM_DEVICE_LIST_VERSIONS, NULL, &task);
	if (r == 0)
		r = task_run(task);
	if (r < 0)
		return r;
	*ret = false;
	version = dm_task_get_versions(task);
	while (version) {
		*ret |= strcmp(version->name, target) == 0;
		step = version->next;
		version = step > 0 ? (struct dm_versions *)((char *)version + step) : NULL;
	}
	return 0;
}

/* Return: 0, COW_E_NO_TARGET or -errno. */
static int need_kernel(bool needs_loop)
{
	bool is_there;
	int r;

	if (needs_loop && access(LOOP_CONTROL, F_OK) < 0)
		load_module("loop");
	if (needs_loop && access(LOOP_CONTROL, F_OK) < 0)
		return COW_E_NO_TARGET;
	r = find_target("snapshot-merge", &is_there);
	if (r == 0 && !is_there) {
		load_module("dm-snapshot");
		r = find_target("snapshot-merge", &is_there);
	}
	if (r == -ENXIO || r == -ENODEV || r == -ENOENT)
		return COW_E_NO_TARGET; /* no device-mapper at all */
	return r < 0 ? r : is_there ? 0 : COW_E_NO_TARGET;
}

/* A loop device that goes with its last user. Source: loop(4), LOOP_CONFIGURE (Linux 5.8). */
static int attach_loop(const char *file, int *ret_fd)
{
	_cleanup_(closep) int control = -EBADF, fd = -EBADF;
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };

	fd = open(file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	control = open(LOOP_CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		return -errno;
	config.fd = (uint32_t)fd;
	(void)snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", file);
	for (unsigned i = 0; i < LOOP_TRIES; i++) {
		_cleanup_(closep) int loop = -EBADF;
		char path[32];
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0)
			return -errno;
		(void)snprintf(path, sizeof(path), "/dev/loop%d", number);
		loop = open(path, O_RDWR | O_CLOEXEC);
		if (loop < 0)
			return -errno;
		if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
			*ret_fd = steal_fd(loop);
			return 0;
		}
		if (errno != EBUSY)
			return -errno;
	}
	return -EBUSY;
}

/* Return: 0, COW_E_BUSY or -errno. */
static int create(const char *name, const char *target, uint64_t size_bytes, const char *parameters)
{
	_cleanup_(taskp) struct dm_task *task = NULL;
	_cleanup_(freep) char *uuid = NULL;
	int r;

	/* by this prefix the inventory knows that it is no volume */
	r = text_format(&uuid, "VMCRYPT-PART-%s", name);
	if (r == 0)
		r = task_new(DM_DEVICE_CREATE, name, &task);
	if (r < 0)
		return r;
	if (!dm_task_set_uuid(task, uuid) ||
	    !dm_task_add_target(task, 0, size_bytes / SECTOR_BYTES, target, parameters))
		return -ENOMEM;
	r = task_run_settled(task);
	return r == -EBUSY ? COW_E_BUSY : r;
}

/* Return: 0, COW_E_BUSY or -errno. */
static int load(const char *name, const char *target, const char *device, int loop)
{
	_cleanup_(closep) int fd = -EBADF;
	_cleanup_(freep) char *parameters = NULL;
	struct stat origin, store;
	uint64_t size_bytes;
	int r;

	fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &origin) < 0 || fstat(loop, &store) < 0)
		return -errno;
	if (!S_ISBLK(origin.st_mode))
		return -ENOTBLK;
	if (ioctl(fd, BLKGETSIZE64, &size_bytes) < 0)
		return -errno;
	/* PO: persistent, and what does not fit any more is told apart from what cannot be read */
	r = text_format(&parameters, "%u:%u %u:%u PO %u", major(origin.st_rdev),
			minor(origin.st_rdev), major(store.st_rdev), minor(store.st_rdev),
			COW_CHUNK_BYTES / SECTOR_BYTES);
	return r < 0 ? r : create(name, target, size_bytes, parameters);
}

static int open_as(const char *name, const char *target, const char *device, const char *file)
{
	_cleanup_(closep) int loop = -EBADF;
	struct stat store;
	bool is_device;
	int r;

	is_device = stat(file, &store) == 0 && S_ISBLK(store.st_mode);
	r = need_kernel(!is_device);
	if (r != 0)
		return r;
	if (is_device) {
		loop = open(file, O_RDWR | O_CLOEXEC);
		r = loop < 0 ? -errno : 0;
	} else {
		r = attach_loop(file, &loop);
	}
	if (r < 0)
		return log_debug_errno(r, "File %s: no loop device for it: %m", file);
	r = load(name, target, device, loop);
	return r < 0 ? log_debug_errno(r, "Mapping %s: cannot be made: %m", name) : r;
}

/**
 * cow_piece() - a piece of a device as a device of its own, to be the store
 * @name:         below /dev/mapper; must not be there
 * @offset_bytes: a multiple of COW_CHUNK_BYTES, as @length_bytes is
 *
 * Device-mapper lets its own mappings share a device: another that lies on @device may be there.
 *
 * Return: 0, COW_E_NO_TARGET, COW_E_BUSY or -errno.
 */
int cow_piece(const char *name, const char *device, uint64_t offset_bytes, uint64_t length_bytes)
{
	_cleanup_(freep) char *parameters = NULL;
	struct stat whole;
	int r;

	r = need_kernel(false);
	if (r != 0)
		return r;
	if (stat(device, &whole) < 0)
		return -errno;
	r = text_format(&parameters, "%u:%u %llu", major(whole.st_rdev), minor(whole.st_rdev),
			(unsigned long long)(offset_bytes / SECTOR_BYTES));
	return r < 0 ? r : create(name, "linear", length_bytes, parameters);
}

/**
 * cow_make() - a file that takes changes, empty
 * @size_bytes: all of it is taken from the filesystem at once, so that it cannot run out later
 * @ret_fd:     its errors are told to whoever has it open: fsync it at the end
 *
 * Return: 0, COW_E_NO_ROOM or -errno; on failure there is no file.
 */
int cow_make(const char *file, uint64_t size_bytes, int *ret_fd)
{
	_cleanup_(closep) int fd = -EBADF;
	int r;

	fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	/* zeros are an empty store to the kernel */
	r = -posix_fallocate(fd, 0, (off_t)size_bytes);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0)
		r = file_sync_parent(file);
	if (r < 0) {
		(void)unlink(file);
		return r == -ENOSPC || r == -EFBIG || r == -EDQUOT ? COW_E_NO_ROOM : r;
	}
	*ret_fd = steal_fd(fd);
	return 0;
}

/** cow_is_valid() - does a file hold changes? An empty one would be merged as if there were none.
 *
 * Return: 0 or -errno.
 */
int cow_is_valid(const char *file, bool *ret)
{
	_cleanup_(closep) int fd = open(file, O_RDONLY | O_CLOEXEC);
	struct store_head head;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pread(fd, &head, sizeof(head), 0);
	if (n < 0)
		return -errno;
	*ret = n == sizeof(head) && le32toh(head.magic) == STORE_MAGIC &&
	       le32toh(head.valid) == 1 && le32toh(head.version) == STORE_VERSION &&
	       le32toh(head.chunk_sectors) == COW_CHUNK_BYTES / SECTOR_BYTES;
	return 0;
}

/**
 * cow_open() - see a device through a file that takes all changes
 * @name: below /dev/mapper; must not be there
 * @file: or a block device, as of cow_piece()
 *
 * Return: 0, COW_E_NO_TARGET, COW_E_BUSY or -errno.
 */
int cow_open(const char *name, const char *device, const char *file)
{
	return open_as(name, "snapshot", device, file);
}

static int read_status(const char *name, char **ret)
{
	_cleanup_(taskp) struct dm_task *task = NULL;
	char *target = NULL, *parameters = NULL;
	uint64_t start, length;
	int r;

	r = task_new(DM_DEVICE_STATUS, name, &task);
	if (r == 0 && !dm_task_no_flush(task))
		r = -ENOMEM;
	if (r == 0)
		r = task_run(task);
	if (r < 0)
		return r;
	(void)dm_get_next_target(task, NULL, &start, &length, &target, &parameters);
	if (!target || !parameters || strncmp(target, "snapshot", strlen("snapshot")) != 0)
		return -ENODEV;
	return text_copy(parameters, ret);
}

/* Return: 0, COW_E_FULL or -errno. */
static int look(const char *name, bool *ret_is_merged)
{
	_cleanup_(poolp) struct dm_pool *pool = dm_pool_create("status", 1024);
	_cleanup_(freep) char *text = NULL;
	struct dm_status_snapshot *status;
	int r;

	if (!pool)
		return -ENOMEM;
	r = read_status(name, &text);
	if (r < 0)
		return r;
	if (!dm_get_status_snapshot(pool, text, &status))
		return -EPROTO;
	if (status->overflow)
		return COW_E_FULL;
	if (status->invalid || status->merge_failed || !status->has_metadata_sectors)
		return log_debug_errno(-EIO, "Mapping %s: %s.", name, text);
	*ret_is_merged = status->used_sectors == status->metadata_sectors;
	return 0;
}

/** cow_check() - does it still hold all that was written? Return: 0, COW_E_FULL or -errno. */
int cow_check(const char *name)
{
	bool is_merged;

	return look(name, &is_merged);
}

/**
 * cow_merge() - write what the file holds into the device
 * @name: must not be there; it is not there afterwards, unless it is busy
 *
 * Cut at any moment, it is done again from the file. The kernel writes past the page cache of the
 * device, which is dropped here.
 *
 * Return: 0: all of it is on the device and flushed; COW_E_NO_TARGET, COW_E_BUSY or -errno.
 */
int cow_merge(const char *name, const char *device, const char *file)
{
	const struct timespec interval = { .tv_nsec = MERGE_INTERVAL_MS * 1000000L };
	bool is_merged = false;
	int r, closed;

	r = open_as(name, "snapshot-merge", device, file);
	if (r != 0)
		return r;
	for (;;) {
		r = look(name, &is_merged);
		if (r != 0 || is_merged)
			break;
		(void)nanosleep(&interval, NULL);
	}
	closed = cow_close(name);
	if (r == 0)
		r = closed;
	if (r != 0)
		return r == COW_E_FULL ? -EIO : r;
	return device_refresh(device);
}

/** cow_close() - absent is fine. Return: 0, COW_E_BUSY or -errno. */
int cow_close(const char *name)
{
	_cleanup_(taskp) struct dm_task *task = NULL;
	int r;

	r = task_new(DM_DEVICE_REMOVE, name, &task);
	if (r < 0)
		return r;
	/* udev and others look at new devices for a moment */
	if (!dm_task_retry_remove(task))
		return -ENOMEM;
	r = task_run_settled(task);
	if (r == -ENXIO || r == -ENODEV || r == -ENOENT)
		return 0;
	return r == -EBUSY ? COW_E_BUSY : r;
}

/** cow_path() - a new string. Return: 0 or -ENOMEM. */
int cow_path(const char *name, char **ret)
{
	return text_format(ret, "%s/%s", dm_dir(), name);
}

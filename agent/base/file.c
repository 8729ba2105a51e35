/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"

#define COPY_CHUNK_BYTES (1024 * 1024)

/**
 * file_read() - whole file, NUL-terminated
 * @max_bytes: refuse more than this (-EFBIG)
 * @ret:       owned by the caller
 * @ret_size:  bytes without the NUL; may be NULL
 *
 * Return: 0 or -errno.
 */
int file_read(const char *path, size_t max_bytes, char **ret, size_t *ret_size)
{
	_cleanup_(closep) int fd = -EBADF;
	_cleanup_(freep) char *data = NULL;
	size_t used = 0, capacity = 4096;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	data = malloc(capacity + 1);
	if (!data)
		return -ENOMEM;
	for (;;) {
		ssize_t n;

		if (used == capacity) {
			char *larger;

			capacity *= 2;
			larger = realloc(data, capacity + 1);
			if (!larger)
				return -ENOMEM;
			data = larger;
		}
		n = read(fd, data + used, capacity - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
		if (used > max_bytes)
			return -EFBIG;
	}
	data[used] = '\0';
	if (ret_size)
		*ret_size = used;
	*ret = steal(data);
	return 0;
}

static int write_all(int fd, const void *data, size_t size_bytes)
{
	const char *at = data;

	while (size_bytes > 0) {
		ssize_t n = write(fd, at, size_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

static int replace(const char *path, const void *data, size_t size_bytes, mode_t mode, bool durable)
{
	_cleanup_(closep) int fd = -EBADF;
	_cleanup_(freep) char *temporary = NULL;
	struct stat old;
	int r;

	if (asprintf(&temporary, "%s.vmcrypt-XXXXXX", path) < 0)
		return -ENOMEM;
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return -errno;

	r = write_all(fd, data, size_bytes);
	/* an existing file keeps its owner and mode; only new ones get ours */
	if (r == 0 && lstat(path, &old) == 0 && S_ISREG(old.st_mode)) {
		mode = old.st_mode & 07777;
		if (fchown(fd, old.st_uid, old.st_gid) < 0)
			r = -errno;
	}
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0 && durable && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(temporary);
		return r;
	}
	return durable ? file_sync_parent(path) : 0;
}

/**
 * file_write_atomic() - replace a file durably: write aside, fsync, rename, fsync the folder
 * @mode: for a new file; an existing one keeps mode and owner
 *
 * Return: 0 or -errno; on failure the old file is untouched.
 */
int file_write_atomic(const char *path, const void *data, size_t size_bytes, mode_t mode)
{
	return replace(path, data, size_bytes, mode, true);
}

/** file_write_volatile() - the same without fsync, for /run, which no power cut outlives */
int file_write_volatile(const char *path, const void *data, size_t size_bytes, mode_t mode)
{
	return replace(path, data, size_bytes, mode, false);
}

/**
 * file_copy() - a durable copy of a file, made anew
 * @mode: of the copy
 *
 * Return: 0 or -errno; on failure there may be part of a copy.
 */
int file_copy(const char *from, const char *to, mode_t mode)
{
	_cleanup_(closep) int in = -EBADF, out = -EBADF;
	ssize_t n;

	in = open(from, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return -errno;
	(void)unlink(to);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (out < 0)
		return -errno;
	do {
		n = copy_file_range(in, NULL, out, NULL, 1024 * 1024 * 1024, 0);
	} while (n > 0);
	if (n < 0 && errno == EXDEV) {
		char chunk[16384];

		while ((n = read(in, chunk, sizeof(chunk))) > 0) {
			int r = write_all(out, chunk, (size_t)n);

			if (r < 0)
				return r;
		}
	}
	if (n < 0 || fsync(out) < 0)
		return -errno;
	return file_sync_parent(to);
}

/**
 * file_copy_range() - a stretch of one file or device to a place in another, durably
 * @to_flags: as of open(2); what is made has mode 0600
 *
 * Return: 0, -EIO (@from ends before) or -errno.
 */
int file_copy_range(const char *from, uint64_t from_bytes, const char *to, uint64_t to_bytes,
		    uint64_t size_bytes, int to_flags)
{
	_cleanup_(freep) char *chunk = malloc(COPY_CHUNK_BYTES);
	_cleanup_(closep) int in = -EBADF, out = -EBADF;

	if (!chunk)
		return -ENOMEM;
	in = open(from, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return -errno;
	out = open(to, to_flags | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	while (size_bytes > 0) {
		size_t want = size_bytes < COPY_CHUNK_BYTES ? (size_t)size_bytes : COPY_CHUNK_BYTES;
		ssize_t n = pread(in, chunk, want, (off_t)from_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		for (ssize_t written = 0; written < n;) {
			ssize_t m = pwrite(out, chunk + written, (size_t)(n - written),
					   (off_t)to_bytes + written);

			if (m < 0 && errno == EINTR)
				continue;
			if (m < 0)
				return -errno;
			written += m;
		}
		from_bytes += (uint64_t)n;
		to_bytes += (uint64_t)n;
		size_bytes -= (uint64_t)n;
	}
	return fsync(out) < 0 ? -errno : 0;
}

/** file_remove_durably() - unlink and fsync the folder; absent is fine. Return: 0 or -errno. */
int file_remove_durably(const char *path)
{
	if (unlink(path) < 0)
		return errno == ENOENT ? 0 : -errno;
	return file_sync_parent(path);
}

/**
 * file_lock() - wait for an exclusive lock, made if absent
 * @ret_fd: close it to let go
 *
 * Return: 0 or -errno.
 */
int file_lock(const char *path, int *ret_fd)
{
	_cleanup_(closep) int fd = -EBADF;

	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return -errno;
	*ret_fd = steal_fd(fd);
	return 0;
}

/** file_sync_path() - fsync what a path names, file, folder or block device. Return: 0 or -errno.
 */
int file_sync_path(const char *path)
{
	_cleanup_(closep) int fd = -EBADF;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

int file_sync_parent(const char *path)
{
	_cleanup_(freep) char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	return file_sync_path(dirname(copy));
}

/**
 * directory_make() - a folder and its parents
 * @mode: of the last one when it is made; parents get 0755
 *
 * Return: 0 (also when it is there already) or -errno.
 */
int directory_make(const char *path, mode_t mode)
{
	_cleanup_(freep) char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	if (mkdir(copy, mode) < 0)
		return errno == EEXIST ? 0 : -errno;
	return file_sync_parent(copy);
}

/** directory_free_bytes() - what root can still write there. Return: 0 or -errno. */
int directory_free_bytes(const char *path, uint64_t *ret_bytes)
{
	struct statvfs fs;

	if (statvfs(path, &fs) < 0)
		return -errno;
	*ret_bytes = (uint64_t)fs.f_bfree * fs.f_frsize;
	return 0;
}

/**
 * number_parse_u64() - decimal digits only, in a range
 *
 * Return: 0, -EINVAL (empty, sign, blanks, other characters) or -ERANGE.
 */
int number_parse_u64(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret)
{
	uint64_t value = 0;

	if (!text || !*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return -ERANGE;
	}
	if (value < minimum || value > maximum)
		return -ERANGE;
	*ret = value;
	return 0;
}

/** text_copy() - a copy, or NULL for NULL. Return: 0 or -ENOMEM. */
int text_copy(const char *from, char **ret)
{
	*ret = from ? strdup(from) : NULL;
	return from && !*ret ? -ENOMEM : 0;
}

/** text_format() - a new string. Return: 0 or -ENOMEM, and then @ret is untouched. */
int text_format(char **ret, const char *format, ...)
{
	va_list arguments;
	char *text;
	int n;

	va_start(arguments, format);
	n = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (n < 0)
		return -ENOMEM;
	*ret = text;
	return 0;
}

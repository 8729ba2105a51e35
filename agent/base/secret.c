/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

struct secret {
	uint8_t *pages;     /* its own mapping, locked */
	size_t pages_bytes; /* multiple of the page size */
	size_t capacity_bytes;
	size_t size_bytes;
};

static size_t round_to_pages(size_t size_bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (size_bytes + page - 1) / page * page;
}

/**
 * secret_new() - room for a secret in locked, undumpable, fork-wiped pages
 * @capacity_bytes: 1..SECRET_MAX_BYTES; size starts at 0
 * @ret:            owned by the caller, free with secret_free()
 *
 * Any protection that the kernel refuses is an error: a secret that may be swapped is no secret.
 *
 * Return: 0, -EINVAL, -ENOMEM (also RLIMIT_MEMLOCK), or -errno.
 * Source: mlock(2), madvise(2) MADV_DONTDUMP, MADV_WIPEONFORK.
 */
int secret_new(size_t capacity_bytes, struct secret **ret)
{
	struct secret *secret;
	size_t pages_bytes;
	void *pages;
	int r;

	if (capacity_bytes == 0 || capacity_bytes > SECRET_MAX_BYTES)
		return -EINVAL;

	secret = calloc(1, sizeof(*secret));
	if (!secret)
		return -ENOMEM;

	pages_bytes = round_to_pages(capacity_bytes);
	pages = mmap(NULL, pages_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED) {
		r = -errno;
		free(secret);
		return r;
	}
	if (mlock(pages, pages_bytes) < 0 || madvise(pages, pages_bytes, MADV_DONTDUMP) < 0 ||
	    madvise(pages, pages_bytes, MADV_WIPEONFORK) < 0) {
		r = -errno;
		(void)munmap(pages, pages_bytes);
		free(secret);
		return r;
	}

	secret->pages = pages;
	secret->pages_bytes = pages_bytes;
	secret->capacity_bytes = capacity_bytes;
	*ret = secret;
	return 0;
}

/**
 * secret_new_random() - a secret of random bytes from the kernel
 * @size_bytes: 1..256 (getrandom() gives up to 256 bytes without interruption)
 *
 * Return: 0, -EINVAL or -errno.
 */
int secret_new_random(size_t size_bytes, struct secret **ret)
{
	struct secret *secret;
	int r;

	if (size_bytes == 0 || size_bytes > 256)
		return -EINVAL;
	r = secret_new(size_bytes, &secret);
	if (r < 0)
		return r;
	if (getrandom(secret->pages, size_bytes, 0) != (ssize_t)size_bytes) {
		r = errno > 0 ? -errno : -EIO;
		secret_free(secret);
		return r;
	}
	secret->size_bytes = size_bytes;
	*ret = secret;
	return 0;
}

/** secret_free() - wipe, unlock, unmap; NULL is fine. Return: NULL. */
struct secret *secret_free(struct secret *secret)
{
	if (!secret)
		return NULL;
	explicit_bzero(secret->pages, secret->pages_bytes);
	(void)munlock(secret->pages, secret->pages_bytes);
	(void)munmap(secret->pages, secret->pages_bytes);
	explicit_bzero(secret, sizeof(*secret));
	free(secret);
	return NULL;
}

void secret_freep(struct secret **secret)
{
	secret_free(*secret);
}

uint8_t *secret_bytes(struct secret *secret)
{
	return secret->pages;
}

const uint8_t *secret_bytes_const(const struct secret *secret)
{
	return secret->pages;
}

size_t secret_size(const struct secret *secret)
{
	return secret->size_bytes;
}

size_t secret_capacity(const struct secret *secret)
{
	return secret->capacity_bytes;
}

/** secret_set_size() - say how many bytes were written; what lies beyond is wiped */
void secret_set_size(struct secret *secret, size_t size_bytes)
{
	if (size_bytes > secret->capacity_bytes)
		abort();
	explicit_bzero(secret->pages + size_bytes, secret->pages_bytes - size_bytes);
	secret->size_bytes = size_bytes;
}

/** secret_append() - add bytes at the end. Return: 0, or -ENOBUFS and unchanged. */
int secret_append(struct secret *secret, const void *bytes, size_t size_bytes)
{
	if (size_bytes > secret->capacity_bytes - secret->size_bytes)
		return -ENOBUFS;
	memcpy(secret->pages + secret->size_bytes, bytes, size_bytes);
	secret->size_bytes += size_bytes;
	return 0;
}

/** secret_equal() - compare in a time that depends on the sizes only */
bool secret_equal(const struct secret *a, const struct secret *b)
{
	uint8_t difference = 0;

	if (a->size_bytes != b->size_bytes)
		return false;
	for (size_t i = 0; i < a->size_bytes; i++)
		difference |= (uint8_t)(a->pages[i] ^ b->pages[i]);
	return difference == 0;
}

static int read_some(int fd, struct secret *secret, size_t upto_bytes)
{
	while (secret->size_bytes < upto_bytes) {
		ssize_t n;

		n = read(fd, secret->pages + secret->size_bytes, upto_bytes - secret->size_bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		secret->size_bytes += (size_t)n;
	}
	return 0;
}

/**
 * secret_read_fd() - read exactly @size_bytes
 *
 * Return: 0, -EBADMSG when the other side ended early, or -errno.
 */
int secret_read_fd(int fd, size_t size_bytes, struct secret **ret)
{
	struct secret *secret;
	int r;

	r = secret_new(size_bytes, &secret);
	if (r < 0)
		return r;
	r = read_some(fd, secret, size_bytes);
	if (r == 0 && secret->size_bytes != size_bytes)
		r = -EBADMSG;
	if (r < 0) {
		secret_free(secret);
		return r;
	}
	*ret = secret;
	return 0;
}

/**
 * secret_read_fd_to_end() - read until end of file
 * @max_bytes: 1..SECRET_MAX_BYTES - 1
 *
 * Return: 0, -EFBIG when there is more, -ENODATA when there is nothing, or -errno.
 */
int secret_read_fd_to_end(int fd, size_t max_bytes, struct secret **ret)
{
	struct secret *secret;
	int r;

	r = secret_new(max_bytes + 1, &secret);
	if (r < 0)
		return r;
	r = read_some(fd, secret, max_bytes + 1);
	if (r == 0 && secret->size_bytes > max_bytes)
		r = -EFBIG;
	if (r == 0 && secret->size_bytes == 0)
		r = -ENODATA;
	if (r < 0) {
		secret_free(secret);
		return r;
	}
	*ret = secret;
	return 0;
}

/** secret_write_fd() - write all bytes. Return: 0 or -errno. */
int secret_write_fd(int fd, const struct secret *secret)
{
	size_t done = 0;

	while (done < secret->size_bytes) {
		ssize_t n;

		n = write(fd, secret->pages + done, secret->size_bytes - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

/**
 * secret_process_harden() - no core dump, no ptrace by others, all memory locked
 *
 * For the programs that hold secrets: libraries keep copies that we cannot wipe, so that the whole
 * process is kept out of swap and dumps.
 *
 * Return: 0 or -errno (-ENOMEM or -EPERM: raise LimitMEMLOCK=).
 */
int secret_process_harden(void)
{
	const struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		return -errno;
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* the place at a volume's head: header_commit() */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/header.h"
#include "volume/luks.h"
#include "volume/segments.h"

#define SECTOR_BYTES 512
/* Both header copies (of 16 KiB each by default, 64 KiB at most as we make them) and, below them,
 * the superblocks by which ext, xfs and btrfs (64 KiB) are known. Written last, whole. */
#define COPIES_BYTES                                                                               \
	(32 * 1024) /* both header copies: 16 KiB each, the format's default, which we use */
#define CREST_BYTES (128ULL * 1024)
#define CHUNK_BYTES (1024ULL * 1024)

struct buffer {
	uint8_t *bytes;
	size_t size_bytes;
};

static void buffer_unmap(struct buffer *buffer)
{
	if (buffer->bytes)
		(void)munmap(buffer->bytes, buffer->size_bytes);
}

static int buffer_map(size_t size_bytes, struct buffer *ret)
{
	void *pages =
		mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return -errno;
	*ret = (struct buffer){ .bytes = pages, .size_bytes = size_bytes };
	return 0;
}

/* Return: 0, or -errno; -ENODATA when the file ends before. */
static int read_at(int fd, void *to, size_t size_bytes, uint64_t offset_bytes)
{
	uint8_t *at = to;

	while (size_bytes > 0) {
		ssize_t n = pread(fd, at, size_bytes, (off_t)offset_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		at += n;
		offset_bytes += (uint64_t)n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

static int write_at(int fd, const void *from, size_t size_bytes, uint64_t offset_bytes)
{
	const uint8_t *at = from;

	while (size_bytes > 0) {
		ssize_t n = pwrite(fd, at, size_bytes, (off_t)offset_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		offset_bytes += (uint64_t)n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

static int read_header_file(const char *file, struct buffer *header)
{
	_cleanup_(closep) int fd = -EBADF;
	uint64_t size_bytes;
	int r;

	r = header_device_bytes(file, &size_bytes);
	if (r < 0)
		return r;
	if (size_bytes > header->size_bytes)
		return -EFBIG;
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* a shorter file leaves zeros behind it: nothing of the old data may stay at the head */
	return read_at(fd, header->bytes, (size_t)size_bytes, 0);
}

static bool is_zero(const uint8_t *bytes, size_t size_bytes)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size_bytes - 1) == 0;
}

/*
 * Each sector at the head must be the one that was parked at the tail (untouched since), or what a
 * commit that was cut has left: zeros in the crest, or the header's own. Anything else has been
 * written by somebody after the first segment was parked, and would be lost.
 */
static int compare_with_parked(int fd, uint64_t parked_offset_bytes, const struct buffer *header)
{
	_cleanup_(buffer_unmap) struct buffer chunks = { 0 };
	uint8_t *head, *parked;
	int r;

	r = buffer_map(2 * CHUNK_BYTES, &chunks);
	if (r < 0)
		return r;
	head = chunks.bytes;
	parked = chunks.bytes + CHUNK_BYTES;
	for (uint64_t at = 0; at < header->size_bytes; at += CHUNK_BYTES) {
		r = read_at(fd, head, CHUNK_BYTES, at);
		if (r == 0)
			r = read_at(fd, parked, CHUNK_BYTES, parked_offset_bytes + at);
		if (r < 0)
			return r;
		for (uint64_t i = 0; i < CHUNK_BYTES; i += SECTOR_BYTES) {
			if (memcmp(head + i, parked + i, SECTOR_BYTES) == 0 ||
			    memcmp(head + i, header->bytes + at + i, SECTOR_BYTES) == 0 ||
			    (at + i < CREST_BYTES && is_zero(head + i, SECTOR_BYTES)))
				continue;
			log_debug("Sector %llu differs from the parked copy.",
				  (unsigned long long)((at + i) / SECTOR_BYTES));
			return HEADER_E_STALE;
		}
	}
	return 0;
}

static int write_flushed(int fd, const uint8_t *bytes, uint64_t from_bytes, uint64_t to_bytes)
{
	int r;

	r = write_at(fd, bytes + from_bytes, to_bytes - from_bytes, from_bytes);
	if (r < 0)
		return r;
	return fsync(fd) < 0 ? -errno : 0;
}

static int put_in_place(int fd, const struct buffer *header)
{
	static const uint8_t zeros[CREST_BYTES];
	int r;

	r = write_flushed(fd, zeros, 0, CREST_BYTES);
	/* the keyslots begin right behind the two copies: a header must not be seen before they are
	 * whole */
	if (r == 0)
		r = write_flushed(fd, header->bytes, COPIES_BYTES, header->size_bytes);
	if (r == 0)
		r = write_flushed(fd, header->bytes, 0, COPIES_BYTES);
	return r;
}

/* What the device's head holds beside what the file says. Return: 0 = free for the header, 1 = it
 * is there already, HEADER_E_ALREADY, or -errno. */
static int look_at_head(const char *device, const char *uuid, const char *json)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	const char *present;
	int r;

	r = luks_open(device, NULL, &cd);
	if (r == HEADER_E_FOREIGN)
		return HEADER_E_ALREADY;
	/* MALFORMED: a signature and no whole header, as the last write leaves it when it is cut */
	if (r != 0)
		return r < 0 ? r : 0;
	if (strcmp(crypt_get_uuid(cd), uuid) != 0)
		return HEADER_E_ALREADY;
	r = crypt_dump_json(cd, &present, 0);
	if (r < 0)
		return r;
	return strcmp(present, json) == 0 ? 1 : HEADER_E_ALREADY;
}

/**
 * header_commit() - put a built header at the head of its device
 * @device: not in use
 * @file:   attached header: built for a new filesystem, or initialised for the data that is there
 *
 * The order makes half a header impossible: the first 128 KiB, which hold the old filesystem's
 * superblock, are zeroed and flushed; then the keyslots are written and flushed; then the two
 * header copies. A power cut leaves, in this order, the old data untouched; a device that nothing
 * recognises (the file has all that is needed: call this again); or the header. What is there
 * already is left alone, so that calling it again is always right; a header that has moved on since
 * (data was converted) is never overwritten.
 *
 * Before the first write, the head is compared with its parked copy (HEADER_E_STALE): a file that
 * was initialised before the filesystem was mounted once more would bring old data back.
 *
 * Cost: 32 MiB read, 16 MiB written, 3 flushes.
 *
 * Return: 0; HEADER_E_ALREADY (another LUKS header, or this one further on), HEADER_E_STALE,
 * HEADER_E_BUSY; HEADER_E_NONE, HEADER_E_FOREIGN or HEADER_E_MALFORMED (the file); or -errno.
 */
int header_commit(const char *device, const char *file)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	_cleanup_(buffer_unmap) struct buffer header = { 0 };
	_cleanup_(closep) int fd = -EBADF;
	struct segments segments;
	const char *text;
	int r;

	r = luks_open(device, file, &cd);
	if (r != 0)
		return r;
	if (crypt_get_data_offset(cd) != HEADER_SHIFT_BYTES / SECTOR_BYTES)
		return -EINVAL;
	r = luks_segments(cd, device, &segments);
	if (r == 0)
		r = crypt_dump_json(cd, &text, 0);
	if (r < 0)
		return r;
	if (segments.is_decrypting || (crypt_reencrypt_status(cd, NULL) == CRYPT_REENCRYPT_CLEAN) !=
					      (segments.moved_offset_bytes != 0))
		return -EINVAL;

	r = look_at_head(device, crypt_get_uuid(cd), text);
	if (r == 1)
		return file_sync_path(device);
	if (r != 0)
		return r;
	r = buffer_map(HEADER_SHIFT_BYTES, &header);
	if (r == 0)
		r = read_header_file(file, &header);
	if (r == 0)
		r = luks_open_exclusive(device, &fd);
	if (r == 0 && segments.moved_offset_bytes != 0)
		r = compare_with_parked(fd, segments.moved_offset_bytes, &header);
	if (r != 0)
		return r;
	return put_in_place(fd, &header);
}

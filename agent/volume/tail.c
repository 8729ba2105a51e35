/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a power cut can leave, and what tail_finish() makes of it:
 *
 *   record   superblock   the cut came                          so
 *   -        whole        before, or after all                  nothing
 *   yes      whole        while the tools worked: nothing that  the record goes
 *                         is in use has been touched; or at the
 *                         very end: all is merged
 *   yes      sealed       after the seal                        merged (again), unsealed
 *   -        sealed       never                                 refused
 *
 * The record lies in the last 4 KiB of the device and says where the store is. It is durable before
 * the seal and goes after the unseal. The seal changes four bytes of one sector, so it cannot be
 * torn; the superblock within the overlay is sealed first, so the merge brings no whole one.
 */
#include "volume/tail.h"

#include <endian.h>
#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/bootmap.h"
#include "volume/cow.h"
#include "volume/filesystem.h"
#include "volume/format.h"
#include "volume/geometry.h"

/* ext4: Documentation/filesystems/ext4/super.rst; the superblock lies at 1024 */
#define CHUNK_BYTES   COW_CHUNK_BYTES
#define SUPERBLOCK_AT 1024
#define MAGIC_AT      (SUPERBLOCK_AT + 0x38)
#define RO_COMPAT_AT  (SUPERBLOCK_AT + 0x64)
#define UUID_AT       (SUPERBLOCK_AT + 0x68)
#define CHECKSUM_AT   (SUPERBLOCK_AT + 0x3fc)
#define HAS_CHECKSUM  0x0400
#define SEAL          0x72636d76 /* what the checksum is then off by */
#define UUID_BYTES    16

/* What the tools change besides the blocks that they move: see overlay.c */
#define CHANGES_BYTES   (16ULL * 1024 * 1024)
#define CHUNKS_OF_GROUP 4

#define RECORD_MAGIC "vmcrypt tail 1\n"

/* in the last chunk of the device; little-endian; zeros behind */
struct record {
	char magic[16];
	uint8_t uuid[UUID_BYTES];
	uint64_t device_bytes, offset_bytes, length_bytes;
	uint32_t zero, checksum; /* CRC-32C of all before */
};

/* What a persistent store lists: struct disk_exception of drivers/md/dm-snap-persistent.c */
struct exception {
	uint64_t old_chunk, new_chunk;
};

struct tail {
	const char *device;
	uint64_t device_bytes; /* of whole chunks */
	char *name, *store_name, *path, *store_path;
};

enum state {
	STATE_OTHER, /* no ext filesystem with a checksum, or a damaged one */
	STATE_WHOLE,
	STATE_SEALED,
};

static void tail_clear(struct tail *tail)
{
	free(tail->name);
	free(tail->store_name);
	free(tail->path);
	free(tail->store_path);
}

static int condition_of(int r)
{
	switch (r) {
	case COW_E_NO_TARGET:
		return TAIL_E_NO_TARGET;
	case COW_E_BUSY:
		return TAIL_E_BUSY;
	case COW_E_NO_ROOM:
	case COW_E_FULL:
		return TAIL_E_NO_ROOM;
	default:
		return r;
	}
}

/** tail_sentence() - a condition for a person */
const char *tail_sentence(int condition)
{
	switch (condition) {
	case TAIL_E_NO_ROOM:
		return "the end of the filesystem is in use";
	case TAIL_E_BOOT_MOVES:
		return "files of /boot lie at the end of the filesystem";
	case TAIL_E_BUSY:
		return "it is in use";
	case TAIL_E_NO_TARGET:
		return "the kernel has no dm-snapshot";
	case TAIL_E_UNSUPPORTED:
		return "it is no ext4 filesystem with checksums (feature metadata_csum)";
	case TAIL_E_UNCLEAN:
		return "the filesystem has errors";
	case TAIL_E_LOST:
		return "it was being made smaller, and the changes that are missing are lost";
	default:
		return strerror(condition < 0 ? -condition : EIO);
	}
}

/* Whole chunks, past the page cache: the kernel merges past it, too. */
static int read_chunk(int fd, uint64_t offset_bytes, uint8_t *chunk)
{
	ssize_t n = pread(fd, chunk, CHUNK_BYTES, (off_t)offset_bytes);

	if (n < 0)
		return -errno;
	return n == CHUNK_BYTES ? 0 : -EBADMSG;
}

static int write_chunk(int fd, uint64_t offset_bytes, const uint8_t *chunk)
{
	ssize_t n = pwrite(fd, chunk, CHUNK_BYTES, (off_t)offset_bytes);

	if (n != CHUNK_BYTES)
		return n < 0 ? -errno : -EIO;
	return fsync(fd) < 0 ? -errno : 0;
}

static int write_chunk_of(const char *device, uint64_t offset_bytes, const uint8_t *chunk)
{
	_cleanup_(closep) int fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);

	return fd < 0 ? -errno : write_chunk(fd, offset_bytes, chunk);
}

static uint32_t le32_at(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return le32toh(value);
}

static bool has_checksum(const uint8_t *head)
{
	return head[MAGIC_AT] == 0x53 && head[MAGIC_AT + 1] == 0xef &&
	       (le32_at(head + RO_COMPAT_AT) & HAS_CHECKSUM);
}

static enum state state_of(const uint8_t *head)
{
	uint32_t is, should;

	if (!has_checksum(head))
		return STATE_OTHER;
	is = le32_at(head + CHECKSUM_AT);
	should = ext2fs_crc32c_le(~0U, head + SUPERBLOCK_AT, CHECKSUM_AT - SUPERBLOCK_AT);
	if (is == should)
		return STATE_WHOLE;
	return is == (should ^ SEAL) ? STATE_SEALED : STATE_OTHER;
}

/* Four bytes change, all others are written as they were. */
static int set_state(const char *path, enum state to)
{
	_Alignas(CHUNK_BYTES) uint8_t head[CHUNK_BYTES];
	_cleanup_(closep) int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	enum state from;
	uint32_t checksum;
	int r;

	if (fd < 0)
		return -errno;
	r = read_chunk(fd, 0, head);
	if (r < 0)
		return r;
	from = state_of(head);
	if (from == STATE_OTHER)
		return -EBADMSG;
	if (from == to)
		return fsync(fd) < 0 ? -errno : 0;
	checksum = htole32(le32_at(head + CHECKSUM_AT) ^ SEAL);
	memcpy(head + CHECKSUM_AT, &checksum, sizeof(checksum));
	return write_chunk(fd, 0, head);
}

static uint32_t checksum_of(const struct record *record)
{
	return ext2fs_crc32c_le(~0U, (const unsigned char *)record,
				offsetof(struct record, checksum));
}

static uint64_t record_at(const struct tail *tail)
{
	return tail->device_bytes - CHUNK_BYTES;
}

/* Return: whether there is one that belongs to this filesystem. */
static bool parse_record(const struct tail *tail, const uint8_t *chunk, const uint8_t *uuid,
			 struct record *ret)
{
	memcpy(ret, chunk, sizeof(*ret));
	if (memcmp(ret->magic, RECORD_MAGIC, sizeof(RECORD_MAGIC)) != 0 ||
	    memcmp(ret->uuid, uuid, UUID_BYTES) != 0 ||
	    le32toh(ret->checksum) != checksum_of(ret) ||
	    le64toh(ret->device_bytes) != tail->device_bytes)
		return false;
	ret->offset_bytes = le64toh(ret->offset_bytes);
	ret->length_bytes = le64toh(ret->length_bytes);
	return ret->offset_bytes % CHUNK_BYTES == 0 && ret->length_bytes % CHUNK_BYTES == 0 &&
	       ret->length_bytes > 0 && ret->offset_bytes < record_at(tail) &&
	       ret->length_bytes <= record_at(tail) - ret->offset_bytes;
}

static int drop_record(const struct tail *tail)
{
	_Alignas(CHUNK_BYTES) static const uint8_t zeros[CHUNK_BYTES];

	return write_chunk_of(tail->device, record_at(tail), zeros);
}

/* An empty store, and then the record that names it. */
static int write_record(const struct tail *tail, const uint8_t *uuid,
			const struct bootmap_free *place)
{
	_Alignas(CHUNK_BYTES) uint8_t chunk[CHUNK_BYTES] = { 0 };
	struct record record = {
		.magic = RECORD_MAGIC,
		.device_bytes = htole64(tail->device_bytes),
		.offset_bytes = htole64(place->offset_bytes),
		.length_bytes = htole64(place->length_bytes),
	};
	int r;

	r = write_chunk_of(tail->device, place->offset_bytes, chunk);
	if (r < 0)
		return r;
	memcpy(record.uuid, uuid, UUID_BYTES);
	record.checksum = htole32(checksum_of(&record));
	memcpy(chunk, &record, sizeof(record));
	return write_chunk_of(tail->device, record_at(tail), chunk);
}

/* Names by the filesystem's UUID; not by "vmcrypt-", since so are the mappings of volumes. */
static int tail_init(struct tail *tail, const char *device, uint8_t *ret_head)
{
	_cleanup_(closep) int fd = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
	char text[2 * UUID_BYTES + 1];
	int r;

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &tail->device_bytes) < 0)
		return -errno;
	tail->device = device;
	tail->device_bytes -= tail->device_bytes % CHUNK_BYTES;
	if (tail->device_bytes < 2 * CHUNK_BYTES)
		return -ENOSPC;
	r = read_chunk(fd, 0, ret_head);
	for (size_t i = 0; i < UUID_BYTES; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", ret_head[UUID_AT + i]);
	if (r == 0)
		r = text_format(&tail->name, "vmcryptpart-%s", text);
	if (r == 0)
		r = text_format(&tail->store_name, "vmcryptpart-%s-store", text);
	if (r == 0)
		r = cow_path(tail->name, &tail->path);
	return r < 0 ? r : cow_path(tail->store_name, &tail->store_path);
}

static int close_mappings(const struct tail *tail)
{
	int r = cow_close(tail->name);

	return r == 0 ? cow_close(tail->store_name) : r;
}

/* The device is sealed: onwards. The store is there as a mapping. */
static int merge(const struct tail *tail)
{
	int r;

	r = cow_merge(tail->name, tail->device, tail->store_path);
	if (r == 0)
		r = cow_close(tail->store_name);
	if (r != 0)
		return condition_of(r);
	log_debug("Tail %s: merged.", tail->name);
	r = set_state(tail->device, STATE_WHOLE);
	return r < 0 ? r : drop_record(tail);
}

/**
 * tail_finish() - what a power cut has left of tail_shrink() goes, or is merged to its end
 *
 * Idempotent, and cheap when there is nothing to do. To be called before anything looks at the
 * filesystem.
 *
 * Return: 0, TAIL_E_BUSY, TAIL_E_NO_TARGET, TAIL_E_LOST or -errno; unless 0, the device is as it
 * was left.
 */
int tail_finish(const char *device)
{
	_Alignas(CHUNK_BYTES) uint8_t head[CHUNK_BYTES], chunk[CHUNK_BYTES];
	_cleanup_(tail_clear) struct tail tail = { 0 };
	_cleanup_(closep) int fd = -EBADF;
	struct record record;
	enum state state;
	bool is_valid;
	int r;

	r = tail_init(&tail, device, head);
	if (r < 0)
		return r;
	state = state_of(head);
	if (state == STATE_OTHER)
		return 0;
	fd = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
	r = fd < 0 ? -errno : read_chunk(fd, record_at(&tail), chunk);
	if (r < 0)
		return r;
	if (!parse_record(&tail, chunk, head + UUID_AT, &record))
		return state == STATE_SEALED ? TAIL_E_LOST : 0;
	/* of a worker that died without the machine */
	r = close_mappings(&tail);
	if (r != 0)
		return condition_of(r);
	if (state == STATE_WHOLE)
		return drop_record(&tail);
	r = cow_piece(tail.store_name, device, record.offset_bytes, record.length_bytes);
	if (r != 0)
		return condition_of(r);
	r = cow_is_valid(tail.store_path, &is_valid);
	if (r == 0)
		r = is_valid ? merge(&tail) : TAIL_E_LOST;
	if (r != 0)
		(void)cow_close(tail.store_name);
	return r;
}

/** tail_is_sealed() - must it be brought to its end before anything else? Return: 1, 0 or -errno.
 */
int tail_is_sealed(const char *device)
{
	_Alignas(CHUNK_BYTES) uint8_t head[CHUNK_BYTES];
	_cleanup_(closep) int fd = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
	int r = fd < 0 ? -errno : read_chunk(fd, 0, head);

	return r < 0 ? r : state_of(head) == STATE_SEALED;
}

static uint64_t needed_bytes(const struct geometry *geometry, const struct bootmap_free *place)
{
	uint64_t groups =
		geometry->bytes / (8 * (uint64_t)geometry->block_bytes * geometry->block_bytes) + 1;

	return place->used_bytes + place->used_bytes / 128 + CHANGES_BYTES +
	       groups * CHUNKS_OF_GROUP * CHUNK_BYTES;
}

/* Return: 0, TAIL_E_NO_ROOM, TAIL_E_BOOT_MOVES, TAIL_E_UNSUPPORTED or -errno. */
static int plan(const struct tail *tail, const uint8_t *head, uint64_t to_bytes, const char *folder,
		bool may_lower, struct bootmap_free *ret, struct bootmap *ret_map)
{
	struct geometry geometry;
	uint64_t from = (to_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES * CHUNK_BYTES;
	int r;

	/* of one that is mounted, it may be wrong for a moment */
	if (!has_checksum(head))
		return TAIL_E_UNSUPPORTED;
	r = geometry_read(tail->device, "ext4", &geometry);
	if (r < 0)
		return r;
	if (geometry.is_rigid || geometry.block_bytes > CHUNK_BYTES)
		return TAIL_E_UNSUPPORTED;
	if (from >= record_at(tail))
		return TAIL_E_NO_ROOM;
	r = bootmap_find_free(tail->device, from, tail->device_bytes, CHUNK_BYTES, ret);
	if (r == 0)
		r = bootmap_read(tail->device, folder, ret_map);
	if (r < 0)
		return r;
	if ((may_lower ? ret_map->folders_end_bytes : ret_map->end_bytes) > to_bytes)
		return TAIL_E_BOOT_MOVES;
	return ret->has_end && ret->length_bytes >= needed_bytes(&geometry, ret) ? 0
										 : TAIL_E_NO_ROOM;
}

/**
 * tail_can_shrink() - as things are now, would tail_shrink() go through? Changes nothing.
 * @device:    may be mounted; then the answer is an estimate
 * @may_lower: files of @folder that lie at the end do not count: lower_files() comes before
 *
 * Return: 0, TAIL_E_NO_ROOM, TAIL_E_BOOT_MOVES, TAIL_E_UNSUPPORTED or -errno.
 */
int tail_can_shrink(const char *device, uint64_t to_bytes, const char *folder, bool may_lower)
{
	_Alignas(CHUNK_BYTES) uint8_t head[CHUNK_BYTES];
	_cleanup_(tail_clear) struct tail tail = { 0 };
	struct bootmap_free place;
	struct bootmap map;
	int r = tail_init(&tail, device, head);

	return r < 0 ? r : plan(&tail, head, to_bytes, folder, may_lower, &place, &map);
}

/* Does a merge keep off the store and the record? The tools may have put something where nothing
 * was. Return: 0, TAIL_E_NO_ROOM or -errno. */
static int check_changes(const struct tail *tail, const struct bootmap_free *place)
{
	_Alignas(CHUNK_BYTES) uint8_t chunk[CHUNK_BYTES];
	const uint64_t per_area = CHUNK_BYTES / sizeof(struct exception);
	_cleanup_(closep) int fd = open(tail->store_path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	/* the head, then again and again a list and the chunks that it names */
	for (uint64_t area = 0; (1 + area * (per_area + 1)) * CHUNK_BYTES < place->length_bytes;
	     area++) {
		int r = read_chunk(fd, (1 + area * (per_area + 1)) * CHUNK_BYTES, chunk);

		for (size_t i = 0; r == 0 && i < per_area; i++) {
			struct exception exception;
			uint64_t at;

			memcpy(&exception, chunk + i * sizeof(exception), sizeof(exception));
			if (exception.new_chunk == 0)
				return 0;
			at = le64toh(exception.old_chunk) * CHUNK_BYTES;
			if (at == record_at(tail) ||
			    (at >= place->offset_bytes &&
			     at < place->offset_bytes + place->length_bytes))
				return TAIL_E_NO_ROOM;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int of_filesystem(int r)
{
	switch (r) {
	case FILESYSTEM_E_UNCLEAN:
		return TAIL_E_UNCLEAN;
	case FILESYSTEM_E_NO_ROOM:
		return TAIL_E_NO_ROOM;
	case FILESYSTEM_E_BUSY:
		return TAIL_E_BUSY;
	case FILESYSTEM_E_NO_TOOL:
		return -ENOPKG;
	case FILESYSTEM_E_UNSUPPORTED:
		return TAIL_E_UNSUPPORTED;
	default:
		return r;
	}
}

static int work(const struct tail *tail, uint64_t to_bytes, const char *folder,
		const struct bootmap *map, char **ret_detail)
{
	struct format_target within = { .device = tail->path,
					.type = "ext4",
					.detail = ret_detail };
	struct bootmap moved;
	int r;

	r = of_filesystem(ext_shrink_in_overlay(&within, to_bytes));
	/* what the tools then said was a consequence */
	if (r != 0 && cow_check(tail->name) == COW_E_FULL)
		return TAIL_E_NO_ROOM;
	if (r == 0)
		r = bootmap_read(tail->path, folder, &moved);
	if (r != 0)
		return r;
	return moved.digest == map->digest ? 0 : TAIL_E_BOOT_MOVES;
}

/* All is in the store, and flushed: from the seal on there is no way back. */
static int keep(const struct tail *tail, const struct bootmap_free *place)
{
	int r;

	r = set_state(tail->path, STATE_SEALED);
	if (r == 0)
		r = condition_of(cow_check(tail->name));
	if (r == 0)
		r = check_changes(tail, place);
	if (r != 0)
		return r;
	log_debug("Tail %s: complete.", tail->name);
	r = set_state(tail->device, STATE_SEALED);
	if (r < 0)
		return r;
	log_debug("Tail %s: sealed.", tail->name);
	r = cow_close(tail->name);
	return r != 0 ? condition_of(r) : merge(tail);
}

/**
 * tail_shrink() - make an ext4 filesystem smaller, with the changes kept at its own end meanwhile
 * @device:     not mounted
 * @to_bytes:   what it shall have at most
 * @folder:     "/boot": what a boot loader must find at any moment
 * @ret_detail: a tool's own words, or NULL; owned by the caller
 *
 * Finishes first what was left of an earlier try.
 *
 * Return: 0 (also when it is as small already), TAIL_E_* or -errno; unless 0, it is as before, or
 * sealed until tail_finish() gets through.
 */
int tail_shrink(const char *device, uint64_t to_bytes, const char *folder, char **ret_detail)
{
	_Alignas(CHUNK_BYTES) uint8_t head[CHUNK_BYTES];
	_cleanup_(tail_clear) struct tail tail = { 0 };
	const struct format_target target = { .device = device,
					      .type = "ext4",
					      .detail = ret_detail };
	struct geometry geometry;
	struct bootmap_free place;
	struct bootmap map;
	int r;

	*ret_detail = NULL;
	r = tail_finish(device);
	if (r == 0)
		r = geometry_read(device, "ext4", &geometry);
	if (r == 0 && geometry.bytes <= to_bytes)
		return 0;
	if (r == 0 && geometry.has_errors)
		return TAIL_E_UNCLEAN;
	if (r == 0 && geometry.needs_recovery)
		r = of_filesystem(ext_replay_journal(&target));
	/* what follows is written to blocks that its bitmaps call free */
	if (r == 0)
		r = of_filesystem(ext_repair(&target));
	if (r == 0)
		r = tail_init(&tail, device, head);
	if (r == 0 && state_of(head) != STATE_WHOLE)
		r = TAIL_E_UNSUPPORTED;
	if (r == 0)
		r = plan(&tail, head, to_bytes, folder, false, &place, &map);
	if (r == 0)
		r = write_record(&tail, head + UUID_AT, &place);
	if (r != 0)
		return r;
	r = condition_of(
		cow_piece(tail.store_name, device, place.offset_bytes, place.length_bytes));
	if (r == 0)
		r = condition_of(cow_open(tail.name, device, tail.store_path));
	if (r == 0)
		r = work(&tail, to_bytes, folder, &map, ret_detail);
	if (r == 0)
		r = keep(&tail, &place);
	/* not sealed: it was for nothing, and nobody has seen it */
	if (r != 0 && close_mappings(&tail) == 0)
		(void)tail_finish(device);
	return r;
}

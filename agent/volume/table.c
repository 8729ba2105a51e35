/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "volume/blkpg.h"
#include "volume/tabledisk.h"

#define GPT_ENTRY_BYTES 128           /* UEFI specification, 5.3.2; larger ones are not in use */
#define MBR_LAST_SECTOR UINT32_MAX    /* 32 bits for start and for length */
#define GRAIN_BYTES     (1024 * 1024) /* where partitions end by custom */
#define FINE_BYTES      4096          /* what a size must be a multiple of, for 4096-byte sectors */

/* Where a partition lies, in sectors. */
struct span {
	uint64_t start, end; /* first and last sector */
	uint64_t limit;      /* the last sector that it could have */
	unsigned long sector_bytes;
};

static void scriptp(struct fdisk_script **script)
{
	if (*script)
		fdisk_unref_script(*script);
}

/**
 * table_dump() - the whole table as sfdisk --dump writes it and sfdisk reads it back
 * @ret_text: owned by the caller
 *
 * Return: 0, TABLE_E_UNSUPPORTED (no table there) or -errno.
 */
int table_dump(const char *disk, char **ret_text)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	_cleanup_(scriptp) struct fdisk_script *script = NULL;
	_cleanup_(freep) char *text = NULL;
	FILE *stream;
	size_t size_bytes;
	int r;

	r = tabledisk_open(disk, 1, &context);
	if (r < 0)
		return r;
	if (!fdisk_has_label(context))
		return TABLE_E_UNSUPPORTED;
	script = fdisk_new_script(context);
	if (!script)
		return -ENOMEM;
	r = fdisk_script_read_context(script, NULL);
	if (r < 0)
		return r;
	stream = open_memstream(&text, &size_bytes);
	if (!stream)
		return -ENOMEM;
	r = fdisk_script_write_file(script, stream);
	if (fclose(stream) != 0 && r == 0)
		r = -ENOMEM;
	if (r < 0)
		return r;
	*ret_text = steal(text);
	return 0;
}

/* The last sector that partitions may have. On a disk that the cloud has made larger, GPT's second
 * header still lies at the old end; libfdisk moves it when it writes. */
static uint64_t last_sector(struct fdisk_context *context)
{
	uint64_t last = fdisk_get_last_lba(context), n = fdisk_get_nsectors(context);
	unsigned long sector_bytes = fdisk_get_sector_size(context);

	if (fdisk_is_label(context, GPT)) {
		uint64_t entries =
			(fdisk_get_npartitions(context) * GPT_ENTRY_BYTES + sector_bytes - 1) /
			sector_bytes;

		if (n > entries + 2 && last < n - entries - 2)
			last = n - entries - 2;
	} else if (last > MBR_LAST_SECTOR - 1) {
		last = MBR_LAST_SECTOR - 1;
	}
	return last;
}

static int find_limit(struct fdisk_context *context, struct span *span)
{
	_cleanup_(tabledisk_tablep) struct fdisk_table *table = NULL;
	_cleanup_(tabledisk_iteratorp) struct fdisk_iter *iterator =
		fdisk_new_iter(FDISK_ITER_FORWARD);
	struct fdisk_partition *other;
	int r;

	if (!iterator)
		return -ENOMEM;
	r = fdisk_get_partitions(context, &table);
	if (r < 0)
		return r;
	span->limit = last_sector(context);
	while (fdisk_table_next_partition(table, iterator, &other) == 0) {
		uint64_t start;

		if (!fdisk_partition_is_used(other) || !fdisk_partition_has_start(other))
			continue;
		start = fdisk_partition_get_start(other);
		if (start > span->start && start - 1 < span->limit)
			span->limit = start - 1;
		/* tables are not always what they should be */
		if (start > span->start && start <= span->end)
			return TABLE_E_UNSUPPORTED;
	}
	return span->limit > span->end ? 0 : TABLE_E_NO_GAP;
}

static int find_span(struct fdisk_context *context, unsigned number, struct span *ret)
{
	_cleanup_(tabledisk_partitionp) struct fdisk_partition *partition = NULL;
	int r;

	if (!fdisk_is_label(context, GPT) && !fdisk_is_label(context, DOS))
		return TABLE_E_UNSUPPORTED;
	if (number == 0 || fdisk_get_partition(context, number - 1, &partition) < 0)
		return -ENXIO;
	if (!fdisk_partition_is_used(partition) || !fdisk_partition_has_start(partition) ||
	    !fdisk_partition_has_end(partition))
		return -ENXIO;
	/* logical partitions lie in a chain of tables in between */
	if (fdisk_partition_is_nested(partition) || fdisk_partition_is_container(partition))
		return TABLE_E_UNSUPPORTED;
	ret->sector_bytes = fdisk_get_sector_size(context);
	ret->start = fdisk_partition_get_start(partition);
	ret->end = fdisk_partition_get_end(partition);
	if (ret->sector_bytes == 0 || ret->end < ret->start)
		return TABLE_E_UNSUPPORTED;
	r = find_limit(context, ret);
	return r;
}

/**
 * table_gap() - how much a partition could grow; changes nothing
 * @number: from 1, as the kernel counts
 *
 * Return: 0, TABLE_E_NO_GAP, TABLE_E_UNSUPPORTED, -ENXIO (no such partition) or -errno.
 */
int table_gap(const char *disk, unsigned number, uint64_t *ret_bytes)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	struct span span;
	int r;

	r = tabledisk_open(disk, 1, &context);
	if (r == 0)
		r = find_span(context, number, &span);
	if (r != 0)
		return r;
	*ret_bytes = (span.limit - span.end) * span.sector_bytes;
	return 0;
}

/* A size that ends where partitions end by custom if there is room, in sectors; 0 = does not fit.
 */
static uint64_t choose_sectors(const struct span *span, uint64_t by_bytes)
{
	uint64_t now = (span->end - span->start + 1) * span->sector_bytes;
	uint64_t most = (span->limit - span->start + 1) * span->sector_bytes;
	uint64_t wanted, begin = span->start * span->sector_bytes;

	if (by_bytes == TABLE_ALL) {
		wanted = most / FINE_BYTES * FINE_BYTES;
		return wanted > now ? wanted / span->sector_bytes : 0;
	}
	if (__builtin_add_overflow(now, by_bytes, &wanted) || wanted > most)
		return 0;
	if ((begin + wanted + GRAIN_BYTES - 1) / GRAIN_BYTES * GRAIN_BYTES - begin <= most)
		wanted = (begin + wanted + GRAIN_BYTES - 1) / GRAIN_BYTES * GRAIN_BYTES - begin;
	wanted = (wanted + FINE_BYTES - 1) / FINE_BYTES * FINE_BYTES;
	return wanted <= most ? wanted / span->sector_bytes : 0;
}

/**
 * table_grow() - move the end of a partition, mounted or not
 * @by_bytes: at least this much, rounded up to what is customary if there is room; or TABLE_ALL, in
 * whole 4 KiB
 *
 * Written and flushed before the kernel is told. udev sees the disk change, and may for a moment
 * take the names of partitions away that nobody uses: wait for it.
 *
 * Return: 0, TABLE_E_NO_GAP, TABLE_E_UNSUPPORTED or -errno.
 */
int table_grow(const char *disk, unsigned number, uint64_t by_bytes)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	_cleanup_(tabledisk_partitionp) struct fdisk_partition *change = NULL;
	struct span span;
	uint64_t sectors;
	int fd, r;

	r = tabledisk_open(disk, 0, &context);
	if (r < 0)
		return r;
	fd = fdisk_get_devfd(context);
	/* udev leaves alone what is locked (systemd.io/BLOCK_DEVICE_LOCKING) */
	if (flock(fd, LOCK_EX) < 0)
		return -errno;
	r = find_span(context, number, &span);
	if (r != 0)
		return r;
	sectors = choose_sectors(&span, by_bytes);
	if (sectors == 0)
		return TABLE_E_NO_GAP;
	change = fdisk_new_partition();
	if (!change)
		return -ENOMEM;
	r = fdisk_partition_set_size(change, sectors);
	if (r == 0)
		r = fdisk_partition_size_explicit(change, 1);
	if (r == 0)
		r = fdisk_set_partition(context, number - 1, change);
	if (r == 0)
		r = fdisk_write_disklabel(context);
	if (r < 0)
		return r;
	if (fsync(fd) < 0)
		return -errno;
	log_debug("Partition %u of %s: now %llu sectors.", number, disk,
		  (unsigned long long)sectors);
	return blkpg_resize(fd, number, span.start * span.sector_bytes,
			    sectors * span.sector_bytes);
}

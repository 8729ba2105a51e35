/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/tablesplit.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/blkpg.h"
#include "volume/inventory.h"
#include "volume/tabledisk.h"

#define GPT_TYPE                                                                                   \
	"bc13c2ff-59e6-4262-a352-b275fd6f7172" /* Linux extended boot: the Discoverable Partitions \
						  Specification */
#define MBR_TYPE    0x83
#define MBR_PRIMARY 4
#define GRAIN_BYTES (1024 * 1024) /* where partitions begin by custom */
#define NAME        "boot"

static void parttypep(struct fdisk_parttype **type)
{
	if (*type)
		fdisk_unref_parttype(*type);
}

/* A disk with a table that a partition can be added to. */
static int open_disk(const char *disk, int is_read_only, struct fdisk_context **ret)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	int r = tabledisk_open(disk, is_read_only, &context);

	if (r < 0)
		return r;
	if (!fdisk_is_label(context, GPT) && !fdisk_is_label(context, DOS))
		return TABLE_E_UNSUPPORTED;
	*ret = steal(context);
	return 0;
}

/**
 * table_place() - where a partition lies, and what is free behind it
 *
 * Return: 0, TABLE_E_UNSUPPORTED, -ENXIO (no such partition) or -errno.
 */
int table_place(const char *disk, unsigned number, struct table_place *ret)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	_cleanup_(tabledisk_partitionp) struct fdisk_partition *partition = NULL;
	uint64_t sector_bytes, gap_bytes = 0;
	int r;

	r = table_gap(disk, number, &gap_bytes);
	if (r != 0 && r != TABLE_E_NO_GAP)
		return r;
	r = open_disk(disk, 1, &context);
	if (r != 0)
		return r;
	if (fdisk_get_partition(context, number - 1, &partition) < 0)
		return -ENXIO;
	sector_bytes = fdisk_get_sector_size(context);
	*ret = (struct table_place){
		.start_bytes = fdisk_partition_get_start(partition) * sector_bytes,
		.size_bytes = fdisk_partition_get_size(partition) * sector_bytes,
		.gap_bytes = gap_bytes,
	};
	return 0;
}

/**
 * table_can_add() - is there an entry free for one more?
 *
 * On an MBR only a primary one: logical ones lie in a chain of tables in between.
 *
 * Return: 1 yes, 0 no, or -errno.
 */
int table_can_add(const char *disk)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	_cleanup_(tabledisk_tablep) struct fdisk_table *table = NULL;
	size_t most;
	int r;

	r = open_disk(disk, 1, &context);
	if (r != 0)
		return r < 0 ? r : 0;
	r = fdisk_get_partitions(context, &table);
	if (r < 0)
		return r;
	most = fdisk_is_label(context, DOS) ? MBR_PRIMARY : fdisk_get_npartitions(context);
	return fdisk_table_get_nents(table) < most;
}

/**
 * table_find_free() - a place for a partition between or behind others
 *
 * Return: 0, TABLE_E_NO_GAP, TABLE_E_UNSUPPORTED or -errno.
 */
int table_find_free(const char *disk, uint64_t size_bytes, uint64_t *ret_start_bytes)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	_cleanup_(tabledisk_tablep) struct fdisk_table *table = NULL;
	_cleanup_(tabledisk_iteratorp) struct fdisk_iter *iterator =
		fdisk_new_iter(FDISK_ITER_BACKWARD);
	struct fdisk_partition *gap;
	uint64_t sector_bytes;
	int r;

	if (!iterator)
		return -ENOMEM;
	r = open_disk(disk, 1, &context);
	if (r == 0)
		r = fdisk_get_freespaces(context, &table);
	if (r != 0)
		return r;
	sector_bytes = fdisk_get_sector_size(context);
	while (fdisk_table_next_partition(table, iterator, &gap) == 0) {
		uint64_t start, end;

		if (!fdisk_partition_has_start(gap) || !fdisk_partition_has_end(gap) ||
		    fdisk_partition_is_nested(gap))
			continue;
		start = (fdisk_partition_get_start(gap) * sector_bytes + GRAIN_BYTES - 1) /
			GRAIN_BYTES * GRAIN_BYTES;
		end = (fdisk_partition_get_end(gap) + 1) * sector_bytes;
		if (end < size_bytes || end - size_bytes < start)
			continue;
		*ret_start_bytes = (end - size_bytes) / GRAIN_BYTES * GRAIN_BYTES;
		return 0;
	}
	return TABLE_E_NO_GAP;
}

/* Return: 0, TABLE_E_NO_GAP (none lies there) or -errno. */
static int find(struct fdisk_context *context, uint64_t start_bytes, uint64_t size_bytes,
		unsigned *ret_number)
{
	_cleanup_(tabledisk_tablep) struct fdisk_table *table = NULL;
	_cleanup_(tabledisk_iteratorp) struct fdisk_iter *iterator =
		fdisk_new_iter(FDISK_ITER_FORWARD);
	uint64_t sector_bytes = fdisk_get_sector_size(context);
	struct fdisk_partition *partition;
	int r;

	if (!iterator)
		return -ENOMEM;
	r = fdisk_get_partitions(context, &table);
	if (r < 0)
		return r;
	while (fdisk_table_next_partition(table, iterator, &partition) == 0) {
		if (!fdisk_partition_is_used(partition) || !fdisk_partition_has_start(partition) ||
		    fdisk_partition_get_start(partition) * sector_bytes != start_bytes ||
		    fdisk_partition_get_size(partition) * sector_bytes != size_bytes)
			continue;
		*ret_number = (unsigned)fdisk_partition_get_partno(partition) + 1;
		return 0;
	}
	return TABLE_E_NO_GAP;
}

/**
 * table_find() - the partition that lies just there
 *
 * Return: 0, TABLE_E_NO_GAP (there is none), TABLE_E_UNSUPPORTED or -errno.
 */
int table_find(const char *disk, uint64_t start_bytes, uint64_t size_bytes, unsigned *ret_number)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	int r = open_disk(disk, 1, &context);

	return r == 0 ? find(context, start_bytes, size_bytes, ret_number) : r;
}

/* Is a partition with this PARTUUID in the table? */
static bool has_uuid(struct fdisk_context *context, const char *uuid)
{
	for (size_t i = 0; i < fdisk_get_npartitions(context); i++) {
		_cleanup_(tabledisk_partitionp) struct fdisk_partition *partition = NULL;
		const char *found;

		if (!fdisk_is_partition_used(context, i) ||
		    fdisk_get_partition(context, i, &partition) < 0)
			continue;
		found = fdisk_partition_get_uuid(partition);
		if (found && strcasecmp(found, uuid) == 0)
			return true;
	}
	return false;
}

/**
 * table_mend() - a GPT whose first copy was being written when the power failed
 * @uuid: PARTUUID of a partition that it must have
 *
 * The list and the header with its checksum are two writes, and without the kernel's parameter
 * "gpt" it asks no second copy: a disk without partitions. libfdisk does ask; both are written
 * again, and the kernel reads them.
 *
 * Return: 0, TABLE_E_NO_GAP (it has no such partition: another disk), TABLE_E_UNSUPPORTED or
 * -errno.
 */
int table_mend(const char *disk, const char *uuid)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	struct stat status;
	int fd, r;

	r = open_disk(disk, 0, &context);
	if (r != 0)
		return r;
	if (!fdisk_is_label(context, GPT))
		return TABLE_E_UNSUPPORTED;
	fd = fdisk_get_devfd(context);
	if (flock(fd, LOCK_EX) < 0 || fstat(fd, &status) < 0)
		return -errno;
	if (!has_uuid(context, uuid))
		return TABLE_E_NO_GAP;
	r = fdisk_write_disklabel(context);
	if (r < 0)
		return r;
	if (fsync(fd) < 0)
		return -errno;
	log_debug("Disk %s: its table is whole again.", disk);
	return !S_ISBLK(status.st_mode) || ioctl(fd, BLKRRPART) == 0 ? 0 : -errno;
}

/**
 * table_mend_missing() - a partition that is not there, perhaps for such a table
 * @link: below TABLE_LINKS; any other is passed over
 *
 * To be called when it should be there by now. Of disks without partitions, that which knows it by
 * its second copy is mended.
 *
 * Return: 1 (mended: udev makes the link), 0 (it is there, or no disk knows it) or -errno.
 */
int table_mend_missing(const char *link)
{
	static const char folder[] = TABLE_LINKS;
	_cleanup_(inventory_freep) struct inventory *inventory = NULL;
	int r;

	if (strncmp(link, folder, strlen(folder)) != 0 || access(link, F_OK) == 0)
		return 0;
	r = inventory_read(&inventory);
	for (size_t i = 0; r == 0 && i < inventory->n; i++) {
		const struct volume *disk = &inventory->volumes[i];

		if (disk->kind == VOLUME_KIND_DISK && disk->n_children == 0 &&
		    table_mend(disk->path, link + strlen(folder)) == 0)
			return 1;
	}
	return r;
}

static int shorten(struct fdisk_context *context, const struct table_split *split)
{
	_cleanup_(tabledisk_partitionp) struct fdisk_partition *now = NULL,
							       *change = fdisk_new_partition();
	uint64_t sectors = split->keeps_bytes / fdisk_get_sector_size(context);
	int r;

	if (!change)
		return -ENOMEM;
	if (split->keeps_bytes == 0)
		return 0;
	if (split->number == 0 || fdisk_get_partition(context, split->number - 1, &now) < 0)
		return -ENXIO;
	if (fdisk_partition_get_size(now) <= sectors)
		return 0;
	r = fdisk_partition_set_size(change, sectors);
	if (r == 0)
		r = fdisk_partition_size_explicit(change, 1);
	return r < 0 ? r : fdisk_set_partition(context, split->number - 1, change);
}

static int add(struct fdisk_context *context, const struct table_split *split, unsigned *ret_number)
{
	_cleanup_(tabledisk_partitionp) struct fdisk_partition *new = fdisk_new_partition();
	_cleanup_(parttypep) struct fdisk_parttype *type = NULL;
	const struct fdisk_label *label = fdisk_get_label(context, NULL);
	bool is_gpt = fdisk_is_label(context, GPT);
	uint64_t sector_bytes = fdisk_get_sector_size(context);
	size_t number;
	int r;

	type = is_gpt ? fdisk_label_get_parttype_from_string(label, GPT_TYPE)
		      : fdisk_label_get_parttype_from_code(label, MBR_TYPE);
	/* of an older library, which takes what it does not know */
	if (!type && is_gpt)
		type = fdisk_new_unknown_parttype(0, GPT_TYPE);
	if (!new || !type)
		return -ENOMEM;
	r = fdisk_partition_set_start(new, split->start_bytes / sector_bytes);
	if (r == 0)
		r = fdisk_partition_set_size(new, split->size_bytes / sector_bytes);
	if (r == 0)
		r = fdisk_partition_size_explicit(new, 1);
	if (r == 0)
		r = fdisk_partition_set_type(new, type);
	if (r == 0)
		r = fdisk_partition_partno_follow_default(new, 1);
	if (r == 0 && is_gpt)
		r = fdisk_partition_set_uuid(new, split->uuid);
	if (r == 0 && is_gpt)
		r = fdisk_partition_set_name(new, NAME);
	if (r == 0)
		r = fdisk_add_partition(context, new, &number);
	if (r == 0)
		*ret_number = (unsigned)number + 1;
	return r;
}

/* What the table says, to the kernel; the new one may have been found by it already. */
static int tell(struct fdisk_context *context, const struct table_split *split, unsigned new_number)
{
	_cleanup_(tabledisk_partitionp) struct fdisk_partition *now = NULL;
	uint64_t sector_bytes = fdisk_get_sector_size(context);
	int fd = fdisk_get_devfd(context), r;
	struct stat disk;

	if (fstat(fd, &disk) < 0)
		return -errno;
	if (!S_ISBLK(disk.st_mode))
		return 0;
	if (fdisk_get_partition(context, split->number - 1, &now) < 0)
		return -ENXIO;
	r = blkpg_resize(fd, split->number, fdisk_partition_get_start(now) * sector_bytes,
			 fdisk_partition_get_size(now) * sector_bytes);
	if (r == 0)
		r = blkpg_add(fd, new_number, split->start_bytes, split->size_bytes);
	return r == -EBUSY ? 0 : r;
}

/**
 * table_split() - shorten one partition, and add another
 *
 * One write of the table, flushed before the kernel is told. Done already, it only tells the
 * kernel.
 *
 * Return: 0, TABLE_E_NO_GAP, TABLE_E_UNSUPPORTED or -errno.
 */
int table_split(const char *disk, const struct table_split *split)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = NULL;
	unsigned number;
	int fd, r;

	r = open_disk(disk, 0, &context);
	if (r != 0)
		return r;
	fd = fdisk_get_devfd(context);
	/* udev leaves alone what is locked (systemd.io/BLOCK_DEVICE_LOCKING) */
	if (flock(fd, LOCK_EX) < 0)
		return -errno;
	r = find(context, split->start_bytes, split->size_bytes, &number);
	if (r == 0)
		return tell(context, split, number);
	if (r != TABLE_E_NO_GAP)
		return r;
	r = shorten(context, split);
	if (r == 0)
		r = add(context, split, &number);
	if (r == 0)
		r = fdisk_write_disklabel(context);
	if (r < 0)
		return r == -ERANGE || r == -ENOSPC || r == -EINVAL ? TABLE_E_NO_GAP : r;
	if (fsync(fd) < 0)
		return -errno;
	log_debug("Disk %s: partition %u added.", disk, number);
	return tell(context, split, number);
}

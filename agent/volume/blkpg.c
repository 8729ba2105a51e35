/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/blkpg.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/blkpg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/device.h"

#define SECTOR_BYTES 512 /* what sysfs counts in, whatever the disk does */

static int tell(int disk_fd, int operation, unsigned number, uint64_t start_bytes,
		uint64_t length_bytes)
{
	struct blkpg_partition partition = {
		.start = (long long)start_bytes,
		.length = (long long)length_bytes,
		.pno = (int)number,
	};
	struct blkpg_ioctl_arg argument = {
		.op = operation,
		.datalen = sizeof(partition),
		.data = &partition,
	};

	return ioctl(disk_fd, BLKPG, &argument) < 0 ? -errno : 0;
}

/** blkpg_add() - tell the kernel of a new partition; as blkpg_resize() */
int blkpg_add(int disk_fd, unsigned number, uint64_t start_bytes, uint64_t length_bytes)
{
	return tell(disk_fd, BLKPG_ADD_PARTITION, number, start_bytes, length_bytes);
}

/**
 * blkpg_resize() - tell the kernel where a partition ends
 * @disk_fd:     the whole disk, open for reading at least
 * @number:      from 1, as the kernel counts
 * @start_bytes: as it is
 *
 * Return: 0 or -errno. Source: linux/blkpg.h.
 */
int blkpg_resize(int disk_fd, unsigned number, uint64_t start_bytes, uint64_t length_bytes)
{
	return tell(disk_fd, BLKPG_RESIZE_PARTITION, number, start_bytes, length_bytes);
}

/* The node of the disk that a partition lies on. Return: its descriptor or -errno. */
static int open_disk(const char *partition)
{
	_cleanup_(freep) char *folder = NULL, *real = NULL, *node = NULL;
	int fd, r;

	r = text_format(&folder, "/sys/class/block/%s/..", partition);
	if (r < 0)
		return r;
	real = realpath(folder, NULL);
	if (!real)
		return -errno;
	r = text_format(&node, "/dev/%s", strrchr(real, '/') + 1);
	if (r < 0)
		return r;
	for (char *c = node; *c; c++)
		if (*c == '!') /* as sysfs writes a slash */
			*c = '/';
	fd = open(node, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/**
 * blkpg_round_down() - a partition ends, for the kernel, after a whole number of encryption sectors
 * @device: a partition; anything else is left as it is
 *
 * What grows partitions in the cloud takes all that there is, to the last 512 bytes. A dm-crypt
 * mapping with larger sectors could then not be opened any more. The table keeps what it says; what
 * the kernel leaves out has never been used.
 *
 * Return: 0, also when nothing is to be done, or -errno.
 */
int blkpg_round_down(const char *device, unsigned multiple_bytes)
{
	_cleanup_(freep) char *real = realpath(device, NULL);
	_cleanup_(closep) int disk = -EBADF;
	uint64_t number, start, size;
	const char *name;
	int r;

	if (!real)
		return -errno;
	name = strncmp(real, "/dev/", 5) == 0 ? real + 5 : real;
	if (strchr(name, '/')) /* old controllers' names; sysfs writes them otherwise */
		return 0;
	r = device_attribute_u64(name, "partition", &number);
	if (r == 0)
		r = device_attribute_u64(name, "start", &start);
	if (r == 0)
		r = device_attribute_u64(name, "size", &size);
	if (r < 0 || number == 0 || number > INT_MAX || size > INT64_MAX / SECTOR_BYTES ||
	    size * SECTOR_BYTES % multiple_bytes == 0)
		return r;
	disk = open_disk(name);
	if (disk < 0)
		return disk;
	log_debug("Partition %s: its last %llu bytes are left out.", name,
		  (unsigned long long)(size * SECTOR_BYTES % multiple_bytes));
	return blkpg_resize(disk, (unsigned)number, start * SECTOR_BYTES,
			    size * SECTOR_BYTES / multiple_bytes * multiple_bytes);
}

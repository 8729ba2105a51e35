/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/superblock.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/geometry.h"

#define AMBIVALENT       (-2)      /* of blkid_do_safeprobe() */
#define SIGNATURES_BYTES (8 << 20) /* in so many of the first bytes nearly all of them lie */

static void probe_freep(blkid_probe *probe)
{
	if (*probe)
		blkid_free_probe(*probe);
}

static int take(blkid_probe probe, const char *name, char **ret)
{
	const char *value;
	size_t size_bytes;
	char *copy;

	if (blkid_probe_lookup_value(probe, name, &value, &size_bytes) < 0 || value[0] == '\0')
		return 0;
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	free(*ret);
	*ret = copy;
	return 0;
}

static int take_number(blkid_probe probe, const char *name, unsigned *ret)
{
	_cleanup_(freep) char *text = NULL;
	uint64_t number;
	int r;

	r = take(probe, name, &text);
	if (r < 0 || !text)
		return r;
	if (number_parse_u64(text, 0, UINT16_MAX, &number) == 0)
		*ret = (unsigned)number;
	return 0;
}

static int take_all(blkid_probe probe, struct volume *volume)
{
	int r;

	r = take(probe, "TYPE", &volume->filesystem);
	if (r == 0)
		r = take(probe, "UUID", &volume->uuid);
	if (r == 0)
		r = take(probe, "LABEL", &volume->label);
	if (r == 0)
		r = take(probe, "PTTYPE", &volume->table_type);
	if (r == 0)
		r = take(probe, "PART_ENTRY_UUID", &volume->partition_uuid);
	if (r == 0)
		r = take(probe, "PART_ENTRY_NAME", &volume->partition_label);
	if (r == 0)
		r = take(probe, "PART_ENTRY_TYPE", &volume->partition_type);
	if (r == 0 && volume->partition_number == 0)
		r = take_number(probe, "PART_ENTRY_NUMBER", &volume->partition_number);
	return r;
}

/**
 * superblock_read() - fill in what a volume is formatted as
 * @volume: path and devno are set; filesystem, uuid, label, table and partition fields are filled
 * in
 *
 * A device that cannot be read (an empty drive, a broken disk) is left as it is; that is no
 * failure.
 *
 * Return: 0 or -ENOMEM.
 */
int superblock_read(struct volume *volume)
{
	_cleanup_(closep) int fd = -EBADF;
	_cleanup_(probe_freep) blkid_probe probe = NULL;
	struct geometry geometry;
	int r;

	fd = open(volume->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		log_debug("Device %s: cannot be opened: %s.", volume->path, strerror(errno));
		return 0;
	}
	/* a mapping above may have written since it was read last, see device_refresh() */
	(void)posix_fadvise(fd, 0, SIGNATURES_BYTES, POSIX_FADV_DONTNEED);
	probe = blkid_new_probe();
	if (!probe)
		return -ENOMEM;
	if (blkid_probe_set_device(probe, fd, 0, 0) < 0)
		return 0;
	(void)blkid_probe_enable_superblocks(probe, 1);
	(void)blkid_probe_set_superblocks_flags(
		probe, BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID | BLKID_SUBLKS_TYPE |
			       BLKID_SUBLKS_USAGE | BLKID_SUBLKS_BADCSUM);
	(void)blkid_probe_enable_partitions(probe, 1);
	(void)blkid_probe_set_partitions_flags(probe, BLKID_PARTS_ENTRY_DETAILS);
	r = blkid_do_safeprobe(probe);
	if (r == AMBIVALENT) {
		/* the first find, for people; nobody will touch it */
		volume->has_other_signatures = true;
		(void)blkid_probe_set_device(probe, fd, 0, 0);
		r = blkid_do_fullprobe(probe);
	}
	if (r < 0)
		log_debug("Device %s: cannot be probed.", volume->path);
	if (r != 0)
		return 0;
	r = take_all(probe, volume);
	if (r < 0)
		return r;
	if (volume->filesystem && volume->table_type)
		volume->has_other_signatures =
			true; /* a filesystem and a partition table, both whole */
	if (volume->filesystem && geometry_read(volume->path, volume->filesystem, &geometry) == 0) {
		volume->filesystem_bytes = geometry.bytes;
		volume->filesystem_block_bytes = geometry.unit_bytes;
		volume->filesystem_devices = geometry.devices;
	}
	return 0;
}

/** superblock_clear() - free what superblock_read() has filled in */
void superblock_clear(struct volume *volume)
{
	free(volume->filesystem);
	free(volume->uuid);
	free(volume->label);
	free(volume->table_type);
	free(volume->partition_uuid);
	free(volume->partition_label);
	free(volume->partition_type);
}

/**
 * superblock_is_another() - does a device bear what is not this volume's?
 *
 * A partition table, or a UUID that is neither of the two.
 *
 * Return: 1, 0 (also when it bears nothing that is known), or -errno.
 */
int superblock_is_another(const char *device, const char *header_uuid, const char *uuid)
{
	struct volume volume = { .path = (char *)device };
	int r = superblock_read(&volume);

	if (r == 0 && volume.uuid)
		r = strcasecmp(volume.uuid, header_uuid) != 0 && strcasecmp(volume.uuid, uuid) != 0;
	else if (r == 0)
		r = volume_has_table(&volume);
	superblock_clear(&volume);
	return r;
}

/**
 * superblock_wipe() - make a device look empty, to make a new filesystem on it
 *
 * Erases the magic bytes of every format and partition table that libblkid finds. mkfs.btrfs would
 * refuse a UUID that the device bears already, as when the making is done again after a power cut.
 *
 * Return: 0 or -errno.
 */
int superblock_wipe(const char *device)
{
	_cleanup_(closep) int fd = -EBADF;
	_cleanup_(probe_freep) blkid_probe probe = NULL;

	fd = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	probe = blkid_new_probe();
	if (!probe)
		return -ENOMEM;
	if (blkid_probe_set_device(probe, fd, 0, 0) < 0)
		return -EIO;
	(void)blkid_probe_enable_superblocks(probe, 1);
	(void)blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_MAGIC | BLKID_SUBLKS_BADCSUM);
	(void)blkid_probe_enable_partitions(probe, 1);
	(void)blkid_probe_set_partitions_flags(probe, BLKID_PARTS_MAGIC);
	while (blkid_do_probe(probe) == 0)
		if (blkid_do_wipe(probe, 0) < 0)
			return -EIO;
	return fsync(fd) < 0 ? -errno : 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define SYSFS               "/sys/class/block"
#define ATTRIBUTE_MAX_BYTES 4096 /* a page, sysfs's own limit */
#define SECTOR_BYTES        512  /* what sysfs counts in, whatever the device's own sector is */

/* Drivers whose devices are nobody's volumes, by how their names begin. */
static const char *const other_names[] = { "ram",   "zram", "sr",     "fd",       "nbd",
					   "rbd",   "drbd", "bcache", "mtdblock", "ubiblock",
					   "nullb", "zd",   "aoe",    "etherd",   "scd" };

/* What dm-crypt mappings of libcryptsetup are called; verity, integrity and its helpers are not
 * among them. */
static const char *const crypt_names[] = { "CRYPT-LUKS1-",   "CRYPT-LUKS2-",  "CRYPT-PLAIN-",
					   "CRYPT-LOOPAES-", "CRYPT-TCRYPT-", "CRYPT-BITLK-",
					   "CRYPT-FVAULT2-" };

/* What libcryptsetup calls the overlay and the hotzone below a mapping in conversion, and cow.c a
 * device whose changes lie in a file. */
static const char *const conversion_part_uuids[] = { "CRYPT-SUBDEV-", "VMCRYPT-PART-" };

/* Where the platform's disks hang in sysfs (their udev rules, Azure/azure-vm-utils and
 * WALinuxAgent's 66-azure-storage.rules). First generation: the instance of the controller; second:
 * first controller, by LUN. */
#define VMBUS_RESOURCE      "/00000000-0001-"
#define VMBUS_FIRST         "/f8b3781a-1e82-4818-a1c3-63d806ec15bb/"
#define VMBUS_RESOURCE_LUN  ":0:0:1"
#define VMBUS_BEK_LUN       ":0:0:3"
#define NVME_RESOURCE_MODEL "Microsoft NVMe Direct Disk"

static bool begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool begins_with_any(const char *text, const char *const *prefixes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (begins_with(text, prefixes[i]))
			return true;
	return false;
}

/**
 * device_attribute() - one attribute of a device in sysfs
 * @name:      kernel name
 * @attribute: path below the device's folder
 * @ret:       without the newline, owned by the caller; empty is NULL
 *
 * Return: 0 (also when it is not there, and then NULL) or -errno.
 */
int device_attribute(const char *name, const char *attribute, char **ret)
{
	_cleanup_(freep) char *path = NULL, *text = NULL;
	size_t size_bytes;
	int r;

	r = text_format(&path, SYSFS "/%s/%s", name, attribute);
	if (r < 0)
		return r;
	r = file_read(path, ATTRIBUTE_MAX_BYTES, &text, &size_bytes);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		*ret = NULL;
		return 0;
	}
	while (size_bytes > 0 && strchr(" \n", text[size_bytes - 1]))
		text[--size_bytes] = '\0';
	*ret = size_bytes > 0 ? steal(text) : NULL;
	return 0;
}

/** device_attribute_u64() - a number; absent or malformed is 0. Return: 0 or -errno. */
int device_attribute_u64(const char *name, const char *attribute, uint64_t *ret)
{
	_cleanup_(freep) char *text = NULL;
	int r;

	*ret = 0;
	r = device_attribute(name, attribute, &text);
	if (r < 0)
		return r;
	(void)number_parse_u64(text, 0, UINT64_MAX, ret);
	return 0;
}

static int read_number(const char *name, const char *attribute, unsigned *ret)
{
	uint64_t number;
	int r;

	r = device_attribute_u64(name, attribute, &number);
	if (r == 0)
		*ret = number <= UINT_MAX ? (unsigned)number : 0;
	return r;
}

static bool has_file(const char *name, const char *file)
{
	_cleanup_(freep) char *path = NULL;

	return text_format(&path, SYSFS "/%s/%s", name, file) == 0 && access(path, F_OK) == 0;
}

static enum volume_kind kind_of(const struct volume *volume)
{
	if (volume->partition_number > 0)
		return VOLUME_KIND_PARTITION;
	if (volume->mapping) {
		const char *uuid = volume->mapping_uuid ? volume->mapping_uuid : "";

		if (begins_with(uuid, "LVM-"))
			return VOLUME_KIND_LVM;
		return begins_with_any(uuid, crypt_names, ARRAY_SIZE(crypt_names))
			       ? VOLUME_KIND_CRYPT
			       : VOLUME_KIND_OTHER;
	}
	if (begins_with(volume->name, "loop"))
		return VOLUME_KIND_LOOP;
	if (begins_with_any(volume->name, other_names, ARRAY_SIZE(other_names)))
		return VOLUME_KIND_OTHER;
	return has_file(volume->name, "md") ? VOLUME_KIND_MD : VOLUME_KIND_DISK;
}

static int path_of(const char *name, const char *mapping, dev_t devno, char **ret)
{
	_cleanup_(freep) char *path = NULL;
	struct stat status;
	int r;

	if (mapping) {
		r = text_format(&path, "/dev/mapper/%s", mapping);
		if (r < 0)
			return r;
		if (stat(path, &status) == 0 && S_ISBLK(status.st_mode) &&
		    status.st_rdev == devno) {
			*ret = steal(path);
			return 0;
		}
		freep(&path);
		path = NULL;
	}
	r = text_format(&path, "/dev/%s", name);
	if (r < 0)
		return r;
	for (char *at = strchr(path, '!'); at; at = strchr(at, '!'))
		*at = '/';
	*ret = steal(path);
	return 0;
}

/* The whole disk's folder is above a partition's. */
static int attribute_of_disk(const struct volume *volume, const char *attribute, unsigned *ret)
{
	_cleanup_(freep) char *above = NULL;
	int r;

	if (volume->partition_number == 0)
		return read_number(volume->name, attribute, ret);
	r = text_format(&above, "../%s", attribute);
	return r < 0 ? r : read_number(volume->name, above, ret);
}

static int ask_platform(struct volume *volume)
{
	_cleanup_(freep) char *link = NULL, *model = NULL, *place = NULL;
	const char *lun;
	int r;

	r = text_format(&link, SYSFS "/%s", volume->name);
	if (r == 0)
		r = device_attribute(volume->name, "device/model", &model);
	if (r < 0)
		return r;
	place = realpath(link, NULL);
	if (!place)
		return errno == ENOMEM ? -ENOMEM : 0;
	volume->is_resource_disk =
		strstr(place, VMBUS_RESOURCE) || (model && begins_with(model, NVME_RESOURCE_MODEL));
	lun = strstr(place, "/block/");
	if (!strstr(place, VMBUS_FIRST) || !lun || lun - place < (ptrdiff_t)strlen(VMBUS_BEK_LUN))
		return 0;
	lun -= strlen(VMBUS_BEK_LUN);
	if (begins_with(lun, VMBUS_RESOURCE_LUN))
		volume->is_resource_disk = true;
	if (begins_with(lun, VMBUS_BEK_LUN))
		volume->is_bek_disk = true;
	return 0;
}

/* 0, -ENODEV (no size, or gone meanwhile) or -ENOMEM */
static int device_read(const char *name, struct volume *volume)
{
	_cleanup_(freep) char *number = NULL, *end = NULL;
	unsigned major_number, minor_number, removable;
	uint64_t sectors, read_only, suspended;
	int r;

	r = device_attribute_u64(name, "size", &sectors);
	if (r < 0)
		return r;
	if (sectors == 0 || sectors > UINT64_MAX / SECTOR_BYTES)
		return -ENODEV;
	volume->size_bytes = sectors * SECTOR_BYTES;
	r = device_attribute(name, "dev", &number);
	if (r < 0)
		return r;
	if (!number || sscanf(number, "%u:%u", &major_number, &minor_number) != 2)
		return -ENODEV;
	volume->devno = makedev(major_number, minor_number);
	volume->name = strdup(name);
	if (!volume->name)
		return -ENOMEM;

	r = read_number(name, "partition", &volume->partition_number);
	if (r == 0)
		r = device_attribute(name, "dm/name", &volume->mapping);
	if (r == 0)
		r = device_attribute(name, "dm/uuid", &volume->mapping_uuid);
	if (r == 0)
		r = path_of(name, volume->mapping, volume->devno, &volume->path);
	if (r == 0)
		r = device_attribute_u64(name, "ro", &read_only);
	if (r == 0)
		r = device_attribute_u64(name, "dm/suspended", &suspended);
	if (r == 0)
		r = attribute_of_disk(volume, "removable", &removable);
	if (r == 0)
		r = attribute_of_disk(volume, "queue/logical_block_size",
				      &volume->logical_block_bytes);
	if (r == 0)
		r = attribute_of_disk(volume, "queue/physical_block_size",
				      &volume->physical_block_bytes);
	if (r < 0)
		return r;
	volume->is_read_only = read_only != 0;
	volume->is_suspended = suspended != 0;
	for (size_t i = 0; volume->mapping_uuid && i < ARRAY_SIZE(conversion_part_uuids); i++)
		volume->is_conversion_part |=
			begins_with(volume->mapping_uuid, conversion_part_uuids[i]);
	volume->is_removable = removable != 0;
	volume->kind = kind_of(volume);
	return ask_platform(volume);
}

static int is_wanted(const struct dirent *entry)
{
	/* memory is no disk; compressed memory is of interest to nobody but swap, which is not
	 * encrypted here */
	return entry->d_name[0] != '.' && !begins_with(entry->d_name, "ram") &&
	       !begins_with(entry->d_name, "zram");
}

/**
 * device_read_all() - one volume per block device that has a size, by name
 *
 * Return: 0, -E2BIG (more than DEVICE_MAX) or -errno.
 */
int device_read_all(struct inventory *inventory)
{
	struct dirent **entries;
	int n, r = 0;

	n = scandir(SYSFS, &entries, is_wanted, versionsort);
	if (n < 0)
		return -errno;
	if (n > DEVICE_MAX)
		r = -E2BIG;
	inventory->volumes = calloc((size_t)n + 1, sizeof(*inventory->volumes));
	if (!inventory->volumes)
		r = -ENOMEM;
	for (int i = 0; i < n; i++) {
		if (r == 0) {
			r = device_read(entries[i]->d_name, &inventory->volumes[inventory->n]);
			if (r == 0)
				inventory->n++;
			else if (r == -ENODEV)
				r = 0;
			else
				inventory->n++; /* half read: freed with the rest */
		}
		free(entries[i]);
	}
	free(entries);
	return r;
}

static struct volume *find_name(struct inventory *inventory, const char *name)
{
	for (size_t i = 0; i < inventory->n; i++)
		if (strcmp(inventory->volumes[i].name, name) == 0)
			return &inventory->volumes[i];
	return NULL;
}

static int append(size_t **list, size_t *n, size_t index)
{
	size_t *larger = reallocarray(*list, *n + 1, sizeof(**list));

	if (!larger)
		return -ENOMEM;
	larger[(*n)++] = index;
	*list = larger;
	return 0;
}

static int link_pair(struct inventory *inventory, const char *parent_name, struct volume *child)
{
	struct volume *parent = find_name(inventory, parent_name);
	int r;

	if (!parent)
		return 0;
	r = append(&child->parents, &child->n_parents, (size_t)(parent - inventory->volumes));
	if (r < 0)
		return r;
	return append(&parent->children, &parent->n_children, (size_t)(child - inventory->volumes));
}

static int link_partition(struct inventory *inventory, struct volume *volume)
{
	_cleanup_(freep) char *link = NULL, *place = NULL;
	char *slash;
	int r;

	r = text_format(&link, SYSFS "/%s/..", volume->name);
	if (r < 0)
		return r;
	place = realpath(link, NULL);
	slash = place ? strrchr(place, '/') : NULL;
	return slash ? link_pair(inventory, slash + 1, volume) : 0;
}

static int link_slaves(struct inventory *inventory, struct volume *volume)
{
	_cleanup_(freep) char *path = NULL;
	_cleanup_(closedirp) DIR *folder = NULL;
	struct dirent *entry;
	int r;

	r = text_format(&path, SYSFS "/%s/slaves", volume->name);
	if (r < 0)
		return r;
	folder = opendir(path);
	while (r == 0 && folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			r = link_pair(inventory, entry->d_name, volume);
	return r;
}

/** device_link_all() - who lies on whom. Return: 0 or -ENOMEM. */
int device_link_all(struct inventory *inventory)
{
	for (size_t i = 0; i < inventory->n; i++) {
		struct volume *volume = &inventory->volumes[i];
		int r;

		r = volume->partition_number > 0 ? link_partition(inventory, volume)
						 : link_slaves(inventory, volume);
		if (r < 0)
			return r;
	}
	return 0;
}

/**
 * device_refresh() - what has been read of a device before is read anew
 *
 * For one whose data has been changed through a mapping above it: its own page cache does not know,
 * and lasts for as long as anybody has it open. Before it is mounted, that must be over.
 *
 * Return: 0 or -errno. Source: Linux, block/ioctl.c, blkdev_flushbuf().
 */
int device_refresh(const char *path)
{
	_cleanup_(closep) int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, BLKFLSBUF) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

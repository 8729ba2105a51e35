/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/inventory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "volume/device.h"
#include "volume/geometry.h"
#include "volume/mounttable.h"
#include "volume/role.h"
#include "volume/superblock.h"

static void volume_clear(struct volume *volume)
{
	free(volume->name);
	free(volume->path);
	superblock_clear(volume);
	free(volume->mapping);
	free(volume->mapping_uuid);
	free(volume->link);
	free(volume->lun);
	free(volume->fstab_target);
	free(volume->parents);
	free(volume->children);
	for (size_t i = 0; i < volume->n_mounts; i++) {
		free(volume->mounts[i].target);
		free(volume->mounts[i].root);
		free(volume->mounts[i].options);
		free(volume->mounts[i].filesystem);
	}
	free(volume->mounts);
}

struct inventory *inventory_free(struct inventory *inventory)
{
	if (!inventory)
		return NULL;
	for (size_t i = 0; i < inventory->n; i++)
		volume_clear(&inventory->volumes[i]);
	free(inventory->volumes);
	free(inventory);
	return NULL;
}

void inventory_freep(struct inventory **inventory)
{
	inventory_free(*inventory);
}

/** inventory_is_in_conversion() - is a mapping's data being moved, by whomever, just now? */
bool inventory_is_in_conversion(const struct inventory *inventory, const struct volume *volume)
{
	bool is_converted = volume->is_suspended;

	for (size_t i = 0; i < volume->n_parents; i++) {
		const struct volume *parent = &inventory->volumes[volume->parents[i]];

		is_converted |= parent->is_suspended || parent->is_conversion_part;
	}
	return is_converted;
}

/*
 * A hotzone is suspended for most of each step of a conversion, and after a step that failed until
 * the next boot: who reads it, or the mapping where it lies, waits as long, and cannot be killed.
 */
static bool is_readable(const struct inventory *inventory, const struct volume *volume,
			unsigned depth)
{
	if (volume->is_suspended)
		return false;
	for (size_t i = 0; depth < STACK_DEPTH_MAX && i < volume->n_parents; i++)
		if (!is_readable(inventory, &inventory->volumes[volume->parents[i]], depth + 1))
			return false;
	return !volume->is_conversion_part || depth > 0;
}

/* A mounted filesystem is what it is mounted as, and as large as the kernel says. */
static int look_at_mounted(const struct inventory *inventory, struct volume *volume)
{
	const struct volume_mount *mount = &volume->mounts[0];
	struct geometry geometry;

	if (!volume->filesystem) {
		volume->filesystem = strdup(mount->filesystem);
		if (!volume->filesystem)
			return -ENOMEM;
	}
	if (is_readable(inventory, volume, 0) &&
	    geometry_read_mounted(volume->path, volume->filesystem, mount->target, &geometry) == 0)
		volume->filesystem_bytes = geometry.bytes;
	return 0;
}

/*
 * The kernel takes random bytes for a partition table now and then: one LUKS2 header in 256 passes
 * the one-byte checksum of an Acorn table. Such partitions lie in the middle of a whole filesystem
 * or header, on a device where libblkid sees no table.
 */
static bool is_phantom(const struct inventory *inventory, const struct volume *volume)
{
	const struct volume *disk = inventory_disk_of(inventory, volume);

	return disk && disk->filesystem && !disk->table_type && !disk->has_other_signatures &&
	       volume->n_mounts == 0 && volume->n_children == 0 && !volume->is_swap_active;
}

static void renumber(size_t *indexes, size_t *n, const size_t *places)
{
	size_t kept = 0;

	for (size_t i = 0; i < *n; i++)
		if (places[indexes[i]] != SIZE_MAX)
			indexes[kept++] = places[indexes[i]];
	*n = kept;
}

/**
 * inventory_drop_phantoms() - forget partitions that are none
 * @inventory: all but the roles is filled in
 *
 * Return: 0 or -ENOMEM.
 */
int inventory_drop_phantoms(struct inventory *inventory)
{
	_cleanup_(freep) size_t *places = calloc(inventory->n + 1, sizeof(*places));
	size_t kept = 0;

	if (!places)
		return -ENOMEM;
	for (size_t i = 0; i < inventory->n; i++)
		places[i] = is_phantom(inventory, &inventory->volumes[i]) ? SIZE_MAX : kept++;
	for (size_t i = 0; i < inventory->n; i++) {
		struct volume *volume = &inventory->volumes[i];

		if (places[i] == SIZE_MAX) {
			log_debug("Device %s: no partition, whatever the kernel says.",
				  volume->path);
			volume_clear(volume);
			continue;
		}
		renumber(volume->parents, &volume->n_parents, places);
		renumber(volume->children, &volume->n_children, places);
		inventory->volumes[places[i]] = *volume;
	}
	inventory->n = kept;
	return 0;
}

/**
 * inventory_read() - all block devices that have a size, as they are now
 * @ret: owned by the caller
 *
 * One device that cannot be read does not fail the whole; one where a read would wait (a part of a
 * conversion) is listed without what is on it. Costs some reads from each device; an
 * optical or broken drive may take seconds.
 *
 * Return: 0 or -errno.
 */
int inventory_read(struct inventory **ret)
{
	_cleanup_(inventory_freep) struct inventory *inventory = calloc(1, sizeof(*inventory));
	int r;

	if (!inventory)
		return -ENOMEM;
	r = device_read_all(inventory);
	if (r == 0)
		r = device_link_all(inventory);
	for (size_t i = 0; r == 0 && i < inventory->n; i++)
		if (is_readable(inventory, &inventory->volumes[i], 0))
			r = superblock_read(&inventory->volumes[i]);
	if (r == 0)
		r = device_name_all(inventory);
	if (r == 0)
		r = mounttable_read(inventory);
	for (size_t i = 0; r == 0 && i < inventory->n; i++)
		if (inventory->volumes[i].n_mounts > 0)
			r = look_at_mounted(inventory, &inventory->volumes[i]);
	if (r == 0)
		r = inventory_drop_phantoms(inventory);
	if (r == 0)
		r = role_assign_all(inventory);
	if (r < 0)
		return log_debug_errno(r, "The block devices cannot be listed: %m");
	*ret = steal(inventory);
	return 0;
}

/**
 * inventory_find_uuid() - a volume by its filesystem's or LUKS header's UUID
 * @uuid: compared without regard to case; NULL finds nothing
 *
 * Where several bear it (a mapping and the device under it, members of an array), the one that
 * nothing lies on is meant.
 */
struct volume *inventory_find_uuid(struct inventory *inventory, const char *uuid)
{
	struct volume *found = NULL;

	for (size_t i = 0; uuid && i < inventory->n; i++) {
		struct volume *volume = &inventory->volumes[i];

		if (!volume->uuid || strcasecmp(volume->uuid, uuid) != 0)
			continue;
		if (volume->n_children == 0)
			return volume;
		if (!found)
			found = volume;
	}
	return found;
}

struct volume *inventory_find_devno(struct inventory *inventory, dev_t devno)
{
	for (size_t i = 0; i < inventory->n; i++)
		if (inventory->volumes[i].devno == devno)
			return &inventory->volumes[i];
	return NULL;
}

/** inventory_find_mapping() - a volume by its device-mapper name; NULL finds nothing */
struct volume *inventory_find_mapping(struct inventory *inventory, const char *mapping)
{
	for (size_t i = 0; mapping && i < inventory->n; i++)
		if (inventory->volumes[i].mapping &&
		    strcmp(inventory->volumes[i].mapping, mapping) == 0)
			return &inventory->volumes[i];
	return NULL;
}

/** inventory_disk_of() - what a partition lies on; NULL for what is no partition of a whole device
 */
const struct volume *inventory_disk_of(const struct inventory *inventory,
				       const struct volume *partition)
{
	const struct volume *disk;

	if (partition->kind != VOLUME_KIND_PARTITION || partition->n_parents != 1)
		return NULL;
	disk = &inventory->volumes[partition->parents[0]];
	return disk->kind == VOLUME_KIND_DISK || disk->kind == VOLUME_KIND_MD ||
			       disk->kind == VOLUME_KIND_LOOP
		       ? disk
		       : NULL;
}

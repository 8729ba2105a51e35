/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/growth.h"

#include <errno.h>

#include "base/cleanup.h"
#include "volume/filesystem.h"
#include "volume/geometry.h"
#include "volume/table.h"

#define PARTITION_MIN_BYTES (1024 * 1024) /* less is left behind the last partition by custom */
#define FILESYSTEM_MIN_BYTES                                                                       \
	(8 * 1024 * 1024) /* ext cannot use a last group that is smaller than its own tables */

static int find_gap(const struct inventory *inventory, const struct volume *backing, uint64_t *ret)
{
	const struct volume *disk = inventory_disk_of(inventory, backing);
	int r;

	*ret = 0;
	if (!disk)
		return 0;
	r = table_gap(disk->path, backing->partition_number, ret);
	if (r < 0)
		return r;
	if (r > 0 || *ret < PARTITION_MIN_BYTES)
		*ret = 0;
	return 0;
}

static int find_rest(const struct volume *mapped, uint64_t *ret)
{
	const char *mount_point = mapped->n_mounts > 0 ? mapped->mounts[0].target : NULL;
	struct geometry geometry;
	int r;

	*ret = 0;
	if (!filesystem_is_supported(mapped->filesystem))
		return 0;
	r = geometry_read_mounted(mapped->path, mapped->filesystem, mount_point, &geometry);
	if (r == 0 && mapped->size_bytes >= geometry.bytes + FILESYSTEM_MIN_BYTES)
		*ret = mapped->size_bytes - geometry.bytes;
	return r;
}

/** growth_whole_sectors() - a size without what is no whole encryption sector at its end */
uint64_t growth_whole_sectors(const struct header_info *header, uint64_t size_bytes)
{
	return header->sector_bytes > 0 ? size_bytes - size_bytes % header->sector_bytes
					: size_bytes;
}

/**
 * growth_find() - what is there to grow into? Changes nothing
 * @backing: the device
 * @mapped:  its mapping
 * @header:  its header, whole and in no conversion
 *
 * Return: 0 or -errno.
 */
int growth_find(const struct inventory *inventory, const struct volume *backing,
		const struct volume *mapped, const struct header_info *header, struct growth *ret)
{
	uint64_t data_bytes = growth_whole_sectors(header, header->data_bytes);
	int r;

	*ret = (struct growth){ 0 };
	if (data_bytes > mapped->size_bytes)
		ret->mapping_bytes = data_bytes - mapped->size_bytes;
	ret->is_header_behind =
		header->is_detached && header->token && header->token->device &&
		header->token->device_bytes < growth_whole_sectors(header, backing->size_bytes);
	r = find_gap(inventory, backing, &ret->partition_bytes);
	return r < 0 ? r : find_rest(mapped, &ret->filesystem_bytes);
}

bool growth_is_none(const struct growth *growth)
{
	return growth->partition_bytes == 0 && growth->mapping_bytes == 0 &&
	       growth->filesystem_bytes == 0 && !growth->is_header_behind;
}

/**
 * growth_partition() - a partition takes all of the gap behind it, mounted or not
 *
 * Return: 0, TABLE_E_NO_GAP, TABLE_E_UNSUPPORTED or -errno.
 */
int growth_partition(const struct inventory *inventory, const struct volume *backing)
{
	const struct volume *disk = inventory_disk_of(inventory, backing);

	return disk ? table_grow(disk->path, backing->partition_number, TABLE_ALL)
		    : TABLE_E_UNSUPPORTED;
}

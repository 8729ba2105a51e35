/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/growth.h - what an encrypted volume does not use yet of a device that has become larger
 *
 * From below: the partition may have free space behind it, the mapping may end before its device
 * does, the filesystem before its mapping.
 */
#pragma once

#include "volume/header.h"
#include "volume/inventory.h"

struct growth {
	uint64_t partition_bytes, mapping_bytes, filesystem_bytes; /* 0 = there is nothing */
	bool is_header_behind; /* a detached header knows its device as smaller than it is */
};

int growth_find(const struct inventory *inventory, const struct volume *backing,
		const struct volume *mapped, const struct header_info *header, struct growth *ret);
uint64_t growth_whole_sectors(const struct header_info *header, uint64_t size_bytes);
bool growth_is_none(const struct growth *growth);
int growth_partition(const struct inventory *inventory, const struct volume *backing);

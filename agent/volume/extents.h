/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/extents.h - free extents for a logical volume
 *
 * Asks and tells LVM's own tools. New extents come from the physical volumes that the logical
 * volume lies on already, so that it never comes to depend on one more disk.
 */
#pragma once

#include <stdint.h>

#include "volume/inventory.h"

enum {
	EXTENTS_E_NONE = 1,    /* not enough are free there */
	EXTENTS_E_UNSUPPORTED, /* thin, RAID, snapshot, cache … */
	EXTENTS_E_NO_TOOL,
};

int extents_find(const struct inventory *inventory, const struct volume *volume,
		 uint64_t need_bytes);
int extents_add(const struct inventory *inventory, const struct volume *volume,
		uint64_t need_bytes);

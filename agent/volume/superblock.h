/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/superblock.h - what a device is formatted as
 *
 * Probes with libblkid, past its cache: filesystem or member type, UUID, label, partition table and
 * partition entry. For the modules of this room only; superblock_read() changes nothing.
 */
#pragma once

#include "volume/inventory.h"

int superblock_read(struct volume *volume);
int superblock_wipe(const char *device);

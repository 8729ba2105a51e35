/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/superblock.h - what a device is formatted as
 *
 * Probes with libblkid, past its cache: filesystem or member type, UUID, label, partition table and
 * partition entry. But for superblock_is_another(), for the modules of this room only; nothing but
 * superblock_wipe() changes anything.
 */
#pragma once

#include "volume/inventory.h"

int superblock_read(struct volume *volume);
void superblock_clear(struct volume *volume);
int superblock_is_another(const char *device, const char *header_uuid, const char *uuid);
int superblock_wipe(const char *device);

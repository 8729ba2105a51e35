/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/device.h - block devices as sysfs tells them, and the names that udev gave them
 *
 * Changes nothing; but for device_refresh() for the modules of this room only.
 */
#pragma once

#include "volume/inventory.h"

#define DEVICE_MAX 4096 /* block devices of one machine; the cloud's largest have some hundred */

int device_read_all(
	struct inventory *inventory); /* appends one volume per device that has a size */
int device_link_all(struct inventory *inventory); /* parents and children */
int device_name_all(
	struct inventory *inventory); /* link, lun, and what the platform says by names */
int device_attribute(const char *name, const char *attribute, char **ret);
int device_attribute_u64(const char *name, const char *attribute, uint64_t *ret);
int device_refresh(const char *path); /* what was read of it before does not count any more */

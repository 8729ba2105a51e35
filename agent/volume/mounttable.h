/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/mounttable.h - where volumes are mounted, swapped on, or named in fstab
 *
 * Reads /proc/self/mountinfo with libmount's own notes, /proc/swaps and /etc/fstab. For the modules
 * of this room only; changes nothing.
 */
#pragma once

#include <libmount/libmount.h>

#include "volume/inventory.h"

#define MOUNTTABLE_MAX 16384 /* mounts of one namespace; the kernel's own limit is 100,000 */

void mounttable_freep(struct libmnt_table **table);
int mounttable_open(struct libmnt_table **ret);
dev_t mounttable_devno(struct libmnt_fs *fs);
int mounttable_target(dev_t devno,
		      char **ret); /* some place where all of it is seen; 0 and NULL = none */
int mounttable_read(struct inventory *inventory); /* mounts, swaps, fstab */

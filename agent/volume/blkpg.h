/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/blkpg.h - how large the kernel takes a partition to be
 *
 * For the modules of this room only. Tells the kernel; never touches the partition table.
 */
#pragma once

#include <stdint.h>

int blkpg_add(int disk_fd, unsigned number, uint64_t start_bytes, uint64_t length_bytes);
int blkpg_resize(int disk_fd, unsigned number, uint64_t start_bytes, uint64_t length_bytes);
int blkpg_round_down(const char *device, unsigned multiple_bytes);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/tabledisk.h - a disk opened by libfdisk, and the cleanups of its types */
#pragma once

#include <libfdisk/libfdisk.h>

int tabledisk_open(const char *disk, int is_read_only, struct fdisk_context **ret);
void tabledisk_contextp(struct fdisk_context **context);
void tabledisk_tablep(struct fdisk_table **table);
void tabledisk_partitionp(struct fdisk_partition **partition);
void tabledisk_iteratorp(struct fdisk_iter **iterator);

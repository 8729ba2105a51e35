/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/tabledisk.h"

#include <errno.h>

#include "base/cleanup.h"

void tabledisk_contextp(struct fdisk_context **context)
{
	if (*context)
		fdisk_unref_context(*context);
}

void tabledisk_tablep(struct fdisk_table **table)
{
	if (*table)
		fdisk_unref_table(*table);
}

void tabledisk_partitionp(struct fdisk_partition **partition)
{
	if (*partition)
		fdisk_unref_partition(*partition);
}

void tabledisk_iteratorp(struct fdisk_iter **iterator)
{
	if (*iterator)
		fdisk_free_iter(*iterator);
}

/**
 * tabledisk_open() - a disk with what table it has, maybe none
 * @ret: free with tabledisk_contextp(), which closes the disk
 *
 * Return: 0 or -errno; only 0 sets @ret.
 */
int tabledisk_open(const char *disk, int is_read_only, struct fdisk_context **ret)
{
	_cleanup_(tabledisk_contextp) struct fdisk_context *context = fdisk_new_context();
	int r;

	if (!context)
		return -ENOMEM;
	(void)fdisk_disable_dialogs(context, 1);
	r = fdisk_assign_device(context, disk, is_read_only);
	if (r < 0)
		return r;
	*ret = steal(context);
	return 0;
}

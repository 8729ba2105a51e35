/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/maptable.h"

#include <errno.h>
#include <libdevmapper.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "volume/luks.h"

static void taskp(struct dm_task **task)
{
	if (*task)
		dm_task_destroy(*task);
}

/**
 * maptable_is_plain() - does a mapping encrypt nothing?
 *
 * So it is between the end of a decryption and the boot that does without it: its name and UUID
 * stay.
 *
 * Return: 0 or -errno.
 */
int maptable_is_plain(const char *name, bool *ret)
{
	_cleanup_(taskp) struct dm_task *task = NULL;
	uint64_t start, length;
	char *type, *parameters;
	void *next = NULL;
	bool is_plain = true;
	int r = luks_prepare();

	if (r < 0)
		return r;
	task = dm_task_create(DM_DEVICE_TABLE);
	if (!task || !dm_task_set_name(task, name))
		return -ENOMEM;
	if (!dm_task_run(task))
		return -EIO;
	do {
		type = NULL;
		next = dm_get_next_target(task, next, &start, &length, &type, &parameters);
		is_plain &= type && strcmp(type, "crypt") != 0;
	} while (next);
	*ret = is_plain;
	return 0;
}

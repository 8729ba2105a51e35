/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/holders.h - which processes keep a filesystem busy
 *
 * Looks through /proc at open files, working and root folders, executables and mapped files;
 * changes nothing. Also names swap files, loop devices and mounts below the mount points.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "volume/inventory.h"

struct holder {
	pid_t pid;  /* 0: the kernel (a loop device, a swap file, a nested mount) */
	char *name; /* command, or what the kernel holds it for */
	char *what; /* "open file /data/x", "working folder /data", … */
};

struct holders {
	struct holder *holders; /* one a process */
	size_t n;
};

void holders_clear(struct holders *holders);
int holders_find(const struct volume *volume, struct holders *ret);

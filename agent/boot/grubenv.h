/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/grubenv.h - what GRUB of the RHEL family keeps from boot to boot
 *
 * Variables in a block of fixed size, /boot/grub2/grubenv. RHEL 8's loader entries take their
 * arguments from one of them, $kernelopts. The block's format is left to grub2-editenv.
 *
 * @root in all functions is a prefix for every path, "" for this system.
 */
#pragma once

enum {
	GRUBENV_E_FAILED = 1, /* grub2-editenv ended with a failure: no room in the block */
};

int grubenv_read(const char *root, const char *name, char **ret);
int grubenv_write(const char *root, const char *name, const char *value, char **ret_detail);

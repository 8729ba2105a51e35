/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/unlock-cmdline.h - which volume the kernel's command line says is the root
 *
 * For an initramfs without our own file. Takes text, does no I/O.
 */
#pragma once

enum {
	UNLOCK_CMDLINE_E_UNKNOWN = 1, /* no root=, or by a name that may be another's tomorrow */
};

int unlock_cmdline_root(const char *cmdline, char **ret_uuid, char **ret_mapping);

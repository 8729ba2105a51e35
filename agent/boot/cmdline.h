/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/cmdline.h - how the kernel is told its root
 *
 * A root that is named by its filesystem's UUID is found plain and encrypted alike. Makes all boot
 * entries, present and future, say so by adding one more root= at the end: the kernel,
 * initramfs-tools, dracut and systemd all take the last one, and what was there stays to come back
 * to. Entries that say so already are left alone.
 *
 * @root in all functions is a prefix for every path, "" for this system.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CMDLINE_MAX_BYTES (64 * 1024) /* the kernel's own limit is 2 to 4 KiB */

enum {
	CMDLINE_E_NO_LOADER =
		1,            /* no GRUB menu and no loader entries: a unified image, or unknown */
	CMDLINE_E_OTHER_ROOT, /* an entry names the root otherwise, and nothing changes that */
	CMDLINE_E_FAILED,     /* grub-mkconfig or grub2-editenv ended with a failure */
};

int cmdline_find_root(const char *path, char **ret);
int cmdline_check_root(const char *root, const char *uuid, char **ret_detail);
int cmdline_can_set_root(const char *root, const char *uuid, char **ret_detail);
int cmdline_set_root(const char *root, const char *uuid, char **ret_detail);
int cmdline_reset_root(const char *root, const char *uuid, char **ret_detail);

int cmdline_has_menu(const char *root);
int cmdline_make_menu(const char *root, char **ret_detail);

/* Pure halves, for tests and fuzzing. */
int cmdline_root_of(const char *arguments, size_t size, char **ret);
int cmdline_add_root(const char *text, const char *key, const char *uuid, char **ret);
int cmdline_remove_root(const char *text, const char *key, const char *uuid, char **ret);
bool cmdline_is_uuid(const char *uuid);
bool cmdline_is_by_uuid(const char *root, const char *uuid);

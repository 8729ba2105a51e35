/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/loader.h - what the boot loader offers
 *
 * Boot Loader Specification entries (loader/entries/NAME.conf: RHEL, Fedora, systemd-boot) and
 * GRUB's menu (grub.cfg), as far as kernels, images and arguments go. Only reads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define LOADER_FILE_MAX_BYTES (4 * 1024 * 1024) /* a grub.cfg of some hundred kernels */
#define LOADER_ENTRIES_MAX    1024

struct loader_entry {
	char *path;     /* of the entry's file, with the prefix */
	char *version;  /* the kernel's; or NULL */
	char *initrd;   /* path of the last image that is there, with the prefix; or NULL */
	char *options;  /* all of them, joined by blanks; or NULL */
	bool is_kernel; /* not a memory test */
	bool is_orphan; /* the kernel's file is gone */
};

struct loader_entries {
	struct loader_entry *entries;
	size_t n;
};

void loader_entries_clear(struct loader_entries *entries);
int loader_entries_read(const char *root, struct loader_entries *ret);
int loader_entry_parse(const char *text, struct loader_entry *ret, char **ret_kernel,
		       char **ret_initrds);

/* one line of a menu that starts a kernel of this system */
struct loader_line {
	size_t number; /* from 1 */
	const char *arguments;
	size_t size;
};

struct loader_menu {
	const char *at; /* the text, at first */
	size_t number;
	bool is_foreign; /* between the marks of os-prober's part */
};

bool loader_menu_next(struct loader_menu *menu, struct loader_line *ret);
bool loader_menu_has_entries(const char *text);

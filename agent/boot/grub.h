/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/grub.h - GRUB follows /boot to another filesystem
 *
 * Its core, in the gap before the partitions or on the EFI system partition, knows by UUID and path
 * where its menu is: GRUB's own tools write it anew, and what they leave of the old place on the
 * EFI system partition is corrected. Never touches firmware variables.
 */
#pragma once

enum {
	GRUB_E_FAILED = 1, /* grub-install ended with a failure, or is not made for this machine */
	GRUB_E_NO_TOOL,    /* there is no grub-install, nor a GRUB that starts by itself */
};

/* Where the menu lies: the filesystem, and the folder on it ("/boot/grub", or "/grub" where /boot
 * is its own). */
struct grub_place {
	const char *uuid, *folder;
};

int grub_can_follow(const char *disk, const struct grub_place *from, char **ret_why);
int grub_install(const char *disk, const struct grub_place *from, const struct grub_place *to,
		 char **ret_detail);

/* Pure half, for tests: 1 when something changed. */
int grub_stub_follow_text(const char *text, const struct grub_place *from,
			  const struct grub_place *to, char **ret);

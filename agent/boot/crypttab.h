/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/crypttab.h - /etc/crypttab, entry by entry
 *
 * One entry a volume, so that systemd's and Debian's own tools know the mapping (crypttab(5)); all
 * other bytes stay. Entries are "noauto,nofail": vmcrypt-unlock opens all volumes with one batch of
 * keys, and a person can still say `systemctl start systemd-cryptsetup@NAME` and type a recovery
 * key. Swap space is for systemd alone: it has a random key.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CRYPTTAB_MAX_BYTES (1024 * 1024) /* as FSTAB_MAX_BYTES */

enum {
	CRYPTTAB_E_MALFORMED = 1, /* not text, NUL inside, or too large */
	CRYPTTAB_E_TAKEN,         /* the name stands there already with another device */
};

struct crypttab_entry {
	char *name;     /* below /dev/mapper */
	char *device;   /* UUID=… or a path */
	char *header;   /* path of a detached header, or NULL */
	bool is_initrd; /* opened in the initramfs and kept until the very end: x-initrd.attach */
	bool is_swap; /* swap space with a new random key at each boot, opened by systemd itself */
};

struct crypttab_entries {
	struct crypttab_entry *entries;
	size_t n;
};

void crypttab_entries_clear(struct crypttab_entries *entries);
int crypttab_read(const char *path, struct crypttab_entries *ret); /* absent file: none */
int crypttab_add(const char *path, const struct crypttab_entry *entry);
int crypttab_point(const char *path, const struct crypttab_entry *entry);
int crypttab_remove(const char *path, const char *name);

int crypttab_add_text(const char *text, const struct crypttab_entry *entry, char **ret);
int crypttab_point_text(const char *text, const struct crypttab_entry *entry, char **ret);
int crypttab_remove_text(const char *text, const char *name, char **ret);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/fstab.h - /etc/fstab, entry by entry
 *
 * Changes the entries of one volume and leaves every other byte of the file as it was; replaces the
 * file atomically. What an entry was before is kept by the caller (it is returned), so that it
 * comes back byte for byte. Never mounts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define FSTAB_MAX_BYTES (1024 * 1024) /* a thousand mounts at a kilobyte each */

enum {
	FSTAB_E_MALFORMED = 1, /* not text, NUL inside, or too large */
	FSTAB_E_TAKEN,         /* something else is mounted there */
};

/* One entry that names the volume. Line numbers from 1. */
struct fstab_entry {
	size_t line;
	char *original;                       /* the whole line as it was, without its newline */
	char *spec, *target, *type, *options; /* decoded (\\040 and friends) */
};

struct fstab_entries {
	struct fstab_entry *entries;
	size_t n;
};

/* What a spec may name: any of these that is not NULL matches UUID=, LABEL=, PARTUUID=, PARTLABEL=,
 * a path or a link to the device. */
struct fstab_device {
	const char *path; /* /dev/sdc1; symbolic links in specs are resolved below @root's /dev */
	const char *uuid, *label, *partition_uuid, *partition_label;
	const char *mapping; /* name below /dev/mapper, or NULL */
};

void fstab_entries_clear(struct fstab_entries *entries);
int fstab_find(const char *path, const struct fstab_device *device, struct fstab_entries *ret);

/* Give every entry of the volume the spec @spec (NULL: keep it) and the option nofail (but the root
 * and /usr, without which there is no machine). */
int fstab_encrypt(const char *path, const struct fstab_device *device, const char *spec,
		  struct fstab_entries *ret_before);
/* Put lines back: each entry with the same target whose line is what fstab_encrypt() made becomes
 * @before's line again; one that a person has changed meanwhile keeps their changes but for the
 * spec and the added nofail; one that they have added, by the mapping, gets the UUID. */
int fstab_restore(const char *path, const struct fstab_device *device,
		  const struct fstab_entries *before);

/* One line more, as given, before those of what is mounted below @target; and without it. */
int fstab_add(const char *path, const char *target, const char *line);
int fstab_remove(const char *path, const char *line);

/* Pure halves, for tests and fuzzing: text in, new text out; 1 when something changed. */
int fstab_encrypt_text(const char *text, const struct fstab_device *device, const char *spec,
		       char **ret, struct fstab_entries *ret_before);
int fstab_restore_text(const char *text, const struct fstab_device *device,
		       const struct fstab_entries *before, char **ret);
int fstab_add_text(const char *text, const char *target, const char *line, char **ret);
int fstab_remove_text(const char *text, const char *line, char **ret);

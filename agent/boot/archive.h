/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/archive.h - what lies in an initramfs image
 *
 * An image is a row of cpio archives: plain ones first (microcode, firmware), then one that is
 * compressed. Walks all of them and shows each entry. The distribution's own tool decompresses, in
 * a process of its own: the worker lies in the initramfs and locks all its memory, so it links no
 * library for that. Never writes, never unpacks.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#define ARCHIVE_NAME_MAX_BYTES 4096        /* the kernel skips an entry with a longer one */
#define ARCHIVE_DATA_MAX_BYTES (64 * 1024) /* of a file whose content is shown */
#define ARCHIVE_MAX_BYTES      (4ULL * 1024 * 1024 * 1024) /* it unpacks into memory */

enum {
	ARCHIVE_E_DAMAGED = 1, /* no initramfs image, or half of one */
	ARCHIVE_E_NO_TOOL,     /* what decompresses it is not installed */
	ARCHIVE_E_COMPRESSED,  /* of archive_walk_plain() only: the rest is compressed */
};

struct archive_entry {
	const char *name; /* as it stands there: "usr/bin/sh", "./usr/bin/sh" … */
	uint32_t mode;    /* as st_mode */
	uint32_t links;
	uint64_t size_bytes;
	const char *data; /* NUL-terminated; NULL when larger than ARCHIVE_DATA_MAX_BYTES */
};

/* shows one entry, borrowed; a negative value ends the walk and is returned by it */
typedef int archive_visit(void *context, const struct archive_entry *entry);

int archive_walk(const char *path, archive_visit *visit, void *context);
int archive_walk_plain(FILE *in, archive_visit *visit, void *context, uint64_t *ret_offset);

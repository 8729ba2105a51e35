/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/luks.h - one way to open a LUKS2 header with libcryptsetup
 *
 * For the modules of this room only. Sends the library's messages to the debug log, keeps it from
 * loading token plugins into our processes, and makes its lock folder.
 */
#pragma once

#include <libcryptsetup.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "volume/segments.h"

#define LUKS_JSON_MAX_BYTES (4 * 1024 * 1024) /* the largest JSON area of the on-disk format */

/* While it lives, @fd is flushed before the library can write metadata; see luks_flush_begin(). */
struct luks_flush {
	struct crypt_device *cd;
	int fd, error;
	unsigned flushes;
};

void luks_freep(struct crypt_device **cd);
int luks_prepare(void);
int luks_init(const char *device, const char *file, struct crypt_device **ret);
int luks_open(const char *device, const char *file, struct crypt_device **ret);
int luks_set_minimal_pbkdf(struct crypt_device *cd);
int luks_json(struct crypt_device *cd, struct json_object **ret);
int luks_segments(struct crypt_device *cd, const char *device, struct segments *ret);
bool luks_is_plain(const struct segments *segments, crypt_reencrypt_info state);
int luks_is_signed(const char *path, bool *ret);

int header_filesystem_uuid(struct crypt_device *cd, char **ret);

int luks_flush_begin(struct crypt_device *cd, const char *device, struct luks_flush *flush);
int luks_flush_end(struct luks_flush *flush);

int luks_open_exclusive(const char *device, int *ret);

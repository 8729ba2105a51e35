/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/mapping.h - the device-mapper node over a volume
 *
 * Opens and closes; a step of a conversion that was cut is recovered by opening (libcryptsetup does
 * it).
 */
#pragma once

#include <stdbool.h>

#include "base/secret.h"

/* 0, HEADER_E_* or -errno; @file NULL = attached header.
 * Waits for udev, so that links to the new node are there on return. */
int mapping_open(const char *device, const char *file, const char *name,
		 const struct secret *passphrase);
int mapping_resize(const char *file, const char *name, const struct secret *passphrase);
int mapping_close(const char *name);       /* 0, HEADER_E_BUSY or -errno; absent is 0 */
int mapping_close_later(const char *name); /* when its last user goes */
int mapping_is_active(const char *name, bool *ret);
int mapping_path(const char *name, char **ret);

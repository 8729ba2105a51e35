/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot/pairs.h - lines of KEY=VALUE, as sh reads them and we do
 *
 * What the initramfs is told. Values are of letters that sh takes each for itself; a person may
 * have put quotes around them. Never evaluates anything.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define PAIRS_MAX_BYTES 1024 /* of one line; the longest value is a path */

int pairs_next(const char **at, const char *end, char **ret_name, char **ret_value);
void pairs_unquote(char *value);

bool pairs_is_uuid(const char *value);
bool pairs_is_type(const char *value); /* of a filesystem */
bool pairs_is_path(const char *value); /* absolute, nothing that climbs */
bool pairs_is_device(const char *value);
bool pairs_is_name(const char *value); /* of a file */

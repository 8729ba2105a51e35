/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* key/file.h - the provider "file": a passphrase in a file that only root reads
 *
 * For machines without a vault, and for tests. The whole content is the passphrase. Never follows a
 * symbolic link, never overwrites a passphrase with another one, never deletes one.
 */
#pragma once

#include "base/secret.h"

/* Conditions are those of key/client.h. */
int key_file_store(const char *directory, const char *name, const struct secret *passphrase,
		   char **ret_path);
int key_file_fetch(const char *path, struct secret **ret);

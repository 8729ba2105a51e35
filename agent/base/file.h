/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* base/file.h - files that are whole or absent
 *
 * Replaces a file so that a reader, also after a power cut, sees the old or the new content; reads
 * with a bound; numbers with range checks. Never follows a symbolic link for what it replaces.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int file_read(const char *path, size_t max_bytes, char **ret, size_t *ret_size);
int file_write_atomic(const char *path, const void *data, size_t size_bytes, mode_t mode);
int file_copy(const char *from, const char *to, mode_t mode);
int file_copy_range(const char *from, uint64_t from_bytes, const char *to, uint64_t to_bytes,
		    uint64_t size_bytes, int to_flags);
int file_write_volatile(const char *path, const void *data, size_t size_bytes, mode_t mode);
int file_remove_durably(const char *path);
int file_lock(const char *path, int *ret_fd);
int file_sync_path(const char *path);
int file_sync_parent(const char *path);

int directory_make(const char *path, mode_t mode);
int directory_free_bytes(const char *path, uint64_t *ret_bytes);

int number_parse_u64(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret);
int text_copy(const char *from, char **ret);
int text_format(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));

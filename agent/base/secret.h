/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* base/secret.h - bytes that must not leak
 *
 * A secret lives in its own locked pages: never swapped, never in a core dump, wiped in a forked
 * child, wiped on free. It has no NUL, no format, no copy constructor; it travels as a pointer or
 * through a descriptor. Never logs, never writes files.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECRET_MAX_BYTES (512 * 1024) /* twice the largest reply that we accept from a vault */

struct secret;

int secret_new(size_t capacity_bytes, struct secret **ret);
int secret_new_random(size_t size_bytes, struct secret **ret);
struct secret *secret_free(struct secret *secret);
void secret_freep(struct secret **secret);

uint8_t *secret_bytes(struct secret *secret);
const uint8_t *secret_bytes_const(const struct secret *secret);
size_t secret_size(const struct secret *secret);
size_t secret_capacity(const struct secret *secret);
void secret_set_size(struct secret *secret, size_t size_bytes);
int secret_append(struct secret *secret, const void *bytes, size_t size_bytes);
bool secret_equal(const struct secret *a, const struct secret *b);

int secret_read_fd(int fd, size_t size_bytes, struct secret **ret);
int secret_read_fd_to_end(int fd, size_t max_bytes, struct secret **ret);
int secret_write_fd(int fd, const struct secret *secret);

int secret_process_harden(void);

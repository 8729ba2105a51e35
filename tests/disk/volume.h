/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* disk/volume.h - a volume in a plain file, for the tests of headers and conversions
 *
 * libcryptsetup converts a file without device-mapper. The filesystem's content comes from a seed,
 * so that each run has its own and any run can be repeated.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/secret.h"
#include "volume/header.h"

#define DEVICE_BYTES     (96ULL * 1024 * 1024)
#define FILESYSTEM_BYTES (DEVICE_BYTES - 2 * HEADER_SHIFT_BYTES)

#define PASSPHRASE "nQ7m1nq3mF0d2XyWJ4kqk1uPDdY0rS5e8bT6vLzHcA9"
#define RECOVERY   "ABCD-EFGH-JKLM-NPQR-STUV"

struct test_volume {
	char directory[64], uuid[40];
	char *device, *file,
		*header; /* backing device; built header; NULL or the header after the commit */
	char *backup;    /* header as built */
	char *original;  /* copy of the filesystem as it was */
	struct json_object *reference;
	struct header_token token;
	struct header_plan plan;
	struct secret *passphrase, *recovery;
};

uint64_t seed_get(void);
uint64_t random_below(uint64_t bound);
struct secret *secret_of(const char *text);

void volume_setup(struct test_volume *volume, bool is_detached);
void volume_teardown(struct test_volume *volume);
bool volume_is_as_before(const struct test_volume *volume); /* plain again: bytes, and e2fsck */
int run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/segments.h - how much of a volume is encrypted, from its header's JSON
 *
 * Pure: takes the JSON area as libcryptsetup dumps it, touches no device.
 * Source: LUKS2 on-disk format specification, "Segments object" and "Reencryption".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

#define SEGMENTS_MAX                                                                               \
	64 /* libcryptsetup makes at most 8; the format has no limit but the JSON area */

struct segments {
	uint64_t data_bytes, encrypted_bytes;
	uint64_t moved_offset_bytes; /* where the first segment was parked; 0 = nothing was moved */
	unsigned sector_bytes;       /* of the encryption; 0 = nothing is or will be encrypted */
	unsigned keyslots;           /* without the reencryption's */
	const char *cipher;          /* borrowed from the JSON; NULL as sector_bytes 0 */
	bool is_decrypting;
	bool is_first_hot; /* the step at the very beginning of the data was cut (or runs) */
};

int segments_from_json(struct json_object *header, uint64_t device_bytes, struct segments *ret);

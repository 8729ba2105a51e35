/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* base/base64.h - base64url and base64 of key bytes, without branches on the data
 *
 * RFC 4648 sections 4 and 5. Encoding is unpadded base64url; decoding takes both alphabets, with or
 * without padding. No table look-ups and no branches that depend on the bytes, so that timing and
 * cache say nothing of them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define BASE64_ENCODED_SIZE(n) (((n)*4 + 2) / 3)
#define BASE64_DECODED_SIZE(n) (((n) / 4) * 3 + 3)

size_t base64url_encode(const uint8_t *bytes, size_t size_bytes, char *out);
int base64_decode(const char *text, size_t size_bytes, uint8_t *out, size_t *ret_size);

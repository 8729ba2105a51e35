/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/base64.h"

#include <errno.h>
#include <stdint.h>

/* 0xff when a <= x <= b, else 0; x, a, b in 0..255 */
static unsigned in_range(unsigned x, unsigned a, unsigned b)
{
	return (((a - 1 - x) & (x - 1 - b)) >> 8) & 0xff;
}

/* six bits to a letter of the base64url alphabet (RFC 4648, table 2) */
static char encode_six(unsigned v)
{
	unsigned letter = 0;

	letter |= in_range(v, 0, 25) & (v + 'A');
	letter |= in_range(v, 26, 51) & (v - 26 + 'a');
	letter |= in_range(v, 52, 61) & (v - 52 + '0');
	letter |= in_range(v, 62, 62) & '-';
	letter |= in_range(v, 63, 63) & '_';
	return (char)letter;
}

/* a letter of either alphabet to six bits; bit 8 is set for any other letter */
static unsigned decode_six(unsigned c)
{
	unsigned known = 0, v = 0, m;

	m = in_range(c, 'A', 'Z'), known |= m, v |= m & (c - 'A');
	m = in_range(c, 'a', 'z'), known |= m, v |= m & (c - 'a' + 26);
	m = in_range(c, '0', '9'), known |= m, v |= m & (c - '0' + 52);
	m = in_range(c, '-', '-') | in_range(c, '+', '+'), known |= m, v |= m & 62;
	m = in_range(c, '_', '_') | in_range(c, '/', '/'), known |= m, v |= m & 63;
	return v | ((~known & 1) << 8);
}

/**
 * base64url_encode() - unpadded base64url
 * @out: BASE64_ENCODED_SIZE(size_bytes) letters, no NUL
 *
 * Return: letters written.
 */
size_t base64url_encode(const uint8_t *bytes, size_t size_bytes, char *out)
{
	size_t written = 0;

	for (size_t i = 0; i < size_bytes; i += 3) {
		unsigned left = size_bytes - i < 3 ? (unsigned)(size_bytes - i) : 3;
		unsigned group = (unsigned)bytes[i] << 16;

		if (left > 1)
			group |= (unsigned)bytes[i + 1] << 8;
		if (left > 2)
			group |= bytes[i + 2];
		for (unsigned j = 0; j < left + 1; j++)
			out[written++] = encode_six((group >> (18 - 6 * j)) & 63);
	}
	return written;
}

/**
 * base64_decode() - base64 or base64url, padded or not
 * @out:      BASE64_DECODED_SIZE(size_bytes) bytes; may be the same memory as @text
 * @ret_size: bytes written
 *
 * Return: 0 or -EBADMSG; @out then holds rubbish.
 */
int base64_decode(const char *text, size_t size_bytes, uint8_t *out, size_t *ret_size)
{
	size_t written = 0;
	unsigned bad = 0;

	for (int padding = 0; padding < 2 && size_bytes > 0 && text[size_bytes - 1] == '=';
	     padding++)
		size_bytes--;
	if (size_bytes % 4 == 1)
		return -EBADMSG;

	for (size_t i = 0; i < size_bytes; i += 4) {
		unsigned left = size_bytes - i < 4 ? (unsigned)(size_bytes - i) : 4;
		unsigned group = 0;

		for (unsigned j = 0; j < left; j++) {
			unsigned six = decode_six((uint8_t)text[i + j]);

			bad |= six >> 8;
			group |= (six & 63) << (18 - 6 * j);
		}
		/* the bits that no byte uses must be zero, or two texts would mean one value */
		if (left == 2)
			bad |= group & 0xffff;
		if (left == 3)
			bad |= group & 0xff;
		for (unsigned j = 0; j + 1 < left; j++)
			out[written++] = (uint8_t)(group >> (16 - 8 * j));
	}
	if (bad)
		return -EBADMSG;
	*ret_size = written;
	return 0;
}

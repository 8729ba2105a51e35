/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/recovery.h"

#include <stdbool.h>

#include "base/cleanup.h"
#include "key/passphrase.h"

/* The form: eight groups of eight letters, five bits a letter.
 *
 *   letter   0                1 … 6     7
 *   bits     3 group, 2 data  30 data   5 check
 *
 * The group's number in it finds groups that were swapped. The check letter is a Reed-Solomon
 * remainder over GF(32): the letters, as coefficients of a polynomial, are zero at the generator.
 * Its powers 0..7 differ from each other and from zero, so that every single wrong letter and every
 * swap of two letters inside a group changes the remainder.
 */
#define GROUPS         8
#define GROUP_LETTERS  8
#define GROUP_BYTES    4
#define LETTERS        (GROUPS * GROUP_LETTERS)
#define TEXT_BYTES     (LETTERS + GROUPS - 1) /* a hyphen between two groups */
#define FIELD_MODULUS  0x25                   /* x^5 + x^2 + 1, whose root generates GF(32) */
#define UNKNOWN_LETTER 0x80

/* Crockford's base32: no I, L, O, U. Behind the 32 letters, those that people read in their place.
 */
static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZOIL";
static const char meanings[] = { 0, 1, 1 }; /* of O, I, L */

/* 0xff when a == b, else 0; both in 0..255; without a branch, since they are a passphrase's letters
 */
static unsigned is_equal(unsigned a, unsigned b)
{
	return (((a ^ b) - 1) >> 8) & 0xff;
}

static char encode_five(unsigned five)
{
	unsigned letter = 0;

	for (unsigned i = 0; i < 32; i++)
		letter |= is_equal(i, five) & (uint8_t)alphabet[i];
	return (char)letter;
}

static unsigned decode_letter(uint8_t c)
{
	unsigned five = 0, known = 0;

	/* lower to upper case: bit 5 of the letters between 'a' and 'z' */
	c = (uint8_t)(c ^ ((((unsigned)'a' - 1 - c) & (c - (unsigned)'z' - 1)) >> 8 & 0x20));
	for (unsigned i = 0; i < sizeof(alphabet) - 1; i++) {
		unsigned mask = is_equal(c, (uint8_t)alphabet[i]);

		known |= mask;
		five |= mask & (i < 32 ? i : (unsigned)meanings[i - 32]);
	}
	return five | (~known & UNKNOWN_LETTER);
}

static unsigned remainder_add(unsigned remainder, unsigned five)
{
	remainder <<= 1;
	remainder ^= (0U - (remainder >> 5)) & FIELD_MODULUS;
	return remainder ^ five;
}

/* eight letters of five bits; @group from 0, @bytes is GROUP_BYTES long */
static void group_encode(unsigned group, const uint8_t *bytes, char *out)
{
	uint64_t bits = group;
	unsigned remainder = 0;

	for (unsigned i = 0; i < GROUP_BYTES; i++)
		bits = bits << 8 | bytes[i];
	for (unsigned i = 0; i < GROUP_LETTERS - 1; i++) {
		unsigned five = (unsigned)(bits >> (5 * (GROUP_LETTERS - 2 - i))) & 31;

		remainder = remainder_add(remainder, five);
		out[i] = encode_five(five);
	}
	out[GROUP_LETTERS - 1] = encode_five(remainder_add(remainder, 0));
}

static bool group_is_right(unsigned group, const char *letters)
{
	unsigned remainder = 0;

	for (unsigned i = 0; i < GROUP_LETTERS; i++)
		remainder = remainder_add(remainder, decode_letter((uint8_t)letters[i]));
	return remainder == 0 && decode_letter((uint8_t)letters[0]) >> 2 == group;
}

/**
 * recovery_generate() - 256 random bits as text for a person
 * @ret: owned by the caller; "XXXXXXXX-XXXXXXXX-…", 71 letters
 *
 * Return: 0 or -errno (-ENOMEM: raise LimitMEMLOCK=).
 */
int recovery_generate(struct secret **ret)
{
	_cleanup_(secret_freep) struct secret *random = NULL, *text = NULL;
	char *out;
	int r;

	r = secret_new_random(GROUPS * GROUP_BYTES, &random);
	if (r < 0)
		return r;
	r = secret_new(TEXT_BYTES, &text);
	if (r < 0)
		return r;
	out = (char *)secret_bytes(text);
	for (unsigned group = 0; group < GROUPS; group++) {
		if (group > 0)
			*out++ = '-';
		group_encode(group, secret_bytes(random) + group * GROUP_BYTES, out);
		out += GROUP_LETTERS;
	}
	secret_set_size(text, TEXT_BYTES);
	*ret = steal(text);
	return 0;
}

/**
 * recovery_normalize() - what a person typed, as it was printed
 * @typed:     borrowed; any case, with or without hyphens and blanks, O for 0, I or L for 1
 * @ret:       the keyslot's passphrase; owned by the caller
 * @ret_group: on RECOVERY_E_TYPO the first group that does not fit, from 1; may be NULL
 *
 * Return: 0, RECOVERY_E_FORM, RECOVERY_E_TYPO or -errno; only 0 sets @ret.
 */
int recovery_normalize(const struct secret *typed, struct secret **ret, unsigned *ret_group)
{
	_cleanup_(secret_freep) struct secret *text = NULL;
	const uint8_t *bytes = secret_bytes_const(typed);
	size_t letters = 0;
	char *out;
	int r;

	if (secret_size(typed) > PASSPHRASE_MAX_BYTES)
		return RECOVERY_E_FORM;
	r = secret_new(TEXT_BYTES, &text);
	if (r < 0)
		return r;
	out = (char *)secret_bytes(text);
	for (size_t i = 0; i < secret_size(typed); i++) {
		unsigned five;

		if (bytes[i] == '-' || bytes[i] == ' ' || (bytes[i] >= '\t' && bytes[i] <= '\r'))
			continue;
		five = decode_letter(bytes[i]);
		if (five == UNKNOWN_LETTER || letters == LETTERS)
			return RECOVERY_E_FORM;
		if (letters > 0 && letters % GROUP_LETTERS == 0)
			*out++ = '-';
		*out++ = encode_five(five);
		letters++;
	}
	if (letters != LETTERS)
		return RECOVERY_E_FORM;

	out = (char *)secret_bytes(text);
	for (unsigned group = 0; group < GROUPS; group++) {
		if (group_is_right(group, out + group * (GROUP_LETTERS + 1)))
			continue;
		if (ret_group)
			*ret_group = group + 1;
		return RECOVERY_E_TYPO;
	}
	secret_set_size(text, TEXT_BYTES);
	*ret = steal(text);
	return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>

#include "key/recovery.h"
#include "test.h"

#define GROUP 9 /* letters with the hyphen */

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* one from a safe; it has what people mix up, 0 and 1 */
static const char printed[] = "3CRYPE4V-5Q6DK85Z-BZHD1J67-CE3AVK2J-K3EJMRSJ-Q0AKCG9C-R0696ECW-"
			      "Z0HC9HC0";

static struct secret *secret_from(const char *text)
{
	struct secret *secret;

	assert_int_equal(secret_new(1024, &secret), 0);
	assert_int_equal(secret_append(secret, text, strlen(text)), 0);
	return secret;
}

static void generate(char text[72])
{
	_cleanup_(secret_freep) struct secret *secret = NULL;

	assert_int_equal(recovery_generate(&secret), 0);
	assert_int_equal(secret_size(secret), 71);
	memcpy(text, secret_bytes(secret), 71);
	text[71] = '\0';
}

/* the condition; when it is 0, what came out must be @expected */
static int normalize(const char *typed, const char *expected, unsigned *group)
{
	_cleanup_(secret_freep) struct secret *in = secret_from(typed), *out = NULL;
	int r = recovery_normalize(in, &out, group);

	assert_int_equal(r == 0, out != NULL);
	if (out) {
		assert_int_equal(secret_size(out), strlen(expected));
		assert_memory_equal(secret_bytes(out), expected, strlen(expected));
	}
	return r;
}

static void test_form(void **state)
{
	char text[72], other[72];

	generate(text);
	generate(other);
	assert_string_not_equal(text, other);
	for (size_t i = 0; i < 71; i++)
		assert_true(i % GROUP == 8 ? text[i] == '-' : strchr(alphabet, text[i]) != NULL);
	assert_int_equal(normalize(text, text, NULL), 0);
}

static void test_what_people_type(void **state)
{
	const char *text = printed;
	char typed[256];
	unsigned group;
	size_t n = 0;

	for (size_t i = 0; i < 71; i++)
		typed[i] = (char)tolower(text[i]);
	typed[71] = '\0';
	assert_int_equal(normalize(typed, text, &group), 0);

	for (size_t i = 0; i < 71; i++)
		if (text[i] != '-')
			typed[n++] = text[i] == '0' ? 'O' : text[i] == '1' ? 'I' : text[i];
	typed[n] = '\0';
	assert_int_equal(normalize(typed, text, &group), 0);

	n = 0;
	typed[n++] = '\t';
	for (size_t i = 0; i < 71; i++) {
		typed[n++] = text[i] == '0' ? 'o' : text[i] == '1' ? 'l' : text[i];
		if (i % 4 == 3)
			typed[n++] = ' ';
	}
	(void)snprintf(typed + n, sizeof(typed) - n, "\r\n");
	assert_int_equal(normalize(typed, text, &group), 0);
}

static void test_wrong_forms(void **state)
{
	char text[72], typed[128];

	generate(text);
	assert_int_equal(normalize("", text, NULL), RECOVERY_E_FORM);
	assert_int_equal(normalize("-- -", text, NULL), RECOVERY_E_FORM);
	(void)snprintf(typed, sizeof(typed), "%.70s", text);
	assert_int_equal(normalize(typed, text, NULL), RECOVERY_E_FORM);
	(void)snprintf(typed, sizeof(typed), "%s0", text);
	assert_int_equal(normalize(typed, text, NULL), RECOVERY_E_FORM);
	for (int c = 1; c < 256; c++) {
		bool is_known = strchr(alphabet, toupper(c)) || strchr("oOiIlL", c);

		if (is_known || c == ' ' || c == '-' || (c >= '\t' && c <= '\r'))
			continue;
		(void)snprintf(typed, sizeof(typed), "%s", text);
		typed[20] = (char)c;
		assert_int_equal(normalize(typed, text, NULL), RECOVERY_E_FORM);
	}
}

/* every wrong letter at every place of every group, and the group is named */
static void test_every_wrong_letter_is_found(void **state)
{
	char text[72];

	generate(text);
	for (size_t i = 0; i < 71; i++) {
		char right = text[i];

		if (right == '-')
			continue;
		for (const char *c = alphabet; *c; c++) {
			unsigned group = 0;

			text[i] = *c;
			assert_int_equal(normalize(text, text, &group),
					 *c == right ? 0 : RECOVERY_E_TYPO);
			assert_int_equal(group, *c == right ? 0 : i / GROUP + 1);
		}
		text[i] = right;
	}
}

/* which letter of the alphabet makes group 3 right; -1 when none does */
static int find_check(char text[72])
{
	for (int i = 0; i < 32; i++) {
		text[2 * GROUP + 7] = alphabet[i];
		if (normalize(text, text, NULL) == 0)
			return i;
	}
	return -1;
}

/* every pair of neighbours with every two letters, in one group: all that can be swapped is tried
 */
static void test_every_swap_of_neighbours_is_found(void **state)
{
	char text[72], *letters = text + 2 * GROUP;
	int changes[7][32], check;
	size_t tried = 0;

	generate(text);
	check = find_check(text);
	assert_true(check >= 0);
	/* how each letter changes the check; that these add up is asserted below for every pair */
	for (size_t at = 0; at < 7; at++) {
		char before = letters[at];

		for (int a = 0; a < 32; a++) {
			letters[at] = alphabet[a];
			changes[at][a] = find_check(text);
			/* the first letter also holds the group's number, and so has four values */
			assert_true(at == 0 || changes[at][a] >= 0);
			if (changes[at][a] >= 0)
				changes[at][a] ^= check;
		}
		letters[at] = before;
	}
	for (size_t at = 0; at < 7; at++) {
		char before[8];

		memcpy(before, letters, 8);
		for (int i = 0; i < (at < 6 ? 32 * 32 : 32); i++) {
			int a = i % 32, b = i / 32;
			unsigned group = 0;
			char first;

			if (changes[at][a] < 0)
				continue;
			letters[at] = alphabet[a];
			letters[7] = alphabet[check ^ changes[at][a] ^
					      (at < 6 ? changes[at + 1][b] : 0)];
			if (at < 6)
				letters[at + 1] = alphabet[b];
			assert_int_equal(normalize(text, text, NULL), 0);
			if (letters[at] == letters[at + 1])
				continue;
			first = letters[at];
			letters[at] = letters[at + 1];
			letters[at + 1] = first;
			assert_int_equal(normalize(text, text, &group), RECOVERY_E_TYPO);
			assert_int_equal(group, 3);
			tried++;
		}
		memcpy(letters, before, 8);
	}
	/* 4 first letters and 5 times 32 with 31 others; one letter is its own check letter */
	assert_int_equal(tried, 4 * 31 + 5 * 32 * 31 + 31);
}

static void test_swapped_groups_are_found(void **state)
{
	char text[72], swapped[72];

	generate(text);
	for (size_t a = 0; a < 8; a++) {
		for (size_t b = a + 1; b < 8; b++) {
			unsigned group = 0;

			memcpy(swapped, text, sizeof(text));
			memcpy(swapped + a * GROUP, text + b * GROUP, 8);
			memcpy(swapped + b * GROUP, text + a * GROUP, 8);
			assert_int_equal(normalize(swapped, text, &group), RECOVERY_E_TYPO);
			assert_int_equal(group, a + 1);
		}
	}
}

/* printed keys lie in safes: what was once right stays right */
static void test_a_printed_one_stays_right(void **state)
{
	assert_int_equal(normalize(printed, printed, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_what_people_type),
		cmocka_unit_test(test_wrong_forms),
		cmocka_unit_test(test_every_wrong_letter_is_found),
		cmocka_unit_test(test_every_swap_of_neighbours_is_found),
		cmocka_unit_test(test_swapped_groups_are_found),
		cmocka_unit_test(test_a_printed_one_stays_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/base64.h"
#include "test.h"

static void test_decode(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text, *bytes;
		int r;
	} rows[] = {
		{ "nothing",                        "",         "",       0 },
		{ "one byte, RFC 4648",             "Zg",       "f",      0 },
		{ "one byte, padded",               "Zg==",     "f",      0 },
		{ "two bytes",                      "Zm8",      "fo",     0 },
		{ "two bytes, padded",              "Zm8=",     "fo",     0 },
		{ "three bytes",                    "Zm9v",     "foo",    0 },
		{ "six bytes",                      "Zm9vYmFy", "foobar", 0 },
		{ "the url alphabet",               "-_-_",     "\xfb\xff\xbf", 0 },
		{ "the other alphabet",             "+/+/",     "\xfb\xff\xbf", 0 },
		{ "a length that cannot be",        "Zm9vY",    NULL,     -EBADMSG },
		{ "unused bits after one byte",     "Zh",       NULL,     -EBADMSG },
		{ "unused bits after two bytes",    "Zm9",      NULL,     -EBADMSG },
		{ "three padding letters",          "Z===",     NULL,     -EBADMSG },
		{ "padding inside",                 "Zg==Zg==", NULL,     -EBADMSG },
		{ "a blank",                        "Zm 9",     NULL,     -EBADMSG },
		{ "a newline at the end",           "Zm9v\n",   NULL,     -EBADMSG },
		{ "a letter past 127",              "Zm9\xe9",  NULL,     -EBADMSG },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t out[64];
		size_t size = 99;
		int r = base64_decode(rows[i].text, strlen(rows[i].text), out, &size);

		assert_row(rows[i].name, r == rows[i].r);
		if (r < 0)
			continue;
		assert_row(rows[i].name, size == strlen(rows[i].bytes));
		assert_row(rows[i].name, memcmp(out, rows[i].bytes, size) == 0);
	}
}

static void test_every_letter(void **state)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	for (int c = 0; c < 256; c++) {
		const char text[] = { 'A', 'A', 'A', (char)c };
		uint8_t out[3];
		size_t size;
		const char *known = c ? strchr(alphabet, c) : NULL;
		int r = base64_decode(text, 4, out, &size);

		if (c == '=')
			assert_int_equal(size, 2);
		else if (c == '+' || c == '/')
			assert_int_equal(out[2], c == '+' ? 62 : 63);
		else if (known)
			assert_int_equal(out[2], known - alphabet);
		else
			assert_int_equal(r, -EBADMSG);
	}
}

static void test_there_and_back(void **state)
{
	for (size_t size = 0; size < 100; size++) {
		uint8_t bytes[100], back[BASE64_DECODED_SIZE(134)];
		char text[134];
		size_t letters, back_size;

		for (size_t i = 0; i < size; i++)
			bytes[i] = (uint8_t)(i * 151 + size * 29);
		letters = base64url_encode(bytes, size, text);
		assert_int_equal(letters, BASE64_ENCODED_SIZE(size));
		assert_int_equal(base64_decode(text, letters, back, &back_size), 0);
		assert_int_equal(back_size, size);
		assert_memory_equal(back, bytes, size);
		/* in place, as for a vault's reply */
		assert_int_equal(base64_decode(text, letters, (uint8_t *)text, &back_size), 0);
		assert_memory_equal(text, bytes, size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_every_letter),
		cmocka_unit_test(test_there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

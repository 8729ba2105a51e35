/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"
#include "vault/reply.h"

static struct secret *secret_from(const void *bytes, size_t size_bytes)
{
	struct secret *secret;

	assert_int_equal(secret_new(size_bytes + 1, &secret), 0);
	assert_int_equal(secret_append(secret, bytes, size_bytes), 0);
	return secret;
}

static void test_strings(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *body;
		int r;
		const char *value;
	} rows[] = {
		{ "only member",        "{\"value\":\"abc\"}",                             0, "abc" },
		{ "blanks",             " {\t\"value\"\r\n: \"abc\" } \n",                 0, "abc" },
		{ "last",               "{\"a\":1,\"b\":[],\"value\":\"abc\"}",            0, "abc" },
		{ "behind an object",   "{\"a\":{\"value\":\"no\"},\"value\":\"yes\"}",    0, "yes" },
		{ "behind an array",    "{\"a\":[{\"value\":\"no\"},[]],\"value\":\"yes\"}", 0, "yes" },
		{ "behind its own text", "{\"a\":\"\\\"value\\\":\\\"no\\\"\",\"value\":\"yes\"}", 0, "yes" },
		{ "words and numbers",  "{\"a\":true,\"b\":false,\"c\":null,\"d\":-1.5e+3,\"value\":\"x\"}", 0, "x" },
		{ "escapes",            "{\"value\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}",      0, "\"\\/\b\f\n\r\t" },
		{ "a code point",       "{\"value\":\"\\u0041\\u00e9\\u20ac\"}",           0, "A\xc3\xa9\xe2\x82\xac" },
		{ "a surrogate pair",   "{\"value\":\"\\ud83d\\uDE00\"}",                  0, "\xf0\x9f\x98\x80" },
		{ "raw UTF-8",          "{\"value\":\"\xc3\xa9\"}",                        0, "\xc3\xa9" },
		{ "longer name first",  "{\"valueX\":\"no\",\"value\":\"yes\"}",           0, "yes" },
		{ "shorter name first", "{\"valu\":\"no\",\"value\":\"yes\"}",             0, "yes" },

		{ "empty object",       "{}",                            REPLY_E_ABSENT, NULL },
		{ "only inside",        "{\"a\":{\"value\":\"no\"}}",    REPLY_E_ABSENT, NULL },
		{ "a number",           "{\"value\":5}",                 REPLY_E_ABSENT, NULL },
		{ "null",               "{\"value\":null}",              REPLY_E_ABSENT, NULL },
		{ "an empty string",    "{\"value\":\"\"}",              REPLY_E_ABSENT, NULL },
		{ "an object",          "{\"value\":{\"value\":\"x\"}}", REPLY_E_ABSENT, NULL },

		{ "nothing",            "",                              REPLY_E_FORM, NULL },
		{ "blanks only",        "  ",                            REPLY_E_FORM, NULL },
		{ "HTML",               "<!DOCTYPE html>",               REPLY_E_FORM, NULL },
		{ "an array",           "[\"value\",\"x\"]",             REPLY_E_FORM, NULL },
		{ "twice",              "{\"value\":\"a\",\"value\":\"b\"}", REPLY_E_FORM, NULL },
		{ "twice, once null",   "{\"value\":\"a\",\"value\":null}",  REPLY_E_FORM, NULL },
		{ "something behind",   "{\"value\":\"a\"}x",            REPLY_E_FORM, NULL },
		{ "two objects",        "{\"value\":\"a\"}{}",           REPLY_E_FORM, NULL },
		{ "behind an empty one", "{}{",                          REPLY_E_FORM, NULL },
		{ "cut in the string",  "{\"value\":\"ab",               REPLY_E_FORM, NULL },
		{ "cut behind it",      "{\"value\":\"ab\"",             REPLY_E_FORM, NULL },
		{ "cut in an escape",   "{\"value\":\"ab\\",             REPLY_E_FORM, NULL },
		{ "cut in a number",    "{\"value\":\"\\u00",            REPLY_E_FORM, NULL },
		{ "unknown escape",     "{\"value\":\"\\x41\"}",         REPLY_E_FORM, NULL },
		{ "not hexadecimal",    "{\"value\":\"\\u00g0\"}",       REPLY_E_FORM, NULL },
		{ "half a pair",        "{\"value\":\"\\ud83d\"}",       REPLY_E_FORM, NULL },
		{ "a pair of firsts",   "{\"value\":\"\\ud83d\\ud83d\"}", REPLY_E_FORM, NULL },
		{ "second half first",  "{\"value\":\"\\ude00\"}",       REPLY_E_FORM, NULL },
		{ "a control letter",   "{\"value\":\"a\nb\"}",          REPLY_E_FORM, NULL },
		{ "comma at the end",   "{\"value\":\"a\",}",            REPLY_E_FORM, NULL },
		{ "no colon",           "{\"value\" \"a\"}",             REPLY_E_FORM, NULL },
		{ "no quotes",          "{value:\"a\"}",                 REPLY_E_FORM, NULL },
		{ "brackets crossed",   "{\"a\":[{]},\"value\":\"a\"}",  REPLY_E_FORM, NULL },
		{ "an unknown word",    "{\"a\":nil,\"value\":\"a\"}",   REPLY_E_FORM, NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(secret_freep) struct secret *body =
			secret_from(rows[i].body, strlen(rows[i].body));
		_cleanup_(secret_freep) struct secret *value = NULL;

		assert_row(rows[i].name, reply_string(body, "value", &value) == rows[i].r);
		assert_row(rows[i].name, !rows[i].value == !value);
		if (!value)
			continue;
		assert_row(rows[i].name, secret_size(value) == strlen(rows[i].value));
		assert_row(rows[i].name,
			   memcmp(secret_bytes(value), rows[i].value, secret_size(value)) == 0);
	}
}

static void test_nul(void **state)
{
	static const char in[] = "{\"value\":\"a\\u0000b\"}", raw[] = "{\"value\":\"a\0b\"}";
	_cleanup_(secret_freep) struct secret *body = secret_from(in, sizeof(in) - 1);
	_cleanup_(secret_freep) struct secret *bad = secret_from(raw, sizeof(raw) - 1);
	_cleanup_(secret_freep) struct secret *end = secret_from("{}\0", 3);
	_cleanup_(secret_freep) struct secret *value = NULL;

	assert_int_equal(reply_string(body, "value", &value), 0);
	assert_int_equal(secret_size(value), 3);
	assert_memory_equal(secret_bytes(value), "a\0b", 3);
	assert_int_equal(reply_string(bad, "value", &value), REPLY_E_FORM);
	assert_int_equal(reply_string(end, "value", &value), REPLY_E_FORM);
}

/* as deep as allowed, and one deeper */
static void test_depth(void **state)
{
	for (int deeper = 0; deeper < 2; deeper++) {
		size_t n = REPLY_MAX_DEPTH - 1 + (size_t)deeper;
		_cleanup_(secret_freep) struct secret *body = NULL, *value = NULL;

		assert_int_equal(secret_new(1024, &body), 0);
		assert_int_equal(secret_append(body, "{\"a\":", 5), 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(secret_append(body, "[", 1), 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(secret_append(body, "]", 1), 0);
		assert_int_equal(secret_append(body, ",\"value\":\"x\"}", 13), 0);
		assert_int_equal(reply_string(body, "value", &value), deeper ? REPLY_E_FORM : 0);
	}
}

static void test_recorded(void **state)
{
	/* clang-format off */
	static const struct {
		const char *file, *member, *value;
	} rows[] = {
		{ "200-secret.json", "value",        "cGFzc3BocmFzZQ" },
		{ "200-secret.json", "id",           "https://kv1.vault.azure.net/secrets/s1/0123456789abcdef0123456789abcdef" },
		{ "200-unwrap.json", "value",        "cGFzc3BocmFzZQ" },
		{ "200-token.json",  "access_token", "e30.e30.c2lnbmF0dXJl" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *path = NULL, *text = NULL, *value = NULL;
		_cleanup_(secret_freep) struct secret *body = NULL;

		assert_true(asprintf(&path, FIXTURES "/replies/%s", rows[i].file) > 0);
		text = read_file(path);
		body = secret_from(text, strlen(text));
		assert_int_equal(reply_text(body, rows[i].member, 1024, &value), 0);
		assert_string_equal(value, rows[i].value);
		assert_int_equal(reply_text(body, rows[i].member, 4, &value), REPLY_E_FORM);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_recorded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

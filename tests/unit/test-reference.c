/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/reference.h"
#include "test.h"

#define V32     "0123456789abcdef0123456789abcdef"
#define VAULT   "https://kv1.vault.azure.net"
#define SECRET  "\"secret\":\"" VAULT "/secrets/s/" V32 "\""
#define KEK     "\"kek\":\"" VAULT "/keys/k/" V32 "\""
#define START   "{\"version\":1,\"provider\":\"keyvault\","
#define WRAPPED "\"algorithm\":\"RSA-OAEP-256\",\"wrapped\":\"Zm9vYmFy_-A\""
#define ID      "12345678-9abc-DEF0-1234-56789abcdef0"

/* clang-format off */
static const struct {
	const char *name, *text;
	int r;
} rows[] = {
	{ "a secret",           START SECRET "}",                                   0 },
	{ "everything",         START SECRET "," KEK "," WRAPPED ",\"identity\":{\"client_id\":\"" ID "\"},\"created\":\"2026-11-22T04:05:06Z\"}", 0 },
	{ "a token around it",  "{\"type\":\"vmcrypt\",\"keyslots\":[\"0\"],\"version\":1,\"provider\":\"keyvault\"," SECRET "}", 0 },
	{ "an empty identity",  START SECRET ",\"identity\":{}}",                   0 },
	{ "a file",             "{\"version\":1,\"provider\":\"file\",\"path\":\"/var/lib/a\"}", 0 },
	{ "dots in a name",     "{\"version\":1,\"provider\":\"file\",\"path\":\"/var/..a\"}", 0 },

	{ "no object",          "[]",                                               -EBADMSG },
	{ "no version",         "{\"provider\":\"file\",\"path\":\"/a\"}",          -EBADMSG },
	{ "another version",    "{\"version\":2,\"provider\":\"file\",\"path\":\"/a\"}", -EBADMSG },
	{ "version as text",    "{\"version\":\"1\",\"provider\":\"file\",\"path\":\"/a\"}", -EBADMSG },
	{ "no provider",        "{\"version\":1," SECRET "}",                       -EBADMSG },
	{ "unknown provider",   "{\"version\":1,\"provider\":\"ftp\"," SECRET "}",  -EBADMSG },
	{ "no secret",          START KEK "," WRAPPED "}",                          -EBADMSG },
	{ "secret unversioned", START "\"secret\":\"" VAULT "/secrets/s\"}",        -EBADMSG },
	{ "secret elsewhere",   START "\"secret\":\"https://evil.example/secrets/s/" V32 "\"}", -EBADMSG },
	{ "secret is a key",    START "\"secret\":\"" VAULT "/keys/s/" V32 "\"}",   -EBADMSG },
	{ "secret is a number", START "\"secret\":7}",                              -EBADMSG },
	{ "NUL in the secret",  START "\"secret\":\"" VAULT "/secrets/s/" V32 "\\u0000\"}", -EBADMSG },
	{ "KEK alone",          START SECRET "," KEK "}",                           -EBADMSG },
	{ "KEK without bytes",  START SECRET "," KEK ",\"algorithm\":\"RSA-OAEP\"}", -EBADMSG },
	{ "bytes without KEK",  START SECRET "," WRAPPED "}",                       -EBADMSG },
	{ "KEK unversioned",    START SECRET ",\"kek\":\"" VAULT "/keys/k\"," WRAPPED "}", -EBADMSG },
	{ "another algorithm",  START SECRET "," KEK ",\"algorithm\":\"none\",\"wrapped\":\"AAAA\"}", -EBADMSG },
	{ "wrapped, other alphabet", START SECRET "," KEK ",\"algorithm\":\"RSA1_5\",\"wrapped\":\"a+b/\"}", -EBADMSG },
	{ "wrapped, padded",    START SECRET "," KEK ",\"algorithm\":\"RSA1_5\",\"wrapped\":\"Zg==\"}", -EBADMSG },
	{ "wrapped, empty",     START SECRET "," KEK ",\"algorithm\":\"RSA1_5\",\"wrapped\":\"\"}", -EBADMSG },
	{ "identity as text",   START SECRET ",\"identity\":\"" ID "\"}",           -EBADMSG },
	{ "identity no GUID",   START SECRET ",\"identity\":{\"client_id\":\"x&resource=y\"}}", -EBADMSG },
	{ "identity too long",  START SECRET ",\"identity\":{\"client_id\":\"" ID "0\"}}", -EBADMSG },
	{ "no time",            START SECRET ",\"created\":\"yesterday\"}",         -EBADMSG },
	{ "path for a vault",   START SECRET ",\"path\":\"/a\"}",                   -EBADMSG },
	{ "file without path",  "{\"version\":1,\"provider\":\"file\"}",            -EBADMSG },
	{ "relative path",      "{\"version\":1,\"provider\":\"file\",\"path\":\"a\"}", -EBADMSG },
	{ "path that climbs",   "{\"version\":1,\"provider\":\"file\",\"path\":\"/a/../b\"}", -EBADMSG },
	{ "path that ends so",  "{\"version\":1,\"provider\":\"file\",\"path\":\"/a/..\"}", -EBADMSG },
	{ "newline in a path",  "{\"version\":1,\"provider\":\"file\",\"path\":\"/a\\nb\"}", -EBADMSG },
	{ "file with a secret", "{\"version\":1,\"provider\":\"file\",\"path\":\"/a\"," SECRET "}", -EBADMSG },
};
/* clang-format on */

static void test_from_json(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_putp) struct json_object *object = NULL;
		_cleanup_(key_reference_freep) struct key_reference *reference = NULL;

		assert_row(rows[i].name,
			   json_parse(rows[i].text, strlen(rows[i].text), &object) == 0);
		assert_row(rows[i].name, key_reference_from_json(object, &reference) == rows[i].r);
		assert_row(rows[i].name, (reference != NULL) == (rows[i].r == 0));
	}
}

static void test_there_and_back(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_putp) struct json_object *in = NULL, *out = json_object_new_object();
		_cleanup_(json_putp) struct json_object *again = json_object_new_object();
		_cleanup_(key_reference_freep) struct key_reference *one = NULL, *two = NULL;

		if (rows[i].r != 0)
			continue;
		assert_int_equal(json_parse(rows[i].text, strlen(rows[i].text), &in), 0);
		assert_int_equal(key_reference_from_json(in, &one), 0);
		assert_int_equal(key_reference_to_json(one, out), 0);
		assert_int_equal(key_reference_from_json(out, &two), 0);
		assert_int_equal(key_reference_to_json(two, again), 0);
		assert_row(rows[i].name, json_object_equal(out, again));
		json_object_object_foreach(out, name, value)
		{
			struct json_object *before;

			assert_row(rows[i].name, json_object_object_get_ex(in, name, &before));
			assert_row(rows[i].name, json_object_equal(before, value));
		}
	}
}

static void test_bad_ones_are_not_written(void **state)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	struct key_reference reference = { .provider = KEY_PROVIDER_FILE, .path = (char *)"a" };

	assert_int_equal(key_reference_to_json(&reference, object), -EBADMSG);
	assert_int_equal(json_object_object_length(object), 0);
}

static void test_longest_still_fits(void **state)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	char path[KEY_PATH_MAX_BYTES + 1];
	struct key_reference reference = { .provider = KEY_PROVIDER_FILE, .path = path };

	memset(path, '"', sizeof(path));
	path[0] = '/';
	path[KEY_PATH_MAX_BYTES] = '\0';
	assert_int_equal(key_reference_check(&reference), -EBADMSG);
	path[KEY_PATH_MAX_BYTES - 1] = '\0';
	assert_int_equal(key_reference_to_json(&reference, object), 0);
	assert_true(strlen(json_object_to_json_string(object)) < KEY_REFERENCE_MAX_BYTES);
}

static void test_names(void **state)
{
	struct key_reference file = { .provider = KEY_PROVIDER_FILE, .path = (char *)"/a" };
	struct key_reference vault = { .provider = KEY_PROVIDER_KEYVAULT,
				       .secret = (char *)"https:" };
	enum key_provider provider;

	assert_string_equal(key_reference_id(&file), "/a");
	assert_string_equal(key_reference_id(&vault), "https:");
	assert_int_equal(
		key_provider_from_string(key_provider_to_string(KEY_PROVIDER_FILE), &provider), 0);
	assert_int_equal(provider, KEY_PROVIDER_FILE);
	assert_int_equal(key_provider_from_string("keyvault", &provider), 0);
	assert_int_equal(provider, KEY_PROVIDER_KEYVAULT);
	assert_int_equal(key_provider_from_string("File", &provider), -EINVAL);
	assert_int_equal(key_provider_from_string(NULL, &provider), -EINVAL);
	assert_null(key_reference_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_json),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_bad_ones_are_not_written),
		cmocka_unit_test(test_longest_still_fits),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/url.h"
#include "test.h"

#define V32 "0123456789abcdef0123456789ABCDEF"
#define N127                                                                                       \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void test_parse(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		enum key_url_kind kind;
		int r;
		const char *vault, *suffix, *object, *version;
	} rows[] = {
		{ "a vault",        "https://kv1.vault.azure.net",      KEY_URL_VAULT, 0, "kv1.vault.azure.net", "vault.azure.net", "", "" },
		{ "with slash",     "https://kv1.vault.azure.net/",     KEY_URL_VAULT, 0, "kv1.vault.azure.net", "vault.azure.net", "", "" },
		{ "with port",      "https://kv1.vault.azure.net:443/", KEY_URL_VAULT, 0, "kv1.vault.azure.net", "vault.azure.net", "", "" },
		{ "capitals",       "HTTPS://KV1.Vault.Azure.NET",      KEY_URL_VAULT, 0, "kv1.vault.azure.net", "vault.azure.net", "", "" },
		{ "government",     "https://my-kv.vault.usgovcloudapi.net", KEY_URL_VAULT, 0, "my-kv.vault.usgovcloudapi.net", "vault.usgovcloudapi.net", "", "" },
		{ "China",          "https://my-kv.vault.azure.cn",     KEY_URL_VAULT, 0, "my-kv.vault.azure.cn", "vault.azure.cn", "", "" },
		{ "Germany",        "https://my-kv.vault.microsoftazure.de", KEY_URL_VAULT, 0, "my-kv.vault.microsoftazure.de", "vault.microsoftazure.de", "", "" },
		{ "an HSM's key",   "https://hsm1.managedhsm.azure.net/keys/k/" V32, KEY_URL_KEY, 0, "hsm1.managedhsm.azure.net", "managedhsm.azure.net", "k", V32 },
		{ "government HSM", "https://hsm1.managedhsm.usgovcloudapi.net/keys/k", KEY_URL_KEY, 0, "hsm1.managedhsm.usgovcloudapi.net", "managedhsm.usgovcloudapi.net", "k", "" },
		{ "Chinese HSM",    "https://hsm1.managedhsm.azure.cn/keys/k", KEY_URL_KEY, 0, "hsm1.managedhsm.azure.cn", "managedhsm.azure.cn", "k", "" },
		{ "a secret",       "https://kv1.vault.azure.net/secrets/a-B-9/" V32, KEY_URL_SECRET, 0, "kv1.vault.azure.net", "vault.azure.net", "a-B-9", V32 },
		{ "latest",         "https://kv1.vault.azure.net/secrets/s", KEY_URL_SECRET, 0, "kv1.vault.azure.net", "vault.azure.net", "s", "" },
		{ "latest, slash",  "https://kv1.vault.azure.net/secrets/s/", KEY_URL_SECRET, 0, "kv1.vault.azure.net", "vault.azure.net", "s", "" },
		{ "two slashes",    "https://kv1.vault.azure.net/keys/k//" V32, KEY_URL_KEY, 0, "kv1.vault.azure.net", "vault.azure.net", "k", V32 },
		{ "collection in capitals", "https://kv1.vault.azure.net/Keys/k", KEY_URL_KEY, 0, "kv1.vault.azure.net", "vault.azure.net", "k", "" },
		{ "longest name",   "https://kv1.vault.azure.net/keys/" N127, KEY_URL_KEY, 0, "kv1.vault.azure.net", "vault.azure.net", N127, "" },
		{ "24 letters",     "https://abcdefghijklmnopqrstuvwx.vault.azure.net", KEY_URL_VAULT, 0, "abcdefghijklmnopqrstuvwx.vault.azure.net", "vault.azure.net", "", "" },

		{ "nothing",            "",                                  KEY_URL_VAULT,  KEY_URL_E_LENGTH },
		{ "http",               "http://kv1.vault.azure.net",        KEY_URL_VAULT,  KEY_URL_E_SCHEME },
		{ "no scheme",          "kv1.vault.azure.net",               KEY_URL_VAULT,  KEY_URL_E_SCHEME },
		{ "blank before",       " https://kv1.vault.azure.net",      KEY_URL_VAULT,  KEY_URL_E_SCHEME },
		{ "scheme only",        "https://",                          KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "no vault",           "https://vault.azure.net",           KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "empty vault",        "https://.vault.azure.net",          KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "two letters",        "https://kv.vault.azure.net",        KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "25 letters",         "https://abcdefghijklmnopqrstuvwxy.vault.azure.net", KEY_URL_VAULT, KEY_URL_E_HOST },
		{ "hyphen first",       "https://-kv1.vault.azure.net",      KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "hyphen last",        "https://kv1-.vault.azure.net",      KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "another host",       "https://kv1.example.net",           KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "suffix goes on",     "https://kv1.vault.azure.net.evil.example", KEY_URL_VAULT, KEY_URL_E_HOST },
		{ "suffix begins early", "https://kv1.evilvault.azure.net",  KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "a name in between",  "https://a.kv1.vault.azure.net",     KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "the wrong one",      "https://kv1.vault.keyvault.net",    KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "a dot at the end",   "https://kv1.vault.azure.net./",     KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "another port",       "https://kv1.vault.azure.net:8443",  KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "another of three digits", "https://kv1.vault.azure.net:444", KEY_URL_VAULT, KEY_URL_E_HOST },
		{ "half a suffix",      "https://kv1.vault.azure",           KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "half a port",        "https://kv1.vault.azure.net:",      KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "user",               "https://me@kv1.vault.azure.net",    KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "user and password",  "https://kv1.vault.azure.net:443@evil.example/", KEY_URL_VAULT, KEY_URL_E_HOST },
		{ "backslash",          "https://kv1.vault.azure.net\\@evil.example/", KEY_URL_VAULT, KEY_URL_E_HOST },
		{ "an HSM's secret",    "https://hsm1.managedhsm.azure.net/secrets/s", KEY_URL_SECRET, KEY_URL_E_HOST },
		{ "query",              "https://kv1.vault.azure.net/?a=b",  KEY_URL_VAULT,  KEY_URL_E_PATH },
		{ "query at the host",  "https://kv1.vault.azure.net?a=b",   KEY_URL_VAULT,  KEY_URL_E_HOST },
		{ "fragment",           "https://kv1.vault.azure.net/keys/k#x", KEY_URL_KEY, KEY_URL_E_PATH },
		{ "a vault with a path", "https://kv1.vault.azure.net/keys", KEY_URL_VAULT,  KEY_URL_E_PATH },
		{ "a key for a secret", "https://kv1.vault.azure.net/keys/k", KEY_URL_SECRET, KEY_URL_E_PATH },
		{ "a certificate",      "https://kv1.vault.azure.net/certificates/k", KEY_URL_SECRET, KEY_URL_E_PATH },
		{ "no object",          "https://kv1.vault.azure.net/keys/", KEY_URL_KEY,    KEY_URL_E_PATH },
		{ "no path",            "https://kv1.vault.azure.net",       KEY_URL_KEY,    KEY_URL_E_PATH },
		{ "percent",            "https://kv1.vault.azure.net/keys/%6b", KEY_URL_KEY, KEY_URL_E_PATH },
		{ "dots",               "https://kv1.vault.azure.net/keys/../secrets/s", KEY_URL_KEY, KEY_URL_E_PATH },
		{ "blank in the name",  "https://kv1.vault.azure.net/keys/a b", KEY_URL_KEY, KEY_URL_E_PATH },
		{ "underscore",         "https://kv1.vault.azure.net/keys/a_b", KEY_URL_KEY, KEY_URL_E_PATH },
		{ "name of 128",        "https://kv1.vault.azure.net/keys/a" N127, KEY_URL_KEY, KEY_URL_E_PATH },
		{ "short version",      "https://kv1.vault.azure.net/keys/k/0123", KEY_URL_KEY, KEY_URL_E_PATH },
		{ "version not hexadecimal", "https://kv1.vault.azure.net/keys/k/0123456789abcdef0123456789abcdeg", KEY_URL_KEY, KEY_URL_E_PATH },
		{ "an operation",       "https://kv1.vault.azure.net/keys/k/" V32 "/unwrapkey", KEY_URL_KEY, KEY_URL_E_PATH },
		{ "newline",            "https://kv1.vault.azure.net/keys/k\n", KEY_URL_KEY, KEY_URL_E_PATH },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct key_url untouched = { .vault = "untouched" };
		struct key_url url = untouched;

		assert_row(rows[i].name,
			   key_url_parse(rows[i].text, rows[i].kind, &url) == rows[i].r);
		if (rows[i].r != 0) {
			assert_row(rows[i].name, memcmp(&url, &untouched, sizeof(url)) == 0);
			continue;
		}
		assert_row(rows[i].name, strcmp(url.vault, rows[i].vault) == 0);
		assert_row(rows[i].name, strcmp(url.suffix, rows[i].suffix) == 0);
		assert_row(rows[i].name, strcmp(url.name, rows[i].object) == 0);
		assert_row(rows[i].name, strcmp(url.version, rows[i].version) == 0);
	}
}

static void test_length(void **state)
{
	static const char start[] = "https://kv1.vault.azure.net/";
	char text[KEY_URL_MAX_BYTES + 2];
	struct key_url url;

	/* slashes only: the longest address that is still one */
	memset(text, '/', sizeof(text));
	memcpy(text, start, strlen(start));
	text[KEY_URL_MAX_BYTES] = '\0';
	assert_int_equal(key_url_parse(text, KEY_URL_VAULT, &url), 0);
	text[KEY_URL_MAX_BYTES] = '/';
	text[KEY_URL_MAX_BYTES + 1] = '\0';
	assert_int_equal(key_url_parse(text, KEY_URL_VAULT, &url), KEY_URL_E_LENGTH);
}

static void test_every_condition_has_words(void **state)
{
	for (int a = KEY_URL_E_SCHEME; a <= KEY_URL_E_LENGTH; a++)
		for (int b = 0; b < a; b++)
			assert_string_not_equal(key_url_problem(a), key_url_problem(b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_every_condition_has_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

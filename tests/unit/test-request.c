/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/request.h"
#include "test.h"

#define VAULT     "'vault':'https://kv1.vault.azure.net'"
#define ENCRYPT   "'kind':'encrypt','volume_type':'Data',"
#define KEK       "'kek':'https://kv1.vault.azure.net/keys/k1'"
#define CLIENT    "'client_id':'01234567-89ab-cdef-0123-456789ABCDEF'"
#define LETTERS64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static struct json_object *parse(const char *text)
{
	_cleanup_(freep) char *copy = strdup(text);
	struct json_object *object = NULL;

	assert_non_null(copy);
	for (char *at = copy; *at; at++)
		if (*at == '\'')
			*at = '"';
	assert_int_equal(json_parse(copy, strlen(copy), &object), 0);
	return object;
}

static void test_accepted(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text, *stored;
	} rows[] = {
		{ "the least",          "{" ENCRYPT VAULT "}",
		  "{" ENCRYPT "'provider':'keyvault'," VAULT "}" },
		{ "case of words",      "{'kind':'encrypt','volume_type':'dATA','provider':'KeyVault'," VAULT "}",
		  "{" ENCRYPT "'provider':'keyvault'," VAULT "}" },
		{ "a KEK's default",    "{" ENCRYPT VAULT "," KEK "}",
		  "{" ENCRYPT "'provider':'keyvault'," VAULT "," KEK ",'algorithm':'RSA-OAEP-256'}" },
		{ "an algorithm",       "{" ENCRYPT VAULT "," KEK ",'algorithm':'rsa-oaep'}",
		  "{" ENCRYPT "'provider':'keyvault'," VAULT "," KEK ",'algorithm':'RSA-OAEP'}" },
		{ "null is absent",     "{" ENCRYPT VAULT ",'kek':null,'volumes':null,'format_all':null}",
		  "{" ENCRYPT "'provider':'keyvault'," VAULT "}" },
		{ "off changes nothing", "{'kind':'decrypt','format_all':false}",
		  "{'kind':'decrypt','volume_type':'Data'}" },
		{ "an identity",        "{" ENCRYPT VAULT "," CLIENT "}",
		  "{" ENCRYPT "'provider':'keyvault'," VAULT "," CLIENT "}" },
		{ "files",              "{" ENCRYPT "'provider':'file','key_directory':'/etc/a..b/keys'}",
		  "{" ENCRYPT "'provider':'file','key_directory':'/etc/a..b/keys'}" },
		{ "volumes, once each", "{" ENCRYPT VAULT ",'volumes':['12AB-34cd','12ab-34CD','0123']}",
		  "{" ENCRYPT "'provider':'keyvault'," VAULT ",'volumes':['12AB-34cd','0123']}" },
		{ "all that goes together", "{" ENCRYPT VAULT ",'next_boot':true,'recovery_key':true,'detached_header':true,'allow_other_region':true}",
		  "{" ENCRYPT "'provider':'keyvault'," VAULT ",'next_boot':true,'recovery_key':true,'detached_header':true,'allow_other_region':true}" },
		{ "format",             "{" ENCRYPT VAULT ",'format_all':true,'recovery_key':true}",
		  "{" ENCRYPT "'provider':'keyvault'," VAULT ",'format_all':true,'recovery_key':true}" },
		{ "the OS, and a reboot", "{'kind':'encrypt','volume_type':'os'," VAULT ",'reboot':true}",
		  "{'kind':'encrypt','volume_type':'OS','provider':'keyvault'," VAULT ",'reboot':true}" },
		{ "decrypt all",        "{'kind':'decrypt','volume_type':'ALL'}",
		  "{'kind':'decrypt','volume_type':'All'}" },
		{ "grow what there is", "{'kind':'grow'}",
		  "{'kind':'grow','volume_type':'All'}" },
		{ "grow one",           "{'kind':'grow','volume_type':'Data','volumes':['12AB-34cd']}",
		  "{'kind':'grow','volume_type':'Data','volumes':['12AB-34cd']}" },
		{ "check what there is", "{'kind':'check'}", "{'kind':'check'}" },
		{ "restore",            "{'kind':'restore','snapshot':'20261122T042233Z-3fa9'}",
		  "{'kind':'restore','snapshot':'20261122T042233Z-3fa9'}" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(request_problems_clear) struct request_problems problems = { 0 };
		_cleanup_(request_freep) struct request *request = NULL;
		_cleanup_(json_putp) struct json_object *in = parse(rows[i].text), *out = NULL;
		_cleanup_(json_putp) struct json_object *stored = parse(rows[i].stored);

		assert_int_equal(request_from_json(in, &request, &problems), 0);
		if (!request)
			fail_msg("%s: %s", rows[i].name, problems.problems[0].what);
		assert_int_equal(request_to_json(request, &out), 0);
		if (!json_object_equal(out, stored))
			fail_msg("%s: stored as %s", rows[i].name, json_object_to_json_string(out));
	}
}

static void test_refused(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		const char *parameters[4]; /* all that are named, in this order */
	} rows[] = {
		{ "not an object",       "[]",                                  { "request" } },
		{ "nothing",             "{}",                                  { "kind", "volume_type", "vault" } },
		{ "an unknown kind",     "{'kind':'Encrypt','volume_type':'Data'," VAULT "}", { "kind" } },
		{ "an unknown name",     "{" ENCRYPT VAULT ",'Vault':'x'}",     { "unknown" } },
		{ "no type",             "{'kind':'encrypt'," VAULT "}",        { "volume_type" } },
		{ "an unknown type",     "{'kind':'encrypt','volume_type':'Disk'," VAULT "}", { "volume_type" } },
		{ "no vault",            "{'kind':'encrypt','volume_type':'Data'}",           { "vault" } },
		{ "no vault named",      "{" ENCRYPT "'vault':''}",             { "vault" } },
		{ "a vault elsewhere",   "{" ENCRYPT "'vault':'https://kv1.example.net'}",    { "vault" } },
		{ "a number",            "{" ENCRYPT VAULT ",'kek':1}",         { "kek" } },
		{ "a word for a switch", "{" ENCRYPT VAULT ",'next_boot':'true'}", { "next_boot" } },
		{ "a NUL",               "{" ENCRYPT VAULT ",'key_directory':'/a\\u0000b'}",  { "key_directory" } },
		{ "a vault for a KEK",   "{" ENCRYPT VAULT ",'kek':'https://kv1.vault.azure.net'}", { "kek" } },
		{ "algorithm alone",     "{" ENCRYPT VAULT ",'algorithm':'RSA-OAEP'}", { "algorithm" } },
		{ "another algorithm",   "{" ENCRYPT VAULT "," KEK ",'algorithm':'RSA'}", { "algorithm" } },
		{ "another provider",    "{" ENCRYPT VAULT ",'provider':'tpm2'}", { "provider" } },
		{ "files and a vault",   "{" ENCRYPT VAULT "," KEK ",'provider':'file'}", { "vault", "kek" } },
		{ "a vault and files",   "{" ENCRYPT VAULT ",'key_directory':'/k'}", { "key_directory" } },
		{ "a relative path",     "{" ENCRYPT "'provider':'file','key_directory':'k'}", { "key_directory" } },
		{ "a path upwards",      "{" ENCRYPT "'provider':'file','key_directory':'/k/../../x'}", { "key_directory" } },
		{ "a path up at the end", "{" ENCRYPT "'provider':'file','key_directory':'/k/..'}", { "key_directory" } },
		{ "not a client id",     "{" ENCRYPT VAULT ",'client_id':'0123'}", { "client_id" } },
		{ "no volumes",          "{" ENCRYPT VAULT ",'volumes':[]}",    { "volumes" } },
		{ "three letters",       "{" ENCRYPT VAULT ",'volumes':['abc']}", { "volumes" } },
		{ "65 letters",          "{" ENCRYPT VAULT ",'volumes':['" LETTERS64 "a']}", { "volumes" } },
		{ "a path",              "{" ENCRYPT VAULT ",'volumes':['/dev/sdc']}", { "volumes" } },
		{ "numbers",             "{" ENCRYPT VAULT ",'volumes':[1,2]}", { "volumes", "volumes" } },
		{ "format at boot",      "{" ENCRYPT VAULT ",'format_all':true,'next_boot':true}", { "next_boot" } },
		{ "format, detached",    "{" ENCRYPT VAULT ",'format_all':true,'detached_header':true}", { "detached_header" } },
		{ "decrypt by format",   "{'kind':'decrypt','format_all':true}", { "format_all" } },
		{ "decrypt, recovery",   "{'kind':'decrypt','recovery_key':true}", { "recovery_key" } },
		{ "decrypt with a vault", "{'kind':'decrypt'," VAULT "}",       { "vault" } },
		{ "grow with a vault",   "{'kind':'grow'," VAULT "}",           { "vault" } },
		{ "grow at boot",        "{'kind':'grow','next_boot':true}",    { "next_boot" } },
		{ "grow nothing",        "{'kind':'grow','volumes':[]}",        { "volumes" } },
		{ "check with a vault",  "{'kind':'check'," VAULT "}",          { "vault" } },
		{ "check of a type",     "{'kind':'check','volume_type':'OS'}", { "volume_type" } },
		{ "restore nothing",     "{'kind':'restore'}",                  { "snapshot" } },
		{ "restore upwards",     "{'kind':'restore','snapshot':'../x'}", { "snapshot" } },
		{ "restore hidden",      "{'kind':'restore','snapshot':'.x'}",  { "snapshot" } },
		{ "a snapshot to encrypt", "{" ENCRYPT VAULT ",'snapshot':'x'}", { "snapshot" } },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(request_problems_clear) struct request_problems problems = { 0 };
		_cleanup_(request_freep) struct request *request = NULL;
		_cleanup_(json_putp) struct json_object *in = parse(rows[i].text);
		size_t n = 0;

		assert_int_equal(request_from_json(in, &request, &problems), 0);
		while (n < ARRAY_SIZE(rows[i].parameters) && rows[i].parameters[n])
			n++;
		if (request || problems.n != n)
			fail_msg("%s: %zu problems instead of %zu", rows[i].name, problems.n, n);
		for (size_t j = 0; j < n; j++) {
			assert_string_equal(problems.problems[j].parameter, rows[i].parameters[j]);
			assert_true(strlen(problems.problems[j].what) > 0);
		}
	}
}

static void test_many_problems(void **state)
{
	_cleanup_(request_problems_clear) struct request_problems problems = { 0 };
	_cleanup_(request_freep) struct request *request = NULL;
	_cleanup_(json_putp) struct json_object *in = parse("{" ENCRYPT VAULT "}");

	for (int i = 0; i < 1000; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "x%d", i);
		assert_int_equal(json_set_int(in, name, i), 0);
	}
	assert_int_equal(request_from_json(in, &request, &problems), 0);
	assert_null(request);
	assert_int_equal(problems.n, 64);
}

static void test_overlap(void **state)
{
	/* clang-format off */
	static const struct {
		const char *a, *b;
		bool may_overlap;
	} rows[] = {
		{ "{'kind':'decrypt'}",                    "{'kind':'decrypt'}",                      true },
		{ "{'kind':'decrypt','volumes':['aaaa']}", "{'kind':'decrypt'}",                      true },
		{ "{'kind':'decrypt','volumes':['aaaa']}", "{'kind':'decrypt','volumes':['bbbb']}",   false },
		{ "{'kind':'decrypt','volumes':['aaaa']}", "{'kind':'decrypt','volumes':['bbbb','AAAA']}", true },
		{ "{'kind':'decrypt','volumes':['aaaa']}", "{'kind':'restore','snapshot':'x'}",       true },
		{ "{'kind':'decrypt','volume_type':'OS'}", "{'kind':'decrypt','volume_type':'Data'}", false },
		{ "{'kind':'decrypt','volume_type':'OS'}", "{'kind':'decrypt','volume_type':'All'}",  true },
		{ "{'kind':'decrypt','volume_type':'OS'}", "{'kind':'restore','snapshot':'x'}",       true },
		{ "{'kind':'decrypt','volume_type':'OS','volumes':['aaaa']}", "{'kind':'decrypt','volume_type':'Data'}", true },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(request_problems_clear) struct request_problems problems = { 0 };
		_cleanup_(json_putp) struct json_object *a = parse(rows[i].a),
							*b = parse(rows[i].b);
		_cleanup_(request_freep) struct request *one = NULL, *two = NULL;

		assert_int_equal(request_from_json(a, &one, &problems), 0);
		assert_int_equal(request_from_json(b, &two, &problems), 0);
		assert_true(one && two);
		assert_int_equal(request_may_overlap(one, two), rows[i].may_overlap);
		assert_int_equal(request_may_overlap(two, one), rows[i].may_overlap);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_many_problems),
		cmocka_unit_test(test_overlap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

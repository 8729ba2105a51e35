/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptctl-fault.h"
#include "program/vmcryptctl-options.h"
#include "program/vmcryptctl-table.h"
#include "test.h"

static void test_sizes(void **state)
{
	/* clang-format off */
	static const struct {
		uint64_t bytes;
		const char *text;
	} rows[] = {
		{ 0, "0 B" }, { 1023, "1023 B" }, { 1024, "1.0 KiB" }, { 1536, "1.5 KiB" },
		{ 10 * 1024, "10 KiB" }, { 1ULL << 40, "1.0 TiB" }, { UINT64_MAX, "16 EiB" },
	};
	/* clang-format on */
	char text[32];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		text_size(rows[i].bytes, text, sizeof(text));
		assert_string_equal(text, rows[i].text);
	}
}

static void test_durations(void **state)
{
	/* clang-format off */
	static const struct {
		int64_t seconds;
		const char *text;
	} rows[] = {
		{ -1, "-" }, { 0, "0 s" }, { 59, "59 s" }, { 60, "1 min" }, { 3599, "59 min" },
		{ 3600, "1 h 00 min" }, { 7500, "2 h 05 min" }, { 48 * 3600, "2 d" },
		{ INT64_MAX, "106751991167300 d" },
	};
	/* clang-format on */
	char text[32];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		text_duration(rows[i].seconds, text, sizeof(text));
		assert_string_equal(text, rows[i].text);
	}
}

static void test_clean(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text, *clean;
	} rows[] = {
		{ "plain",        "data 1",            "data 1" },
		{ "escape",       "\033[2Jx\r\n",      "?[2Jx??" },
		{ "delete",       "a\177b",            "a?b" },
		{ "C1 in UTF-8",  "a\xc2\x9b" "2J",    "a??2J" },
		{ "other letters", "\xc3\xa4\xe2\x86\x92", "\xc3\xa4\xe2\x86\x92" },
		{ "cut at a letter", "12345678\xc3\xa4\xc3\xa4\xc3\xa4", "12345678\xc3\xa4\xc3\xa4" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *clean = NULL;

		assert_int_equal(text_clean(rows[i].text, 10, &clean), 0);
		assert_string_equal(clean, rows[i].clean);
	}
}

static void test_tables(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *json;
		int (*print)(struct json_object *reply, bool has_style, FILE *out);
		const char *text;
	} rows[] = {
		{ "nothing known", "{}", table_print_status, "OS volume:    Unknown\nData volumes: Unknown\n" },
		{ "before a boot", "{\"os\":\"VMRestartPending\",\"data\":\"NotMounted\",\"reports\":[{\"job\":\"20200101T000000Z-0001\","
		  "\"restart\":true},{\"job\":\"2\",\"restart\":false},{\"job\":\"3\"}]}",
		  table_print_status, "OS volume:    VMRestartPending\nData volumes: NotMounted\n"
		  "Job 20200101T000000Z-0001 waits for a reboot.\n" },
		{ "a volume in work", "{\"os\":\"NotEncrypted\",\"data\":\"EncryptionInProgress\",\"volumes\":["
		  "{\"uuid\":\"12ab-34cd\",\"role\":\"data\",\"filesystem\":\"ext4\",\"size_bytes\":1073741824,"
		  "\"mounts\":[\"/d\\u00e4ta\"],\"state\":\"EncryptionInProgress\",\"percent\":99.99,\"rate_bytes\":1048576,"
		  "\"left_s\":61,\"provider\":\"keyvault\",\"key\":\"https://kv1.vault.azure.net/secrets/s1/0123\",\"header\":\"attached\"},"
		  "{\"uuid\":\"aaaa\",\"role\":\"boot\",\"filesystem\":\"vfat\",\"size_bytes\":1,\"mounts\":[],\"state\":\"NotEncrypted\"}]}",
		  table_print_status,
		  "OS volume:    NotEncrypted\n"
		  "Data volumes: EncryptionInProgress\n"
		  "\n"
		  "VOLUME     MOUNT  SIZE     STATE                 DONE    RATE       LEFT   PROVIDER  KEY     HEADER\n"
		  "12ab-34cd  /d\xc3\xa4ta  1.0 GiB  EncryptionInProgress  99.9 %  1.0 MiB/s  1 min  keyvault  kv1/s1  attached\n" },
		{ "why not", "{\"volumes\":[{\"device\":\"/dev/sda1\",\"kind\":\"partition\",\"size_bytes\":5,\"mounts\":[],"
		  "\"selected\":false,\"excuse\":\"boot\",\"reason\":\"The machine \\u001bboots from it.\"}]}",
		  table_print_volumes,
		  "DEVICE     KIND       FILESYSTEM  VOLUME  MOUNT  SIZE  SELECTED  WHY NOT\n"
		  "/dev/sda1  partition  -           -       -      5 B   no        The machine ?boots from it.\n" },
		{ "wrong types", "{\"os\":1,\"data\":{},\"volumes\":[1,{\"header_uuid\":\"h\",\"size_bytes\":\"x\",\"mounts\":[1],\"percent\":\"y\"}]}",
		  table_print_status,
		  "OS volume:    Unknown\nData volumes: Unknown\n\n"
		  "VOLUME  MOUNT  SIZE  STATE  DONE  RATE  LEFT  PROVIDER  KEY  HEADER\n"
		  "h       -      -     -      -     -     -     -         -    -\n" },
		{ "snapshots", "{\"snapshots\":[{\"name\":\"n\",\"time\":\"t\",\"kind\":\"encrypt\",\"volumes\":[\"a\",\"b\"],\"size_bytes\":2048}]}",
		  table_print_snapshots,
		  "NAME  TIME  KIND     VOLUMES  SIZE\nn     t     encrypt  2        2.0 KiB\n" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_putp) struct json_object *reply = NULL;
		_cleanup_(freep) char *text = NULL;
		size_t size;
		FILE *out;

		assert_int_equal(json_parse(rows[i].json, strlen(rows[i].json), &reply), 0);
		out = open_memstream(&text, &size);
		assert_int_equal(rows[i].print(reply, false, out), 0);
		(void)fclose(out);
		if (strcmp(text, rows[i].text) != 0)
			fail_msg("%s:\n%s", rows[i].name, text);
	}
}

static void test_exit_codes(void **state)
{
	/* clang-format off */
	static const struct {
		const char *report;
		int code;
	} rows[] = {
		{ "{\"state\":\"done\",\"faults\":[]}", CTL_OK },
		{ "{\"state\":\"running\",\"faults\":[{\"level\":\"warning\"}]}", CTL_OK },
		{ "{\"state\":\"waiting\",\"faults\":[{\"level\":\"warning\"}]}", CTL_OK },
		{ "{\"state\":\"waiting\",\"faults\":[{\"level\":\"error\"}]}", CTL_TEMPORARY },
		{ "{\"state\":\"failed\",\"faults\":[{\"level\":\"error\",\"step\":\"preflight\"},{\"level\":\"warning\"}]}", CTL_REFUSED },
		{ "{\"state\":\"failed\",\"faults\":[{\"level\":\"error\",\"step\":\"preflight\"},{\"level\":\"error\",\"step\":\"header\"}]}", CTL_FAILED },
		{ "{\"state\":\"failed\",\"faults\":[]}", CTL_FAILED },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(json_putp) struct json_object *report = NULL;

		assert_int_equal(json_parse(rows[i].report, strlen(rows[i].report), &report), 0);
		assert_int_equal(fault_report_exit_code(report), rows[i].code);
	}
}

static void test_options(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name;
		const char *words[8];
		int r;
		enum verb verb;
		const char *request;
	} rows[] = {
		{ "enable", { "enable", "--volume-type", "Data", "--disk-encryption-keyvault=https://x" }, 0, VERB_ENABLE,
		  "{\"volume_type\":\"Data\",\"vault\":\"https://x\"}" },
		{ "options first", { "--volume=aaaa", "--volume", "bbbb", "disable" }, 0, VERB_DISABLE,
		  "{\"volumes\":[\"aaaa\",\"bbbb\"]}" },
		{ "recovery key elsewhere", { "enable", "--recovery-key-fd", "3" }, 0, VERB_ENABLE, "{\"recovery_key\":true}" },
		{ "show",              { "show", "--watch", "--json=short" }, 0, VERB_SHOW, "{}" },
		{ "restore",           { "snapshot", "restore", "x" },   0, VERB_SNAPSHOT_RESTORE, "{}" },
		{ "help",              { "enable", "--help" },           0, VERB_HELP, "{}" },
		{ "nothing",           { NULL },                         OPTIONS_E_WRONG },
		{ "unknown",           { "encrypt" },                    OPTIONS_E_WRONG },
		{ "unknown option",    { "show", "--foo" },              OPTIONS_E_WRONG },
		{ "not clear",         { "enable", "--key" },            OPTIONS_E_WRONG },
		{ "no value",          { "enable", "--volume-type" },    OPTIONS_E_WRONG },
		{ "a value too many",  { "enable", "--yes=no" },         OPTIONS_E_WRONG },
		{ "twice",             { "enable", "--volume-type=OS", "--volume-type=Data" }, OPTIONS_E_WRONG },
		{ "of another verb",   { "disable", "--recovery-key" },  OPTIONS_E_WRONG },
		{ "a word too many",   { "show", "x" },                  OPTIONS_E_WRONG },
		{ "half a snapshot",   { "snapshot", "restore" },        OPTIONS_E_WRONG },
		{ "json of no kind",   { "show", "--json=yes" },         OPTIONS_E_WRONG },
		{ "a descriptor",      { "enable", "--recovery-key-fd=-1" }, OPTIONS_E_WRONG },
		{ "plan and watch",    { "enable", "--plan", "--watch" }, OPTIONS_E_WRONG },
		{ "watch, do not wait", { "enable", "--no-wait", "--watch" }, OPTIONS_E_WRONG },
		{ "a key nobody reads", { "enable", "--recovery-key", "--no-wait" }, OPTIONS_E_WRONG },
		{ "a key into JSON",   { "enable", "--recovery-key", "--json=short" }, OPTIONS_E_WRONG },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(options_clear) struct options options = { 0 };
		_cleanup_(json_putp) struct json_object *wanted = NULL;
		_cleanup_(freep) char *problem = NULL;
		char *arguments[10] = { (char[]){ "vmcryptctl" } };
		int n = 1, r;

		for (size_t j = 0; j < ARRAY_SIZE(rows[i].words) && rows[i].words[j]; j++)
			arguments[n++] = strdup(rows[i].words[j]);
		r = options_parse(n, arguments, &options, &problem);
		if (r != rows[i].r || (r == OPTIONS_E_WRONG) != (problem != NULL))
			fail_msg("%s: %d, %s", rows[i].name, r, problem);
		if (r == 0) {
			assert_int_equal(options.verb, rows[i].verb);
			assert_int_equal(
				json_parse(rows[i].request, strlen(rows[i].request), &wanted), 0);
			assert_true(json_object_equal(options.request, wanted));
		}
		for (int j = 1; j < n; j++)
			free(arguments[j]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),   cmocka_unit_test(test_durations),
		cmocka_unit_test(test_clean),   cmocka_unit_test(test_tables),
		cmocka_unit_test(test_options), cmocka_unit_test(test_exit_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

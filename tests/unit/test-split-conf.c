/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/split-conf.h"
#include "test.h"

#define TEXTS   "JOB=j1\nROOT_UUID=ab-cd\nDEVICE=/dev/disk/by-partuuid/1\n"
#define NUMBERS "NUMBER=1\nFILESYSTEM_BYTES=0\nKEEPS_BYTES=8\nSTART_BYTES=9\nSIZE_BYTES=10\n"

static void test_parse(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		int r;
	} rows[] = {
		{ "all that is needed",           TEXTS NUMBERS, 0 },
		{ "quoted, and what is unknown",  "X=y\n" TEXTS "PARTITION_UUID=\"1-2\"\n" NUMBERS, 0 },
		{ "no number is left out",        TEXTS "NUMBER=1\n", SPLIT_CONF_E_MALFORMED },
		{ "no text either",               NUMBERS, SPLIT_CONF_E_MALFORMED },
		{ "a device is below /dev",       TEXTS "DEVICE=/etc/passwd\n" NUMBERS, SPLIT_CONF_E_MALFORMED },
		{ "a job does not climb",         TEXTS "JOB=../x\n" NUMBERS, SPLIT_CONF_E_MALFORMED },
		{ "nor is it hidden",             TEXTS "JOB=.x\n" NUMBERS, SPLIT_CONF_E_MALFORMED },
		{ "a start is no sign",           TEXTS NUMBERS "START_BYTES=-1\n", SPLIT_CONF_E_MALFORMED },
		{ "partition 0 is the disk",      TEXTS NUMBERS "NUMBER=0\n", SPLIT_CONF_E_MALFORMED },
		{ "nothing at all",               "", SPLIT_CONF_E_MALFORMED },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(split_conf_clear) struct split_conf conf = { 0 };

		assert_row(rows[i].name, split_conf_parse(rows[i].text, strlen(rows[i].text),
							  &conf) == rows[i].r);
		assert_row(rows[i].name, (conf.job != NULL) == (rows[i].r == 0));
	}
}

static void test_write(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "split.conf");
	_cleanup_(split_conf_clear) struct split_conf conf = { 0 };
	_cleanup_(split_conf_clear) struct split_conf again = { 0 };

	assert_int_equal(split_conf_parse(TEXTS NUMBERS, strlen(TEXTS NUMBERS), &conf), 0);
	assert_int_equal(split_conf_write(path, &conf), 0);
	assert_int_equal(split_conf_read(path, &again), 0);
	assert_string_equal(again.device, conf.device);
	assert_null(again.partition_uuid);
	assert_int_equal(again.size_bytes, 10);
	conf.size_bytes = 0;
	assert_int_equal(split_conf_write(path, &conf), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test_setup_teardown(test_write, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

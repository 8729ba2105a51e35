/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "base/process.h"
#include "test.h"

static void test_runs(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *argv[4];
		int status;
		const char *output;
	} rows[] = {
		{ "output",                  { "echo", "a b" },                    0,   "a b\n" },
		{ "standard error too",      { "sh", "-c", "echo x >&2" },         0,   "x\n" },
		{ "status",                  { "sh", "-c", "exit 7" },             7,   "" },
		{ "killed",                  { "sh", "-c", "kill -9 $$" },         137, "" },
		{ "not installed",           { "no-such-tool-here" },              127, "" },
		{ "no standard input",       { "cat" },                            0,   "" },
		{ "no shell in between",     { "echo", "$HOME `id`" },             0,   "$HOME `id`\n" },
		{ "nothing of our environment", { "sh", "-c", "echo ${UNIT_MARK-no} $LC_ALL" }, 0, "no C\n" },
	};
	/* clang-format on */

	assert_int_equal(setenv("UNIT_MARK", "yes", 1), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *output = NULL;
		int status = -1;

		assert_row(rows[i].name, process_run(rows[i].argv, 10, &status, &output) == 0);
		assert_row(rows[i].name, status == rows[i].status);
		assert_row(rows[i].name, strcmp(output, rows[i].output) == 0);
	}
}

static void test_status_that_nobody_takes(void **state)
{
	const char *const bad[] = { "false", NULL }, *const good[] = { "true", NULL };

	assert_int_equal(process_run(bad, 10, NULL, NULL), -EPROTO);
	assert_int_equal(process_run(good, 10, NULL, NULL), 0);
}

static void test_deadline(void **state)
{
	const char *const argv[] = { "sleep", "20", NULL };
	time_t start = time(NULL);
	int status;

	assert_int_equal(process_run(argv, 1, &status, NULL), -ETIMEDOUT);
	assert_true(time(NULL) - start < 10);
}

static void test_output_is_bounded(void **state)
{
	const char *const argv[] = { "head", "-c", "300000", "/dev/zero", NULL };
	_cleanup_(freep) char *output = NULL;
	int status;

	assert_int_equal(process_run(argv, 10, &status, &output), 0);
	assert_int_equal(status, 0);
	assert_int_equal(output[PROCESS_OUTPUT_MAX_BYTES], 0);
}

static void test_no_descriptor_is_inherited(void **state)
{
	const char *const argv[] = { "sh", "-c", "ls /proc/self/fd | wc -l", NULL };
	_cleanup_(closep) int extra = dup(STDERR_FILENO);
	_cleanup_(freep) char *output = NULL;

	assert_true(extra > 2);
	assert_int_equal(process_run(argv, 10, NULL, &output), 0);
	/* 0, 1, 2, and the one that ls reads with */
	assert_string_equal(output, "4\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_status_that_nobody_takes),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_output_is_bounded),
		cmocka_unit_test(test_no_descriptor_is_inherited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

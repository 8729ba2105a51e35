/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"
#include "test.h"

static int saved = -EBADF;
static int reader = -EBADF;

/* standard error goes into a pipe, as under systemd */
static int catch_stderr(void **state)
{
	int pipes[2];

	saved = dup(STDERR_FILENO);
	if (saved < 0 || pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	reader = pipes[0];
	(void)dup2(pipes[1], STDERR_FILENO);
	(void)close(pipes[1]);
	log_set_max_level(LOG_LEVEL_NOTICE);
	return 0;
}

static int let_go(void **state)
{
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	(void)close(reader);
	return 0;
}

static const char *caught(void)
{
	static char text[8192];
	ssize_t n = read(reader, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void test_text_from_outside_stays_on_its_line(void **state)
{
	log_error("Volume %s.", "a\n<3>forged\r\x1b[2J");
	assert_string_equal(caught(), "<3>Volume a <3>forged  [2J.\n");
}

static void test_levels(void **state)
{
	log_error("A %d.", 1);
	assert_string_equal(caught(), "<3>A 1.\n");
	log_warning("B.");
	assert_string_equal(caught(), "<4>B.\n");
	log_notice("C.");
	assert_string_equal(caught(), "<5>C.\n");
	log_debug("D.");
	assert_string_equal(caught(), "");
	assert_false(log_is_enabled(LOG_LEVEL_DEBUG));
	log_set_max_level(LOG_LEVEL_DEBUG);
	assert_true(log_is_enabled(LOG_LEVEL_DEBUG));
	log_debug("E.");
	assert_string_equal(caught(), "<7>E.\n");
}

static void test_errors(void **state)
{
	errno = EPIPE;
	assert_int_equal(log_error_errno(-ENOENT, "File %s: %m", "x"), -ENOENT);
	assert_string_equal(caught(), "<3>File x: No such file or directory\n");
	assert_int_equal(errno, EPIPE);
	/* also where the line itself is not wanted */
	assert_int_equal(log_debug_errno(-EIO, "x"), -EIO);
	assert_string_equal(caught(), "");
}

static void test_fold(void **state)
{
	assert_int_equal(fold(0), 0);
	assert_int_equal(fold(-EIO), -EIO);
	assert_string_equal(caught(), "");
	assert_int_equal(fold(3), -ENOTRECOVERABLE);
	assert_non_null(strstr(caught(), "test-log.c:"));
}

static void test_long_lines_are_cut(void **state)
{
	char text[5000];
	const char *line;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_error("%s", text);
	line = caught();
	assert_in_range(strlen(line), 1000, 2048);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void test_environment(void **state)
{
	assert_int_equal(setenv("VMCRYPT_LOG", "loud", 1), 0);
	log_set_from_environment();
	assert_false(log_is_enabled(LOG_LEVEL_DEBUG));
	assert_int_equal(setenv("VMCRYPT_LOG", "debug", 1), 0);
	log_set_from_environment();
	assert_true(log_is_enabled(LOG_LEVEL_DEBUG));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_text_from_outside_stays_on_its_line,
						catch_stderr, let_go),
		cmocka_unit_test_setup_teardown(test_levels, catch_stderr, let_go),
		cmocka_unit_test_setup_teardown(test_errors, catch_stderr, let_go),
		cmocka_unit_test_setup_teardown(test_fold, catch_stderr, let_go),
		cmocka_unit_test_setup_teardown(test_long_lines_are_cut, catch_stderr, let_go),
		cmocka_unit_test_setup_teardown(test_environment, catch_stderr, let_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/file.h>

#include "base/file.h"
#include "test.h"

static void test_new_file(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "new"), *text = NULL;
	struct stat status;

	assert_int_equal(file_write_atomic(path, "one\n", 4, 0640), 0);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0640);
	text = read_file(path);
	assert_string_equal(text, "one\n");
	assert_int_equal(count_entries(*state), 1);
}

static void test_replace_keeps_mode_and_owner(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "old"), *text = NULL;
	struct stat status;

	write_file(path, "old", 0604);
	/* to another owner only where the test may */
	if (geteuid() == 0)
		assert_int_equal(chown(path, 12345, 54321), 0);
	assert_int_equal(file_write_atomic(path, "newer", 5, 0640), 0);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0604);
	if (geteuid() == 0) {
		assert_int_equal(status.st_uid, 12345);
		assert_int_equal(status.st_gid, 54321);
	}
	text = read_file(path);
	assert_string_equal(text, "newer");
}

static void test_failure_leaves_nothing_behind(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "folder"),
			      *lost = scratch_path(state, "no/file");

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(file_write_atomic(path, "x", 1, 0600), -EISDIR);
	assert_int_equal(file_write_volatile(path, "x", 1, 0600), -EISDIR);
	assert_int_equal(file_write_atomic(lost, "x", 1, 0600), -ENOENT);
	assert_int_equal(count_entries(*state), 1);
}

static void test_link_is_replaced_not_followed(void **state)
{
	_cleanup_(freep) char *target = scratch_path(state, "target"),
			      *link = scratch_path(state, "link"), *text = NULL;
	struct stat status;

	write_file(target, "kept", 0600);
	assert_int_equal(symlink(target, link), 0);
	assert_int_equal(file_write_atomic(link, "new", 3, 0600), 0);
	assert_int_equal(lstat(link, &status), 0);
	assert_true(S_ISREG(status.st_mode));
	text = read_file(target);
	assert_string_equal(text, "kept");
}

static void test_read_is_bounded(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "file"), *text = NULL;
	char *untouched = NULL;
	size_t size;

	write_file(path, "12345", 0600);
	assert_int_equal(file_read(path, 4, &untouched, NULL), -EFBIG);
	assert_null(untouched);
	assert_int_equal(file_read(path, 5, &text, &size), 0);
	assert_int_equal(size, 5);
	assert_string_equal(text, "12345");
	assert_int_equal(file_read(*state, 5, &untouched, NULL), -EISDIR);
}

static void test_large_file_comes_whole(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "large"), *text = NULL,
			      *data = malloc(100000);
	size_t size;

	assert_non_null(data);
	memset(data, 'x', 100000);
	assert_int_equal(file_write_volatile(path, data, 100000, 0600), 0);
	assert_int_equal(file_read(path, 100000, &text, &size), 0);
	assert_int_equal(size, 100000);
	assert_memory_equal(text, data, size);
}

static void test_copy_range(void **state)
{
	_cleanup_(freep) char *from = scratch_path(state, "from"), *to = scratch_path(state, "to"),
			      *text = NULL;

	write_file(from, "0123456789", 0644);
	assert_int_equal(file_copy_range(from, 2, to, 0, 6, O_WRONLY | O_CREAT), 0);
	assert_int_equal(file_copy_range(from, 8, to, 1, 2, O_WRONLY), 0);
	text = read_file(to);
	assert_string_equal(text, "289567");
	assert_int_equal(file_copy_range(from, 9, to, 0, 2, O_WRONLY), -EIO);
	assert_int_equal(unlink(to), 0);
	assert_int_equal(file_copy_range(from, 0, to, 0, 1, O_WRONLY), -ENOENT);
}

static void test_remove(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "file");

	write_file(path, "x", 0600);
	assert_int_equal(file_remove_durably(path), 0);
	assert_int_equal(file_remove_durably(path), 0);
	assert_int_equal(count_entries(*state), 0);
}

static void test_lock_excludes(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "lock");
	_cleanup_(closep) int first = -EBADF, second = -EBADF;

	assert_int_equal(file_lock(path, &first), 0);
	second = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(second, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	(void)close(steal_fd(first));
	assert_int_equal(flock(second, LOCK_EX | LOCK_NB), 0);
}

static void test_directory_make(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "a/b/c"),
			      *parent = scratch_path(state, "a");
	struct stat status;

	assert_int_equal(directory_make(path, 0700), 0);
	assert_int_equal(directory_make(path, 0755), 0);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_int_equal(stat(parent, &status), 0);
	assert_true(S_ISDIR(status.st_mode));
}

static void test_numbers(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text;
		uint64_t minimum, maximum, value;
		int r;
	} rows[] = {
		{ "0",                    0, 9,          0,          0 },
		{ "18446744073709551615", 0, UINT64_MAX, UINT64_MAX, 0 },
		{ "18446744073709551616", 0, UINT64_MAX, 0,          -ERANGE },
		{ "99999999999999999999", 0, UINT64_MAX, 0,          -ERANGE },
		{ "007",                  0, 9,          7,          0 },
		{ "10",                   0, 9,          0,          -ERANGE },
		{ "4",                    5, 9,          0,          -ERANGE },
		{ "",                     0, 9,          0,          -EINVAL },
		{ "-1",                   0, 9,          0,          -EINVAL },
		{ "+1",                   0, 9,          0,          -EINVAL },
		{ " 1",                   0, 9,          0,          -EINVAL },
		{ "1 ",                   0, 9,          0,          -EINVAL },
		{ "0x1",                  0, 9,          0,          -EINVAL },
		{ NULL,                   0, 9,          0,          -EINVAL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t value = 77;
		int r = number_parse_u64(rows[i].text, rows[i].minimum, rows[i].maximum, &value);

		assert_row(rows[i].text ? rows[i].text : "NULL", r == rows[i].r);
		assert_row(rows[i].text ? rows[i].text : "NULL",
			   value == (r < 0 ? 77 : rows[i].value));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_new_file, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_replace_keeps_mode_and_owner, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_failure_leaves_nothing_behind, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_link_is_replaced_not_followed, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_read_is_bounded, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_large_file_comes_whole, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_copy_range, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_remove, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_lock_excludes, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_directory_make, scratch_make, scratch_remove),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

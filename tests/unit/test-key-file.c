/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key/client.h"
#include "key/file.h"
#include "key/passphrase.h"
#include "test.h"

static struct secret *secret_from(const char *text)
{
	struct secret *secret;

	assert_int_equal(secret_new(PASSPHRASE_MAX_BYTES + 1, &secret), 0);
	assert_int_equal(secret_append(secret, text, strlen(text)), 0);
	return secret;
}

static void test_there_and_back(void **state)
{
	_cleanup_(freep) char *folder = scratch_path(state, "keys"), *path = NULL, *again = NULL;
	_cleanup_(secret_freep) struct secret *in = secret_from("correct horse"), *out = NULL;
	struct stat status;

	assert_int_equal(key_file_store(folder, "volume", in, &path), 0);
	assert_int_equal(stat(folder, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(key_file_fetch(path, &out), 0);
	assert_true(secret_equal(in, out));
	assert_int_equal(key_file_store(folder, "volume", in, &again), 0);
	assert_string_equal(path, again);
	assert_int_equal(count_entries(folder), 1);
}

static void test_another_passphrase_is_never_overwritten(void **state)
{
	_cleanup_(freep) char *folder = scratch_path(state, "keys"), *path = NULL, *text = NULL;
	_cleanup_(secret_freep) struct secret *one = secret_from("one"), *two = secret_from("two");
	char *untouched = NULL;

	assert_int_equal(key_file_store(folder, "volume", one, &path), 0);
	assert_int_equal(key_file_store(folder, "volume", two, &untouched), -EEXIST);
	assert_null(untouched);
	text = read_file(path);
	assert_string_equal(text, "one");
	assert_int_equal(count_entries(folder), 1);
}

static void test_an_attempt_that_was_cut_is_cleared_away(void **state)
{
	_cleanup_(freep) char *folder = scratch_path(state, "keys"), *path = NULL;
	_cleanup_(freep) char *rest = scratch_path(state, "keys/.volume.new");
	_cleanup_(secret_freep) struct secret *one = secret_from("one");

	assert_int_equal(mkdir(folder, 0700), 0);
	write_file(rest, "on", 0600);
	assert_int_equal(key_file_store(folder, "volume", one, &path), 0);
	assert_int_equal(count_entries(folder), 1);
}

static void test_store_refuses(void **state)
{
	static const char *const names[] = { "", ".", "..", ".hidden", "a/b", "a b", "a\n" };
	_cleanup_(freep) char *folder = scratch_path(state, "keys"),
			      *link = scratch_path(state, "link");
	_cleanup_(secret_freep) struct secret *one = secret_from("one"), *none = secret_from("");
	char *path = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_row(names[i], key_file_store(folder, names[i], one, &path) == -EINVAL);
	assert_int_equal(key_file_store("relative", "a", one, &path), -EINVAL);
	assert_int_equal(key_file_store(folder, "a", none, &path), -EINVAL);
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(chmod(folder, 0777), 0);
	assert_int_equal(key_file_store(folder, "a", one, &path), -EPERM);
	assert_int_equal(chmod(folder, 0700), 0);
	assert_int_equal(symlink(folder, link), 0);
	assert_int_equal(key_file_store(link, "a", one, &path), -ELOOP);
	assert_int_equal(count_entries(folder), 0);
	assert_null(path);
}

static void test_fetch_refuses(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "key"),
			      *link = scratch_path(state, "link");
	_cleanup_(freep) char *folder = scratch_path(state, "folder"), *below = NULL;
	_cleanup_(freep) char *fifo = scratch_path(state, "fifo"),
			      *inside = scratch_path(state, "key/x");
	_cleanup_(secret_freep) struct secret *out = NULL;
	char large[PASSPHRASE_MAX_BYTES + 2];

	assert_int_equal(key_file_fetch(path, &out), KEY_E_GONE);
	write_file(path, "", 0600);
	assert_int_equal(key_file_fetch(path, &out), KEY_E_CORRUPT);
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	write_file(path, large, 0600);
	assert_int_equal(key_file_fetch(path, &out), KEY_E_CORRUPT);

	write_file(path, "secret", 0640);
	assert_int_equal(key_file_fetch(path, &out), KEY_E_DENIED);
	write_file(path, "secret", 0604);
	assert_int_equal(key_file_fetch(path, &out), KEY_E_DENIED);
	write_file(path, "secret", 0400);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(key_file_fetch(link, &out), KEY_E_CONFIG);
	assert_int_equal(symlink(*state, folder), 0);
	assert_true(asprintf(&below, "%s/key", folder) > 0);
	assert_int_equal(key_file_fetch(below, &out), KEY_E_CONFIG);
	assert_int_equal(key_file_fetch(*state, &out), KEY_E_CONFIG);
	assert_int_equal(key_file_fetch(inside, &out), KEY_E_GONE);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(key_file_fetch(fifo, &out), KEY_E_CONFIG);
	assert_int_equal(key_file_fetch("key", &out), KEY_E_CONFIG);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 12345, 0), 0);
		assert_int_equal(key_file_fetch(path, &out), KEY_E_DENIED);
		assert_int_equal(chown(path, 0, 0), 0);
	}
	assert_null(out);
	assert_int_equal(key_file_fetch(path, &out), 0);
	assert_int_equal(secret_size(out), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_there_and_back, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_another_passphrase_is_never_overwritten,
						scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_an_attempt_that_was_cut_is_cleared_away,
						scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_store_refuses, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_fetch_refuses, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

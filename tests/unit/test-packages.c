/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* packages_lock(): against dpkg's own lock, as another process holds it */
#include <fcntl.h>
#include <sys/wait.h>

#include "boot/packages.h"
#include "tree.h"

#define LOCK "var/lib/dpkg/lock-frontend"

static bool try_lock(const char *path)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int file = open(path, O_RDWR | O_CLOEXEC), r;

	if (file < 0)
		return false;
	r = fcntl(file, F_SETLK, &whole);
	if (r < 0)
		(void)close(file);
	return r == 0; /* kept until the process ends */
}

/* Could another process have it? */
static bool is_free(const char *path)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(try_lock(path) ? 0 : 1);
	assert_true(child > 0 && waitpid(child, &status, 0) == child);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_lock(void **state)
{
	_cleanup_(freep) char *root = scratch_path(state, ""), *path = scratch_path(state, LOCK);
	struct packages_lock lock;
	int says[2], may_end[2], status;
	char byte = 0;
	pid_t child;

	assert_int_equal(packages_lock(root, &lock), 0);
	assert_int_equal(lock.n, 0);
	put(state, LOCK, "", 0640);
	assert_true(is_free(path));
	assert_int_equal(packages_lock(root, &lock), 0);
	assert_int_equal(lock.n, 1);
	assert_false(is_free(path));
	packages_unlock(&lock);
	assert_true(is_free(path));

	assert_int_equal(pipe2(says, O_CLOEXEC), 0);
	assert_int_equal(pipe2(may_end, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		byte = try_lock(path) ? 'y' : 'n';
		(void)close(may_end[1]);
		(void)!write(says[1], &byte, 1);
		(void)!read(may_end[0], &byte, 1);
		_exit(0);
	}
	assert_true(child > 0);
	assert_int_equal(read(says[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	assert_int_equal(packages_lock(root, &lock), -EAGAIN);
	packages_unlock(&lock);
	for (int i = 0; i < 2; i++) {
		(void)close(says[i]);
		(void)close(may_end[1 - i]);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(packages_lock(root, &lock), 0);
	packages_unlock(&lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lock, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

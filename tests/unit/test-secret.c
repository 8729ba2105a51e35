/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/secret.h"
#include "test.h"

/* the address sanitizer makes mlock() do nothing, and then there is nothing to see */
#if defined(__SANITIZE_ADDRESS__)
#define HAS_MLOCK 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_MLOCK 0
#endif
#endif
#ifndef HAS_MLOCK
#define HAS_MLOCK 1
#endif

/* the VmFlags line of the mapping that begins at this address; proc(5), /proc/pid/smaps */
static void find_flags(const void *address, char *ret, size_t size)
{
	_cleanup_(fclosep) FILE *maps = fopen("/proc/self/smaps", "re");
	char line[512];
	bool is_it = false;

	assert_non_null(maps);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_it = start <= (unsigned long)address && (unsigned long)address < end;
		if (is_it && strncmp(line, "VmFlags:", 8) == 0)
			(void)snprintf(ret, size, "%s", line);
	}
}

static void test_pages_are_protected(void **state)
{
	static const char *const flags[] = { " lo", " dd", " wf" };
	_cleanup_(secret_freep) struct secret *secret = NULL;
	char line[512];

	assert_int_equal(secret_new_random(32, &secret), 0);
	find_flags(secret_bytes(secret), line, sizeof(line));
	for (size_t i = HAS_MLOCK ? 0 : 1; i < ARRAY_SIZE(flags); i++)
		assert_row(flags[i], strstr(line, flags[i]));
}

static int run_child(int (*child)(void *), void *argument)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child(argument));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int is_wiped(void *argument)
{
	struct secret *secret = argument;

	for (size_t i = 0; i < secret_capacity(secret); i++)
		if (secret_bytes(secret)[i] != 0)
			return 1;
	return 0;
}

static void test_wiped_in_a_forked_child(void **state)
{
	_cleanup_(secret_freep) struct secret *secret = NULL;

	assert_int_equal(secret_new(4, &secret), 0);
	assert_int_equal(secret_append(secret, "abcd", 4), 0);
	assert_int_equal(is_wiped(secret), 1);
	assert_int_equal(run_child(is_wiped, secret), 0);
}

static int make_without_locks(void *argument)
{
	const struct rlimit none = { 0, 0 };
	struct secret *secret;

	/* root may lock what it wants */
	if (setrlimit(RLIMIT_MEMLOCK, &none) < 0 ||
	    (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0))
		return 2;
	return secret_new(32, &secret) < 0 ? 0 : 1;
}

static void test_refused_when_it_cannot_be_locked(void **state)
{
	if (!HAS_MLOCK)
		skip();
	assert_int_equal(run_child(make_without_locks, NULL), 0);
}

static void test_sizes(void **state)
{
	_cleanup_(secret_freep) struct secret *secret = NULL;

	assert_int_equal(secret_new(0, &secret), -EINVAL);
	assert_int_equal(secret_new(SECRET_MAX_BYTES + 1, &secret), -EINVAL);
	assert_int_equal(secret_new_random(0, &secret), -EINVAL);
	assert_int_equal(secret_new_random(257, &secret), -EINVAL);
	assert_int_equal(secret_new(8, &secret), 0);
	assert_int_equal(secret_size(secret), 0);
	assert_int_equal(secret_capacity(secret), 8);
	assert_int_equal(secret_append(secret, "12345", 5), 0);
	assert_int_equal(secret_append(secret, "6789", 4), -ENOBUFS);
	assert_int_equal(secret_size(secret), 5);
	assert_int_equal(secret_append(secret, "678", 3), 0);
	assert_memory_equal(secret_bytes(secret), "12345678", 8);

	secret_set_size(secret, 3);
	assert_memory_equal(secret_bytes(secret), "123\0\0\0\0\0", 8);
	assert_null(secret_free(NULL));
}

static void test_random(void **state)
{
	_cleanup_(secret_freep) struct secret *a = NULL, *b = NULL;

	assert_int_equal(secret_new_random(256, &a), 0);
	assert_int_equal(secret_new_random(256, &b), 0);
	assert_false(secret_equal(a, b));
	assert_true(secret_equal(a, a));
	secret_set_size(b, 255);
	assert_false(secret_equal(a, b));
}

static void test_descriptors(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *sent;
		size_t exactly, at_most;
		int r_exactly, r_to_end;
	} rows[] = {
		{ "just right",        "abcd", 4, 4, 0,        0 },
		{ "less than the limit", "abc", 3, 9, 0,       0 },
		{ "ends early",        "ab",   4, 4, -EBADMSG, 0 },
		{ "more than asked",   "abcde", 4, 4, 0,       -EFBIG },
		{ "nothing",           "",     4, 4, -EBADMSG, -ENODATA },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows) * 2; i++) {
		_cleanup_(secret_freep) struct secret *out = NULL, *in = NULL;
		size_t row = i / 2, size = strlen(rows[row].sent);
		int pipes[2], r;

		assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
		assert_int_equal(secret_new(16, &out), 0);
		assert_int_equal(secret_append(out, rows[row].sent, size), 0);
		assert_int_equal(secret_write_fd(pipes[1], out), 0);
		(void)close(pipes[1]);
		r = i % 2 ? secret_read_fd_to_end(pipes[0], rows[row].at_most, &in)
			  : secret_read_fd(pipes[0], rows[row].exactly, &in);
		(void)close(pipes[0]);
		assert_row(rows[row].name, r == (i % 2 ? rows[row].r_to_end : rows[row].r_exactly));
		assert_row(rows[row].name, (r == 0) == (in != NULL));
		if (in)
			assert_memory_equal(secret_bytes(in), rows[row].sent, secret_size(in));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_are_protected),
		cmocka_unit_test(test_wiped_in_a_forked_child),
		cmocka_unit_test(test_refused_when_it_cannot_be_locked),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

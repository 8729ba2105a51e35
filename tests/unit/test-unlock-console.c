/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Over a pseudo-terminal: master is the person's end. */
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>

#include "program/unlock-console.h"
#include "test.h"

struct terminal {
	int person, ours;
};

static int terminal_make(void **state)
{
	struct terminal *terminal = calloc(1, sizeof(*terminal));

	*state = terminal;
	return terminal && openpty(&terminal->person, &terminal->ours, NULL, NULL, NULL) == 0 ? 0
											      : -1;
}

static int terminal_remove(void **state)
{
	struct terminal *terminal = *state;

	closep(&terminal->person);
	closep(&terminal->ours);
	free(terminal);
	return 0;
}

static tcflag_t mode(const struct terminal *terminal)
{
	struct termios now;

	assert_int_equal(tcgetattr(terminal->ours, &now), 0);
	return now.c_lflag & (ICANON | ECHO | ISIG);
}

static void press(const struct terminal *terminal, const char *keys)
{
	assert_int_equal(write(terminal->person, keys, strlen(keys)), strlen(keys));
}

/* What was pressed is on our end: a pseudo-terminal takes its time. */
static void arrive(const struct terminal *terminal)
{
	struct pollfd poll_fd = { .fd = terminal->ours, .events = POLLIN };

	assert_int_equal(poll(&poll_fd, 1, 5000), 1);
}

/* Nothing has been shown to the person. */
static void assert_silent(const struct terminal *terminal)
{
	struct pollfd poll_fd = { .fd = terminal->person, .events = POLLIN };

	assert_int_equal(poll(&poll_fd, 1, 20), 0);
}

static void test_key(void **state)
{
	const struct terminal *terminal = *state;
	tcflag_t before = mode(terminal);
	struct unlock_console console;

	assert_int_equal(unlock_console_take(terminal->ours, &console), 0);
	press(terminal, "boot loader\n");
	arrive(terminal);
	assert_int_equal(unlock_console_watch(&console), 0);
	assert_false(mode(terminal) & (ICANON | ECHO));
	assert_true(mode(terminal) & ISIG);
	/* what was typed before is no key press */
	assert_false(unlock_console_is_pressed(&console));
	press(terminal, "x");
	arrive(terminal);
	assert_true(unlock_console_is_pressed(&console));
	/* it was taken, and shown to nobody */
	assert_false(unlock_console_is_pressed(&console));
	unlock_console_drop(&console);
	assert_int_equal(mode(terminal), before);
	assert_int_equal(console.fd, -EBADF);
	assert_false(unlock_console_is_pressed(&console));
}

static void test_line(void **state)
{
	const struct terminal *terminal = *state;
	tcflag_t before = mode(terminal);
	struct unlock_console console;
	char line[32] = "";

	assert_int_equal(unlock_console_take(terminal->ours, &console), 0);
	assert_int_equal(unlock_console_watch(&console), 0);
	assert_int_equal(unlock_console_hide(&console), 0);
	assert_true(mode(terminal) & ICANON);
	assert_false(mode(terminal) & ECHO);
	press(terminal, "abc");
	assert_silent(terminal);
	press(terminal, "\177d\n");
	assert_int_equal(read(terminal->ours, line, sizeof(line) - 1), 4);
	assert_string_equal(line, "abd\n");
	unlock_console_restore(&console);
	assert_int_equal(mode(terminal), before);
	unlock_console_drop(&console);
}

/* A question that nobody sees would be waited for in vain. */
static void test_read_only(void **state)
{
	const struct terminal *terminal = *state;
	_cleanup_(closep) int fd = open(ttyname(terminal->ours), O_RDONLY | O_NOCTTY);
	struct unlock_console console;

	assert_true(fd >= 0);
	assert_int_equal(unlock_console_take(fd, &console), -EACCES);
	assert_int_equal(console.fd, -EBADF);
	assert_int_equal(unlock_console_take(terminal->ours, &console), 0);
	unlock_console_drop(&console);
}

static void test_none(void **state)
{
	_cleanup_(closep) int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct unlock_console console;

	assert_int_equal(unlock_console_take(fd, &console), -ENOTTY);
	assert_int_equal(console.fd, -EBADF);
	assert_int_equal(unlock_console_watch(&console), -ENOTTY);
	assert_int_equal(unlock_console_hide(&console), -ENOTTY);
	assert_false(unlock_console_is_pressed(&console));
	unlock_console_restore(&console);
	unlock_console_write(&console, "nobody reads this");
	unlock_console_drop(&console);
}

static void test_gone(void **state)
{
	struct terminal *terminal = *state;
	struct unlock_console console;

	assert_int_equal(unlock_console_take(terminal->ours, &console), 0);
	assert_int_equal(unlock_console_watch(&console), 0);
	closep(&terminal->person);
	terminal->person = -EBADF;
	/* dropped, or poll() would return at once for ever */
	assert_false(unlock_console_is_pressed(&console));
	assert_int_equal(console.fd, -EBADF);
}

/* Whatever ends the process, the person's shell is usable after it. */
static void test_signals(void **state)
{
	static const int rows[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	const struct terminal *terminal = *state;
	tcflag_t before = mode(terminal);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct unlock_console console;
		int ready[2], status;
		char byte;
		pid_t pid;

		assert_int_equal(pipe(ready), 0);
		pid = fork();
		if (pid == 0) {
			if (unlock_console_take(terminal->ours, &console) < 0 ||
			    unlock_console_watch(&console) < 0 || write(ready[1], "x", 1) != 1)
				_exit(1);
			for (;;)
				(void)pause();
		}
		assert_true(pid > 0);
		assert_int_equal(read(ready[0], &byte, 1), 1);
		assert_int_not_equal(mode(terminal), before);
		assert_int_equal(kill(pid, rows[i]), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == rows[i]);
		assert_int_equal(mode(terminal), before);
		closep(&ready[0]);
		closep(&ready[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_key, terminal_make, terminal_remove),
		cmocka_unit_test_setup_teardown(test_line, terminal_make, terminal_remove),
		cmocka_unit_test_setup_teardown(test_read_only, terminal_make, terminal_remove),
		cmocka_unit_test(test_none),
		cmocka_unit_test_setup_teardown(test_gone, terminal_make, terminal_remove),
		cmocka_unit_test_setup_teardown(test_signals, terminal_make, terminal_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The prompt with the real Plymouth, on a pseudo-terminal. Its socket has a fixed name in the
 * network namespace, so that it gets one of its own, which needs root; it tells process 1 what it
 * shows, so that it is its own process 1. It draws nothing: "splash" is not among its kernel's
 * arguments. */
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/process.h"
#include "key/recovery.h"
#include "program/unlock-plymouth.h"
#include "program/unlock-prompt.h"
#include "test.h"

#define DAEMON      "/usr/sbin/plymouthd"
#define UNSHARE     "/usr/bin/unshare"
#define MESON_SKIP  77
#define PATIENCE_MS 10000

struct scene {
	struct unlock_console console; /* a second terminal: for when Plymouth does not ask */
	struct unlock_prompt prompt;
	char key[72]; /* a recovery key, as printed */
	int person, terminal, other_person, other_terminal;
	pid_t daemon;
	char text[16384]; /* on the screen until now */
	size_t size;
};

static void read_screen(struct scene *scene, int wait_ms)
{
	struct pollfd poll_fd = { .fd = scene->person, .events = POLLIN };

	while (scene->size < sizeof(scene->text) - 1 && poll(&poll_fd, 1, wait_ms) == 1) {
		ssize_t n = read(scene->person, scene->text + scene->size,
				 sizeof(scene->text) - 1 - scene->size);

		if (n <= 0)
			break;
		scene->size += (size_t)n;
		wait_ms = 0;
	}
	scene->text[scene->size] = '\0';
}

/* and forget what came before it */
static void wait_for(struct scene *scene, const char *text)
{
	for (unsigned i = 0; i < PATIENCE_MS / 50 && !strstr(scene->text, text); i++)
		read_screen(scene, 50);
	assert_row(text, strstr(scene->text, text) != NULL);
	scene->size = 0;
	scene->text[0] = '\0';
}

static void type(struct scene *scene, const char *text)
{
	assert_int_equal(write(scene->person, text, strlen(text)), strlen(text));
}

static pid_t start_daemon(const struct scene *scene)
{
	char tty[64];
	pid_t child;

	(void)snprintf(tty, sizeof(tty), "--tty=%s", ttyname(scene->terminal));
	child = fork();
	if (child == 0) {
		(void)execl(UNSHARE, UNSHARE, "--pid", "--fork", "--kill-child", DAEMON,
			    "--no-daemon", "--no-boot-log", "--mode=boot", tty,
			    "--kernel-command-line=plymouth.ignore-serial-consoles", (char *)NULL);
		_exit(127);
	}
	for (unsigned i = 0; i < PATIENCE_MS / 50; i++) {
		if (unlock_plymouth_answers(UNLOCK_PLYMOUTH))
			return child;
		(void)poll(NULL, 0, 50);
	}
	return -1;
}

static void show_splash(void)
{
	static const char *const argv[] = { UNLOCK_PLYMOUTH, "--show-splash", NULL };

	assert_int_equal(process_run(argv, 10, NULL, NULL), 0);
}

static int scene_make(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = calloc(1, sizeof(*scene));

	*state = scene;
	if (!scene || recovery_generate(&key) < 0 ||
	    openpty(&scene->person, &scene->terminal, NULL, NULL, NULL) < 0 ||
	    openpty(&scene->other_person, &scene->other_terminal, NULL, NULL, NULL) < 0 ||
	    unlock_console_take(scene->other_terminal, &scene->console) < 0)
		return -1;
	memcpy(scene->key, secret_bytes(key), secret_size(key));
	scene->daemon = start_daemon(scene);
	if (scene->daemon < 0)
		return -1;
	scene->prompt = (struct unlock_prompt){ .console = &scene->console,
						.tool = UNLOCK_PLYMOUTH,
						.asking.fd = -EBADF,
						.watching.fd = -EBADF,
						.fd = -EBADF };
	scene->prompt.plymouth = scene->prompt.tool;
	return unlock_prompt_watch(&scene->prompt);
}

static int scene_remove(void **state)
{
	struct scene *scene = *state;

	unlock_prompt_end(&scene->prompt);
	unlock_console_drop(&scene->console);
	(void)kill(scene->daemon, SIGKILL);
	(void)waitpid(scene->daemon, NULL, 0);
	/* that was its parent; the next one needs the name of its socket */
	while (unlock_plymouth_answers(UNLOCK_PLYMOUTH))
		(void)poll(NULL, 0, 20);
	closep(&scene->person);
	closep(&scene->terminal);
	closep(&scene->other_person);
	closep(&scene->other_terminal);
	free(scene);
	return 0;
}

static bool is_readable(int fd, int wait_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, wait_ms) == 1;
}

/* When Plymouth has begun to watch is not to be seen from here: once may be too early. */
static void press(struct scene *scene, const char *key)
{
	for (unsigned i = 0; i < PATIENCE_MS / 100; i++) {
		type(scene, key);
		if (is_readable(unlock_prompt_key_fd(&scene->prompt), 100))
			break;
	}
	assert_true(is_readable(unlock_prompt_key_fd(&scene->prompt), 0));
	assert_true(unlock_prompt_is_pressed(&scene->prompt));
	while (is_readable(unlock_prompt_key_fd(&scene->prompt), 300))
		(void)unlock_prompt_is_pressed(&scene->prompt);
}

static int read_answer(struct scene *scene, struct secret **ret)
{
	unsigned group = 0;
	int r;

	do {
		assert_true(is_readable(scene->prompt.fd, PATIENCE_MS));
		r = unlock_prompt_read(&scene->prompt, ret, &group);
	} while (unlock_prompt_is_shown(&scene->prompt));
	return r;
}

static void test_answers(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = *state;

	show_splash();
	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key of volume a:"), 0);
	wait_for(scene, "Recovery key of volume a");
	type(scene, "\r");
	assert_int_equal(read_answer(scene, &key), UNLOCK_PROMPT_E_CLOSED);

	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key of volume b:"), 0);
	wait_for(scene, "Recovery key of volume b");
	type(scene, "\003");
	assert_int_equal(read_answer(scene, &key), UNLOCK_PROMPT_E_CLOSED);

	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key of volume c:"), 0);
	wait_for(scene, "Recovery key of volume c");
	type(scene, scene->key);
	type(scene, "\r");
	assert_int_equal(read_answer(scene, &key), 0);
	assert_int_equal(secret_size(key), strlen(scene->key));
	assert_memory_equal(secret_bytes(key), scene->key, secret_size(key));
	read_screen(scene, 200);
	assert_null(strstr(scene->text, scene->key));
	assert_non_null(strstr(scene->text, "***"));

	/* what was typed goes with it */
	unlock_prompt_end(&scene->prompt);
	assert_false(unlock_plymouth_answers(UNLOCK_PLYMOUTH));
}

static void test_withdrawn(void **state)
{
	struct scene *scene = *state;

	show_splash();
	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key:"), 0);
	wait_for(scene, "Recovery key");
	/* the key has come from elsewhere */
	unlock_prompt_end(&scene->prompt);
	assert_false(unlock_prompt_is_shown(&scene->prompt));
	assert_false(unlock_plymouth_answers(UNLOCK_PLYMOUTH));
}

static void test_keys(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = *state;

	show_splash();
	assert_false(is_readable(unlock_prompt_key_fd(&scene->prompt), 200));
	press(scene, "x");
	press(scene, "\r");
	/* what answers a question is no key press */
	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key:"), 0);
	wait_for(scene, "Recovery key");
	type(scene, "letmein\r");
	assert_int_equal(read_answer(scene, &key), UNLOCK_PROMPT_E_FORM);
	assert_false(is_readable(unlock_prompt_key_fd(&scene->prompt), 200));
	press(scene, "x");
}

static void test_not_asked(void **state)
{
	struct scene *scene = *state;

	show_splash();
	unlock_prompt_end(&scene->prompt);
	assert_int_equal(scene->prompt.watching.child, 0);
	type(scene, "abc\r");
	assert_true(unlock_plymouth_answers(UNLOCK_PLYMOUTH));
}

static void test_no_splash(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = *state;

	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key:"), 0);
	assert_int_equal(read_answer(scene, &key), UNLOCK_PROMPT_E_MORE);
	assert_null(scene->prompt.tool);
	assert_int_equal(unlock_prompt_key_fd(&scene->prompt), scene->console.fd);
}

static void test_gone(void **state)
{
	static const char *const argv[] = { UNLOCK_PLYMOUTH, "quit", NULL };
	struct scene *scene = *state;

	show_splash();
	assert_false(is_readable(unlock_prompt_key_fd(&scene->prompt), 200));
	(void)process_run(argv, 10, NULL, NULL);
	assert_true(is_readable(unlock_prompt_key_fd(&scene->prompt), PATIENCE_MS));
	assert_false(unlock_prompt_is_pressed(&scene->prompt));
	assert_null(scene->prompt.tool);
	assert_int_equal(unlock_prompt_key_fd(&scene->prompt), scene->console.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_withdrawn, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_keys, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_not_asked, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_no_splash, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_gone, scene_make, scene_remove),
	};

	if (access(DAEMON, X_OK) < 0 || access(UNLOCK_PLYMOUTH, X_OK) < 0) {
		(void)puts("Plymouth is not installed (Debian package plymouth).");
		return MESON_SKIP;
	}
	if (unshare(CLONE_NEWNET) < 0) {
		(void)printf("A network namespace cannot be had: %s.\n", strerror(errno));
		return MESON_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

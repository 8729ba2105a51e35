/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Over a pseudo-terminal, or by a tool that stands in for systemd-ask-password or Plymouth's
 * client. With the real Plymouth: test-unlock-plymouth.c. */
#include <pty.h>
#include <signal.h>

#include "key/recovery.h"
#include "program/unlock-prompt.h"
#include "test.h"

static void test_is_due(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name;
		struct unlock_prompt_look look;
		bool is_due;
	} rows[] = {
		/*                            answerable shown  pressed refused closed key    waited after */
		{ "waiting",                  { true,    false, false,  false,  false, true,   119,   120 }, false },
		{ "waited long enough",       { true,    false, false,  false,  false, true,   120,   120 }, true },
		{ "without a console too",    { true,    false, false,  false,  false, false,  120,   120 }, true },
		{ "at once is wanted",        { true,    false, false,  false,  false, true,   0,     0   }, true },
		{ "key pressed",              { true,    false, true,   false,  false, true,   0,     120 }, true },
		{ "refused",                  { true,    false, false,  true,   false, true,   0,     120 }, true },
		{ "shown already",            { true,    true,  true,   true,   false, true,   500,   120 }, false },
		{ "nothing that it opens",    { false,   false, true,   true,   false, true,   500,   120 }, false },
		{ "closed",                   { true,    false, false,  true,   true,  true,   500,   120 }, false },
		{ "closed, key pressed",      { true,    false, true,   false,  true,  true,   0,     120 }, true },
		{ "closed, no key to press",  { true,    false, false,  true,   true,  false,  59,    0   }, false },
		{ "closed a minute ago",      { true,    false, false,  false,  true,  false,  60,    120 }, true },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_row(rows[i].name, unlock_prompt_is_due(&rows[i].look) == rows[i].is_due);
}

struct scene {
	struct unlock_console console;
	struct unlock_prompt prompt;
	char key[72]; /* a recovery key, as printed */
	int person, ours;
	char *folder;
};

static int scene_make(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = calloc(1, sizeof(*scene));
	void *folder;

	*state = scene;
	if (!scene || scratch_make(&folder) < 0 ||
	    openpty(&scene->person, &scene->ours, NULL, NULL, NULL) < 0 ||
	    unlock_console_take(scene->ours, &scene->console) < 0 || recovery_generate(&key) < 0)
		return -1;
	scene->folder = folder;
	memcpy(scene->key, secret_bytes_const(key), secret_size(key));
	unlock_prompt_init(&scene->prompt, &scene->console);
	scene->prompt.tool = NULL;
	return 0;
}

static int scene_remove(void **state)
{
	struct scene *scene = *state;
	void *folder = scene->folder;

	unlock_prompt_end(&scene->prompt);
	unlock_console_drop(&scene->console);
	closep(&scene->person);
	closep(&scene->ours);
	(void)scratch_remove(&folder);
	free(scene);
	return 0;
}

static tcflag_t mode(const struct scene *scene)
{
	struct termios now;

	assert_int_equal(tcgetattr(scene->ours, &now), 0);
	return now.c_lflag;
}

static void wait_readable(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&poll_fd, 1, 5000), 1);
}

/* What the person sees until now. */
static const char *screen(const struct scene *scene)
{
	static char text[4096];
	struct pollfd poll_fd = { .fd = scene->person, .events = POLLIN };
	size_t used = 0;

	while (used < sizeof(text) - 1 && poll(&poll_fd, 1, 50) == 1) {
		ssize_t n = read(scene->person, text + used, sizeof(text) - 1 - used);

		if (n <= 0)
			break;
		used += (size_t)n;
	}
	text[used] = '\0';
	return text;
}

/* Type %s = the key into the prompt and read the answer. */
static int answer(struct scene *scene, const char *format, struct secret **ret, unsigned *ret_group)
{
	char line[256];
	int n;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	n = snprintf(line, sizeof(line), format, scene->key);
#pragma GCC diagnostic pop
	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key:"), 0);
	assert_int_equal(write(scene->person, line, (size_t)n), n);
	wait_readable(scene->prompt.fd);
	return unlock_prompt_read(&scene->prompt, ret, ret_group);
}

static void test_answers(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *typed;
		int r;
	} rows[] = {
		{ "as printed",          "%s\n",           0 },
		{ "blanks around it",    " %s  \n",        0 },
		{ "nothing",             "\n",             UNLOCK_PROMPT_E_CLOSED },
		{ "end of file",         "\004",           UNLOCK_PROMPT_E_CLOSED },
		{ "something else",      "letmein\n",      UNLOCK_PROMPT_E_FORM },
		{ "too much of it",      "%sAAAA\n",       UNLOCK_PROMPT_E_FORM },
		{ "half of it",          "%.35s\n",        UNLOCK_PROMPT_E_FORM },
	};
	/* clang-format on */
	struct scene *scene = *state;
	tcflag_t before = mode(scene);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(secret_freep) struct secret *key = NULL;
		unsigned group = 0;

		assert_row(rows[i].name, answer(scene, rows[i].typed, &key, &group) == rows[i].r);
		assert_row(rows[i].name, (key != NULL) == (rows[i].r == 0));
		assert_row(rows[i].name, !key || (secret_size(key) == strlen(scene->key) &&
						  memcmp(secret_bytes(key), scene->key,
							 strlen(scene->key)) == 0));
		assert_row(rows[i].name, !unlock_prompt_is_shown(&scene->prompt));
		assert_row(rows[i].name, mode(scene) == before);
		assert_row(rows[i].name, !strstr(screen(scene), scene->key));
	}
}

static void test_typo(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = *state;
	unsigned group = 0;

	/* in the third group */
	scene->key[20] = scene->key[20] == '7' ? '8' : '7';
	assert_int_equal(answer(scene, "%s\n", &key, &group), UNLOCK_PROMPT_E_TYPO);
	assert_int_equal(group, 3);
	assert_null(key);
}

static void test_part(void **state)
{
	struct scene *scene = *state;
	struct secret *key = NULL;
	unsigned group;

	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key:"), 0);
	assert_non_null(strstr(screen(scene), "Recovery key:"));
	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key:"), 0);
	assert_string_equal(screen(scene), "");
	assert_int_equal(write(scene->person, "AB", 2), 2);
	assert_string_equal(screen(scene), "");
	assert_true(unlock_prompt_is_shown(&scene->prompt));
	/* the key has come from elsewhere */
	unlock_prompt_end(&scene->prompt);
	assert_false(unlock_prompt_is_shown(&scene->prompt));
	assert_true(mode(scene) & ECHO);
	unlock_prompt_end(&scene->prompt);
	assert_int_equal(unlock_prompt_read(&scene->prompt, &key, &group), UNLOCK_PROMPT_E_MORE);
}

/* No terminal of ours, and a tool that stands in for systemd's. */
static void use_tool(struct scene *scene, const char *script)
{
	static char path[256];

	unlock_console_drop(&scene->console);
	(void)snprintf(path, sizeof(path), "%s/tool", scene->folder);
	write_file(path, script, 0755);
	scene->prompt.tool = path;
	assert_int_equal(unlock_prompt_show(&scene->prompt, "Recovery key:"), 0);
	wait_readable(scene->prompt.fd);
}

static void test_tool(void **state)
{
	_cleanup_(freep) char *script = NULL, *shown = NULL, *arguments = NULL, *go = NULL;
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = *state;
	unsigned group = 0;

	assert_true(asprintf(&shown, "%s/shown", scene->folder) > 0);
	assert_true(asprintf(&script, "#!/bin/sh\necho \"$@\" > %s; echo %s\n", shown, scene->key) >
		    0);
	use_tool(scene, script);
	assert_int_equal(unlock_prompt_read(&scene->prompt, &key, &group), 0);
	assert_int_equal(secret_size(key), strlen(scene->key));
	assert_false(unlock_prompt_is_shown(&scene->prompt));
	arguments = read_file(shown);
	assert_non_null(strstr(arguments, "--no-tty --id=vmcrypt"));
	assert_non_null(strstr(arguments, "--timeout=0 Recovery key:\n"));
	key = secret_free(key);

	/* cancelled, as with an answer that is empty */
	use_tool(scene, "#!/bin/sh\nexit 1\n");
	assert_int_equal(unlock_prompt_read(&scene->prompt, &key, &group), UNLOCK_PROMPT_E_CLOSED);
	use_tool(scene, "#!/bin/sh\necho\n");
	assert_int_equal(unlock_prompt_read(&scene->prompt, &key, &group), UNLOCK_PROMPT_E_CLOSED);

	/* it comes in pieces */
	free(steal(script));
	assert_true(
		asprintf(
			&script,
			"#!/bin/sh\nprintf ABC; while ! [ -e %s/go ]; do sleep 0.05; done; echo D\n",
			scene->folder) > 0);
	use_tool(scene, script);
	assert_int_equal(unlock_prompt_read(&scene->prompt, &key, &group), UNLOCK_PROMPT_E_MORE);
	assert_true(unlock_prompt_is_shown(&scene->prompt));
	assert_true(asprintf(&go, "%s/go", scene->folder) > 0);
	write_file(go, "", 0600);
	wait_readable(scene->prompt.fd);
	assert_int_equal(unlock_prompt_read(&scene->prompt, &key, &group), UNLOCK_PROMPT_E_FORM);
	assert_null(key);
}

static void test_no_tool(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = *state;
	unsigned group = 0;

	/* it cannot be run: the console is asked next */
	scene->prompt.tool = "/nonexistent/tool";
	assert_int_equal(answer(scene, "", &key, &group), UNLOCK_PROMPT_E_MORE);
	assert_false(unlock_prompt_is_shown(&scene->prompt));
	assert_null(scene->prompt.tool);
	assert_int_equal(answer(scene, "%s\n", &key, &group), 0);
}

static void test_tool_withdrawn(void **state)
{
	_cleanup_(freep) char *mark = NULL, *script = NULL;
	struct scene *scene = *state;

	/* as the real one: what agents look at goes away with it */
	assert_true(asprintf(&mark, "%s/ask", scene->folder) > 0);
	assert_true(asprintf(&script,
			     "#!/bin/sh\ntrap 'rm %s; exit 1' TERM\ntouch %s; printf A\n"
			     "while :; do sleep 0.05; done\n",
			     mark, mark) > 0);
	use_tool(scene, script);
	assert_int_equal(access(mark, F_OK), 0);
	unlock_prompt_end(&scene->prompt);
	assert_int_equal(access(mark, F_OK), -1);
	assert_int_equal(scene->prompt.asking.child, 0);
	assert_false(unlock_prompt_is_shown(&scene->prompt));
}

/* Plymouth's client as far as it is used. It notes what it is told; "ask" in the folder is what it
 * does when asked; a key is pressed by making "key" there; with "gone" there it has no daemon. */
static void use_plymouth(struct scene *scene)
{
	static const char client[] =
		"#!/bin/sh\ncd %s; echo \"$@\" >> told\ncase $1 in\n"
		"ask-for-password) . ./ask ;;\n"
		"ignore-keystroke) touch ignored ;;\n"
		"watch-keystroke) while ! [ -e key ]; do\n"
		"[ ! -e gone ] || exit 2; [ ! -e ignored ] || exit 1; sleep 0.05\n"
		"done; rm key; printf x ;;\nesac\n";
	_cleanup_(freep) char *script = NULL;
	static char path[256];

	assert_true(asprintf(&script, client, scene->folder) > 0);
	(void)snprintf(path, sizeof(path), "%s/plymouth", scene->folder);
	write_file(path, script, 0755);
	scene->prompt.tool = scene->prompt.plymouth = path;
	assert_int_equal(unlock_prompt_watch(&scene->prompt), 0);
}

static void put(const struct scene *scene, const char *name, const char *text)
{
	_cleanup_(freep) char *path = NULL;

	assert_true(asprintf(&path, "%s/%s", scene->folder, name) > 0);
	write_file(path, text, 0600);
}

/* Has Plymouth been told this? */
static bool was_told(const struct scene *scene, const char *what)
{
	_cleanup_(freep) char *path = NULL, *told = NULL;

	assert_true(asprintf(&path, "%s/told", scene->folder) > 0);
	told = read_file(path);
	return strstr(told, what) != NULL;
}

static int ask_plymouth(struct scene *scene, const char *question, struct secret **ret)
{
	unsigned group = 0;
	int r;

	assert_int_equal(unlock_prompt_show(&scene->prompt, question), 0);
	assert_true(unlock_prompt_key_fd(&scene->prompt) < 0);
	/* without a newline only the tool's end makes it whole */
	do {
		wait_readable(scene->prompt.fd);
		r = unlock_prompt_read(&scene->prompt, ret, &group);
	} while (unlock_prompt_is_shown(&scene->prompt));
	return r;
}

static void test_plymouth(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	_cleanup_(freep) char *script = NULL;
	struct scene *scene = *state;
	char question[300], prompt[300];

	assert_true(asprintf(&script, "printf %s\n", scene->key) > 0);
	use_plymouth(scene);
	put(scene, "ask", script);
	assert_int_equal(ask_plymouth(scene, "Recovery key:", &key), 0);
	assert_int_equal(secret_size(key), strlen(scene->key));
	assert_true(was_told(scene, "ask-for-password --prompt=Recovery key\n"));
	key = secret_free(key);

	/* an answer that is empty, or Ctrl-C */
	put(scene, "ask", ":\n");
	assert_int_equal(ask_plymouth(scene, "Recovery key:", &key), UNLOCK_PROMPT_E_CLOSED);
	assert_non_null(scene->prompt.tool);

	/* more than it takes */
	memset(question, 'q', sizeof(question));
	memcpy(question + sizeof(question) - 2, ":", 2);
	assert_int_equal(ask_plymouth(scene, question, &key), UNLOCK_PROMPT_E_CLOSED);
	(void)snprintf(prompt, sizeof(prompt), "--prompt=%.254s\n", question);
	assert_true(was_told(scene, prompt));

	/* the typed keys are not to stay with it */
	assert_false(was_told(scene, "quit"));
	unlock_prompt_end(&scene->prompt);
	assert_true(was_told(scene, "quit"));
	assert_int_equal(scene->prompt.watching.child, 0);
	assert_null(key);
}

static void test_plymouth_does_not_ask(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = *state;
	unsigned group = 0;

	/* it shows nothing: the console is asked next, and no other reader is left */
	use_plymouth(scene);
	put(scene, "ask", "exit 1\n");
	assert_int_equal(ask_plymouth(scene, "Recovery key:", &key), UNLOCK_PROMPT_E_MORE);
	assert_false(unlock_prompt_is_shown(&scene->prompt));
	assert_null(scene->prompt.tool);
	assert_int_equal(scene->prompt.watching.child, 0);
	assert_int_equal(answer(scene, "%s\n", &key, &group), 0);
}

static void test_plymouth_keys(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = *state;

	use_plymouth(scene);
	for (unsigned i = 0; i < 2; i++) {
		put(scene, "key", "");
		wait_readable(unlock_prompt_key_fd(&scene->prompt));
		assert_true(unlock_prompt_is_pressed(&scene->prompt));
	}
	/* what somebody types at our terminal is not for us */
	assert_int_equal(write(scene->person, "x", 1), 1);
	assert_int_not_equal(unlock_prompt_key_fd(&scene->prompt), scene->console.fd);
	/* nobody was asked: it goes on, but watches no more */
	unlock_prompt_end(&scene->prompt);
	assert_true(was_told(scene, "ignore-keystroke"));
	assert_false(was_told(scene, "quit"));
	assert_int_equal(scene->prompt.watching.child, 0);
}

static void test_plymouth_goes(void **state)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	struct scene *scene = *state;
	unsigned group = 0;

	use_plymouth(scene);
	put(scene, "gone", "");
	wait_readable(unlock_prompt_key_fd(&scene->prompt));
	assert_false(unlock_prompt_is_pressed(&scene->prompt));
	assert_int_equal(unlock_prompt_key_fd(&scene->prompt), scene->console.fd);
	assert_int_equal(write(scene->person, "x", 1), 1);
	wait_readable(scene->console.fd);
	assert_true(unlock_prompt_is_pressed(&scene->prompt));
	assert_int_equal(answer(scene, "%s\n", &key, &group), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_due),
		cmocka_unit_test_setup_teardown(test_answers, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_typo, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_part, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_tool, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_no_tool, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_tool_withdrawn, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_plymouth, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_plymouth_does_not_ask, scene_make,
						scene_remove),
		cmocka_unit_test_setup_teardown(test_plymouth_keys, scene_make, scene_remove),
		cmocka_unit_test_setup_teardown(test_plymouth_goes, scene_make, scene_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

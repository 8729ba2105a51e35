/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job_run(): asked from the bottom up, begun below the first yes, undone only before the commit */
#include <errno.h>

#include "job/convert.h"
#include "job/job.h"
#include "job/split.h"
#include "test.h"

/* The world is what the row says: which steps answer yes, which one fails. */
static struct {
	const char *yes; /* a letter a step: y done, n not done, e cannot tell, - never asked */
	size_t fails;    /* index of the step whose apply fails; 99 = none */
	int failure;
	char applied[16], undone[16];
	char stuck; /* the step that cannot be undone */
	bool is_stopping;
} world;

int __wrap_job_look(struct job *job);
int __wrap_job_fail(struct job *job, int r, const char *code, const char *remedy,
		    const char *format, ...);
void __wrap_job_step(struct job *job, const char *name);
int __wrap_plan_save(struct plan *plan);
bool __wrap_convert_is_stopping(void);

int __wrap_job_look(struct job *job)
{
	(void)job;
	return 0;
}

int __wrap_job_fail(struct job *job, int r, const char *code, const char *remedy,
		    const char *format, ...)
{
	(void)job, (void)code, (void)remedy, (void)format;
	return r < 0 ? r : -ECANCELED;
}

void __wrap_job_step(struct job *job, const char *name)
{
	job->progress->step = name;
}

int __wrap_plan_save(struct plan *plan)
{
	(void)plan;
	return 0;
}

bool __wrap_convert_is_stopping(void)
{
	return world.is_stopping;
}

static void note(char *text, char letter)
{
	text[strlen(text)] = letter;
}

#define STEP(letter, index)                                                                        \
	__attribute__((unused)) static int done_##letter(struct job *job)                          \
	{                                                                                          \
		(void)job;                                                                         \
		return world.yes[index] == 'y' ? 1 : world.yes[index] == 'e' ? -EIO : 0;           \
	}                                                                                          \
	static int apply_##letter(struct job *job)                                                 \
	{                                                                                          \
		(void)job;                                                                         \
		note(world.applied, #letter[0]);                                                   \
		return world.fails == index ? world.failure : 0;                                   \
	}                                                                                          \
	__attribute__((unused)) static int undo_##letter(struct job *job)                          \
	{                                                                                          \
		(void)job;                                                                         \
		note(world.undone, #letter[0]);                                                    \
		return world.stuck == #letter[0] ? -EBUSY : 0;                                     \
	}

STEP(a, 0)
STEP(b, 1)
STEP(c, 2)
STEP(d, 3)
STEP(e, 4)

/* clang-format off */
static const struct step rows[] = {
	{ "a", done_a, apply_a, NULL,   false },
	{ "b", done_b, apply_b, undo_b, false },
	{ "c", done_c, apply_c, undo_c, false },
	{ "d", done_d, apply_d, NULL,   true  },
	{ "e", NULL,   apply_e, undo_e, false },
};

static const struct {
	const char *promise;
	const char *yes;
	size_t fails;
	int failure;
	const char *until;
	int result;
	const char *applied, *undone;
	bool has_failed;
} table[] = {
	{ "a new volume goes through every step",                   "nnnn", 99, 0,             NULL, 0,           "abcde", "",   false },
	{ "begun below the first step",                             "ynnn", 99, 0,             NULL, 0,           "bcde",  "",   false },
	{ "begun below the second",                                 "yynn", 99, 0,             NULL, 0,           "cde",   "",   false },
	{ "begun below the third",                                  "yyyn", 99, 0,             NULL, 0,           "de",    "",   false },
	{ "begun below the commit",                                 "yyyy", 99, 0,             NULL, 0,           "e",     "",   false },
	{ "a finished volume without its snapshot begins nowhere",  "nyyy", 99, 0,             NULL, 0,           "e",     "",   false },
	{ "a yes below outweighs every no above",                   "nnny", 99, 0,             NULL, 0,           "e",     "",   false },
	{ "so does one in the middle",                              "nnyn", 99, 0,             NULL, 0,           "de",    "",   false },
	{ "who cannot tell is not begun at all",                    "nnne", 99, 0,             NULL, -EIO,        "",      "",   false },
	{ "above a yes nobody is asked",                            "eyyy", 99, 0,             NULL, 0,           "e",     "",   false },
	{ "the first step fails: nothing to undo",                  "nnnn", 0,  -ENOSPC,       NULL, -ENOSPC,     "a",     "",   true  },
	{ "before the commit all is undone in reverse",             "nnnn", 2,  -ENOSPC,       NULL, -ENOSPC,     "abc",   "cb", true  },
	{ "also what an earlier run had done",                      "yynn", 2,  -ENOSPC,       NULL, -ENOSPC,     "c",     "cb", true  },
	{ "the committing step fails: nothing is undone",           "nnnn", 3,  -EIO,          NULL, -EIO,        "abcd",  "",   false },
	{ "after the commit nothing is undone",                     "nnnn", 4,  -EIO,          NULL, -EIO,        "abcde", "",   false },
	{ "a stop after the commit is passed on",                   "yyyn", 3,  JOB_E_STOPPED, NULL, JOB_E_STOPPED, "d",   "",   false },
	{ "a key that does not answer before the commit: undone",   "nnnn", 1,  JOB_E_LATER,   NULL, -EAGAIN,     "ab",    "b",  true  },
	{ "a boot that is waited for before the commit: nothing is undone", "nnnn", 1, JOB_E_BOOT, NULL, JOB_E_BOOT, "ab", "", false },
	{ "up to a step",                                           "nnnn", 99, 0,             "c",  0,           "abc",   "",   false },
	{ "up to a step that is done",                              "yyyn", 99, 0,             "b",  0,           "",      "",   false },
};
/* clang-format on */

static void test_table(void **state)
{
	const struct steps steps = { rows, ARRAY_SIZE(rows) };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct report_volume progress = { 0 };
		struct request request = { 0 };
		struct plan plan = { .request = &request };
		struct job job = { .plan = &plan, .uuid = (char *)"volume", .progress = &progress };
		int r;

		memset(&world, 0, sizeof(world));
		world.yes = table[i].yes;
		world.fails = table[i].fails;
		world.failure = table[i].failure;
		r = job_run(&job, &steps, table[i].until);
		if (r != table[i].result || strcmp(world.applied, table[i].applied) != 0 ||
		    strcmp(world.undone, table[i].undone) != 0 ||
		    job.has_failed != table[i].has_failed)
			fail_msg("%s: %d, applied %s, undone %s", table[i].promise, r,
				 world.applied, world.undone);
	}
}

/* At an early boot the network may only be late: nothing that was prepared is thrown away. */
static void test_next_boot_keeps(void **state)
{
	const struct steps steps = { rows, ARRAY_SIZE(rows) };
	struct report_volume progress = { 0 };
	struct request request = { .is_next_boot = true };
	struct plan plan = { .request = &request };
	struct job job = { .plan = &plan, .uuid = (char *)"volume", .progress = &progress };

	(void)state;
	memset(&world, 0, sizeof(world));
	world.yes = "ynnn";
	world.fails = 1;
	world.failure = JOB_E_LATER;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	assert_string_equal(world.undone, "");
	assert_false(job.has_failed);
}

/* What has a header goes on, and so it is not undone either: nobody waits for an answer. */
static void test_committed_keeps(void **state)
{
	const struct steps steps = { rows, ARRAY_SIZE(rows) };
	struct report_volume progress = { 0 };
	struct request request = { .kind = REQUEST_ENCRYPT };
	struct plan plan = { .request = &request };
	struct volume disk = { .uuid = (char *)"volume" };
	struct job job = { .plan = &plan,
			   .uuid = (char *)"volume",
			   .progress = &progress,
			   .backing = &disk,
			   .plain = &disk,
			   .is_committed = true };

	(void)state;
	memset(&world, 0, sizeof(world));
	world.yes = "yynn";
	world.fails = 2;
	world.failure = JOB_E_LATER;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	assert_true(job_outlasts_silence(&job));
	assert_string_equal(world.undone, "");
	job.is_committed = false;
	assert_false(job_outlasts_silence(&job));
	/* nor what is at its committing step */
	world.fails = 3;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	assert_true(job_outlasts_silence(&job));
	assert_string_equal(world.undone, "");
}

/* Nor after the boot that has made a partition for /boot; at once, somebody waits for an answer. */
static void test_split_keeps(void **state)
{
	const struct steps steps = { rows, ARRAY_SIZE(rows) };
	struct report_volume progress = { 0 };
	struct request request = { 0 };
	struct split split = { .conf = { .filesystem_bytes = 1 << 30 } };
	struct plan plan = { .request = &request, .split = &split };
	struct job job = { .plan = &plan, .uuid = (char *)"volume", .progress = &progress };

	(void)state;
	memset(&world, 0, sizeof(world));
	world.yes = "ynnn";
	world.fails = 1;
	world.failure = JOB_E_LATER;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	assert_string_equal(world.undone, "");
	assert_false(job.has_failed);
	split.conf.filesystem_bytes = 0;
	assert_int_equal(job_run(&job, &steps, NULL), -EAGAIN);
	assert_string_equal(world.undone, "b");
	assert_true(job.has_failed);
}

/* Its disk is away: what unlocks it stays, until a person gives it up. */
static void test_away(void **state)
{
	const struct steps steps = { rows, ARRAY_SIZE(rows) };
	struct report_volume progress = { 0 };
	struct request request = { .kind = REQUEST_ENCRYPT };
	struct plan plan = { .request = &request };
	struct job job = { .plan = &plan,
			   .uuid = (char *)"volume",
			   .device = (char *)"/dev/nowhere",
			   .progress = &progress,
			   .is_committed = true };

	(void)state;
	memset(&world, 0, sizeof(world));
	world.yes = "ynnn";
	world.fails = 1;
	world.failure = -ENODEV;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	plan.is_cancelled = true; /* for the sake of others */
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	assert_false(job.has_failed);
	job.is_given_up = true;
	assert_int_equal(job_run(&job, &steps, NULL), -ENODEV);
	assert_true(job.has_failed);
	assert_string_equal(world.applied, "");
	assert_string_equal(world.undone, "");
}

/* Another disk has its place: that is no volume whose header was taken away. */
static void test_another_disk(void **state)
{
	const struct steps steps = { rows, ARRAY_SIZE(rows) };
	struct report_volume progress = { 0 };
	struct request request = { .kind = REQUEST_ENCRYPT };
	struct plan plan = { .request = &request };
	struct volume other = { 0 };
	struct job job = { .plan = &plan,
			   .uuid = (char *)"volume",
			   .device = (char *)"/dev/nowhere",
			   .progress = &progress,
			   .backing = &other,
			   .is_committed = true };

	(void)state;
	memset(&world, 0, sizeof(world));
	world.yes = "ynnn";
	world.fails = 1;
	world.failure = -ENODEV;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	assert_string_equal(world.applied, "");
	assert_string_equal(world.undone, "");
	job.is_committing = true; /* torn: the header is written again */
	assert_int_equal(job_run(&job, &steps, NULL), -ENODEV);
	assert_string_equal(world.applied, "b");

	/* whatever was cut, nothing of it is written there */
	memset(&world, 0, sizeof(world));
	world.yes = "ynnn";
	world.fails = 99;
	other.uuid = (char *)"another";
	job.has_failed = job.is_committed = false;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	job.is_committing = false;
	job.is_restoring = true;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	assert_string_equal(world.applied, "");

	/* a disk in use has a partition table rather than a filesystem; no disk becomes smaller */
	other = (struct volume){ .table_type = (char *)"gpt", .size_bytes = 2 };
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	other = (struct volume){ .size_bytes = 4096 };
	job.device_bytes = 8192 + 512;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	assert_string_equal(world.applied, "");

	/* rounded down to sectors of ours, or by chance with the look of some table: it may be its
	 * own */
	other = (struct volume){ .size_bytes = 8192, .table_type = (char *)"atari" };
	assert_false(job_is_at_another(&job));
	other.uuid = (char *)"another";

	/* on the way back, until nothing is encrypted any more */
	request.kind = REQUEST_DECRYPT;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_LATER);
	assert_string_equal(world.applied, "");
	request.kind = REQUEST_ENCRYPT;

	/* nothing has begun: there the steps say what is missing */
	job.is_restoring = false;
	assert_int_equal(job_run(&job, &steps, "b"), 0);
}

/* The entries in /etc must not go while the header stays; and the job goes on some time. */
static void test_stuck_undo_stops(void **state)
{
	const struct steps steps = { rows, ARRAY_SIZE(rows) };
	struct report_volume progress = { 0 };
	struct request request = { 0 };
	struct plan plan = { .request = &request };
	struct job job = { .plan = &plan, .uuid = (char *)"volume", .progress = &progress };

	(void)state;
	memset(&world, 0, sizeof(world));
	world.yes = "nnnn";
	world.fails = 2;
	world.failure = -EIO;
	world.stuck = 'c';
	assert_int_equal(job_run(&job, &steps, NULL), -EIO);
	assert_string_equal(world.undone, "c");
	assert_false(job.has_failed);
	assert_int_equal(progress.state, JOB_FAILED);
}

/* The machine shuts down: nothing is begun, and nothing undone. */
static void test_stop(void **state)
{
	const struct steps steps = { rows, ARRAY_SIZE(rows) };
	struct report_volume progress = { 0 };
	struct request request = { 0 };
	struct plan plan = { .request = &request };
	struct job job = { .plan = &plan, .uuid = (char *)"volume", .progress = &progress };

	(void)state;
	memset(&world, 0, sizeof(world));
	world.yes = "ynnn";
	world.fails = 99;
	world.is_stopping = true;
	assert_int_equal(job_run(&job, &steps, NULL), JOB_E_STOPPED);
	assert_string_equal(world.applied, "");
	assert_string_equal(world.undone, "");
	assert_false(job.has_failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),        cmocka_unit_test(test_next_boot_keeps),
		cmocka_unit_test(test_split_keeps),  cmocka_unit_test(test_stuck_undo_stops),
		cmocka_unit_test(test_stop),         cmocka_unit_test(test_away),
		cmocka_unit_test(test_another_disk), cmocka_unit_test(test_committed_keeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

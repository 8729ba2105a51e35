/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* step_finish_room(): what a cut has left of a volume's head is ended on its own disk, or waited
 * for */
#include <errno.h>

#include "job/job.h"
#include "job/snapshot.h"
#include "job/steps.h"
#include "test.h"
#include "volume/room.h"
#include "volume/tablesplit.h"

#define UUID  "0f8a1c52-6d3e-4b7a-9c61-2e5d7f3b9a10"
#define OTHER "9b8c7d6e-6d3e-4b7a-9c61-2e5d7f3b9a12"
#define DISK  "/dev/disk/azure/scsi1/lun0"

/* what lies where the disk was, and what was done to it */
static struct {
	struct volume disk, mapping;
	struct header_info header;
	bool is_there, has_header, is_open;
	bool has_changes, is_kept; /* the file that the filesystem's changes are in; it stays */
	bool is_finished, is_restored, has_waited;
} world;

int __wrap_access(const char *path, int mode);
int __wrap_job_look(struct job *job);
int __wrap_job_fail(struct job *job, int r, const char *code, const char *remedy,
		    const char *format, ...);
int __wrap_job_settle(void);
int __wrap_job_wait_for_disk(struct job *job);
int __wrap_plan_save(struct plan *plan);
int __wrap_job_path(const struct job *job, const char *folder, const char *suffix, char **ret);
int __wrap_table_mend_missing(const char *link);
int __wrap_room_finish(const char *device, const char *changes, char **ret_detail);
int __wrap_snapshot_put_head_back(struct job *job);

int __wrap_access(const char *path, int mode)
{
	bool is_there = strcmp(path, DISK) == 0 ? world.is_there : world.has_changes;

	(void)mode;
	errno = ENOENT;
	return is_there ? 0 : -1;
}

int __wrap_job_look(struct job *job)
{
	job->backing = world.is_there ? &world.disk : NULL;
	job->plain = world.is_there && world.disk.uuid && strcmp(world.disk.uuid, UUID) == 0
			     ? &world.disk
			     : NULL;
	job->mapped = world.is_open ? &world.mapping : NULL;
	job->header = world.has_header ? &world.header : NULL;
	return 0;
}

int __wrap_job_fail(struct job *job, int r, const char *code, const char *remedy,
		    const char *format, ...)
{
	(void)job, (void)code, (void)remedy, (void)format;
	return r < 0 ? r : -ECANCELED;
}

int __wrap_job_settle(void)
{
	return 0;
}

int __wrap_job_wait_for_disk(struct job *job)
{
	(void)job;
	world.has_waited = true;
	return JOB_E_LATER;
}

int __wrap_plan_save(struct plan *plan)
{
	(void)plan;
	return 0;
}

int __wrap_job_path(const struct job *job, const char *folder, const char *suffix, char **ret)
{
	(void)job, (void)folder;
	*ret = strdup(suffix);
	return *ret ? 0 : -ENOMEM;
}

int __wrap_table_mend_missing(const char *link)
{
	(void)link;
	return 0;
}

int __wrap_room_finish(const char *device, const char *changes, char **ret_detail)
{
	assert_string_equal(device, world.has_changes ? "/dev/sdc" : DISK);
	assert_string_equal(changes, "changes");
	*ret_detail = NULL;
	world.is_finished = true;
	world.has_changes = world.is_kept;
	return 0;
}

int __wrap_snapshot_put_head_back(struct job *job)
{
	(void)job;
	world.is_restored = true;
	return 0;
}

static struct job make_job(struct plan *plan)
{
	memset(&world, 0, sizeof(world));
	world.disk.path = (char *)"/dev/sdc";
	world.is_there = true;
	return (struct job){
		.plan = plan, .uuid = (char *)UUID, .device = (char *)DISK, .room = ROOM_FILESYSTEM
	};
}

/* Part of the filesystem may lie in the file with its changes, and nowhere else. */
static void test_changes(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *uuid, *table_type;
		bool is_there, has_changes, is_kept, has_header;
		bool is_finished, has_waited;
	} rows[] = {
		{ "nothing was cut",                        UUID,  NULL,  true,  false, false, false, true,  false },
		{ "nothing was cut, and it is away",        NULL,  NULL,  false, false, false, false, false, false },
		{ "cut before the seal",                    UUID,  NULL,  true,  true,  false, false, true,  false },
		{ "cut after it",                           NULL,  NULL,  true,  true,  false, false, true,  false },
		{ "and detached since",                     NULL,  NULL,  false, true,  false, false, false, true  },
		{ "another filesystem in its place",        OTHER, NULL,  true,  true,  false, false, false, true  },
		{ "a partition table in its place",         NULL,  "gpt", true,  true,  false, false, false, true  },
		{ "nothing that the file could belong to",  NULL,  NULL,  true,  true,  true,  false, true,  true  },
		{ "a header, and the file was left behind", NULL,  NULL,  true,  true,  true,  true,  true,  false },
	};
	/* clang-format on */
	struct request request = { .kind = REQUEST_ENCRYPT };
	struct plan plan = { .request = &request };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct job job = make_job(&plan);
		int r;

		world.disk.uuid = (char *)rows[i].uuid;
		world.disk.table_type = (char *)rows[i].table_type;
		world.is_there = rows[i].is_there;
		world.has_changes = rows[i].has_changes;
		world.is_kept = rows[i].is_kept;
		world.has_header = rows[i].has_header;
		r = step_finish_room(&job);
		if (r != (rows[i].has_waited ? JOB_E_LATER : 0) ||
		    world.is_finished != rows[i].is_finished ||
		    world.has_waited != rows[i].has_waited || world.is_restored)
			fail_msg("%s: %d", rows[i].name, r);
	}
}

/* An old head goes back only where nothing newer is: neither a whole filesystem nor an open header.
 */
static void test_restoring(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *uuid;
		bool is_there, has_header, is_open;
		bool is_restored, has_waited, is_committed;
	} rows[] = {
		{ "cut in the middle",                 NULL,  true,  false, false, true,  false, false },
		{ "cut before the first write",        NULL,  true,  true,  false, true,  false, false },
		{ "and opened since",                  NULL,  true,  true,  true,  false, false, true  },
		{ "cut after the last write",          UUID,  true,  false, false, false, false, false },
		{ "its disk is away",                  NULL,  false, false, false, false, true,  true  },
		{ "another disk is in its place",      OTHER, true,  false, false, false, true,  true  },
	};
	/* clang-format on */
	struct request request = { .kind = REQUEST_ENCRYPT };
	struct plan plan = { .request = &request };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct job job = make_job(&plan);
		int r;

		world.disk.uuid = (char *)rows[i].uuid;
		world.is_there = rows[i].is_there;
		world.has_header = rows[i].has_header;
		world.is_open = rows[i].is_open;
		job.room = ROOM_IS_THERE;
		job.is_restoring = job.is_committed = true;
		r = step_finish_room(&job);
		if (r != (rows[i].has_waited ? JOB_E_LATER : 0) ||
		    world.is_restored != rows[i].is_restored ||
		    job.is_restoring != rows[i].has_waited ||
		    job.is_committed != rows[i].is_committed)
			fail_msg("%s: %d", rows[i].name, r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_changes),
					    cmocka_unit_test(test_restoring) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

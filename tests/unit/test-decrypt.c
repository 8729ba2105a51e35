/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* disable, before it commits: what is taken back, and what must never be */
#include <errno.h>

#include "boot/crypttab.h"
#include "job/steps.h"
#include "test.h"

#define LUKS_UUID "0f8a1c52-6d3e-4b7a-9c61-2e5d7f3b9a10"
#define MAPPING   "vmcrypt-data"
#define DEVICE    "/dev/disk/by-partuuid/0a1b2c3d-02"
#define FILE_PATH "/boot/vmcrypt/headers/" LUKS_UUID ".luks"
#define ATTACHED  MAPPING " UUID=" LUKS_UUID " none luks,noauto,nofail"
#define DETACHED  MAPPING " " DEVICE " none luks,noauto,nofail"
#define INITRD    ",x-initrd.attach"
#define HEADER    ",header=" FILE_PATH "\n"

/* Who stands in for the disks and for the machine's own files; see the wrapped functions. */
static struct {
	const char *crypttab; /* path */
	bool has_file;        /* the header's */
	bool has_snapshot;    /* with copies of the volume's content */
	int head;             /* what reading a header at the volume's head comes to */
	char prepared[16];    /* each try to make the images: f = to look into the file, n = not */
} world;

int __wrap_job_look(struct job *job);
int __wrap_job_fail(struct job *job, int r, const char *code, const char *remedy,
		    const char *format, ...);
void __wrap_job_step(struct job *job, const char *name);
int __wrap_job_passphrase(struct job *job);
int __wrap_plan_save(struct plan *plan);
int __wrap_step_snapshot_done(struct job *job);
int __wrap_snapshot_forget_data(struct job *job);
bool __wrap_step_os_is_prepared(struct job *job, const char *header);
int __wrap_step_os_prepare(struct job *job, const char *header);
int __wrap_header_read(const char *device, const char *file, struct header_info **ret);
int __wrap_file_remove_durably(const char *path);
int __wrap_crypttab_read(const char *path, struct crypttab_entries *ret);
int __wrap_crypttab_point(const char *path, const struct crypttab_entry *entry);

int __real_crypttab_read(const char *path, struct crypttab_entries *ret);
int __real_crypttab_point(const char *path, const struct crypttab_entry *entry);

int __wrap_job_look(struct job *job)
{
	job->header = header_info_free(job->header);
	return header_read(job->backing->path, world.has_file ? job->header_file : NULL,
			   &job->header);
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

int __wrap_job_passphrase(struct job *job)
{
	(void)job;
	return 0;
}

int __wrap_plan_save(struct plan *plan)
{
	(void)plan;
	return 0;
}

int __wrap_step_snapshot_done(struct job *job)
{
	(void)job;
	return 1;
}

int __wrap_snapshot_forget_data(struct job *job)
{
	(void)job;
	world.has_snapshot = false;
	return 0;
}

bool __wrap_step_os_is_prepared(struct job *job, const char *header)
{
	(void)job, (void)header;
	return false;
}

int __wrap_step_os_prepare(struct job *job, const char *header)
{
	(void)job;
	world.prepared[strlen(world.prepared)] = header ? 'f' : 'n';
	return header ? -ENOEXEC : 0;
}

int __wrap_header_read(const char *device, const char *file, struct header_info **ret)
{
	struct header_info *header;

	(void)device;
	if (!file && world.head != 0)
		return world.head;
	header = calloc(1, sizeof(*header));
	assert_non_null(header);
	header->uuid = strdup(LUKS_UUID);
	header->is_detached = file != NULL;
	header->data_bytes = header->encrypted_bytes = 1 << 30;
	*ret = header;
	return 0;
}

int __wrap_file_remove_durably(const char *path)
{
	if (strcmp(path, FILE_PATH) == 0)
		world.has_file = false;
	return 0;
}

int __wrap_crypttab_read(const char *path, struct crypttab_entries *ret)
{
	(void)path;
	return __real_crypttab_read(world.crypttab, ret);
}

int __wrap_crypttab_point(const char *path, const struct crypttab_entry *entry)
{
	(void)path;
	return __real_crypttab_point(world.crypttab, entry);
}

/* Up to where a decryption would commit. */
static int run(const struct steps *steps, bool is_root)
{
	struct volume backing = { .path = (char *)DEVICE };
	struct request request = { .kind = REQUEST_DECRYPT };
	struct report_volume progress = { 0 };
	struct plan plan = { .request = &request };
	struct job job = { .plan = &plan,
			   .uuid = (char *)"data",
			   .header_uuid = (char *)LUKS_UUID,
			   .mapping = (char *)MAPPING,
			   .device = (char *)DEVICE,
			   .header_file = (char *)FILE_PATH,
			   .backing = &backing,
			   .progress = &progress,
			   .is_root = is_root,
			   .is_initrd = true };
	int r = job_run(&job, steps, "boot");

	header_info_free(job.header);
	return r;
}

/* The images cannot be made: the machine has to go on booting as it did. */
static void test_failed_images(void **state)
{
	/* clang-format off */
	static const struct {
		const char *promise;
		int head;
		const char *before, *prepared, *after;
	} rows[] = {
		{ "an exported header goes again",                     0,                  ATTACHED INITRD "\n",    "fn", ATTACHED INITRD "\n" },
		{ "one that has always been detached stays",           HEADER_E_NONE,      DETACHED INITRD HEADER, "f",  DETACHED INITRD HEADER },
		{ "so does one whose copy at the head has been wiped", HEADER_E_MALFORMED, DETACHED INITRD HEADER, "f",  DETACHED INITRD HEADER },
		{ "who cannot look takes nothing back",                -EIO,               DETACHED INITRD HEADER, "f",  DETACHED INITRD HEADER },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *crypttab = scratch_path(state, "crypttab"), *after = NULL;

		memset(&world, 0, sizeof(world));
		world.crypttab = crypttab;
		world.has_file = world.has_snapshot = true;
		world.head = rows[i].head;
		write_file(crypttab, rows[i].before, 0600);
		assert_row(rows[i].promise, run(&decrypt_os_steps, true) == -ENOEXEC);
		assert_row(rows[i].promise, world.has_file == (rows[i].head != 0));
		assert_row(rows[i].promise, world.has_snapshot == (rows[i].head < 0));
		assert_row(rows[i].promise, strcmp(world.prepared, rows[i].prepared) == 0);
		after = read_file(crypttab);
		if (strcmp(after, rows[i].after) != 0)
			fail_msg("%s: %s", rows[i].promise, after);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_failed_images, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

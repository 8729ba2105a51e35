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
	const char *fstab;    /* path */
	const char *plain;    /* fstab's text before the encryption; NULL = the record is lost */
	bool has_file;        /* the header's */
	bool has_snapshot;    /* with copies of the volume's content */
	int head;             /* what reading a header at the volume's head comes to */
	bool has_device;      /* the header has always been detached */
	char prepared[16];    /* each try to make the images: f = to look into the file, n = not */
} world;

int __wrap_job_look(struct job *job);
int __wrap_job_fail(struct job *job, int r, const char *code, const char *remedy,
		    const char *format, ...);
void __wrap_job_step(struct job *job, const char *name);
int __wrap_job_passphrase(struct job *job);
int __wrap_job_settle(void);
int __wrap_job_reload(void);
int __wrap_device_refresh(const char *path);
int __wrap_plan_save(struct plan *plan);
int __wrap_step_snapshot_done(struct job *job);
int __wrap_snapshot_forget_data(struct job *job);
bool __wrap_step_os_is_prepared(struct job *job, const char *header);
int __wrap_step_os_prepare(struct job *job, const char *header);
int __wrap_header_read(const char *device, const char *file, struct header_info **ret);
int __wrap_file_remove_durably(const char *path);
int __wrap_crypttab_read(const char *path, struct crypttab_entries *ret);
int __wrap_crypttab_point(const char *path, const struct crypttab_entry *entry);
int __wrap_crypttab_remove(const char *path, const char *name);
int __wrap_fstab_find(const char *path, const struct fstab_device *device,
		      struct fstab_entries *ret);
int __wrap_fstab_encrypt(const char *path, const struct fstab_device *device, const char *spec,
			 struct fstab_entries *ret_before);
int __wrap_fstab_restore(const char *path, const struct fstab_device *device,
			 const struct fstab_entries *before);
int __wrap_record_recall(const char *uuid, struct fstab_entries *entries);

int __real_file_remove_durably(const char *path);
int __real_crypttab_read(const char *path, struct crypttab_entries *ret);
int __real_crypttab_point(const char *path, const struct crypttab_entry *entry);
int __real_crypttab_remove(const char *path, const char *name);
int __real_fstab_find(const char *path, const struct fstab_device *device,
		      struct fstab_entries *ret);
int __real_fstab_encrypt(const char *path, const struct fstab_device *device, const char *spec,
			 struct fstab_entries *ret_before);
int __real_fstab_restore(const char *path, const struct fstab_device *device,
			 const struct fstab_entries *before);

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

int __wrap_job_settle(void)
{
	return 0;
}

int __wrap_job_reload(void)
{
	return 0;
}

int __wrap_device_refresh(const char *path)
{
	assert_string_equal(path, DEVICE);
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
	header->tokens = calloc(1, sizeof(*header->tokens));
	assert_non_null(header->tokens);
	header->tokens[header->n_tokens++] = header->token = calloc(1, sizeof(*header->token));
	assert_non_null(header->token);
	if (world.has_device)
		header->token->device = strdup(DEVICE);
	header->is_detached = file != NULL;
	header->data_bytes = header->encrypted_bytes = 1 << 30;
	*ret = header;
	return 0;
}

int __wrap_file_remove_durably(const char *path)
{
	if (strcmp(path, FILE_PATH) != 0)
		return __real_file_remove_durably(path);
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

int __wrap_crypttab_remove(const char *path, const char *name)
{
	(void)path;
	return __real_crypttab_remove(world.crypttab, name);
}

int __wrap_fstab_find(const char *path, const struct fstab_device *device,
		      struct fstab_entries *ret)
{
	(void)path;
	return __real_fstab_find(world.fstab, device, ret);
}

int __wrap_fstab_encrypt(const char *path, const struct fstab_device *device, const char *spec,
			 struct fstab_entries *ret_before)
{
	(void)path;
	return __real_fstab_encrypt(world.fstab, device, spec, ret_before);
}

int __wrap_fstab_restore(const char *path, const struct fstab_device *device,
			 const struct fstab_entries *before)
{
	(void)path;
	return __real_fstab_restore(world.fstab, device, before);
}

int __wrap_record_recall(const char *uuid, struct fstab_entries *entries)
{
	const struct fstab_device device = { .uuid = uuid, .label = "pages" };
	_cleanup_(freep) char *after = NULL;

	if (world.plain)
		assert_true(fstab_encrypt_text(world.plain, &device, "X=1", &after, entries) >= 0);
	return 0;
}

static struct job job_of(bool is_root)
{
	static struct volume backing = { .path = (char *)DEVICE };
	static struct request request = { .kind = REQUEST_DECRYPT };
	static struct report_volume progress;
	static struct plan plan = { .request = &request };

	return (struct job){ .plan = &plan,
			     .uuid = (char *)"data",
			     .label = (char *)"pages",
			     .header_uuid = (char *)LUKS_UUID,
			     .mapping = (char *)MAPPING,
			     .device = (char *)DEVICE,
			     .header_file = (char *)FILE_PATH,
			     .backing = &backing,
			     .progress = &progress,
			     .is_root = is_root,
			     .is_initrd = is_root };
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
		struct job job = job_of(true);

		memset(&world, 0, sizeof(world));
		world.crypttab = crypttab;
		world.has_file = world.has_snapshot = true;
		world.head = rows[i].head;
		write_file(crypttab, rows[i].before, 0600);
		assert_row(rows[i].promise, job_run(&job, &decrypt_os_steps, "boot") == -ENOEXEC);
		header_info_free(job.header);
		assert_row(rows[i].promise, world.has_file == (rows[i].head != 0));
		assert_row(rows[i].promise, world.has_snapshot == (rows[i].head < 0));
		assert_row(rows[i].promise, strcmp(world.prepared, rows[i].prepared) == 0);
		after = read_file(crypttab);
		if (strcmp(after, rows[i].after) != 0)
			fail_msg("%s: %s", rows[i].promise, after);
	}
}

static const struct step *step_named(const char *name)
{
	for (size_t i = 0; i < decrypt_steps.n; i++)
		if (strcmp(decrypt_steps.steps[i].name, name) == 0)
			return &decrypt_steps.steps[i];
	fail_msg("no step %s", name);
	return NULL;
}

static void assert_file(const char *promise, const char *path, const char *expected)
{
	_cleanup_(freep) char *text = read_file(path);

	if (strcmp(text, expected) != 0)
		fail_msg("%s: %s", promise, text);
}

#define LINK  "/dev/disk/by-id/dm-name-" MAPPING
#define OTHER "UUID=other /o ext4 defaults 0 2\n"

/* While data moves, nothing but the mapping is mounted; before and after, fstab is a person's. */
static void test_entries(void **state)
{
	/* clang-format off */
	static const struct {
		const char *promise, *plain, *encrypted, *pointed, *released;
	} rows[] = {
		{ "by its UUID",
		  "UUID=data /d ext4 noatime,x-systemd.requires=a 0 2\n" OTHER,
		  "UUID=data /d ext4 noatime,x-systemd.requires=a,nofail 0 2\n" OTHER,
		  LINK " /d ext4 noatime,x-systemd.requires=a,nofail 0 2\n" OTHER,
		  "UUID=data /d ext4 noatime,x-systemd.requires=a 0 2\n" OTHER },
		{ "by its label",
		  "LABEL=pages\t/d ext4\n",
		  "LABEL=pages\t/d ext4 nofail\n", LINK "\t/d ext4 nofail\n", "LABEL=pages\t/d ext4\n" },
		{ "the old name comes back",
		  "UUID=data /d ext4\n",
		  "LABEL=pages /d ext4 nofail\n", LINK " /d ext4 nofail\n", "UUID=data /d ext4\n" },
		{ "edited while it was encrypted",
		  "UUID=data /d ext4 ro\n",
		  "UUID=data /d ext4 rw,nofail\nUUID=data /e btrfs subvol=e\n",
		  LINK " /d ext4 rw,nofail\n" LINK " /e btrfs subvol=e,nofail\n",
		  "UUID=data /d ext4 rw\nUUID=data /e btrfs subvol=e\n" },
		{ "added by the mapping while it was encrypted",
		  "UUID=data /d ext4 ro\n",
		  "UUID=data /d ext4 ro,nofail\n/dev/mapper/" MAPPING " /e ext4 ro\n",
		  LINK " /d ext4 ro,nofail\n" LINK " /e ext4 ro,nofail\n",
		  "UUID=data /d ext4 ro\nUUID=data /e ext4 ro\n" },
		{ "without a record, as while it was encrypted",
		  NULL,
		  "UUID=data /d ext4 ro,nofail\n/dev/mapper/" MAPPING " /e ext4 ro\n",
		  LINK " /d ext4 ro,nofail\n" LINK " /e ext4 ro,nofail\n",
		  "UUID=data /d ext4 ro,nofail\nUUID=data /e ext4 ro\n" },
		{ "in no entry", OTHER, OTHER, OTHER, OTHER },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *crypttab = scratch_path(state, "crypttab"),
				      *fstab = scratch_path(state, "fstab");
		const char *promise = rows[i].promise;
		const struct step *boot = step_named("boot");
		struct job job = job_of(false);

		memset(&world, 0, sizeof(world));
		world.crypttab = crypttab;
		world.fstab = fstab;
		world.plain = rows[i].plain;
		world.has_file = true;
		write_file(crypttab, ATTACHED "\n", 0600);
		write_file(fstab, rows[i].encrypted, 0644);
		assert_int_equal(job_look(&job), 0);
		assert_row(promise, boot->done(&job) == 0);
		/* twice: a cut in the middle is done again */
		for (int run = 0; run < 2; run++) {
			assert_row(promise, boot->apply(&job) == 0);
			assert_file(promise, fstab, rows[i].pointed);
			assert_file(promise, crypttab, DETACHED HEADER);
			assert_row(promise, boot->done(&job) == 1);
		}
		for (int run = 0; run < 2; run++) {
			assert_row(promise, boot->undo(&job) == 0);
			assert_file(promise, fstab, rows[i].encrypted);
			assert_file(promise, crypttab, ATTACHED "\n");
		}
		assert_row(promise, boot->apply(&job) == 0);
		for (int run = 0; run < 2; run++) {
			assert_row(promise, step_named("release")->apply(&job) == 0);
			assert_file(promise, fstab, rows[i].released);
			assert_row(promise, access(crypttab, F_OK) < 0);
		}
		header_info_free(job.header);
		fstab_entries_clear(&job.fstab_before);
	}
}

/* The other volumes of the OS disk: crypttab says who opens them, before, meanwhile and after. */
static void test_initrd(void **state)
{
	/* clang-format off */
	static const struct {
		const char *promise;
		int head;
		bool has_device;
		const char *before, *pointed, *after;
	} rows[] = {
		{ "exported",                     0,                  false, ATTACHED INITRD "\n",    DETACHED HEADER, ATTACHED INITRD "\n" },
		{ "always detached",              HEADER_E_NONE,      true,  DETACHED INITRD HEADER, DETACHED HEADER, DETACHED INITRD HEADER },
		{ "exported, and the head wiped", HEADER_E_MALFORMED, false, DETACHED HEADER,        DETACHED HEADER, DETACHED HEADER },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *crypttab = scratch_path(state, "crypttab"),
				      *fstab = scratch_path(state, "fstab");
		const char *promise = rows[i].promise;
		struct job job = job_of(false);

		memset(&world, 0, sizeof(world));
		world.crypttab = crypttab;
		world.fstab = fstab;
		world.has_file = true;
		world.head = rows[i].head;
		world.has_device = rows[i].has_device;
		job.is_initrd = true;
		write_file(fstab, OTHER, 0644);
		write_file(crypttab, rows[i].before, 0600);
		assert_int_equal(job_look(&job), 0);
		assert_row(promise, step_named("boot")->apply(&job) == 0);
		assert_file(promise, crypttab, rows[i].pointed);
		assert_row(promise, step_named("boot")->undo(&job) == 0);
		assert_file(promise, crypttab, rows[i].after);
		header_info_free(job.header);
	}
}

/* What the initramfs mounts is left to it. */
static void test_early_entries(void **state)
{
	static const char text[] = "UUID=data /d ext4 defaults 0 1\n";
	struct volume_mount usr = { .target = (char *)"/usr" };

	for (int is_root = 0; is_root <= 1; is_root++) {
		_cleanup_(freep) char *crypttab = scratch_path(state, "crypttab"),
				      *fstab = scratch_path(state, "fstab");
		struct job job = job_of(is_root);

		memset(&world, 0, sizeof(world));
		world.crypttab = crypttab;
		world.fstab = fstab;
		world.has_file = true;
		job.mounts = &usr;
		job.n_mounts = !is_root;
		write_file(fstab, text, 0644);
		assert_int_equal(job_look(&job), 0);
		assert_int_equal(step_named("boot")->apply(&job), 0);
		assert_int_equal(step_named("boot")->done(&job), 1);
		assert_file("left alone", fstab, text);
		header_info_free(job.header);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_failed_images, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_entries, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_initrd, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_early_entries, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

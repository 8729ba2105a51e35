/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* swap space that goes with the root: which, and what is left of it when something fails half-way
 */
#include <errno.h>

#include "base/process.h"
#include "boot/crypttab.h"
#include "job/record.h"
#include "job/steps.h"
#include "test.h"
#include "volume/swap.h"

#define UUID   "3f0c9a51-7c1e-4d5b-8a1f-5b7d0e9c2a44"
#define NAME   "cryptswap_3f0c9a517c1e4d5b8a1f5b7d0e9c2a44"
#define MAPPED "/dev/mapper/" NAME
#define PARTED "/dev/disk/by-partuuid/part"
#define PLAIN  "UUID=" UUID " none swap sw 0 0\n"
#define RANDOM MAPPED " none swap sw,nofail 0 0\n"
#define TABLE  NAME " " PARTED " /dev/urandom swap,cipher=aes-xts-plain64,size=512,nofail\n"

/* Who stands in for the machine; see the wrapped functions. */
static struct {
	const char *crypttab, *fstab; /* paths */
	const char *failing;          /* a command that does not work, or "crypttab" */
	char commands[256];           /* what systemctl was asked for */
	bool is_made;                 /* a new header was written */
	const char *active;           /* which swap space is in use */
	struct fstab_entries record;
} world;

int __wrap_process_run(const char *const argv[], unsigned timeout_s, int *ret_status,
		       char **ret_output);
int __wrap_access(const char *path, int mode);
char *__wrap_realpath(const char *path, char *resolved);
int __wrap_job_look(struct job *job);
int __wrap_swap_erase(const char *device);
int __wrap_swap_make(const char *device, const char *uuid, const char *label);
int __wrap_crypttab_read(const char *path, struct crypttab_entries *ret);
int __wrap_crypttab_add(const char *path, const struct crypttab_entry *entry);
int __wrap_crypttab_remove(const char *path, const char *name);
int __wrap_fstab_find(const char *path, const struct fstab_device *device,
		      struct fstab_entries *ret);
int __wrap_fstab_encrypt(const char *path, const struct fstab_device *device, const char *spec,
			 struct fstab_entries *ret_before);
int __wrap_fstab_restore(const char *path, const struct fstab_device *device,
			 const struct fstab_entries *before);
int __wrap_record_keep(const char *uuid, const struct fstab_entries *entries);
int __wrap_record_recall(const char *uuid, struct fstab_entries *entries);
int __wrap_record_forget(const char *uuid);

int __real_access(const char *path, int mode);
char *__real_realpath(const char *path, char *resolved);
int __real_crypttab_read(const char *path, struct crypttab_entries *ret);
int __real_crypttab_add(const char *path, const struct crypttab_entry *entry);
int __real_crypttab_remove(const char *path, const char *name);
int __real_fstab_find(const char *path, const struct fstab_device *device,
		      struct fstab_entries *ret);
int __real_fstab_encrypt(const char *path, const struct fstab_device *device, const char *spec,
			 struct fstab_entries *ret_before);
int __real_fstab_restore(const char *path, const struct fstab_device *device,
			 const struct fstab_entries *before);

/* "stop swap /dev/sdb1", "start mapping": short words for what units are long for */
int __wrap_process_run(const char *const argv[], unsigned timeout_s, int *ret_status,
		       char **ret_output)
{
	char command[64];

	(void)timeout_s;
	if (strcmp(argv[0], "systemd-escape") == 0)
		return (*ret_output = strdup(argv[4])) ? 0 : -ENOMEM;
	if (!argv[2])
		return 0;
	(void)snprintf(command, sizeof(command), "%s %s", argv[1],
		       strstr(argv[2], "systemd-cryptsetup@") ? "mapping"
		       : strcmp(argv[2], MAPPED) == 0         ? "random"
							      : "plain");
	if (strcmp(argv[1], "is-active") == 0) {
		*ret_status = !world.active || !strstr(command, world.active);
		return 0;
	}
	if (*world.commands)
		(void)strcat(world.commands, ", ");
	(void)strcat(world.commands, command);
	*ret_status = world.failing && strcmp(world.failing, command) == 0;
	return 0;
}

int __wrap_access(const char *path, int mode)
{
	return strncmp(path, "/dev/mapper/", 12) == 0 || strstr(path, "systemd-cryptsetup")
		       ? 0
		       : __real_access(path, mode);
}

char *__wrap_realpath(const char *path, char *resolved)
{
	return strcmp(path, PARTED) == 0 ? strdup("/dev/sdb1") : __real_realpath(path, resolved);
}

int __wrap_job_look(struct job *job)
{
	(void)job;
	return 0;
}

int __wrap_swap_erase(const char *device)
{
	(void)device;
	return 0;
}

int __wrap_swap_make(const char *device, const char *uuid, const char *label)
{
	(void)device, (void)uuid, (void)label;
	if (world.failing && strcmp(world.failing, "mkswap") == 0)
		return -EIO;
	world.is_made = true;
	return 0;
}

int __wrap_crypttab_read(const char *path, struct crypttab_entries *ret)
{
	(void)path;
	return __real_crypttab_read(world.crypttab, ret);
}

int __wrap_crypttab_add(const char *path, const struct crypttab_entry *entry)
{
	(void)path;
	if (world.failing && strcmp(world.failing, "crypttab") == 0)
		return -ENOSPC;
	return __real_crypttab_add(world.crypttab, entry);
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

static int copy_record(const struct fstab_entries *from, struct fstab_entries *to)
{
	_cleanup_(json_putp) struct json_object *json = record_fstab_to_json(from);

	fstab_entries_clear(to);
	return record_fstab_from_json(json, to);
}

int __wrap_record_keep(const char *uuid, const struct fstab_entries *entries)
{
	(void)uuid;
	return copy_record(entries, &world.record);
}

int __wrap_record_recall(const char *uuid, struct fstab_entries *entries)
{
	(void)uuid;
	return world.record.n ? copy_record(&world.record, entries) : 0;
}

int __wrap_record_forget(const char *uuid)
{
	(void)uuid;
	fstab_entries_clear(&world.record);
	return 0;
}

/* A disk and one partition of it, swap space in use. */
struct machine {
	struct volume volumes[2];
	size_t parent;
	struct inventory inventory;
	struct request request;
	struct report_volume progress;
	struct plan plan;
	struct job job;
};

static void machine_set_up(void **state, struct machine *machine, const char *table)
{
	memset(&world, 0, sizeof(world));
	world.crypttab = scratch_path(state, "crypttab");
	world.fstab = scratch_path(state, "fstab");
	(void)unlink(world.crypttab);
	*machine = (struct machine){
		.volumes = { { .path = (char *)"/dev/sdb", .table_type = (char *)table },
			     { .path = (char *)"/dev/sdb1",
			       .kind = VOLUME_KIND_PARTITION,
			       .role = VOLUME_ROLE_SWAP,
			       .is_swap_active = true,
			       .has_fstab_entry = true,
			       .uuid = (char *)UUID,
			       .partition_uuid = (char *)"part",
			       .n_parents = 1 } },
	};
	machine->volumes[1].parents = &machine->parent;
	machine->inventory = (struct inventory){ machine->volumes, 2 };
	machine->plan.request = &machine->request;
	machine->job = (struct job){ .plan = &machine->plan,
				     .uuid = (char *)"root",
				     .is_root = true,
				     .inventory = &machine->inventory,
				     .progress = &machine->progress };
	write_file(world.fstab, PLAIN, 0644);
}

static void machine_end(struct machine *machine)
{
	faults_clear(&machine->plan.report.faults);
	fstab_entries_clear(&world.record);
	free((char *)world.crypttab);
	free((char *)world.fstab);
}

static void assert_world(const char *promise, const char *fstab, const char *crypttab,
			 const char *commands)
{
	_cleanup_(freep) char *text = read_file(world.fstab), *table = NULL;

	if (strcmp(text, fstab) != 0)
		fail_msg("%s: %s", promise, text);
	assert_row(promise, (access(world.crypttab, F_OK) == 0) == (crypttab != NULL));
	if (crypttab) {
		table = read_file(world.crypttab);
		assert_row(promise, strcmp(table, crypttab) == 0);
	}
	if (strcmp(world.commands, commands) != 0)
		fail_msg("%s: %s", promise, world.commands);
}

static void test_encrypt(void **state)
{
	/* clang-format off */
	static const struct {
		const char *promise, *table, *failing, *fstab, *crypttab, *commands, *fault;
	} rows[] = {
		{ "a GPT's partition gets a random key", "gpt", NULL,           RANDOM, TABLE, "stop plain, start mapping, start random", NULL },
		{ "an MBR's does not",                   "dos", NULL,           PLAIN,  NULL,  "",                                        "swap-plain" },
		{ "one of no known table does not",      NULL,  NULL,           PLAIN,  NULL,  "",                                        "swap-plain" },
		{ "in use: it stays so",                 "gpt", "stop plain",   PLAIN,  NULL,  "stop plain",                              "swap-plain" },
		{ "no room for crypttab: fstab is as it was", "gpt", "crypttab", PLAIN, NULL,  "stop plain, start plain",                 "swap-plain" },
		{ "later",                               "gpt", "start random", RANDOM, TABLE, "stop plain, start mapping, start random", "swap-later" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *promise = rows[i].promise;
		struct machine machine;
		struct faults *faults = &machine.plan.report.faults;

		machine_set_up(state, &machine, rows[i].table);
		world.failing = rows[i].failing;
		assert_row(promise, step_swap_encrypt(&machine.job) == 0);
		assert_world(promise, rows[i].fstab, rows[i].crypttab, rows[i].commands);
		assert_row(promise, (world.record.n > 0) == (rows[i].crypttab != NULL));
		assert_row(promise, faults->n == (rows[i].fault != NULL));
		if (rows[i].fault)
			assert_row(promise, strcmp(faults->faults[0].code, rows[i].fault) == 0);
		machine_end(&machine);
	}
}

static void test_decrypt(void **state)
{
	/* clang-format off */
	static const struct {
		const char *promise, *failing, *fstab, *crypttab, *commands;
		bool is_made;
		const char *active;
	} rows[] = {
		{ "cut before crypttab's line went, and used plain", NULL, PLAIN, NULL, "", false, "plain" },
		{ "cut there, with a mapping that nobody uses", NULL, PLAIN, NULL,
		  "stop mapping, start plain", true, NULL },
		{ "plain again", NULL, PLAIN, NULL, "stop random, stop mapping, start plain", true, "random" },
		{ "not used before the next boot", "start plain", PLAIN, NULL,
		  "stop random, stop mapping, start plain", true, "random" },
		{ "in use: it keeps its key", "stop random", RANDOM, TABLE,
		  "stop random, start mapping, start random", false, "random" },
		{ "a mapping that does not stop is used again", "stop mapping", RANDOM, TABLE,
		  "stop random, stop mapping, start mapping, start random", false, "random" },
		{ "so is one without mkswap", "mkswap", RANDOM, TABLE,
		  "stop random, stop mapping, start mapping, start random", false, "random" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *promise = rows[i].promise;
		struct machine machine;

		machine_set_up(state, &machine, "gpt");
		assert_row(promise, step_swap_encrypt(&machine.job) == 0);
		memset(world.commands, 0, sizeof(world.commands));
		world.failing = rows[i].failing;
		world.active = rows[i].active;
		if (!world.active || strcmp(world.active, "plain") == 0)
			write_file(world.fstab, PLAIN, 0644);
		assert_row(promise, step_swap_decrypt(&machine.job) == 0);
		assert_world(promise, rows[i].fstab, rows[i].crypttab, rows[i].commands);
		assert_row(promise, world.is_made == rows[i].is_made);
		assert_row(promise,
			   (machine.plan.report.faults.n > 0) == (rows[i].failing != NULL));
		machine_end(&machine);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_encrypt, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_decrypt, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

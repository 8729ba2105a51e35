/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <endian.h>
#include <fcntl.h>
#include <libfdisk/libfdisk.h>

#include "test.h"
#include "volume/table.h"

#define MIB 1048576ULL

/* A disk in a file, parted as the script says (sfdisk(8)), made larger afterwards. */
static char *make_disk(void **state, const char *text, uint64_t size_bytes, uint64_t later_bytes)
{
	char *path = scratch_path(state, "disk");
	_cleanup_(freep) char *script_path = scratch_path(state, "script");
	struct fdisk_context *context = fdisk_new_context();
	struct fdisk_script *script;

	write_file(path, "", 0600);
	assert_int_equal(truncate(path, (off_t)size_bytes), 0);
	if (text) {
		write_file(script_path, text, 0600);
		assert_int_equal(fdisk_assign_device(context, path, 0), 0);
		script = fdisk_new_script_from_file(context, script_path);
		assert_non_null(script);
		assert_int_equal(fdisk_apply_script(context, script), 0);
		assert_int_equal(fdisk_write_disklabel(context), 0);
		fdisk_unref_script(script);
		assert_int_equal(fdisk_deassign_device(context, 1), 0);
	}
	fdisk_unref_context(context);
	assert_int_equal(truncate(path, (off_t)later_bytes), 0);
	return path;
}

static void test_gap(void **state)
{
	/* clang-format off */
	static const char gpt[] = "label: gpt\nstart=2048,size=20480\nstart=40960,size=20480\nstart=61440,size=20480\n";
	static const char dos[] = "label: dos\nstart=2048,size=20480\nstart=65536,size=32768,type=5\nstart=67584,size=2048\n";
	static const struct {
		const char *name, *script;
		unsigned number;
		uint64_t later_bytes; /* the disk was made with 64 MiB */
		int r;
		uint64_t gap_bytes;
	} rows[] = {
		{ "a gap between",               gpt,  1,    64 * MIB, 0, 18432 * 512 },
		{ "a neighbour",                 gpt,  2,    64 * MIB, TABLE_E_NO_GAP, 0 },
		{ "the end of the disk",         gpt,  3,    64 * MIB, 0, 24 * MIB - 33 * 512 },
		{ "a disk that has grown",       gpt,  3,   128 * MIB, 0, 88 * MIB - 33 * 512 },
		{ "no such partition",           gpt,  9,    64 * MIB, -ENXIO, 0 },
		{ "number zero",                 gpt,  0,    64 * MIB, -ENXIO, 0 },
		{ "MBR, primary",                dos,  1,    64 * MIB, 0, 43008 * 512 },
		{ "MBR, extended",               dos,  2,    64 * MIB, TABLE_E_UNSUPPORTED, 0 },
		{ "MBR, logical",                dos,  5,    64 * MIB, TABLE_E_UNSUPPORTED, 0 },
		{ "no table",                    NULL, 1,    64 * MIB, TABLE_E_UNSUPPORTED, 0 },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *disk =
			make_disk(state, rows[i].script, 64 * MIB, rows[i].later_bytes);
		uint64_t gap_bytes = 0;

		assert_row(rows[i].name, table_gap(disk, rows[i].number, &gap_bytes) == rows[i].r);
		if (gap_bytes != rows[i].gap_bytes)
			fail_msg("%s: a gap of %llu bytes", rows[i].name,
				 (unsigned long long)gap_bytes);
	}
}

/* On a file the kernel cannot be told, so it ends with -ENOTTY; the table is written before. */
static void test_grow_moves_one_end(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *script;
		unsigned number;
		uint64_t by_bytes;
		int r;
		const char *before, *after;
	} rows[] = {
		{ "GPT keeps name and flags",
		  "label: gpt\nstart=2048,size=20480,name=\"data\",attrs=\"LegacyBIOSBootable\",uuid=0B3F4A60-5A0E-4C0B-9A2E-2F1B7F4F8D11\n",
		  1, 32 * MIB, -ENOTTY, "size=       20480", "size=       86016" },
		{ "ends where it is customary",
		  "label: gpt\nstart=2048,size=20481\n",
		  1, 32 * MIB, -ENOTTY, "size=       20481", "size=       88064" },
		{ "not beyond what there is, in whole 4 KiB",
		  "label: gpt\nstart=2048,size=20480\nstart=86010\n",
		  1, 63470 * 512, -ENOTTY, "size=       20480", "size=       83952" },
		{ "no room",
		  "label: gpt\nstart=2048,size=20480\nstart=40960\n",
		  1, 32 * MIB, TABLE_E_NO_GAP, "size=       20480", "size=       20480" },
		{ "all that there is, in whole 4 KiB, on a disk that has grown",
		  "label: gpt\nstart=2048,size=20480\n",
		  1, TABLE_ALL, -ENOTTY, "size=       20480", "size=      260056" },
		{ "all, before a neighbour",
		  "label: gpt\nstart=2048,size=20480\nstart=86015\n",
		  1, TABLE_ALL, -ENOTTY, "size=       20480", "size=       83960" },
		{ "all, and there is nothing",
		  "label: gpt\nstart=2048,size=20480\nstart=22530\n",
		  1, TABLE_ALL, TABLE_E_NO_GAP, "size=       20480", "size=       20480" },
		{ "all of an MBR's disk",
		  "label: dos\nstart=2048,size=20480,type=83\n",
		  1, TABLE_ALL, -ENOTTY, "size=       20480", "size=      260096" },
		{ "MBR keeps type and flag",
		  "label: dos\nstart=2048,size=20480,type=83,bootable\n",
		  1, 32 * MIB, -ENOTTY, "size=       20480", "size=       86016" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *disk = make_disk(state, rows[i].script, 64 * MIB, 128 * MIB);
		_cleanup_(freep) char *before = NULL, *after = NULL, *rest = NULL;
		char *at_before, *at_after;

		assert_row(rows[i].name, table_dump(disk, &before) == 0);
		assert_row(rows[i].name,
			   table_grow(disk, rows[i].number, rows[i].by_bytes) == rows[i].r);
		assert_row(rows[i].name, table_dump(disk, &after) == 0);
		/* the first partition's line, but for the size */
		at_before = strstr(before, rows[i].before);
		at_after = strstr(after, rows[i].after);
		if (!at_before || !at_after)
			fail_msg("%s:\n%s%s", rows[i].name, before, after);
		assert_row(rows[i].name, strcmp(at_before + strlen(rows[i].before),
						at_after + strlen(rows[i].after)) == 0);
	}
}

/* Otherwise firmware and tools take the table for damaged, and the new end cannot be used. */
static void test_second_header_moves(void **state)
{
	_cleanup_(freep) char *disk =
		make_disk(state, "label: gpt\nstart=2048,size=20480\n", 64 * MIB, 128 * MIB);
	_cleanup_(closep) int fd = open(disk, O_RDONLY | O_CLOEXEC);
	uint64_t first[10], last[10];

	assert_int_equal(table_grow(disk, 1, TABLE_ALL), -ENOTTY);
	assert_int_equal(pread(fd, first, sizeof(first), 512), sizeof(first));
	assert_int_equal(pread(fd, last, sizeof(last), 128 * MIB - 512), sizeof(last));
	/* UEFI specification, table 5.5: signature, own place, the other's, first and last usable
	 */
	assert_memory_equal(first, "EFI PART", 8);
	assert_memory_equal(last, "EFI PART", 8);
	assert_int_equal(le64toh(first[4]), 128 * MIB / 512 - 1);
	assert_int_equal(le64toh(last[3]), 128 * MIB / 512 - 1);
	assert_int_equal(le64toh(last[4]), 1);
	assert_int_equal(le64toh(first[6]), 128 * MIB / 512 - 34);
}

static void test_dump_needs_a_table(void **state)
{
	_cleanup_(freep) char *disk = make_disk(state, NULL, MIB, MIB);
	char *text = NULL;

	assert_int_equal(table_dump(disk, &text), TABLE_E_UNSUPPORTED);
	assert_int_equal(table_dump("/nonexistent", &text), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_gap, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_grow_moves_one_end, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_second_header_moves, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_dump_needs_a_table, scratch_make,
						scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

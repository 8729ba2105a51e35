/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <libfdisk/libfdisk.h>

#include "test.h"
#include "volume/tablesplit.h"

#define MIB    1048576ULL
#define PART   "0fc63daf-8483-4772-8e79-3d69d8477de4"
#define NEW    "6f5b1f3c-2b1c-4a4e-8d53-0f0c3f8a0b02"
#define THEIRS "11111111-2222-4333-8444-555555555555"

/* A disk in a file, parted as the script says (sfdisk(8)), made larger afterwards. */
static char *make_disk(void **state, const char *text, uint64_t later_bytes)
{
	char *path = scratch_path(state, "disk");
	_cleanup_(freep) char *script_path = scratch_path(state, "script");
	struct fdisk_context *context = fdisk_new_context();
	struct fdisk_script *script;

	write_file(path, "", 0600);
	assert_int_equal(truncate(path, (off_t)(64 * MIB)), 0);
	write_file(script_path, text, 0600);
	assert_int_equal(fdisk_assign_device(context, path, 0), 0);
	script = fdisk_new_script_from_file(context, script_path);
	assert_non_null(script);
	assert_int_equal(fdisk_apply_script(context, script), 0);
	assert_int_equal(fdisk_write_disklabel(context), 0);
	fdisk_unref_script(script);
	assert_int_equal(fdisk_deassign_device(context, 1), 0);
	fdisk_unref_context(context);
	assert_int_equal(truncate(path, (off_t)later_bytes), 0);
	return path;
}

/* clang-format off */
static const char gpt[] = "label: gpt\nstart=8192,size=114688,uuid=" THEIRS ",name=root\nstart=2048,size=2048,name=bios\n";
static const char gpt_short[] = "label: gpt\nstart=8192,size=57344,uuid=" THEIRS "\n";
static const char dos[] = "label: dos\nlabel-id: 0x12345678\nstart=2048,size=120832,bootable\n";
static const char dos_full[] = "label: dos\nstart=2048,size=2048\nstart=4096,size=2048\nstart=6144,size=2048\nstart=8192,size=2048\n";
/* clang-format on */

static void test_split(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *script;
		uint64_t later_bytes;
		struct table_split split;
		int r;
		unsigned number;
		uint64_t keeps_bytes;
	} rows[] = {
		{ "GPT, the partition gives way", gpt, 64 * MIB,
		  { 1, 28 * MIB, 32 * MIB, 16 * MIB, NEW }, 0, 3, 28 * MIB },
		{ "GPT, the gap behind",          gpt_short, 64 * MIB,
		  { 1, 28 * MIB, 40 * MIB, 16 * MIB, NEW }, 0, 2, 28 * MIB },
		{ "GPT, a disk that has grown",   gpt, 128 * MIB,
		  { 1, 56 * MIB, 80 * MIB, 16 * MIB, NEW }, 0, 3, 56 * MIB },
		{ "a shorter one is not longer afterwards", gpt_short, 64 * MIB,
		  { 1, 30 * MIB, 40 * MIB, 16 * MIB, NEW }, 0, 2, 28 * MIB },
		{ "GPT, it is left alone",        gpt_short, 64 * MIB,
		  { 1, 0, 40 * MIB, 16 * MIB, NEW }, 0, 2, 28 * MIB },
		{ "GPT, it has grown into the place", gpt, 64 * MIB,
		  { 1, 0, 40 * MIB, 16 * MIB, NEW }, TABLE_E_NO_GAP, 0, 56 * MIB },
		{ "MBR, it has grown into the place", dos, 64 * MIB,
		  { 1, 0, 32 * MIB, 16 * MIB, NULL }, TABLE_E_NO_GAP, 0, 59 * MIB },
		{ "GPT, no room there",           gpt, 64 * MIB,
		  { 1, 28 * MIB, 56 * MIB, 16 * MIB, NEW }, TABLE_E_NO_GAP, 0, 56 * MIB },
		{ "MBR, the partition gives way", dos, 64 * MIB,
		  { 1, 31 * MIB, 32 * MIB, 16 * MIB, NULL }, 0, 2, 31 * MIB },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *disk = make_disk(state, rows[i].script, rows[i].later_bytes);
		const struct table_split *split = &rows[i].split;
		struct table_place before, place;
		unsigned number = 0;

		assert_int_equal(table_place(disk, 1, &before), 0);
		assert_row(rows[i].name, table_find(disk, split->start_bytes, split->size_bytes,
						    &number) == TABLE_E_NO_GAP);
		assert_row(rows[i].name, table_split(disk, split) == rows[i].r);
		if (rows[i].r == 0) {
			_cleanup_(freep) char *text = NULL;

			assert_row(rows[i].name, table_split(disk, split) == 0);
			assert_int_equal(table_dump(disk, &text), 0);
			if (split->uuid) {
				assert_non_null(strcasestr(text, NEW));
				assert_non_null(strcasestr(text, THEIRS));
				assert_non_null(
					strcasestr(text, "bc13c2ff-59e6-4262-a352-b275fd6f7172"));
			} else {
				assert_non_null(strstr(text, "0x12345678"));
				assert_non_null(strstr(text, "bootable"));
			}
			assert_row(rows[i].name, table_find(disk, split->start_bytes,
							    split->size_bytes, &number) == 0);
			assert_row(rows[i].name, number == rows[i].number);
		}
		assert_int_equal(table_place(disk, 1, &place), 0);
		assert_int_equal(place.start_bytes, before.start_bytes);
		assert_row(rows[i].name, place.size_bytes == rows[i].keeps_bytes);
	}
}

static void test_finds_a_place(void **state)
{
	_cleanup_(freep) char *full = make_disk(state, gpt, 64 * MIB);
	_cleanup_(freep) char *room = NULL, *primaries = NULL;
	uint64_t start = 0;

	assert_int_equal(table_find_free(full, 16 * MIB, &start), TABLE_E_NO_GAP);
	assert_int_equal(table_can_add(full), 1);
	room = make_disk(state, gpt_short, 64 * MIB);
	assert_int_equal(table_find_free(room, 16 * MIB, &start), 0);
	assert_int_equal(start, 47 * MIB);
	primaries = make_disk(state, dos_full, 64 * MIB);
	assert_int_equal(table_can_add(primaries), 0);
}

/* Between its two writes: the list is new, the header's checksum of it old. */
static void test_mend(void **state)
{
	_cleanup_(freep) char *disk = make_disk(state, gpt, 64 * MIB);
	const struct table_split split = { 1, 28 * MIB, 32 * MIB, 16 * MIB, NEW };
	unsigned char header[512], backup[512];
	unsigned number;
	int fd = open(disk, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, header, sizeof(header), 512), sizeof(header));
	assert_int_equal(table_split(disk, &split), 0);
	assert_int_equal(pwrite(fd, header, sizeof(header), 512), sizeof(header));
	assert_int_equal(close(fd), 0);
	assert_int_equal(table_mend(disk, "00000000-0000-4000-8000-000000000000"), TABLE_E_NO_GAP);
	assert_int_equal(table_mend(disk, THEIRS), 0);
	fd = open(disk, O_RDONLY | O_CLOEXEC);
	/* the first copy says of the list what the second does */
	assert_int_equal(pread(fd, header, sizeof(header), 512), sizeof(header));
	assert_int_equal(pread(fd, backup, sizeof(backup), 64 * MIB - 512), sizeof(backup));
	assert_memory_equal(header + 88, backup + 88, 4);
	assert_int_equal(close(fd), 0);
	assert_int_equal(table_find(disk, split.start_bytes, split.size_bytes, &number), 0);
	assert_int_equal(number, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_split, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_mend, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_finds_a_place, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

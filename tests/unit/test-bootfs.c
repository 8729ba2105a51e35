/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/bootfs.h"
#include "test.h"

/* enough of an ext2 superblock for libblkid. Source: Linux, fs/ext2/ext2.h, struct ext2_super_block
 */
static void make_ext2(const char *path)
{
	static const unsigned char magic[] = { 0x53, 0xef },
				   uuid[16] = { 0x0a, 0x1b, 0x2c, 0x3d, [15] = 1 }, one[] = { 1 };
	_cleanup_(closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(pwrite(fd, one, 1, 1024 + 4 + 1), 1); /* 256 blocks */
	assert_int_equal(pwrite(fd, magic, 2, 1024 + 56), 2);
	assert_int_equal(pwrite(fd, one, 1, 1024 + 76), 1); /* revision 1 */
	assert_int_equal(pwrite(fd, uuid, 16, 1024 + 104), 16);
}

static void test_find(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *lines;
		bool is_separate;
		const char *type;
		bool has_device;
	} rows[] = {
		{ "own",         "20 1 8:1 / / rw - xfs /dev/nowhere rw\n21 20 8:2 / /boot rw - ext2 %s rw\n", true, "ext2", true },
		{ "the root's",  "20 1 8:1 / / rw - ext2 %s rw\n",                                           false, "ext2", true },
		{ "bound",       "20 1 8:1 / / rw - ext2 %s rw\n21 20 8:1 /x /boot rw - ext2 %s rw\n",        false, "ext2", true },
		{ "a device of no file", "20 1 8:1 / / rw - ext2 %s rw\n21 20 4000:1 / /boot rw - tmpfs tmpfs rw\n", true, "tmpfs", false },
		{ "covered",     "20 1 8:1 / / rw - xfs /dev/nowhere rw\n21 20 4000:1 / /boot rw - autofs x rw\n22 21 8:2 / /boot rw - ext2 %s rw\n", true, "ext2", true },
	};
	/* clang-format on */

	_cleanup_(freep) char *disk = scratch_path(state, "disk");

	make_ext2(disk);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(bootfs_clear) struct bootfs found = { 0 };
		_cleanup_(freep) char *path = scratch_path(state, "mountinfo"), *text = NULL;
		size_t size;
		FILE *out = open_memstream(&text, &size);

		assert_non_null(out);
		for (const char *at = rows[i].lines; *at; at++) {
			if (strncmp(at, "%s", 2) == 0) {
				assert_true(fputs(disk, out) >= 0);
				at++;
			} else {
				assert_true(fputc(*at, out) != EOF);
			}
		}
		assert_int_equal(fclose(out), 0);
		write_file(path, text, 0644);
		assert_row(rows[i].name, bootfs_find("/boot", path, &found) == 0);
		assert_row(rows[i].name, found.is_separate == rows[i].is_separate);
		assert_row(rows[i].name, strcmp(found.type, rows[i].type) == 0);
		assert_row(rows[i].name, !found.device == !rows[i].has_device);
		if (rows[i].has_device)
			assert_row(rows[i].name,
				   found.uuid && strcmp(found.uuid, "0a1b2c3d-0000-0000-0000-"
								    "000000000001") == 0);
		assert_row(rows[i].name, found.free_bytes > 0);
	}
}

static void test_settle(void **state)
{
	assert_int_equal(bootfs_settle(*state), 0);
	assert_int_equal(bootfs_settle("/nowhere/x"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_find, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_settle, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

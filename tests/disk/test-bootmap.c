/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a boot loader reads of an ext4, and what is free at its end; in a file. */
#include <errno.h>

#include "base/cleanup.h"
#include "unit/test.h"
#include "volume.h"
#include "volume/bootmap.h"

#define MIB  1048576ULL
#define TREE "/tmp/vmcrypt-bootmap"
#define DISK TREE "/disk"

static int make_disk(void **state)
{
	return run(
		"set -e; rm -rf " TREE "; mkdir -p " TREE "/root/boot/grub " TREE "/root/etc; "
		"cd " TREE "/root; head -c 3000000 /dev/urandom > boot/vmlinuz; "
		"echo menu > boot/grub/grub.cfg; echo x > etc/fstab; ln -s boot/vmlinuz vmlinuz; "
		"truncate -s 256M " DISK "; mke2fs -q -F -t ext4 -b 4096 -d . " DISK);
}

static int remove_disk(void **state)
{
	return run("rm -rf " TREE);
}

static void test_digest(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *change;
		bool is_same;
	} rows[] = {
		{ "nothing",                    "true", true },
		{ "another file elsewhere",     "debugfs -w -R 'write /etc/passwd /etc/more' " DISK, true },
		{ "our own folder",             "debugfs -w -R 'mkdir /boot/vmcrypt' " DISK " && debugfs -w -R 'write /etc/passwd /boot/vmcrypt/more' " DISK, true },
		{ "a kernel at another place",  "debugfs -w -R 'rm /boot/vmlinuz' " DISK " && debugfs -w -R 'write /etc/passwd /boot/vmlinuz' " DISK, false },
		{ "one file more",              "debugfs -w -R 'write /etc/passwd /boot/grub/more' " DISK, false },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bootmap before, after;

		assert_int_equal(bootmap_read(DISK, "/boot", &before), 0);
		assert_int_equal(run("%s", rows[i].change), 0);
		assert_int_equal(bootmap_read(DISK, "/boot", &after), 0);
		if ((before.digest == after.digest) != rows[i].is_same)
			fail_msg("%s", rows[i].name);
		/* as mke2fs lays it out, all of it lies at the beginning */
		assert_in_range(after.end_bytes, 4096, 128 * MIB);
	}
}

static void test_end(void **state)
{
	struct bootmap_free end, all;
	struct bootmap map;

	assert_int_equal(bootmap_find_free(DISK, 192 * MIB, 256 * MIB, 4096, &end), 0);
	assert_true(end.has_end);
	assert_int_equal(end.used_bytes, 0);
	assert_int_equal(end.offset_bytes, 192 * MIB);
	assert_int_equal(end.length_bytes, 64 * MIB - 4096);
	assert_int_equal(bootmap_find_free(DISK, 0, 256 * MIB, 4096, &all), 0);
	assert_in_range(all.used_bytes, 3000000, 64 * MIB);
	assert_in_range(all.length_bytes, 64 * MIB, 256 * MIB);
	/* what lies behind the filesystem is free */
	assert_int_equal(bootmap_find_free(DISK, 256 * MIB, 300 * MIB, 4096, &end), 0);
	assert_int_equal(end.used_bytes, 0);
	assert_int_equal(bootmap_read(DISK, "/boot/none", &map), -ENOENT);
}

/* Two bytes of it are enough to make it none. */
static void test_damaged(void **state)
{
	struct bootmap_free end;
	struct bootmap map;

	assert_int_equal(run("printf xx | dd of=" DISK " bs=1 seek=1080 conv=notrunc status=none"),
			 0);
	assert_int_equal(bootmap_read(DISK, "/boot", &map), -EUCLEAN);
	assert_int_equal(bootmap_find_free(DISK, 0, 4096, 4096, &end), -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_digest, make_disk, remove_disk),
		cmocka_unit_test_setup_teardown(test_end, make_disk, remove_disk),
		cmocka_unit_test_setup_teardown(test_damaged, make_disk, remove_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

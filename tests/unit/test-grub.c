/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "boot/fstab.h"
#include "boot/grub.h"
#include "test.h"

#define OLD  "11111111-2222-4333-8444-555555555555"
#define NEW  "6f5b1f3c-2b1c-4a4e-8d53-0f0c3f8a0b02"
#define LINE "UUID=" NEW " /boot ext4 defaults 0 2"

static void test_stub(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		int r;
		const char *changed;
	} rows[] = {
		{ "Debian's three lines",
		  "search.fs_uuid " OLD " root hd0,gpt1\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n", 1,
		  "search.fs_uuid " NEW " root hd0,gpt1\nset prefix=($root)'/grub'\nconfigfile $prefix/grub.cfg\n" },
		{ "a path in one word",
		  "search.fs_uuid " OLD " root\nconfigfile ($root)/boot/grub/grub.cfg\n", 1,
		  "search.fs_uuid " NEW " root\nconfigfile ($root)/grub/grub.cfg\n" },
		{ "in a subvolume",
		  "search.fs_uuid " OLD " root\nset prefix=($root)'/@/boot/grub'\n", -ENOTDIR, NULL },
		{ "it has followed already", "search.fs_uuid " NEW " root\nset prefix=($root)'/grub'\n", 0, NULL },
		{ "of another system",       "search.fs_uuid abcd root\nset prefix=($root)'/boot/grub'\n", 0, NULL },
		{ "nothing",                 "", 0, NULL },
	};
	/* clang-format on */

	const struct grub_place from = { OLD, "/boot/grub" }, to = { NEW, "/grub" };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *changed = NULL, *back = NULL;

		assert_row(rows[i].name,
			   grub_stub_follow_text(rows[i].text, &from, &to, &changed) == rows[i].r);
		if (!rows[i].changed)
			continue;
		assert_string_equal(changed, rows[i].changed);
		assert_row(rows[i].name, grub_stub_follow_text(changed, &to, &from, &back) == 1);
		assert_string_equal(back, rows[i].text);
	}
}

static void test_fstab(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		int r;
		const char *changed;
	} rows[] = {
		{ "at the end", "UUID=a / ext4 defaults 0 1\n", 1, "UUID=a / ext4 defaults 0 1\n" LINE "\n" },
		{ "the last line has no end", "UUID=a / ext4 defaults 0 1", 1, "UUID=a / ext4 defaults 0 1\n" LINE "\n" },
		{ "before what lies below it", "UUID=a / ext4\n# esp\nUUID=b  /boot/efi vfat\n\n", 1,
		  "UUID=a / ext4\n# esp\n" LINE "\nUUID=b  /boot/efi vfat\n\n" },
		{ "a name that begins alike", "UUID=a /bootstrap ext4\n", 1, "UUID=a /bootstrap ext4\n" LINE "\n" },
		{ "it is there",              "UUID=a / ext4\n" LINE "\n", 0, NULL },
		{ "another is there",         "UUID=a / ext4\nUUID=c /boot ext2\n", FSTAB_E_TAKEN, NULL },
		{ "an empty file",            "", 1, LINE "\n" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *changed = NULL, *back = NULL;

		assert_row(rows[i].name,
			   fstab_add_text(rows[i].text, "/boot", LINE, &changed) == rows[i].r);
		if (!rows[i].changed)
			continue;
		assert_string_equal(changed, rows[i].changed);
		assert_int_equal(fstab_remove_text(changed, LINE, &back), 1);
		assert_null(strstr(back, LINE));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stub),
		cmocka_unit_test(test_fstab),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

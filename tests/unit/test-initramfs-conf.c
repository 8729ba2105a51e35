/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>

#include "boot/initramfs-conf.h"
#include "test.h"

#define UUID   "0f8a1c52-6d3e-4b7a-9c61-2e5d7f3b9a10"
#define ROOT   "ROOT_UUID=" UUID "\nMAPPING=vmcrypt-" UUID "\n"
#define HEADER "/boot/vmcrypt/headers/" UUID ".luks"

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static void test_parse(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		int r;
		const char *header, *boot_type;
		unsigned prompt_after_s;
	} rows[] = {
		{ "the root alone",        ROOT,                                  0, NULL, NULL, INITRAMFS_PROMPT_AFTER_S },
		{ "no newline at the end", ROOT "BOOT_TYPE=ext4",                 0, NULL, "ext4", INITRAMFS_PROMPT_AFTER_S },
		{ "comments, blanks, CR",  "# ours\n\n  " ROOT "\t BOOT_TYPE=xfs \r\n", 0, NULL, "xfs", INITRAMFS_PROMPT_AFTER_S },
		{ "quotes, as sh",         ROOT "BOOT_TYPE=\"xfs\"\nHEADER='" HEADER "'\n", 0, HEADER, "xfs", INITRAMFS_PROMPT_AFTER_S },
		{ "the last one holds",    ROOT "BOOT_TYPE=xfs\nBOOT_TYPE=ext4\n", 0, NULL, "ext4", INITRAMFS_PROMPT_AFTER_S },
		{ "another version's key", ROOT "COLOUR=$(blue)\n",               0, NULL, NULL, INITRAMFS_PROMPT_AFTER_S },
		{ "prompt at once",        ROOT "PROMPT_AFTER=0\n",               0, NULL, NULL, 0 },
		{ "prompt after a day",    ROOT "PROMPT_AFTER=86400\n",           0, NULL, NULL, 86400 },
		{ "prompt after longer",   ROOT "PROMPT_AFTER=86401\n",           INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "prompt never",          ROOT "PROMPT_AFTER=never\n",           INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "nothing",               "",                                    INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "no mapping",            "ROOT_UUID=" UUID "\n",                INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "no root",               "MAPPING=vmcrypt-" UUID "\n",          INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "no pair",               ROOT "HEADER\n",                       INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "empty value",           ROOT "HEADER=\n",                      INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "command for sh",        ROOT "HEADER=/boot/$(id)\n",           INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "path out of its folder", ROOT "HEADER=/boot/../etc/shadow\n",  INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "path that is relative", ROOT "HEADER=boot/h\n",                INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "UUID that is a path",   ROOT "ROOT_UUID=../sda\n",             INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "device elsewhere",      ROOT "DEVICE=/etc/sda1\n",               INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "mapping of another",    ROOT "MAPPING=luks-" UUID "\n",        INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "mapping with a slash",  ROOT "MAPPING=vmcrypt-a/b\n",          INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
		{ "mapping without name",  ROOT "MAPPING=vmcrypt-\n",             INITRAMFS_CONF_E_MALFORMED, NULL, NULL, 0 },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(initramfs_conf_clear) struct initramfs_conf conf = { 0 };

		assert_row(rows[i].name, initramfs_conf_parse(rows[i].text, strlen(rows[i].text),
							      &conf) == rows[i].r);
		assert_row(rows[i].name, conf.prompt_after_s == rows[i].prompt_after_s);
		assert_row(rows[i].name, is_same(conf.header, rows[i].header));
		assert_row(rows[i].name, is_same(conf.boot_type, rows[i].boot_type));
		assert_row(rows[i].name, is_same(conf.root_uuid, rows[i].r == 0 ? UUID : NULL));
		assert_row(rows[i].name,
			   is_same(conf.mapping, rows[i].r == 0 ? "vmcrypt-" UUID : NULL));
	}
}

static void test_bounds(void **state)
{
	static const char with_nul[] = ROOT "BOOT_TYPE=xf\0s\n";
	_cleanup_(freep) char *path = scratch_path(state, "large"), *text = NULL;
	struct initramfs_conf conf = { 0 };

	assert_int_equal(initramfs_conf_parse(with_nul, sizeof(with_nul) - 1, &conf),
			 INITRAMFS_CONF_E_MALFORMED);
	assert_int_equal(initramfs_conf_read(path, &conf), -ENOENT);
	assert_true(asprintf(&text, ROOT "#%0*d\n", INITRAMFS_CONF_MAX_BYTES, 0) > 0);
	write_file(path, text, 0644);
	assert_int_equal(initramfs_conf_read(path, &conf), INITRAMFS_CONF_E_MALFORMED);
	assert_null(conf.root_uuid);
}

static void test_write(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name;
		struct initramfs_conf conf;
		int r;
	} rows[] = {
		{ "all",             { (char *)UUID, (char *)"vmcrypt-" UUID, (char *)"1A2B-3C4D", (char *)"vfat", (char *)HEADER, (char *)"ext4", (char *)UUID, (char *)"/dev/disk/by-partuuid/6a-01", 90 }, 0 },
		{ "what is needed",  { (char *)UUID, (char *)"vmcrypt-" UUID, NULL, NULL, NULL, NULL, NULL, NULL, 0 },                 0 },
		{ "no root",         { NULL, (char *)"vmcrypt-" UUID, NULL, NULL, NULL, NULL, NULL, NULL, 0 },                         -EINVAL },
		{ "a second line",   { (char *)UUID, (char *)"vmcrypt-" UUID, NULL, (char *)"ext4\nX=1", NULL, NULL, NULL, NULL, 0 },  -EINVAL },
		{ "for sh",          { (char *)UUID, (char *)"vmcrypt-" UUID, NULL, NULL, (char *)"/a b", NULL, NULL, NULL, 0 },       -EINVAL },
		{ "waits too long",  { (char *)UUID, (char *)"vmcrypt-" UUID, NULL, NULL, NULL, NULL, NULL, NULL, 86401 },             -EINVAL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *path = scratch_path(state, "initramfs.conf");
		_cleanup_(initramfs_conf_clear) struct initramfs_conf conf = { 0 };
		const struct initramfs_conf *row = &rows[i].conf;

		(void)unlink(path);
		assert_row(rows[i].name, initramfs_conf_write(path, row) == rows[i].r);
		assert_row(rows[i].name,
			   initramfs_conf_read(path, &conf) == (rows[i].r == 0 ? 0 : -ENOENT));
		if (rows[i].r != 0)
			continue;
		assert_row(rows[i].name, is_same(conf.root_uuid, row->root_uuid));
		assert_row(rows[i].name, is_same(conf.mapping, row->mapping));
		assert_row(rows[i].name, is_same(conf.boot_uuid, row->boot_uuid));
		assert_row(rows[i].name, is_same(conf.boot_type, row->boot_type));
		assert_row(rows[i].name, is_same(conf.header, row->header));
		assert_row(rows[i].name, is_same(conf.filesystem, row->filesystem));
		assert_row(rows[i].name, is_same(conf.header_uuid, row->header_uuid));
		assert_row(rows[i].name, is_same(conf.device, row->device));
		assert_row(rows[i].name, conf.prompt_after_s == row->prompt_after_s);
	}
}

static void test_settings(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
		int r;
		unsigned after_s; /* before: 7 */
	} rows[] = {
		{ "nothing",         "",                                       0,                          7 },
		{ "seconds",         "PROMPT_AFTER=30\n",                      0,                          30 },
		{ "beside the network", "NETWORK=\"10.0.0.4::10.0.0.1:255.255.255.0::eth0:off\"\nPROMPT_AFTER='0'", 0, 0 },
		{ "no number",       "PROMPT_AFTER=soon\n",                    INITRAMFS_CONF_E_MALFORMED, 7 },
		{ "no pair",         "PROMPT_AFTER=3\nquickly please\n",       INITRAMFS_CONF_E_MALFORMED, 7 },
	};
	/* clang-format on */
	_cleanup_(freep) char *path = scratch_path(state, "vmcrypt.conf");
	unsigned after_s = 7;

	(void)unlink(path);
	assert_int_equal(initramfs_settings_read(path, &after_s), 0);
	assert_int_equal(after_s, 7);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		write_file(path, rows[i].text, 0644);
		after_s = 7;
		assert_row(rows[i].name, initramfs_settings_read(path, &after_s) == rows[i].r);
		assert_row(rows[i].name, after_s == rows[i].after_s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test_setup_teardown(test_bounds, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_write, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_settings, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

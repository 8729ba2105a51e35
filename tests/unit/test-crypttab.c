/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/crypttab.h"
#include "test.h"

#define UUID "0f8a1c52-6d3e-4b7a-9c61-2e5d7f3b9a10"
#define LINE "data UUID=" UUID " none luks,noauto,nofail"

static const struct crypttab_entry data = { .name = (char *)"data",
					    .device = (char *)"UUID=" UUID };

static void test_distributions(void **state)
{
	static const char *const rows[] = { "debian", "ubuntu", "rhel", "azurelinux" };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *path = scratch_path(state, "crypttab"), *from = NULL,
				      *to = NULL;
		_cleanup_(freep) char *text = NULL, *expected = NULL, *now = NULL;
		struct stat status;

		assert_true(asprintf(&from, FIXTURES "/roots/%s/before/etc/crypttab", rows[i]) > 0);
		assert_true(asprintf(&to, FIXTURES "/roots/%s/after/etc/crypttab", rows[i]) > 0);
		(void)unlink(path);
		if (access(from, F_OK) == 0) {
			text = read_file(from);
			write_file(path, text, 0644);
		}
		expected = read_file(to);

		assert_row(rows[i], crypttab_add(path, &data) == 0);
		now = read_file(path);
		assert_string_equal(now, expected);
		assert_row(rows[i], stat(path, &status) == 0);
		assert_row(rows[i], (status.st_mode & 0777) == (text ? 0644 : 0600));
		assert_row(rows[i], crypttab_add(path, &data) == 0);
		assert_row(rows[i], crypttab_remove(path, "data") == 0);
		if (text) {
			free(steal(now));
			now = read_file(path);
			assert_string_equal(now, text);
		} else {
			/* there was no file, and there is none again */
			assert_row(rows[i], access(path, F_OK) < 0 && errno == ENOENT);
		}
		assert_row(rows[i], crypttab_remove(path, "data") == 0);
	}
}

static void test_add(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text, *entry[3];
		int r;
		const char *after;
	} rows[] = {
		{ "to nothing",         "",                 { "data", "UUID=" UUID },          0, LINE "\n" },
		{ "with a header",      "",                 { "data", "/dev/sdc", "/boot/h" }, 0, "data /dev/sdc none luks,noauto,nofail,header=/boot/h\n" },
		{ "there already",      LINE "\n",          { "data", "UUID=" UUID },          0, LINE "\n" },
		{ "there in capitals",  "data UUID=0F8A1C52-6D3E-4B7A-9C61-2E5D7F3B9A10\n", { "data", "UUID=" UUID }, 0, "data UUID=0F8A1C52-6D3E-4B7A-9C61-2E5D7F3B9A10\n" },
		{ "there in quotes",    "data UUID=\"" UUID "\" - luks\n", { "data", "UUID=" UUID }, 0, "data UUID=\"" UUID "\" - luks\n" },
		{ "there by its link",  "data /dev/disk/by-uuid/" UUID "\n", { "data", "UUID=" UUID }, 0, "data /dev/disk/by-uuid/" UUID "\n" },
		{ "there with header",  "data /dev/sdc - a,header=/boot/h,b\n", { "data", "/dev/sdc", "/boot/h" }, 0, "data /dev/sdc - a,header=/boot/h,b\n" },
		{ "as a comment",       "#" LINE "\n",      { "data", "UUID=" UUID },          0, "#" LINE "\n" LINE "\n" },
		{ "a longer name",      "data2 /dev/sdd\n", { "data", "UUID=" UUID },          0, "data2 /dev/sdd\n" LINE "\n" },
		{ "another device",     "data /dev/sdd\n",  { "data", "UUID=" UUID },          CRYPTTAB_E_TAKEN },
		{ "another header",     "data /dev/sdc - luks,header=/a\n", { "data", "/dev/sdc", "/b" }, CRYPTTAB_E_TAKEN },
		{ "no header there",    "data /dev/sdc - luks\n", { "data", "/dev/sdc", "/b" }, CRYPTTAB_E_TAKEN },
		{ "the second is another", LINE "\ndata /dev/sdd\n", { "data", "UUID=" UUID }, CRYPTTAB_E_TAKEN },
		{ "a blank in the name", "",                { "da ta", "UUID=" UUID },         -EINVAL },
		{ "a slash in the name", "",                { "da/ta", "UUID=" UUID },         -EINVAL },
		{ "a name like a comment", "",              { "#data", "UUID=" UUID },         -EINVAL },
		{ "no name",            "",                 { "", "UUID=" UUID },              -EINVAL },
		{ "no device",          "",                 { "data", "" },                    -EINVAL },
		{ "a newline",          "",                 { "data", "/dev/a\nx" },           -EINVAL },
		{ "a comma in the header", "",              { "data", "/dev/a", "/boot/a,b" }, -EINVAL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct crypttab_entry entry = { (char *)rows[i].entry[0],
						      (char *)rows[i].entry[1],
						      (char *)rows[i].entry[2] };
		_cleanup_(freep) char *after = NULL;

		assert_row(rows[i].name,
			   crypttab_add_text(rows[i].text, &entry, &after) == rows[i].r);
		assert_row(rows[i].name, (after != NULL) == (rows[i].r == 0));
		if (after)
			assert_row(rows[i].name, strcmp(after, rows[i].after) == 0);
	}
}

/* device, header and time change; the rest of the line is the administrator's */
static void test_point(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text, *device, *header;
		bool is_initrd;
		const char *after;
	} rows[] = {
		{ "to a file",           "a /a\n" LINE "\nb /b\n", "/dev/sdc", "/boot/h", false, "a /a\ndata /dev/sdc none luks,noauto,nofail,header=/boot/h\nb /b\n" },
		{ "and back",            "data /dev/sdc none luks,noauto,nofail,header=/boot/h\n", "UUID=" UUID, NULL, false, LINE "\n" },
		{ "out of the initramfs", LINE ",x-initrd.attach\n", "/dev/sdc", "/boot/h", false, "data /dev/sdc none luks,noauto,nofail,header=/boot/h\n" },
		{ "and into it again",   "data /dev/sdc none luks,noauto,nofail,header=/boot/h\n", "UUID=" UUID, NULL, true, LINE ",x-initrd.attach\n" },
		{ "stays in it",         LINE ",x-initrd.attach\n", "/dev/sdc", "/boot/h", true, "data /dev/sdc none luks,noauto,nofail,x-initrd.attach,header=/boot/h\n" },
		{ "there already",       "data /dev/sdc - header=/boot/h,x\n", "/dev/sdc", "/boot/h", false, "data /dev/sdc - header=/boot/h,x\n" },
		{ "UUID in capitals",    "data UUID=0F8A1C52-6D3E-4B7A-9C61-2E5D7F3B9A10\n", "UUID=" UUID, NULL, false, "data UUID=0F8A1C52-6D3E-4B7A-9C61-2E5D7F3B9A10\n" },
		{ "other options stay",  "data\tUUID=" UUID "  none\tluks,discard,tries=3 \n", "/dev/sdc", "/boot/h", false, "data\t/dev/sdc  none\tluks,discard,tries=3,header=/boot/h \n" },
		{ "another header",      LINE ",header=/a,discard", "UUID=" UUID, "/b", false, LINE ",discard,header=/b" },
		{ "no other option",     "data /a - header=/a", "/a", NULL, false, "data /a - luks" },
		{ "no options",          "data /a -", "/a", "/h", false, "data /a - luks,header=/h" },
		{ "nothing but a device", "data /a", "/b", NULL, false, "data /b none luks" },
		{ "like the option",     "data /a - headers,x-initrd.attached", "/b", NULL, false, "data /b - headers,x-initrd.attached" },
		{ "a longer name",       "data2 /a - luks\n", "UUID=" UUID, NULL, false, "data2 /a - luks\n" LINE "\n" },
		{ "not there",           "", "UUID=" UUID, NULL, true, LINE ",x-initrd.attach\n" },
		{ "a blank",             LINE, "/dev/a b", NULL, false, NULL },
		{ "a comma",             LINE, "/dev/a", "/a,b", false, NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct crypttab_entry entry = { .name = (char *)"data",
						      .device = (char *)rows[i].device,
						      .header = (char *)rows[i].header,
						      .is_initrd = rows[i].is_initrd };
		_cleanup_(freep) char *after = NULL, *again = NULL;
		int r = crypttab_point_text(rows[i].text, &entry, &after);

		assert_row(rows[i].name, r == (rows[i].after ? 0 : -EINVAL));
		if (!rows[i].after)
			continue;
		if (strcmp(after, rows[i].after) != 0)
			fail_msg("%s: %s", rows[i].name, after);
		assert_row(rows[i].name, crypttab_point_text(after, &entry, &again) == 0);
		assert_row(rows[i].name, strcmp(again, after) == 0);
	}
}

static void test_remove(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text, *after;
	} rows[] = {
		{ "the only line",       LINE "\n",                  "" },
		{ "the first",           LINE "\nb /dev/b\n",        "b /dev/b\n" },
		{ "in the middle",       "a /a\n" LINE "\nb /b\n",   "a /a\nb /b\n" },
		{ "the last, no newline", "a /a\n" LINE,             "a /a" },
		{ "twice",               LINE "\na /a\n" LINE "\n",  "a /a\n" },
		{ "not a comment",       "#" LINE "\n",              "#" LINE "\n" },
		{ "not a longer name",   "data2 /dev/b\n",           "data2 /dev/b\n" },
		{ "not a line without device", "data\n",             "data\n" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *after = NULL;

		assert_row(rows[i].name, crypttab_remove_text(rows[i].text, "data", &after) == 0);
		assert_row(rows[i].name, strcmp(after, rows[i].after) == 0);
	}
}

/* What is opened in the initramfs says so, and is known again. */
static void test_initrd(void **state)
{
	struct crypttab_entry root = data;
	_cleanup_(freep) char *text = NULL, *again = NULL;

	root.is_initrd = true;
	assert_int_equal(crypttab_add_text("", &root, &text), 0);
	assert_string_equal(text, LINE ",x-initrd.attach\n");
	assert_int_equal(crypttab_add_text(text, &root, &again), 0);
	assert_string_equal(again, text);
}

/* Swap space is systemd's to open; its line is known again, and goes like any other. */
static void test_swap(void **state)
{
	static const char line[] = "cryptswap_1 /dev/disk/by-partuuid/2 /dev/urandom "
				   "swap,cipher=aes-xts-plain64,size=512,nofail";
	const struct crypttab_entry entry = { .name = (char *)"cryptswap_1",
					      .device = (char *)"/dev/disk/by-partuuid/2",
					      .is_swap = true };
	_cleanup_(crypttab_entries_clear) struct crypttab_entries entries = { 0 };
	_cleanup_(freep) char *path = scratch_path(state, "crypttab"), *text = NULL, *again = NULL,
			      *without = NULL;

	assert_int_equal(crypttab_add_text("a /a", &entry, &text), 0);
	assert_string_equal(strchr(text, '\n') + 1, line);
	assert_int_equal(crypttab_add_text(text, &entry, &again), 0);
	assert_string_equal(again, text);
	write_file(path, text, 0600);
	assert_int_equal(crypttab_read(path, &entries), 0);
	assert_int_equal(entries.n, 2);
	assert_false(entries.entries[0].is_swap);
	assert_true(entries.entries[1].is_swap);
	assert_int_equal(crypttab_remove_text(text, "cryptswap_1", &without), 0);
	assert_string_equal(without, "a /a");
}

static void test_read(void **state)
{
	_cleanup_(crypttab_entries_clear) struct crypttab_entries entries = { 0 };
	_cleanup_(freep) char *path = scratch_path(state, "crypttab");

	assert_int_equal(crypttab_read(path, &entries), 0);
	assert_int_equal(entries.n, 0);
	write_file(path, "# x\n\na /dev/a\n" LINE ",header=/boot/h\nlonely\n", 0600);
	assert_int_equal(crypttab_read(path, &entries), 0);
	assert_int_equal(entries.n, 2);
	assert_string_equal(entries.entries[0].name, "a");
	assert_string_equal(entries.entries[0].device, "/dev/a");
	assert_null(entries.entries[0].header);
	assert_string_equal(entries.entries[1].header, "/boot/h");
	assert_false(entries.entries[1].is_initrd);
	crypttab_entries_clear(&entries);
	write_file(path, LINE ",x-initrd.attached,header=,x-initrd.attach,header=/boot/h\n", 0600);
	assert_int_equal(crypttab_read(path, &entries), 0);
	assert_true(entries.entries[0].is_initrd);
	assert_string_equal(entries.entries[0].header, "/boot/h");
	write_file(path, "a /dev/a\n\002", 0600);
	assert_int_equal(crypttab_read(path, &(struct crypttab_entries){ 0 }),
			 CRYPTTAB_E_MALFORMED);
	assert_int_equal(crypttab_add(path, &data), CRYPTTAB_E_MALFORMED);
	assert_int_equal(crypttab_remove(path, "a"), CRYPTTAB_E_MALFORMED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_distributions, scratch_make, scratch_remove),
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_point),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_initrd),
		cmocka_unit_test_setup_teardown(test_swap, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_read, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

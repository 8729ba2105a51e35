/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/fstab.h"
#include "test.h"

#define UUID "1b4e28ba-2fa1-11d2-883f-0016d3cca427"

static const struct fstab_device device = {
	.path = "/dev/sdc1",
	.uuid = UUID,
	.label = "My Data",
	.partition_uuid = "0a1b2c3d-02",
	.partition_label = "part one",
	.mapping = "data",
};

/* how each distribution's table looks before, after, and after the way back */
static void test_distributions(void **state)
{
	static const struct {
		const char *name;
		size_t changed;
	} rows[] = {
		{ "debian", 1 },
		{ "ubuntu", 1 },
		{ "rhel", 3 },
		{ "azurelinux", 4 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 }, found = { 0 },
								    again = { 0 };
		_cleanup_(freep) char *path = scratch_path(state, "fstab"), *from = NULL,
				      *to = NULL;
		_cleanup_(freep) char *text = NULL, *expected = NULL, *now = NULL, *back = NULL;

		assert_true(asprintf(&from, FIXTURES "/roots/%s/before/etc/fstab", rows[i].name) >
			    0);
		assert_true(asprintf(&to, FIXTURES "/roots/%s/after/etc/fstab", rows[i].name) > 0);
		text = read_file(from);
		expected = read_file(to);
		write_file(path, text, 0644);

		assert_row(rows[i].name, fstab_find(path, &device, &found) == 0);
		assert_row(rows[i].name, found.n == rows[i].changed);
		assert_row(rows[i].name,
			   fstab_encrypt(path, &device, "/dev/mapper/data", &before) == 0);
		assert_row(rows[i].name, before.n == rows[i].changed);
		now = read_file(path);
		assert_string_equal(now, expected);
		/* once more changes nothing, and forgets nothing */
		assert_row(rows[i].name,
			   fstab_encrypt(path, &device, "/dev/mapper/data", &again) == 0);
		assert_row(rows[i].name, again.n == 0);
		assert_row(rows[i].name, fstab_restore(path, &device, &before) == 0);
		back = read_file(path);
		assert_string_equal(back, text);
		assert_int_equal(count_entries(*state), 1);
	}
}

/* one line in, one line out; NULL = another volume's, and untouched */
static void test_lines(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *before, *spec, *after;
	} rows[] = {
		{ "nofail only",         "UUID=" UUID " /a ext4 ro 0 2",           NULL, "UUID=" UUID " /a ext4 ro,nofail 0 2" },
		{ "nofail is there",     "UUID=" UUID " /a ext4 nofail,ro",        NULL, "UUID=" UUID " /a ext4 nofail,ro" },
		{ "noauto is there",     "UUID=" UUID " /a ext4 ro,noauto",        NULL, "UUID=" UUID " /a ext4 ro,noauto" },
		{ "like nofail",         "UUID=" UUID " /a ext4 x-nofail",         NULL, "UUID=" UUID " /a ext4 x-nofail,nofail" },
		{ "nofail in quotes",    "UUID=" UUID " /a ext4 c=\"x,nofail,y\"",   NULL, "UUID=" UUID " /a ext4 c=\"x,nofail,y\",nofail" },
		{ "a quote is missing",  "UUID=" UUID " /a ext4 c=\"x",             NULL, "UUID=" UUID " /a ext4 c=\"x,nofail" },
		{ "no options",          "UUID=" UUID " /a ext4",                  NULL, "UUID=" UUID " /a ext4 nofail" },
		{ "a blank at the end",  "UUID=" UUID " /a ext4 ro ",              NULL, "UUID=" UUID " /a ext4 ro,nofail " },
		{ "a note for options",  "UUID=" UUID " /a ext4 # why",            NULL, "UUID=" UUID " /a ext4 nofail # why" },
		{ "spec is encoded",     "UUID=" UUID " /a ext4 nofail",           "LABEL=a b\\#", "LABEL=a\\040b\\134\\043 /a ext4 nofail" },
		{ "UUID, single quotes", "UUID='" UUID "' /a ext4 ro",             "X=1", "X=1 /a ext4 ro,nofail" },
		{ "by-label, encoded",   "/dev/disk/by-label/My\\x20Data /a ext4 ro", "X=1", "X=1 /a ext4 ro,nofail" },
		{ "by-label, escaped",   "/dev/disk/by-label/My\\134x20Data /a ext4 ro", "X=1", "X=1 /a ext4 ro,nofail" },
		{ "PARTLABEL",           "PARTLABEL=part\\040one /a ext4 ro",      "X=1", "X=1 /a ext4 ro,nofail" },
		{ "by-partlabel",        "/dev/disk/by-partlabel/part\\x20one /a ext4 ro", "X=1", "X=1 /a ext4 ro,nofail" },
		{ "by-partuuid",         "/dev/disk/by-partuuid/0a1b2c3d-02 /a ext4 ro", "X=1", "X=1 /a ext4 ro,nofail" },
		{ "path",                "/dev/sdc1 /a ext4 ro",                   "X=1", "X=1 /a ext4 ro,nofail" },
		{ "mapping",             "/dev/mapper/data /a ext4 ro",            "X=1", "X=1 /a ext4 ro,nofail" },
		{ "mapping by-id",       "/dev/disk/by-id/dm-name-data /a ext4 ro", "X=1", "X=1 /a ext4 ro,nofail" },

		{ "another mapping",     "/dev/mapper/data2 /a ext4 ro",           "X=1", NULL },
		{ "another partition",   "/dev/sdc11 /a ext4 ro",                  "X=1", NULL },
		{ "another UUID",        "UUID=" UUID "0 /a ext4 ro",              "X=1", NULL },
		{ "label in other case", "LABEL=my\\040data /a ext4 ro",           "X=1", NULL },
		{ "UUID as a label",     "LABEL=" UUID " /a ext4 ro",              "X=1", NULL },
		{ "UUID of a partition", "PARTUUID=" UUID " /a ext4 ro",           "X=1", NULL },
		{ "a folder of it",      "/srv/a /a none bind",                    "X=1", NULL },
		{ "two fields",          "UUID=" UUID " /a",                       "X=1", NULL },
		{ "a comment",           " #UUID=" UUID " /a ext4 ro",             "X=1", NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 };
		_cleanup_(freep) char *after = NULL, *back = NULL;
		const char *expected = rows[i].after ? rows[i].after : rows[i].before;
		int changed = strcmp(expected, rows[i].before) != 0;

		assert_row(rows[i].name, fstab_encrypt_text(rows[i].before, &device, rows[i].spec,
							    &after, &before) == changed);
		assert_row(rows[i].name, strcmp(after, expected) == 0);
		assert_row(rows[i].name, before.n == (size_t)changed);
		/* once more changes nothing, whatever the line looks like now */
		struct fstab_entries none = { 0 };
		_cleanup_(freep) char *again = NULL;

		assert_row(rows[i].name,
			   fstab_encrypt_text(after, &device, rows[i].spec, &again, &none) == 0);
		/* the way back knows the volume by the name that it has now */
		struct fstab_device now = device;

		if (rows[i].spec)
			now.path = strcmp(rows[i].spec, "X=1") == 0 ? "X=1" : "LABEL=a b\\#";
		assert_row(rows[i].name,
			   fstab_restore_text(after, &now, &before, &back) == changed);
		assert_row(rows[i].name, strcmp(back, rows[i].before) == 0);
	}
}

/* what a person has changed meanwhile stays */
static void test_edited_meanwhile(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *before, *edited, *back;
	} rows[] = {
		{ "another option", "UUID=" UUID " /a ext4 ro 0 2", "/dev/mapper/data /a ext4 rw,nofail,noatime 0 2", "UUID=" UUID " /a ext4 rw,noatime 0 2" },
		{ "nofail first",   "UUID=" UUID " /a ext4 ro",     "/dev/mapper/data /a ext4 nofail,rw",             "UUID=" UUID " /a ext4 rw" },
		{ "nofail alone",   "UUID=" UUID " /a ext4 ro",     "/dev/mapper/data /a ext4 nofail",                "UUID=" UUID " /a ext4 defaults" },
		{ "nofail gone",    "UUID=" UUID " /a ext4 ro",     "/dev/mapper/data /a ext4 rw",                    "UUID=" UUID " /a ext4 rw" },
		{ "noauto had been there", "UUID=" UUID " /a ext4 noauto", "/dev/mapper/data /a ext4 noauto,nofail",  "UUID=" UUID " /a ext4 noauto,nofail" },
		{ "blanks",         "UUID=" UUID " /a ext4 ro",     "/dev/mapper/data  /a\text4 ro,nofail",           "UUID=" UUID "  /a\text4 ro" },
		{ "moved elsewhere", "UUID=" UUID " /a ext4 ro",    "/dev/mapper/data /b ext4 ro,nofail",             "UUID=" UUID " /b ext4 ro,nofail" },
		{ "added, by the mapping", "UUID=" UUID " /a ext4 ro", "/dev/mapper/data /a ext4 ro,nofail\n/dev/mapper/data\t/b btrfs subvol=@b 0 0", "UUID=" UUID " /a ext4 ro\nUUID=" UUID "\t/b btrfs subvol=@b 0 0" },
		{ "added, by its link", "UUID=" UUID " /a ext4 ro", "/dev/disk/by-id/dm-name-data / ext4 ro # why",   "UUID=" UUID " / ext4 ro # why" },
		{ "added, by a label", "UUID=" UUID " /a ext4 ro",  "LABEL=My\\040Data /b ext4 ro",                   "LABEL=My\\040Data /b ext4 ro" },
		{ "added, another mapping", "UUID=" UUID " /a ext4 ro", "/dev/mapper/data2 /b ext4 ro",               "/dev/mapper/data2 /b ext4 ro" },
		{ "a note on it",    "UUID=" UUID " /a ext4 ro",    "# /dev/mapper/data /b ext4 ro",                  "# /dev/mapper/data /b ext4 ro" },
		{ "another volume", "UUID=" UUID " /a ext4 ro",     "/dev/mapper/other /a ext4 ro,nofail",            "/dev/mapper/other /a ext4 ro,nofail" },
		{ "line removed",   "UUID=" UUID " /a ext4 ro",     "# nothing\n",                                    "# nothing\n" },
		{ "a second line",  "UUID=" UUID " /a ext4 ro",     "/dev/mapper/data /a ext4 rw\n/dev/mapper/data /a ext4 ro,nofail", "UUID=" UUID " /a ext4 rw\nUUID=" UUID " /a ext4 ro" },
		{ "one that looked like it before", "/dev/mapper/data /a b ro,nofail\nUUID=" UUID " /a b ro", "/dev/mapper/data /a b ro,nofail\n/dev/mapper/data /a b ro,nofail", "UUID=" UUID " /a b ro,nofail\nUUID=" UUID " /a b ro" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 };
		_cleanup_(freep) char *after = NULL, *back = NULL;

		assert_row(rows[i].name,
			   fstab_encrypt_text(rows[i].before, &device, "/dev/mapper/data", &after,
					      &before) == 1);
		assert_row(rows[i].name,
			   fstab_restore_text(rows[i].edited, &device, &before, &back) >= 0);
		if (strcmp(back, rows[i].back) != 0)
			fail_msg("%s: %s", rows[i].name, back);
	}
}

/* The mapping stays: what nothing is known of is left alone. */
static void test_no_uuid(void **state)
{
	static const char text[] =
		"/dev/mapper/data /a ext4 ro,nofail\n/dev/mapper/data /b ext4 ro\n";
	const struct fstab_device mapping = { .mapping = "data" };
	_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 };
	_cleanup_(freep) char *after = NULL, *back = NULL;

	assert_int_equal(fstab_encrypt_text("UUID=" UUID " /a ext4 ro\n", &device,
					    "/dev/mapper/data", &after, &before),
			 1);
	assert_int_equal(fstab_restore_text(text, &mapping, &before, &back), 1);
	assert_string_equal(back, "UUID=" UUID " /a ext4 ro\n/dev/mapper/data /b ext4 ro\n");
}

static void test_entries_are_decoded(void **state)
{
	static const char text[] = "# one\n\nLABEL=My\\040Data /srv/my\\011data\\134 ext4\n";
	_cleanup_(fstab_entries_clear) struct fstab_entries entries = { 0 };
	_cleanup_(freep) char *path = scratch_path(state, "fstab");

	write_file(path, text, 0644);
	assert_int_equal(fstab_find(path, &device, &entries), 0);
	assert_int_equal(entries.n, 1);
	assert_int_equal(entries.entries[0].line, 3);
	assert_string_equal(entries.entries[0].spec, "LABEL=My Data");
	assert_string_equal(entries.entries[0].target, "/srv/my\tdata\\");
	assert_string_equal(entries.entries[0].type, "ext4");
	assert_string_equal(entries.entries[0].options, "defaults");
	assert_string_equal(entries.entries[0].original,
			    "LABEL=My\\040Data /srv/my\\011data\\134 ext4");
}

/* /dev/shm is the one place below /dev where anybody can make a link */
static void test_links_below_dev_are_resolved(void **state)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries entries = { 0 };
	_cleanup_(freep) char *path = scratch_path(state, "fstab"), *link = NULL, *text = NULL;
	const struct fstab_device null = { .path = "/dev/null" };

	assert_true(asprintf(&link, "/dev/shm/vmcrypt-unit-%d", (int)getpid()) > 0);
	assert_true(asprintf(&text, "%s /a ext4 ro\n/dev/zero /b ext4 ro\n", link) > 0);
	write_file(path, text, 0644);
	if (symlink("/dev/null", link) < 0)
		skip();
	assert_int_equal(fstab_find(path, &null, &entries), 0);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(entries.n, 1);
	assert_string_equal(entries.entries[0].target, "/a");
}

static void test_files(void **state)
{
	_cleanup_(fstab_entries_clear) struct fstab_entries entries = { 0 };
	_cleanup_(freep) char *path = scratch_path(state, "fstab"),
			      *link = scratch_path(state, "link");
	_cleanup_(freep) char *large = malloc(FSTAB_MAX_BYTES + 2), *text = NULL;
	struct stat status;

	assert_int_equal(fstab_encrypt(path, &device, "X=1", &entries), 0);
	assert_int_equal(count_entries(*state), 0);
	write_file(path, "\001", 0644);
	assert_int_equal(fstab_encrypt(path, &device, "X=1", &entries), FSTAB_E_MALFORMED);
	assert_int_equal(truncate(path, 3), 0);
	assert_int_equal(fstab_find(path, &device, &entries), FSTAB_E_MALFORMED);
	memset(large, '\n', FSTAB_MAX_BYTES + 1);
	large[FSTAB_MAX_BYTES + 1] = '\0';
	write_file(path, large, 0644);
	assert_int_equal(fstab_find(path, &device, &entries), FSTAB_E_MALFORMED);

	/* a link stays a link, and what it leads to is changed */
	write_file(path, "UUID=" UUID " /a ext4 ro\n", 0600);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(fstab_encrypt(link, &device, NULL, &entries), 0);
	assert_int_equal(lstat(link, &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	text = read_file(path);
	assert_string_equal(text, "UUID=" UUID " /a ext4 ro,nofail\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_distributions, scratch_make, scratch_remove),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_edited_meanwhile),
		cmocka_unit_test(test_no_uuid),
		cmocka_unit_test_setup_teardown(test_entries_are_decoded, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_links_below_dev_are_resolved, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_files, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>

#include "base/process.h"
#include "boot/archive.h"
#include "cpio.h"
#include "test.h"

#define BIG 100000 /* larger than what is shown of a file */

static const struct cpio_file early[] = {
	{ "kernel", NULL, 040755 },
	{ "kernel/microcode.bin", "microcode" },
	{ NULL },
};

static const struct cpio_file main_part[] = {
	{ ".", NULL, 040755 },
	{ "./etc/conf", "A=1\n" },
	{ "./usr/bin/x", "program", 0100755 },
	{ "./bin", "usr/bin", 0120777 },
	{ NULL },
};

/* all names and small contents in one string */
static int note(void *context, const struct archive_entry *entry)
{
	FILE *out = context;

	assert_true(fprintf(out, "%s:%o:%s;", entry->name, entry->mode & 0170000,
			    entry->data ? entry->data : "(large)") > 0);
	return 0;
}

static int walk(const char *path, char **ret)
{
	size_t size;
	FILE *out = open_memstream(ret, &size);
	int r;

	assert_non_null(out);
	r = archive_walk(path, note, out);
	assert_int_equal(fclose(out), 0);
	return r;
}

#define EARLY "kernel:40000:;kernel/microcode.bin:100000:microcode;"
#define MAIN  ".:40000:;./etc/conf:100000:A=1\n;./usr/bin/x:100000:program;./bin:120000:usr/bin;"

static bool is_installed(const char *tool)
{
	int status;

	return process_run((const char *const[]){ tool, "--version", NULL }, 10, &status, NULL) ==
		       0 &&
	       status != 127;
}

/* write @files compressed by @command (NULL: as they are) at the end of an image */
static void append(const char *image, const struct cpio_file *files, const char *command)
{
	_cleanup_(freep) char *plain = NULL, *script = NULL;
	FILE *out;

	assert_true(asprintf(&plain, "%s.plain", image) > 0);
	out = fopen(plain, "we");
	assert_non_null(out);
	cpio_write(out, files);
	assert_int_equal(fclose(out), 0);
	assert_true(asprintf(&script, "%s <%s >>%s && rm %s", command ? command : "cat", plain,
			     image, plain) > 0);
	assert_int_equal(
		process_run((const char *const[]){ "sh", "-c", script, NULL }, 10, NULL, NULL), 0);
}

static void test_images(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *tool, *command;
	} rows[] = {
		{ "plain", NULL,    NULL },
		{ "gzip",  "gzip",  "gzip -c" },
		{ "zstd",  "zstd",  "zstd -qc" },
		{ "xz",    "xz",    "xz -c --check=crc32" },
		{ "lzma",  "xz",    "xz -c --format=lzma" },
		{ "lz4",   "lz4",   "lz4 -qlc" },
		{ "bzip2", "bzip2", "bzip2 -c" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *path = scratch_path(state, rows[i].name), *found = NULL,
				      *with_early = NULL, *half = NULL;
		struct stat status;

		if (rows[i].tool && !is_installed(rows[i].tool))
			continue;
		append(path, main_part, rows[i].command);
		assert_row(rows[i].name, walk(path, &found) == 0);
		assert_row(rows[i].name, strcmp(found, MAIN) == 0);
		assert_int_equal(unlink(path), 0);

		/* two early parts, NUL bytes between, then the compressed one */
		append(path, early, NULL);
		append(path, early, "cat - /dev/zero | head -c 2048");
		append(path, main_part, rows[i].command);
		assert_row(rows[i].name, walk(path, &with_early) == 0);
		assert_row(rows[i].name, strcmp(with_early, EARLY EARLY MAIN) == 0);

		/* the end of it is lost */
		assert_int_equal(stat(path, &status), 0);
		assert_int_equal(truncate(path, status.st_size - 20), 0);
		assert_row(rows[i].name, walk(path, &half) == ARCHIVE_E_DAMAGED);
	}
}

static void test_a_large_file_is_not_shown(void **state)
{
	_cleanup_(freep) char *path = scratch_path(state, "image"), *found = NULL,
			      *data = calloc(1, BIG + 1);
	const struct cpio_file files[] = { { "large", data }, { "small", "s" }, { NULL } };

	assert_non_null(data);
	memset(data, 'x', BIG);
	append(path, files, "gzip -c");
	assert_int_equal(walk(path, &found), 0);
	assert_string_equal(found, "large:100000:(large);small:100000:s;");
}

static int refuse(void *context, const struct archive_entry *entry)
{
	return -ECANCELED;
}

static void test_a_visitor_ends_the_walk(void **state)
{
	_cleanup_(freep) char *plain = scratch_path(state, "plain"),
			      *packed = scratch_path(state, "packed");

	append(plain, main_part, NULL);
	append(packed, main_part, "gzip -c");
	assert_int_equal(archive_walk(plain, refuse, NULL), -ECANCELED);
	assert_int_equal(archive_walk(packed, refuse, NULL), -ECANCELED);
	assert_int_equal(archive_walk("/nowhere/image", refuse, NULL), -ENOENT);
}

static void test_what_is_no_image(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name, *text;
	} rows[] = {
		{ "empty",               "" },
		{ "text",                "not an image\n" },
		{ "magic alone",         "070701" },
		{ "old cpio",            "070707000000000000000000000000000000000000" },
		{ "gzip of nothing",     "\x1f\x8b" },
		{ "no number",           "070701xxxxxxxx0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000" },
		{ "a name of no bytes",  "07070100000001000081a400000000000000000000000100000000000000000000000000000000000000000000000000000000" "00000000" },
		{ "a name too long",     "07070100000001000081a40000000000000000000000010000000000000000000000000000000000000000000000000ffffff000000000aaaa" },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *path = scratch_path(state, "image"), *found = NULL;

		write_file(path, rows[i].text, 0644);
		assert_row(rows[i].name, walk(path, &found) == ARCHIVE_E_DAMAGED);
	}
}

/* compressed well, and yet nothing that a kernel could unpack */
static void test_what_is_packed_is_no_image(void **state)
{
	static const char *const rows[] = { "echo text", "true", "head -c 600 /dev/zero",
					    "echo 070701" };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *path = scratch_path(state, "image"), *found = NULL,
				      *script = NULL;

		assert_true(asprintf(&script, "%s | gzip -c >%s", rows[i], path) > 0);
		assert_int_equal(process_run((const char *const[]){ "sh", "-c", script, NULL }, 10,
					     NULL, NULL),
				 0);
		assert_row(rows[i], walk(path, &found) == ARCHIVE_E_DAMAGED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_images, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(test_a_large_file_is_not_shown, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_a_visitor_ends_the_walk, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_what_is_no_image, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(test_what_is_packed_is_no_image, scratch_make,
						scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

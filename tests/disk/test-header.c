/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* what a header must refuse, what a cut commit leaves, and what cryptsetup itself makes of it */
#include "base/file.h"
#include "base/log.h"
#include "unit/test.h"
#include "volume.h"
#include "volume/header.h"
#include "volume/reencrypt.h"

#define SECTOR_BYTES 512

static void *read_at(const char *path, uint64_t offset_bytes, size_t size_bytes)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *bytes = malloc(size_bytes);

	assert_non_null(bytes);
	assert_int_equal(pread(fd, bytes, size_bytes, (off_t)offset_bytes), size_bytes);
	return bytes;
}

static void write_at(const char *path, uint64_t offset_bytes, const void *bytes, size_t size_bytes)
{
	_cleanup_(closep) int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, bytes, size_bytes, (off_t)offset_bytes), size_bytes);
}

static void initialised(struct test_volume *volume, bool is_detached)
{
	volume_setup(volume, is_detached);
	assert_int_equal(header_build(&volume->plan), 0);
	assert_int_equal(header_backup(volume->device, volume->file, volume->backup), 0);
	assert_int_equal(header_initialise(&volume->plan), 0);
}

static int convert(const struct test_volume *volume)
{
	const struct reencrypt conversion = {
		.device = volume->device,
		.file = volume->header,
		.passphrase = volume->passphrase,
		.backup = volume->backup,
	};

	return reencrypt_run(&conversion);
}

static void refuses_a_second_initialisation(void **unused)
{
	struct test_volume volume;

	initialised(&volume, false);
	assert_int_equal(header_initialise(&volume.plan), HEADER_E_ALREADY);
	assert_int_equal(header_commit(volume.device, volume.file), 0);
	/* a new file does not help: the device's head says LUKS */
	assert_int_equal(unlink(volume.file), 0);
	assert_int_equal(header_build(&volume.plan), 0);
	assert_int_equal(header_initialise(&volume.plan), HEADER_E_ALREADY);
	assert_int_equal(convert(&volume), 0);
	assert_int_equal(header_initialise(&volume.plan), HEADER_E_ALREADY);
	volume_teardown(&volume);
}

/* In all of our tokens, and in nothing else of the header. */
static void notes_a_larger_device(void **unused)
{
	struct test_volume volume;
	_cleanup_(header_info_freep) struct header_info *before = NULL, *after = NULL;

	initialised(&volume, true);
	assert_int_equal(convert(&volume), 0);
	assert_int_equal(header_read(volume.device, volume.header, &before), 0);
	assert_int_equal(before->token->device_bytes, DEVICE_BYTES);
	assert_int_equal(truncate(volume.device, (off_t)(2 * DEVICE_BYTES)), 0);
	assert_int_equal(header_set_device_bytes(volume.device, volume.header, 2 * DEVICE_BYTES),
			 0);
	assert_int_equal(header_set_device_bytes(volume.device, volume.header, 2 * DEVICE_BYTES),
			 0);
	assert_int_equal(header_read(volume.device, volume.header, &after), 0);
	assert_int_equal(after->n_tokens, before->n_tokens);
	assert_int_equal(after->keyslots, before->keyslots);
	assert_int_equal(after->token->device_bytes, 2 * DEVICE_BYTES);
	assert_string_equal(after->token->device, before->token->device);
	assert_string_equal(after->token->mapping, before->token->mapping);
	assert_int_equal(after->data_bytes, 2 * DEVICE_BYTES);
	assert_int_equal(header_prove(volume.device, volume.file, volume.passphrase), 0);
	/* its token still belongs to its keyslot */
	assert_int_equal(
		run("cryptsetup luksDump %s | grep -A1 ': vmcrypt' | grep -q 'Keyslot: *0'",
		    volume.file),
		0);
	volume_teardown(&volume);
}

static void knows_a_passphrase_from_a_wrong_one(void **unused)
{
	_cleanup_(secret_freep) struct secret *wrong = secret_of("wrong");
	struct test_volume volume;
	struct reencrypt conversion;

	initialised(&volume, false);
	assert_int_equal(header_prove(NULL, volume.file, volume.passphrase), 0);
	assert_int_equal(header_prove(NULL, volume.file, wrong), HEADER_E_PASSPHRASE);
	assert_int_equal(header_commit(volume.device, volume.file), 0);
	assert_int_equal(header_prove(volume.device, NULL, volume.passphrase), 0);
	assert_int_equal(header_prove(volume.device, NULL, wrong), HEADER_E_PASSPHRASE);
	conversion = (struct reencrypt){ .device = volume.device, .passphrase = wrong };
	assert_int_equal(reencrypt_run(&conversion), REENCRYPT_E_PASSPHRASE);
	assert_int_equal(convert(&volume), 0);
	assert_int_equal(header_export(volume.device, volume.backup), 0);
	assert_int_equal(header_initialise_decryption(volume.device, volume.backup, NULL, wrong),
			 HEADER_E_PASSPHRASE);
	volume_teardown(&volume);
}

#define COPIES_BYTES (32 * 1024) /* two header copies of 16 KiB */

/* Any mixture of old, zero and new sectors in the order of the commit's writes. */
static void finishes_a_torn_commit(void **unused)
{
	struct test_volume volume;
	_cleanup_(freep) void *old = NULL, *new = NULL;
	static const uint8_t zeros[128 * 1024];

	initialised(&volume, false);
	old = read_at(volume.device, 0, HEADER_SHIFT_BYTES);
	new = read_at(volume.file, 0, HEADER_SHIFT_BYTES);
	for (unsigned phase = 0; phase < 3; phase++) {
		_cleanup_(header_info_freep) struct header_info *info = NULL;

		write_at(volume.device, 0, old, HEADER_SHIFT_BYTES);
		if (phase >= 1)
			write_at(volume.device, 0, zeros, sizeof(zeros));
		/* the keyslots are whole and flushed before the first byte of the copies */
		if (phase == 2)
			write_at(volume.device, COPIES_BYTES, (const uint8_t *)new + COPIES_BYTES,
				 HEADER_SHIFT_BYTES - COPIES_BYTES);
		for (unsigned i = 0; i < 200; i++) {
			uint64_t from = phase == 1 ? COPIES_BYTES : 0;
			uint64_t to = phase == 0   ? sizeof(zeros)
				      : phase == 1 ? HEADER_SHIFT_BYTES
						   : COPIES_BYTES;
			uint64_t at =
				from + random_below((to - from) / SECTOR_BYTES) * SECTOR_BYTES;

			write_at(volume.device, at, phase == 0 ? zeros : (const uint8_t *)new + at,
				 SECTOR_BYTES);
		}
		assert_int_equal(header_commit(volume.device, volume.file), 0);
		assert_int_equal(header_commit(volume.device, volume.file), 0);
		assert_int_equal(header_read(volume.device, NULL, &info), 0);
		assert_int_equal(header_prove(volume.device, NULL, volume.passphrase), 0);
	}
	assert_int_equal(convert(&volume), 0);
	/* this file is of the past now */
	assert_int_equal(header_commit(volume.device, volume.file), HEADER_E_ALREADY);
	volume_teardown(&volume);
}

static void refuses_what_was_written_since(void **unused)
{
	_cleanup_(freep) void *before = NULL, *after = NULL;
	struct test_volume volume;

	initialised(&volume, false);
	assert_int_equal(run("debugfs -w -R 'set_super_value mnt_count 7' %s", volume.device), 0);
	before = read_at(volume.device, 0, HEADER_SHIFT_BYTES);
	assert_int_equal(header_commit(volume.device, volume.file), HEADER_E_STALE);
	after = read_at(volume.device, 0, HEADER_SHIFT_BYTES);
	assert_memory_equal(before, after, HEADER_SHIFT_BYTES);
	volume_teardown(&volume);
}

static void leaves_the_data_alone_until_the_commit(void **unused)
{
	struct test_volume volume;

	initialised(&volume, false);
	assert_true(volume_is_as_before(&volume));
	volume_teardown(&volume);
	initialised(&volume, true);
	assert_true(volume_is_as_before(&volume));
	volume_teardown(&volume);
}

static void stands_for_a_new_filesystem(void **unused)
{
	_cleanup_(header_info_freep) struct header_info *info = NULL;
	struct test_volume volume;

	volume_setup(&volume, false);
	volume.plan.is_format = true;
	volume.plan.has_discards = true;
	assert_int_equal(header_build(&volume.plan), 0);
	assert_int_equal(header_build(&volume.plan), -EEXIST);
	assert_int_equal(header_commit(volume.device, volume.file), 0);
	assert_int_equal(header_read(volume.device, NULL, &info), 0);
	assert_int_equal(info->conversion, HEADER_CONVERSION_NONE);
	assert_int_equal(info->encrypted_bytes, DEVICE_BYTES - HEADER_SHIFT_BYTES);
	assert_int_equal(info->n_tokens, 1);
	assert_int_equal(run("cryptsetup luksDump %s | grep -q allow-discards", volume.device), 0);
	volume_teardown(&volume);
}

static void cryptsetup_gets_in(void **unused)
{
	_cleanup_(header_info_freep) struct header_info *info = NULL;
	struct test_volume volume;

	volume_setup(&volume, false);
	volume.recovery = secret_of(RECOVERY);
	volume.plan.recovery = volume.recovery;
	assert_int_equal(header_build(&volume.plan), 0);
	assert_int_equal(header_backup(volume.device, volume.file, volume.backup), 0);
	assert_int_equal(header_initialise(&volume.plan), 0);
	assert_int_equal(header_commit(volume.device, volume.file), 0);
	/* half converted or whole, with either, and without naming the keyslot */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(run("printf %%s %s | cryptsetup open --test-passphrase %s -",
				     RECOVERY, volume.device),
				 0);
		assert_int_equal(run("printf %%s %s | cryptsetup open --test-passphrase %s -",
				     PASSPHRASE, volume.device),
				 0);
		assert_int_not_equal(run("printf wrong | cryptsetup open --test-passphrase %s - "
					 "2>/dev/null",
					 volume.device),
				     0);
		assert_int_equal(convert(&volume), 0);
	}
	assert_int_equal(header_read(volume.device, NULL, &info), 0);
	assert_int_equal(info->keyslots, 2);
	assert_int_equal(
		run("cryptsetup luksDump %s | grep -A1 '^Tokens' | grep -q vmcrypt", volume.device),
		0);
	volume_teardown(&volume);
}

static void says_what_is_there(void **unused)
{
	_cleanup_(header_info_freep) struct header_info *info = NULL;
	struct test_volume volume;

	volume_setup(&volume, false);
	assert_int_equal(header_read(volume.device, NULL, &info), HEADER_E_NONE);
	assert_int_equal(header_read("/tmp/absent", NULL, &info), -ENOENT);
	assert_int_equal(
		run("printf x | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations "
		    "1000 %s -",
		    volume.device),
		0);
	assert_int_equal(header_read(volume.device, NULL, &info), HEADER_E_FOREIGN);
	assert_int_equal(header_initialise(&volume.plan), HEADER_E_ALREADY);
	assert_int_equal(run("printf x | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 "
			     "--pbkdf-force-iterations 1000 %s -",
			     volume.device),
			 0);
	assert_int_equal(header_read(volume.device, NULL, &info), 0);
	assert_null(info->token);
	assert_int_equal(info->n_tokens, 0);
	assert_int_equal(run("echo '{\"type\":\"vmcrypt\",\"keyslots\":[\"0\"],\"version\":1,"
			     "\"provider\":\"file\",\"path\":\"../x\"}' | "
			     "cryptsetup token import %s",
			     volume.device),
			 0);
	info = header_info_free(info);
	assert_int_equal(header_read(volume.device, NULL, &info), HEADER_E_MALFORMED);
	assert_int_equal(run("dd if=/dev/zero of=%s bs=1 seek=4096 count=64 conv=notrunc && "
			     "dd if=/dev/zero of=%s bs=1 seek=20480 count=64 conv=notrunc",
			     volume.device, volume.device),
			 0);
	assert_int_equal(header_read(volume.device, NULL, &info), HEADER_E_MALFORMED);
	volume_teardown(&volume);
}

static void knows_the_library(void **unused)
{
	static const struct {
		const char *file, *content;
		bool is_fit;
	} rows[] = {
		{ "libcryptsetup.so.12.6.0", "", false },
		{ "libcryptsetup.so.12.7.0", "", true },
		{ "libcryptsetup.so.12.9.0", "", true },
		{ "libcryptsetup.so.12.10.0", "old", false },
		{ "libcryptsetup.so.12.10.0",
		  "Device %s is suspended, assuming direct-io is supported.", true },
		{ "libcryptsetup.so.12.11.0", "", true },
		{ "libcryptsetup.so", "", false },
	};
	char *reason;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *path = NULL;

		assert_int_equal(text_format(&path, "/tmp/vmcrypt-%s", rows[i].file), 0);
		write_file(path, rows[i].content, 0600);
		assert_int_equal(header_library_check_file(path, &reason), 0);
		assert_row(rows[i].file, (reason == NULL) == rows[i].is_fit);
		free(reason);
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(header_library_check(&reason), 0);
	free(reason);
}

static void chooses_sectors_that_the_filesystem_can_live_on(void **unused)
{
	static const struct {
		unsigned filesystem, logical, physical;
		uint64_t device;
		unsigned expected;
	} rows[] = {
		{ 4096, 512, 4096, 1 << 20, 4096 },        { 4096, 512, 512, 1 << 20, 512 },
		{ 1024, 512, 4096, 1 << 20, 512 },         { 512, 512, 4096, 1 << 20, 512 },
		{ 4096, 512, 4096, (1 << 20) + 512, 512 }, { 0, 512, 4096, 1 << 20, 512 },
		{ 4096, 4096, 4096, 1 << 20, 4096 },       { 65536, 512, 4096, 1 << 20, 4096 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(header_sector_bytes(rows[i].filesystem, rows[i].logical,
						     rows[i].physical, rows[i].device),
				 rows[i].expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_a_second_initialisation),
		cmocka_unit_test(knows_a_passphrase_from_a_wrong_one),
		cmocka_unit_test(notes_a_larger_device),
		cmocka_unit_test(finishes_a_torn_commit),
		cmocka_unit_test(refuses_what_was_written_since),
		cmocka_unit_test(leaves_the_data_alone_until_the_commit),
		cmocka_unit_test(stands_for_a_new_filesystem),
		cmocka_unit_test(cryptsetup_gets_in),
		cmocka_unit_test(says_what_is_there),
		cmocka_unit_test(knows_the_library),
		cmocka_unit_test(chooses_sectors_that_the_filesystem_can_live_on),
	};

	if (access("/run", W_OK) < 0)
		return 77;
	(void)seed_get();
	log_set_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

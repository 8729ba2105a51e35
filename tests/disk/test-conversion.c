/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* builds, initialises, commits, converts and converts back, in plain files; kills in between */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "unit/test.h"
#include "volume.h"
#include "volume/header.h"
#include "volume/mapping.h"
#include "volume/reencrypt.h"

#define KILLS_MIN            30
#define KEYSLOT_OFFSET_BYTES 32768
#define KEYSLOT_BYTES        258048

static struct reencrypt conversion_of(const struct test_volume *volume)
{
	return (struct reencrypt){
		.device = volume->device,
		.file = volume->header,
		.passphrase = volume->passphrase,
		.backup = volume->backup,
		.max_hotzone_bytes = 1024 * 1024,
	};
}

static int convert(const struct test_volume *volume)
{
	const struct reencrypt conversion = conversion_of(volume);

	return reencrypt_run(&conversion);
}

static struct header_info *read_header(const struct test_volume *volume)
{
	struct header_info *info;

	assert_int_equal(header_read(volume->device, volume->header, &info), 0);
	return info;
}

/* Up to the commit; the built file is removed as the worker does, a detached one stays. */
static void prepare(struct test_volume *volume)
{
	assert_int_equal(header_build(&volume->plan), 0);
	assert_int_equal(header_prove(NULL, volume->file, volume->passphrase), 0);
	assert_int_equal(header_backup(volume->device, volume->file, volume->backup), 0);
	assert_int_equal(header_initialise(&volume->plan), 0);
	if (volume->plan.is_detached)
		return;
	assert_int_equal(header_commit(volume->device, volume->file), 0);
	assert_int_equal(unlink(volume->file), 0);
}

/* From then on an attached volume's header is the exported file. */
static void prepare_decryption(struct test_volume *volume)
{
	if (!volume->header) {
		assert_int_equal(header_export(volume->device, volume->file), 0);
		volume->header = volume->file;
	}
	assert_int_equal(header_initialise_decryption(volume->device, volume->header, NULL,
						      volume->passphrase),
			 0);
}

static void there_and_back(bool is_detached, unsigned sector_bytes)
{
	_cleanup_(header_info_freep) struct header_info *before = NULL, *encrypted = NULL;
	_cleanup_(header_info_freep) struct header_info *decrypting = NULL, *plain = NULL;
	struct test_volume volume;

	volume_setup(&volume, is_detached);
	volume.plan.sector_bytes = sector_bytes;
	prepare(&volume);
	before = read_header(&volume);
	assert_int_equal(before->conversion, HEADER_CONVERSION_CLEAN);
	assert_int_equal(before->encrypted_bytes, 0);
	assert_false(before->is_decrypting);
	assert_int_equal(before->sector_bytes, sector_bytes);
	assert_string_equal(before->cipher, "aes-xts-plain64");
	assert_string_equal(before->token->filesystem_uuid, volume.token.filesystem_uuid);

	assert_int_equal(convert(&volume), 0);
	encrypted = read_header(&volume);
	assert_int_equal(encrypted->conversion, HEADER_CONVERSION_NONE);
	assert_int_equal(encrypted->data_bytes,
			 DEVICE_BYTES - (is_detached ? 0 : HEADER_SHIFT_BYTES));
	assert_int_equal(encrypted->encrypted_bytes, encrypted->data_bytes);
	assert_int_not_equal(run("e2fsck -fn %s 2>/dev/null | grep -q clean", volume.device), 0);
	assert_int_equal(convert(&volume), 0);

	prepare_decryption(&volume);
	decrypting = read_header(&volume);
	assert_true(decrypting->is_decrypting);
	assert_int_equal(decrypting->encrypted_bytes, decrypting->data_bytes);
	assert_int_equal(convert(&volume), 0);
	plain = read_header(&volume);
	assert_int_equal(plain->conversion, HEADER_CONVERSION_NONE);
	assert_int_equal(plain->encrypted_bytes, 0);
	assert_true(volume_is_as_before(&volume));
	volume_teardown(&volume);
}

static void attached_there_and_back(void **unused)
{
	there_and_back(false, 512);
	there_and_back(false, 4096);
}

static void detached_there_and_back(void **unused)
{
	there_and_back(true, 512);
	there_and_back(true, 4096);
}

struct stop {
	unsigned after, calls;
	uint64_t size_bytes;
};

static bool stop_after(uint64_t size_bytes, uint64_t offset_bytes, void *user)
{
	struct stop *stop = user;

	stop->size_bytes = size_bytes;
	return stop->calls++ < stop->after;
}

static void stops_between_steps_and_tells_how_far(void **unused)
{
	_cleanup_(header_info_freep) struct header_info *info = NULL;
	struct stop stop = { .after = 2 };
	struct reencrypt conversion;
	struct test_volume volume;

	volume_setup(&volume, false);
	prepare(&volume);
	conversion = conversion_of(&volume);
	conversion.progress = stop_after;
	conversion.user = &stop;
	assert_int_equal(reencrypt_run(&conversion), REENCRYPT_E_STOPPED);
	info = read_header(&volume);
	assert_int_equal(info->conversion, HEADER_CONVERSION_CLEAN);
	/* called before the first step and after each: two steps of a shift each */
	assert_int_equal(info->encrypted_bytes, 2 * HEADER_SHIFT_BYTES);
	assert_int_equal(info->data_bytes, FILESYSTEM_BYTES);
	assert_int_equal(convert(&volume), 0);
	volume_teardown(&volume);
}

/* Run a child and kill it after a random time. Return: its result, or -EINTR when it was killed. */
static int convert_and_kill(const struct test_volume *volume, uint64_t longest_us)
{
	uint64_t delay_us = random_below(longest_us);
	int status, result;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct reencrypt conversion = conversion_of(volume);

		/* secrets do not outlive a fork */
		conversion.passphrase = secret_of(PASSPHRASE);
		result = reencrypt_run(&conversion);
		if (result != 0)
			fprintf(stderr, "after %" PRIu64 " us at most: conversion: %d\n", delay_us,
				result);
		_exit(result == 0 ? 0 : 1);
	}
	(void)usleep((useconds_t)delay_us);
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return -EINTR;
	assert_int_equal(WEXITSTATUS(status), 0);
	return 0;
}

/* Dies in the middle of the last step, sooner or later. */
static bool die_in_the_last_step(uint64_t size_bytes, uint64_t offset_bytes, void *user)
{
	struct itimerval timer = { .it_value.tv_usec = 1000 + (suseconds_t)random_below(60000) };

	/* the library tells of a step only after the next one */
	if (size_bytes - offset_bytes <= 2 * HEADER_SHIFT_BYTES)
		(void)setitimer(ITIMER_REAL, &timer, NULL);
	return true;
}

/* Return: was the volume left in its last step? */
static bool crash_in_the_last_step(const struct test_volume *volume)
{
	_cleanup_(header_info_freep) struct header_info *info = NULL;
	uint64_t left_bytes;
	int status;
	pid_t pid;

	(void)fflush(NULL);
	(void)random_below(2); /* another delay for each child */
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct reencrypt conversion = conversion_of(volume);

		conversion.passphrase = secret_of(PASSPHRASE);
		conversion.progress = die_in_the_last_step;
		_exit(reencrypt_run(&conversion) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	info = read_header(volume);
	left_bytes = info->is_decrypting ? info->encrypted_bytes
					 : info->data_bytes - info->encrypted_bytes;
	return info->conversion == HEADER_CONVERSION_CRASHED && left_bytes == HEADER_SHIFT_BYTES;
}

static void read_head(const char *path, void *head)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, head, HEADER_SHIFT_BYTES, 0), HEADER_SHIFT_BYTES);
}

static void write_head(const char *path, const void *head)
{
	_cleanup_(closep) int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, head, HEADER_SHIFT_BYTES, 0), HEADER_SHIFT_BYTES);
}

/* The recovery of the last step wipes the parked copy before its header says so: cut in between,
 * the copy may not be used again. */
static void survives_a_cut_recovery_of_the_last_step(void **unused)
{
	_cleanup_(freep) void *head = malloc(HEADER_SHIFT_BYTES);
	struct test_volume volume;
	struct reencrypt conversion;

	assert_non_null(head);
	for (unsigned i = 0;; i++) {
		assert_true(i < 100);
		volume_setup(&volume, false);
		prepare(&volume);
		if (crash_in_the_last_step(&volume))
			break;
		volume_teardown(&volume);
	}
	read_head(volume.device, head);
	assert_int_equal(convert(&volume), 0);
	write_head(volume.device, head);
	conversion = conversion_of(&volume);
	conversion.backup = NULL;
	assert_int_equal(reencrypt_run(&conversion), REENCRYPT_E_BACKUP);
	assert_int_equal(mapping_open(volume.device, NULL, volume.token.mapping, volume.passphrase),
			 HEADER_E_TORN);
	assert_int_equal(convert(&volume), 0);
	prepare_decryption(&volume);
	assert_int_equal(convert(&volume), 0);
	assert_true(volume_is_as_before(&volume));
	volume_teardown(&volume);
}

/* As LUKS2_keyslot_wipe() does, before it writes the header: offset and size are those of all our
 * headers. */
static void destroy_first_keyslot(const char *file)
{
	_cleanup_(freep) char *noise = malloc(KEYSLOT_BYTES);
	_cleanup_(closep) int fd = open(file, O_WRONLY | O_CLOEXEC);

	assert_non_null(noise);
	memset(noise, 0xa5, KEYSLOT_BYTES);
	assert_int_equal(pwrite(fd, noise, KEYSLOT_BYTES, KEYSLOT_OFFSET_BYTES), KEYSLOT_BYTES);
}

/* The recovery of a decryption's last step destroys the keyslots before its header says so: cut in
 * between, no passphrase opens it; but for their copy. */
static void survives_keyslots_destroyed_too_early(void **unused)
{
	_cleanup_(freep) char *copy = NULL, *aside = NULL;
	struct test_volume volume;

	for (unsigned i = 0;; i++) {
		assert_true(i < 100);
		volume_setup(&volume, false);
		prepare(&volume);
		assert_int_equal(convert(&volume), 0);
		prepare_decryption(&volume);
		if (crash_in_the_last_step(&volume))
			break;
		volume_teardown(&volume);
	}
	assert_int_equal(text_format(&copy, "%s.keyslots", volume.header), 0);
	assert_int_equal(text_format(&aside, "%s.aside", copy), 0);
	assert_int_equal(header_prove(NULL, volume.header, volume.passphrase), 0);
	destroy_first_keyslot(volume.header);
	assert_int_equal(header_prove(NULL, volume.header, volume.passphrase), HEADER_E_PASSPHRASE);
	assert_int_equal(rename(copy, aside), 0);
	assert_int_equal(convert(&volume), REENCRYPT_E_PASSPHRASE);
	assert_int_equal(rename(aside, copy), 0);
	assert_int_equal(convert(&volume), 0);
	assert_true(volume_is_as_before(&volume));
	volume_teardown(&volume);
}

/* Until done, then whole again; the pair as often as it takes for enough kills. */
static void survives_kills(bool is_detached)
{
	unsigned kills = 0, crashes = 0, ends = 0, rounds = 0;
	struct test_volume volume;

	while (kills < KILLS_MIN) {
		volume_setup(&volume, is_detached);
		prepare(&volume);
		for (unsigned way = 0; way < 2; way++) {
			/* lives grow longer, so that it ends on a slow machine too */
			while (convert_and_kill(&volume, (250 + 20 * (uint64_t)kills) * 1000) ==
			       -EINTR) {
				_cleanup_(header_info_freep) struct header_info *info = NULL;

				kills++;
				info = read_header(&volume);
				assert_int_not_equal(info->conversion, HEADER_CONVERSION_INVALID);
				ends += way == 0 && info->conversion == HEADER_CONVERSION_CLEAN &&
					info->encrypted_bytes == info->data_bytes;
				crashes += info->conversion == HEADER_CONVERSION_CRASHED;
			}
			if (way == 0)
				prepare_decryption(&volume);
		}
		assert_true(volume_is_as_before(&volume));
		volume_teardown(&volume);
		rounds++;
	}
	printf("# %u kills, %u in the middle of a step, %u before the end mark, %u rounds\n", kills,
	       crashes, ends, rounds);
}

static void attached_survives_kills(void **unused)
{
	survives_kills(false);
}

static void detached_survives_kills(void **unused)
{
	survives_kills(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attached_there_and_back),
		cmocka_unit_test(detached_there_and_back),
		cmocka_unit_test(stops_between_steps_and_tells_how_far),
		cmocka_unit_test(survives_a_cut_recovery_of_the_last_step),
		cmocka_unit_test(survives_keyslots_destroyed_too_early),
		cmocka_unit_test(attached_survives_kills),
		cmocka_unit_test(detached_survives_kills),
	};

	if (access("/run", W_OK) < 0)
		return 77;
	(void)seed_get();
	log_set_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

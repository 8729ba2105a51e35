/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/process.h"

#define FILES 40

static uint64_t state;

/** seed_get() - VMCRYPT_SEED, or a new one; printed once so that a run can be repeated */
uint64_t seed_get(void)
{
	static uint64_t seed;
	const char *given = getenv("VMCRYPT_SEED");

	if (seed != 0)
		return seed;
	if (!given || number_parse_u64(given, 1, INT64_MAX, &seed) < 0) {
		assert(getrandom(&seed, sizeof(seed), 0) == sizeof(seed));
		seed = (seed & UINT32_MAX) | 1;
	}
	printf("# VMCRYPT_SEED=%" PRIu64 "\n", seed);
	state = seed;
	return seed;
}

/* splitmix64 */
static uint64_t random_next(void)
{
	uint64_t z;

	(void)seed_get();
	state += 0x9e3779b97f4a7c15ULL;
	z = state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

uint64_t random_below(uint64_t bound)
{
	return random_next() % bound;
}

struct secret *secret_of(const char *text)
{
	struct secret *secret;

	assert(secret_new(strlen(text), &secret) == 0);
	assert(secret_append(secret, text, strlen(text)) == 0);
	return secret;
}

/* A shell line; its output only when it fails. Return: exit status. */
int run(const char *format, ...)
{
	_cleanup_(freep) char *line = NULL, *output = NULL;
	const char *argv[] = { "sh", "-c", NULL, NULL };
	va_list arguments;
	int status;

	va_start(arguments, format);
	assert(vasprintf(&line, format, arguments) > 0);
	va_end(arguments);
	argv[2] = line;
	assert(process_run(argv, 0, &status, &output) == 0);
	if (status != 0)
		printf("# %s: status %d\n# %s\n", line, status, output);
	return status;
}

static void write_random(const char *path, size_t size_bytes)
{
	_cleanup_(fclosep) FILE *file = fopen(path, "we");

	assert(file);
	for (size_t i = 0; i < size_bytes; i += sizeof(uint64_t)) {
		uint64_t word = random_next();

		assert(fwrite(&word, sizeof(word), 1, file) == 1);
	}
}

static void make_filesystem(struct test_volume *volume)
{
	char path[160];

	assert(run("mkdir %s/tree", volume->directory) == 0);
	for (unsigned i = 0; i < FILES; i++) {
		(void)snprintf(path, sizeof(path), "%s/tree/%u", volume->directory, i);
		write_random(path, (size_t)random_below(2 * 1024 * 1024));
	}
	assert(run("truncate -s %llu %s && mke2fs -q -t ext4 -b 4096 -U %s -d %s/tree %s %lluk",
		   DEVICE_BYTES, volume->device, volume->token.filesystem_uuid, volume->directory,
		   volume->device, FILESYSTEM_BYTES / 1024) == 0);
	assert(run("head -c %llu %s >%s && rm -r %s/tree", FILESYSTEM_BYTES, volume->device,
		   volume->original, volume->directory) == 0);
}

/** volume_setup() - an ext4 of random files in a file, and the plan of its header; nothing built
 * yet */
void volume_setup(struct test_volume *volume, bool is_detached)
{
	uint32_t word[3];

	*volume = (struct test_volume){ .directory = "/tmp/vmcrypt-disk-XXXXXX" };
	assert(mkdtemp(volume->directory));
	assert(text_format(&volume->device, "%s/device", volume->directory) == 0);
	assert(text_format(&volume->file, "%s/header", volume->directory) == 0);
	assert(text_format(&volume->backup, "%s/backup", volume->directory) == 0);
	assert(text_format(&volume->original, "%s/original", volume->directory) == 0);
	volume->header = is_detached ? volume->file : NULL;
	volume->reference = json_object_new_object();
	assert(volume->reference);
	assert(json_set_string(volume->reference, "provider", "file") == 0);
	assert(json_set_string(volume->reference, "path", "/etc/vmcrypt/keys/test") == 0);
	volume->token = (struct header_token){
		.reference = volume->reference,
		.filesystem_uuid = "0f4c3a6e-7c1e-4d0a-9a57-5a4be0a0c001",
		.mapping = "vmcrypt-0f4c3a6e-7c1e-4d0a-9a57-5a4be0a0c001",
		.device = is_detached ? "/dev/disk/by-id/test" : NULL,
		.device_bytes = is_detached ? DEVICE_BYTES : 0,
	};
	/* the library locks a conversion by it: two tests at once must differ, whatever their seeds
	 */
	assert(getrandom(word, sizeof(word), 0) == sizeof(word));
	(void)snprintf(volume->uuid, sizeof(volume->uuid), "%08x-8d77-4b2a-8a2f-%04x%08x", word[0],
		       word[1] & 0xffff, word[2]);
	volume->passphrase = secret_of(PASSPHRASE);
	volume->plan = (struct header_plan){
		.device = volume->device,
		.file = volume->file,
		.uuid = volume->uuid,
		.is_detached = is_detached,
		.sector_bytes = 512,
		.token = &volume->token,
		.passphrase = volume->passphrase,
	};
	make_filesystem(volume);
}

void volume_teardown(struct test_volume *volume)
{
	(void)run("rm -rf %s", volume->directory);
	free(volume->device);
	free(volume->file);
	free(volume->backup);
	free(volume->original);
	json_object_put(volume->reference);
	secret_free(volume->passphrase);
	secret_free(volume->recovery);
}

bool volume_is_as_before(const struct test_volume *volume)
{
	return run("cmp -n %llu %s %s", FILESYSTEM_BYTES, volume->device, volume->original) == 0 &&
	       run("e2fsck -fn %s", volume->device) == 0;
}

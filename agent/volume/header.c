/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/header.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/luks.h"
#include "volume/segments.h"

#define SECTOR_BYTES       512 /* libcryptsetup's unit */
#define VOLUME_KEY_BYTES   64  /* two AES-256 keys: XTS */
#define HOTZONE_SECTORS    (8ULL * 1024 * 1024 / SECTOR_BYTES)
#define KEYSLOT_PASSPHRASE 0
#define KEYSLOT_RECOVERY   1

/* Argon2id for the recovery keyslot: RFC 9106's second recommended choice, for little memory. The
 * key has 256 bits of its own, so that this only slows down who has read part of it; and it must
 * open in the initramfs of the smallest machine (512 MiB), where the library's default of up to 1
 * GiB cannot. Not benchmarked: a large machine would choose what a small one cannot pay after a
 * resize. */
#define RECOVERY_PASSES     4
#define RECOVERY_MEMORY_KIB (64 * 1024)
#define RECOVERY_THREADS    4

struct header_info *header_info_free(struct header_info *info)
{
	if (!info)
		return NULL;
	for (size_t i = 0; i < info->n_tokens; i++)
		header_token_free(info->tokens[i]);
	free(info->tokens);
	free(info->uuid);
	free(info->cipher);
	free(info);
	return NULL;
}

void header_info_freep(struct header_info **info)
{
	header_info_free(*info);
}

/* Highest priority among the keyslots that a token opens; below CRYPT_SLOT_PRIORITY_IGNORE = none.
 */
static int token_priority(struct crypt_device *cd, int token)
{
	int highest = CRYPT_SLOT_PRIORITY_INVALID;

	for (int keyslot = 0; keyslot < crypt_keyslot_max(CRYPT_LUKS2); keyslot++) {
		int priority;

		if (crypt_token_is_assigned(cd, token, keyslot) != 0)
			continue;
		priority = crypt_keyslot_get_priority(cd, keyslot);
		if (priority > highest)
			highest = priority;
	}
	return highest;
}

static int parse_token(struct crypt_device *cd, int id, struct header_token **ret)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	const char *text;
	size_t length;

	if (crypt_token_json_get(cd, id, &text) < 0)
		return HEADER_E_MALFORMED;
	length = strlen(text);
	if (length > HEADER_TOKEN_MAX_BYTES || json_parse(text, length, &object) < 0)
		return HEADER_E_MALFORMED;
	return header_token_from_json(object, ret);
}

/* All tokens of ours, highest keyslot priority first, then by id. */
static int read_tokens(struct crypt_device *cd, struct header_info *info)
{
	int max = crypt_token_max(CRYPT_LUKS2), r;
	bool is_malformed = false;

	if (max <= 0)
		return -EINVAL;
	info->tokens = calloc((size_t)max, sizeof(*info->tokens));
	if (!info->tokens)
		return -ENOMEM;
	for (int priority = CRYPT_SLOT_PRIORITY_PREFER; priority >= CRYPT_SLOT_PRIORITY_INVALID;
	     priority--) {
		for (int id = 0; id < max; id++) {
			crypt_token_info state;
			const char *type;

			state = crypt_token_status(cd, id, &type);
			if (state == CRYPT_TOKEN_INACTIVE || state == CRYPT_TOKEN_INVALID ||
			    strcmp(type, HEADER_TOKEN_TYPE) != 0 ||
			    token_priority(cd, id) != priority)
				continue;
			r = parse_token(cd, id, &info->tokens[info->n_tokens]);
			if (r < 0)
				return r;
			if (r == 0)
				info->n_tokens++;
			else
				is_malformed = true;
		}
	}
	if (info->n_tokens == 0)
		return is_malformed ? HEADER_E_MALFORMED : 0;
	info->token = info->tokens[0];
	return 0;
}

/**
 * header_filesystem_uuid() - of the data beneath, from an open header's first token
 * @ret: owned by the caller
 *
 * Return: 0, HEADER_E_FOREIGN when there is no token of ours, HEADER_E_MALFORMED, or -errno.
 */
int header_filesystem_uuid(struct crypt_device *cd, char **ret)
{
	_cleanup_(header_info_freep) struct header_info *info = calloc(1, sizeof(*info));
	int r;

	if (!info)
		return -ENOMEM;
	r = read_tokens(cd, info);
	if (r != 0)
		return r;
	if (!info->token)
		return HEADER_E_FOREIGN;
	*ret = steal(info->token->filesystem_uuid);
	return 0;
}

static enum header_conversion conversion_of(struct crypt_device *cd,
					    const struct segments *segments)
{
	crypt_reencrypt_info state = crypt_reencrypt_status(cd, NULL);

	if (luks_is_plain(segments, state))
		return HEADER_CONVERSION_NONE;
	switch (state) {
	case CRYPT_REENCRYPT_NONE:
		return HEADER_CONVERSION_NONE;
	case CRYPT_REENCRYPT_CLEAN:
		return HEADER_CONVERSION_CLEAN;
	case CRYPT_REENCRYPT_CRASH:
		return HEADER_CONVERSION_CRASHED;
	case CRYPT_REENCRYPT_INVALID:
		break;
	}
	return HEADER_CONVERSION_INVALID;
}

/**
 * header_read() - what a volume's header says
 * @device: backing device
 * @file:   detached header, or NULL
 * @ret:    owned by the caller
 *
 * Needs no passphrase; works while the volume is in use and while it is converted.
 *
 * Return: 0 (also for a LUKS2 header without a token of ours: ret->token is NULL), HEADER_E_NONE,
 * HEADER_E_FOREIGN (LUKS1), HEADER_E_MALFORMED, or -errno.
 */
int header_read(const char *device, const char *file, struct header_info **ret)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	_cleanup_(header_info_freep) struct header_info *info = NULL;
	_cleanup_(json_putp) struct json_object *json = NULL;
	struct segments segments;
	uint64_t device_bytes;
	int r;

	r = luks_open(device, file, &cd);
	if (r != 0)
		return r;
	r = header_device_bytes(device, &device_bytes);
	if (r < 0)
		return r;
	r = luks_json(cd, &json);
	if (r < 0)
		return r == -EBADMSG ? HEADER_E_MALFORMED : r;
	if (segments_from_json(json, device_bytes, &segments) < 0)
		return HEADER_E_MALFORMED;

	info = calloc(1, sizeof(*info));
	if (!info)
		return -ENOMEM;
	r = read_tokens(cd, info);
	if (r != 0)
		return r;
	info->uuid = strdup(crypt_get_uuid(cd));
	info->cipher = segments.cipher ? strdup(segments.cipher) : NULL;
	if (!info->uuid || (segments.cipher && !info->cipher))
		return -ENOMEM;
	info->conversion = conversion_of(cd, &segments);
	info->is_decrypting = segments.is_decrypting;
	info->is_detached = file != NULL;
	info->data_bytes = segments.data_bytes;
	info->encrypted_bytes = segments.encrypted_bytes;
	info->sector_bytes = segments.sector_bytes;
	info->keyslots = segments.keyslots;
	*ret = steal(info);
	return 0;
}

static int add_passphrase(struct crypt_device *cd, int keyslot, const struct secret *passphrase)
{
	int r;

	r = crypt_keyslot_add_by_volume_key(cd, keyslot, NULL, 0,
					    (const char *)secret_bytes_const(passphrase),
					    secret_size(passphrase));
	return r < 0 ? r : 0;
}

static int add_keyslots(struct crypt_device *cd, const struct header_plan *plan)
{
	const struct crypt_pbkdf_type argon = {
		.type = CRYPT_KDF_ARGON2ID,
		.hash = "sha256",
		.iterations = RECOVERY_PASSES,
		.max_memory_kb = RECOVERY_MEMORY_KIB,
		.parallel_threads = RECOVERY_THREADS,
		.flags = CRYPT_PBKDF_NO_BENCHMARK,
	};
	const struct crypt_pbkdf_type *usual = crypt_get_pbkdf_default(CRYPT_LUKS2);
	bool has_argon = usual && strcmp(usual->type, CRYPT_KDF_PBKDF2) != 0;
	int r;

	r = add_passphrase(cd, KEYSLOT_PASSPHRASE, plan->passphrase);
	if (r < 0)
		return r;
	/* tried before any other, so that a boot never pays for the recovery keyslot's Argon2id */
	r = crypt_keyslot_set_priority(cd, KEYSLOT_PASSPHRASE, CRYPT_SLOT_PRIORITY_PREFER);
	if (r < 0)
		return r;
	if (!plan->recovery)
		return 0;
	/* a library in FIPS mode has no Argon2: then what it takes itself */
	r = crypt_set_pbkdf_type(cd, has_argon ? &argon : NULL);
	if (r < 0)
		return r;
	return add_passphrase(cd, KEYSLOT_RECOVERY, plan->recovery);
}

static int add_token(struct crypt_device *cd, const struct header_token *token)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	const char *text;
	int id, r;

	r = header_token_to_json(token, &object);
	if (r < 0)
		return r;
	text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
							      JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text)
		return -ENOMEM;
	if (strlen(text) > HEADER_TOKEN_MAX_BYTES)
		return -E2BIG;
	id = crypt_token_json_set(cd, CRYPT_ANY_TOKEN, text);
	if (id < 0)
		return id;
	r = crypt_token_assign_keyslot(cd, id, KEYSLOT_PASSPHRASE);
	return r < 0 ? r : 0;
}

static int format(const struct header_plan *plan)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	struct crypt_params_luks2 params = {
		.data_device = plan->device,
		.sector_size = plan->sector_bytes,
	};
	int r;

	r = luks_init(NULL, plan->file, &cd);
	if (r < 0)
		return r;
	r = crypt_set_data_offset(cd, plan->is_detached ? 0 : HEADER_SHIFT_BYTES / SECTOR_BYTES);
	if (r == 0)
		r = luks_set_minimal_pbkdf(cd);
	if (r < 0)
		return r;
	r = crypt_format(cd, CRYPT_LUKS2, "aes", "xts-plain64", plan->uuid, NULL, VOLUME_KEY_BYTES,
			 &params);
	if (r < 0)
		return r;
	r = add_keyslots(cd, plan);
	if (r < 0)
		return r;
	if (plan->has_discards) {
		r = crypt_persistent_flags_set(cd, CRYPT_FLAGS_ACTIVATION,
					       CRYPT_ACTIVATE_ALLOW_DISCARDS);
		if (r < 0)
			return r;
	}
	return add_token(cd, plan->token);
}

static int create_file(const char *path)
{
	_cleanup_(closep) int fd = -EBADF;
	int r;

	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	/* all of it now, so that a full filesystem is met here and not in the middle */
	r = posix_fallocate(fd, 0, (off_t)HEADER_SHIFT_BYTES);
	if (r == 0 && fsync(fd) < 0)
		r = errno;
	if (r != 0)
		(void)unlink(path);
	return -r;
}

static int sync_file(const char *path)
{
	int r;

	r = file_sync_path(path);
	return r < 0 ? r : file_sync_parent(path);
}

/**
 * header_build() - a whole header in a file: volume key, keyslots, priorities, token, flags
 * @plan: ->file must not exist, and must lie on another device than ->device; ->passphrase and
 * ->token are required
 *
 * Nothing on the backing device is read or written. All that can ever be added to this header until
 * the conversion ends is added here: the library refuses it while data moves. On failure the file
 * is gone.
 *
 * Cost: about 0.1 s, with a recovery key 0.3 s and 64 MiB.
 *
 * Return: 0, -EEXIST, -ENOSPC, or -errno. Source: peers of this code and libcryptsetup.h,
 * crypt_format().
 */
int header_build(const struct header_plan *plan)
{
	int r;

	if (!plan->passphrase || !plan->token ||
	    (plan->sector_bytes != 512 && plan->sector_bytes != 4096))
		return -EINVAL;
	r = create_file(plan->file);
	if (r < 0)
		return r;
	r = format(plan);
	if (r == 0)
		r = sync_file(plan->file);
	if (r < 0)
		(void)unlink(plan->file);
	return r;
}

static int refuse_luks(const char *device)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	bool is_signed;
	int r;

	r = luks_open(device, NULL, &cd);
	if (r < 0)
		return r;
	if (r != HEADER_E_NONE)
		return HEADER_E_ALREADY;
	r = luks_is_signed(device, &is_signed);
	if (r < 0)
		return r;
	return is_signed ? HEADER_E_ALREADY : 0;
}

static int refuse_busy(const char *device)
{
	_cleanup_(closep) int fd = -EBADF;

	return luks_open_exclusive(device, &fd);
}

static int initialise(struct crypt_device *cd, const struct header_plan *plan)
{
	const struct crypt_params_luks2 luks2 = { .sector_size = plan->sector_bytes };
	const struct crypt_params_reencrypt attached = {
		.mode = CRYPT_REENCRYPT_ENCRYPT,
		.direction = CRYPT_REENCRYPT_BACKWARD,
		.resilience = "datashift",
		.data_shift = HEADER_SHIFT_BYTES / SECTOR_BYTES,
		.luks2 = &luks2,
		.flags = CRYPT_REENCRYPT_INITIALIZE_ONLY | CRYPT_REENCRYPT_MOVE_FIRST_SEGMENT,
	};
	const struct crypt_params_reencrypt detached = {
		.mode = CRYPT_REENCRYPT_ENCRYPT,
		.direction = CRYPT_REENCRYPT_FORWARD,
		.resilience = "checksum",
		.hash = "sha256",
		.max_hotzone_size = HOTZONE_SECTORS,
		.luks2 = &luks2,
		.flags = CRYPT_REENCRYPT_INITIALIZE_ONLY,
	};
	struct luks_flush flush;
	int r, flushed;

	r = luks_set_minimal_pbkdf(cd);
	if (r == 0)
		r = luks_flush_begin(cd, plan->device, &flush);
	if (r < 0)
		return r;
	r = crypt_reencrypt_init_by_passphrase(
		cd, NULL, (const char *)secret_bytes_const(plan->passphrase),
		secret_size(plan->passphrase), CRYPT_ANY_SLOT, KEYSLOT_PASSPHRASE, "aes",
		"xts-plain64", plan->is_detached ? &detached : &attached);
	flushed = luks_flush_end(&flush);
	if (r == -EPERM)
		return HEADER_E_PASSPHRASE;
	return r < 0 ? r : flushed;
}

/**
 * header_initialise() - make a built header say that its device is about to be encrypted
 * @plan: as given to header_build()
 *
 * Attached: the first 16 MiB of data are copied to the last 16 MiB of the device (the filesystem
 * ends 32 MiB before it does), flushed, and only then does the file say so. The data itself stays
 * as it is, so that until header_commit() the way back is to remove the file. From here to the
 * commit nothing may write to the device; header_commit() finds out. Detached: nothing on the
 * device changes.
 *
 * The library would initialise twice and so destroy the data; what looks like LUKS already is
 * refused here.
 *
 * Cost: about 0.2 s.
 *
 * Return: 0, HEADER_E_ALREADY, HEADER_E_BUSY, HEADER_E_PASSPHRASE, HEADER_E_NONE, HEADER_E_FOREIGN
 * or HEADER_E_MALFORMED (the file), or -errno. Source: libcryptsetup.h,
 * crypt_reencrypt_init_by_passphrase().
 */
int header_initialise(const struct header_plan *plan)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	int r;

	if (plan->is_format || !plan->passphrase)
		return -EINVAL;
	r = refuse_luks(plan->device);
	if (r == 0)
		r = refuse_busy(plan->device);
	if (r == 0)
		r = luks_open(plan->device, plan->file, &cd);
	if (r != 0)
		return r;
	if (crypt_reencrypt_status(cd, NULL) != CRYPT_REENCRYPT_NONE)
		return HEADER_E_ALREADY;
	/* a header that encrypts already would be moved over its own data */
	if (crypt_get_data_offset(cd) !=
	    (plan->is_detached ? 0 : HEADER_SHIFT_BYTES / SECTOR_BYTES))
		return -EINVAL;
	r = initialise(cd, plan);
	if (r != 0)
		return r;
	return sync_file(plan->file);
}

/**
 * header_backup() - copy a header with its keyslots to a file
 * @header_file: detached header, or NULL for the device's head
 * @to:          must not exist; made 0400
 *
 * Return: 0, HEADER_E_NONE, HEADER_E_FOREIGN, HEADER_E_MALFORMED, -EEXIST, or -errno; on failure
 * there is no file.
 */
int header_backup(const char *device, const char *header_file, const char *to)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	int r;

	r = luks_open(device, header_file, &cd);
	if (r != 0)
		return r;
	if (access(to, F_OK) == 0)
		return -EEXIST;
	r = crypt_header_backup(cd, CRYPT_LUKS2, to);
	if (r == 0)
		r = sync_file(to);
	if (r < 0)
		(void)unlink(to);
	return r;
}

/**
 * header_set_device_bytes() - let a detached header's tokens say how large its device is now
 * @file: detached header
 *
 * Return: 0, also when they say so already, HEADER_E_NONE, HEADER_E_FOREIGN, HEADER_E_MALFORMED, or
 * -errno.
 */
int header_set_device_bytes(const char *device, const char *file, uint64_t device_bytes)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	int r, max = crypt_token_max(CRYPT_LUKS2);

	r = luks_open(device, file, &cd);
	for (int id = 0; r == 0 && id < max; id++) {
		_cleanup_(header_token_freep) struct header_token *token = NULL;
		struct json_object *object;

		r = parse_token(cd, id, &token);
		if (r < 0)
			break;
		/* there may be others than ours */
		if (r != 0 || !token->device || token->device_bytes == device_bytes) {
			r = 0;
			continue;
		}
		object = token->reference;
		r = json_set_int(object, "device_bytes", (int64_t)device_bytes);
		if (r == 0)
			r = crypt_token_json_set(
				cd, id,
				json_object_to_json_string_ext(
					object,
					JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		r = r < 0 ? r : 0;
	}
	return r == 0 ? sync_file(file) : r;
}

/**
 * header_prove() - does the passphrase open a keyslot? Nothing is activated or written
 * @device: may be NULL when @file is given
 *
 * Return: 0, HEADER_E_PASSPHRASE, HEADER_E_NONE, HEADER_E_FOREIGN, HEADER_E_MALFORMED, or -errno.
 */
int header_prove(const char *device, const char *file, const struct secret *passphrase)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	int r;

	r = luks_open(device, file, &cd);
	if (r != 0)
		return r;
	r = crypt_activate_by_passphrase(cd, NULL, CRYPT_ANY_SLOT,
					 (const char *)secret_bytes_const(passphrase),
					 secret_size(passphrase), 0);
	if (r == -EPERM || r == -ENOENT)
		return HEADER_E_PASSPHRASE;
	return r < 0 ? r : 0;
}

/**
 * header_sector_bytes() - size of an encryption sector
 * @filesystem_block_bytes: xfs: its sector size; ext: block size; btrfs: sector size; 0 = unknown
 * @physical_block_bytes:   what the device writes as a whole
 *
 * 4096 is faster, and the mapping then has logical blocks of 4096: a filesystem with smaller ones
 * could not be mounted any more, and the library does not check. Resilience by checksums takes a
 * sector's write to be atomic, so it may not be larger than the device's physical block.
 *
 * Return: 512 or 4096.
 */
unsigned header_sector_bytes(unsigned filesystem_block_bytes, unsigned logical_block_bytes,
			     unsigned physical_block_bytes, uint64_t device_bytes)
{
	if (device_bytes % 4096 != 0 || logical_block_bytes > 4096)
		return 512;
	if (logical_block_bytes == 4096)
		return 4096;
	return filesystem_block_bytes >= 4096 && physical_block_bytes >= 4096 ? 4096 : 512;
}

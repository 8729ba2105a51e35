/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/keyslots.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/header.h"
#include "volume/luks.h"

#define KEYSLOTS_MAX 32 /* LUKS2 On-Disk Format Specification, 1.1.1, section 3.2 */

static int copy_path(const char *file, char **ret)
{
	return text_format(ret, "%s.keyslots", file);
}

static bool is_active(struct crypt_device *cd, int slot)
{
	crypt_keyslot_info state = crypt_keyslot_status(cd, slot);

	return state == CRYPT_SLOT_ACTIVE || state == CRYPT_SLOT_ACTIVE_LAST ||
	       state == CRYPT_SLOT_UNBOUND;
}

/* Where the last keyslot's area ends, in bytes; 0 = no keyslot. */
static uint64_t areas_end(struct crypt_device *cd)
{
	uint64_t end_bytes = 0;

	for (int slot = 0; slot < KEYSLOTS_MAX; slot++) {
		uint64_t offset_bytes, size_bytes;

		if (is_active(cd, slot) &&
		    crypt_keyslot_area(cd, slot, &offset_bytes, &size_bytes) == 0 &&
		    offset_bytes + size_bytes > end_bytes)
			end_bytes = offset_bytes + size_bytes;
	}
	return end_bytes;
}

/* The header's head and keyslots; what follows is a hole, so that the library takes it for whole.
 */
static int copy_head(const char *file, const char *copy, uint64_t head_bytes)
{
	struct stat status;
	int r;

	if (stat(file, &status) < 0)
		return -errno;
	r = file_copy_range(file, 0, copy, 0, head_bytes, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
	if (r < 0)
		return r;
	if (truncate(copy, status.st_size) < 0)
		return -errno;
	return file_sync_path(copy);
}

/**
 * keyslots_keep() - copy a header's keyslots to FILE.keyslots
 * @file: header file in which no conversion is initialised
 *
 * 0600 and durable; one that is there is replaced. Some 300 KiB where the filesystem knows holes.
 *
 * Return: 0, HEADER_E_NONE, HEADER_E_FOREIGN, HEADER_E_MALFORMED, or -errno.
 */
int keyslots_keep(const char *file)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	_cleanup_(freep) char *copy = NULL, *partial = NULL;
	int r;

	r = copy_path(file, &copy);
	if (r == 0)
		r = text_format(&partial, "%s.partial", copy);
	if (r == 0)
		r = luks_open(NULL, file, &cd);
	if (r != 0)
		return r;
	if (crypt_reencrypt_status(cd, NULL) != CRYPT_REENCRYPT_NONE)
		return -EBUSY;
	if (unlink(partial) < 0 && errno != ENOENT)
		return -errno;
	r = copy_head(file, partial, areas_end(cd));
	if (r == 0 && rename(partial, copy) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(partial);
		return r;
	}
	return file_sync_parent(copy);
}

/* Areas of keyslots that both have. One that was destroyed since stays so. Return: 0 or -errno. */
static int copy_areas(struct crypt_device *from, const char *copy, struct crypt_device *to,
		      const char *file)
{
	_cleanup_(json_putp) struct json_object *before = NULL, *now = NULL;
	int r;

	r = luks_json(from, &before);
	if (r == 0)
		r = luks_json(to, &now);
	for (int slot = 0; r == 0 && slot < KEYSLOTS_MAX; slot++) {
		uint64_t offset_bytes, size_bytes;
		char id[4];

		(void)snprintf(id, sizeof(id), "%d", slot);
		if (!is_active(from, slot) ||
		    !json_object_equal(json_get_object(json_get_object(before, "keyslots"), id),
				       json_get_object(json_get_object(now, "keyslots"), id)))
			continue;
		r = crypt_keyslot_area(from, slot, &offset_bytes, &size_bytes);
		if (r == 0)
			r = file_copy_range(copy, offset_bytes, file, offset_bytes, size_bytes,
					    O_WRONLY | O_NOFOLLOW);
	}
	return r;
}

/**
 * keyslots_give_back() - the library destroyed the keyslots too early: write them again
 * @file:       header file of a decryption whose step was cut
 * @passphrase: that does not open @file
 *
 * Nothing is written unless the passphrase opens the copy, and the copy is of the same header.
 * Power cut in between: asked again, this does the same again.
 *
 * Return: 0, HEADER_E_PASSPHRASE (no copy, another volume's, or not its passphrase), or -errno.
 */
int keyslots_give_back(const char *file, const struct secret *passphrase)
{
	_cleanup_(luks_freep) struct crypt_device *from = NULL, *to = NULL;
	_cleanup_(freep) char *copy = NULL;
	int r;

	r = copy_path(file, &copy);
	if (r < 0)
		return r;
	if (header_prove(NULL, copy, passphrase) != 0)
		return HEADER_E_PASSPHRASE;
	r = luks_open(NULL, copy, &from);
	if (r == 0)
		r = luks_open(NULL, file, &to);
	if (r != 0)
		return r < 0 ? r : HEADER_E_PASSPHRASE;
	if (strcmp(crypt_get_uuid(from), crypt_get_uuid(to)) != 0)
		return HEADER_E_PASSPHRASE;
	log_debug("Header %s: its keyslots come back from their copy", file);
	return copy_areas(from, copy, to, file);
}

/** keyslots_forget() - remove the copy, durably; absent is fine. Return: 0 or -errno. */
int keyslots_forget(const char *file)
{
	_cleanup_(freep) char *copy = NULL;
	int r;

	r = copy_path(file, &copy);
	return r < 0 ? r : file_remove_durably(copy);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/ending.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/header.h"

#define WIPE_BLOCK_BYTES (1024 * 1024)

/**
 * ending_is_due() - is everything encrypted, but the header still says that a conversion is going
 * on?
 *
 * After the last step the library wipes the parked first segment and then drops the conversion's
 * mark. Cut in between, it cannot go on: it takes the volume for one with a step left, and finds no
 * segment for it.
 */
bool ending_is_due(const struct segments *segments, crypt_reencrypt_info state)
{
	return state == CRYPT_REENCRYPT_CLEAN && !segments->is_decrypting &&
	       segments->encrypted_bytes == segments->data_bytes;
}

/* Do both headers have the same keyslots, but for the conversion's own, and the same tokens? */
static bool is_same(struct json_object *now, struct json_object *backup)
{
	struct json_object *keyslots = json_get_object(now, "keyslots");
	struct json_object *others = json_get_object(backup, "keyslots");
	int n = 0;

	if (!keyslots || !others)
		return false;
	json_object_object_foreach(keyslots, id, keyslot)
	{
		const char *type = json_get_string(keyslot, "type");
		struct json_object *other = json_get_object(others, id);

		if (type && strcmp(type, "reencrypt") == 0)
			continue;
		if (!json_object_equal(keyslot, other))
			return false;
		n++;
	}
	return n == json_object_object_length(others) &&
	       json_object_equal(json_get_object(now, "tokens"), json_get_object(backup, "tokens"));
}

/* Return: 0, REENCRYPT_E_BACKUP or -errno. */
static int check_backup(struct crypt_device *cd, const struct reencrypt *conversion)
{
	_cleanup_(luks_freep) struct crypt_device *copy = NULL;
	_cleanup_(json_putp) struct json_object *now = NULL, *backup = NULL;
	int r;

	if (!conversion->backup)
		return REENCRYPT_E_BACKUP;
	r = luks_open(conversion->device, conversion->backup, &copy);
	if (r != 0)
		return r == -ENOMEM ? r : REENCRYPT_E_BACKUP;
	r = luks_json(cd, &now);
	if (r == 0)
		r = luks_json(copy, &backup);
	if (r < 0)
		return r;
	return crypt_reencrypt_status(copy, NULL) == CRYPT_REENCRYPT_NONE &&
			       strcmp(crypt_get_uuid(cd), crypt_get_uuid(copy)) == 0 &&
			       crypt_get_data_offset(cd) == crypt_get_data_offset(copy) &&
			       is_same(now, backup)
		       ? 0
		       : REENCRYPT_E_BACKUP;
}

/**
 * ending_make() - do what the library did not come to: wipe the parked segment, drop the mark
 * @cd:       header for which ending_is_due()
 * @segments: of the same header
 *
 * The header as it was built, before the conversion was initialised, is the header of the finished
 * volume: same keyslots, same tokens, one encrypted segment. A keyslot that was destroyed since
 * would come back with it, so that differences are refused. Cut in the middle, the header is the
 * old or the new one: its areas are the same in both, and of two whole copies the library takes the
 * newer; and this is done again.
 *
 * While the mark is there nothing uses the place of the parked segment: the filesystem grows over
 * it only after the header says that the conversion is over.
 *
 * Return: 0, REENCRYPT_E_BACKUP or -errno.
 */
int ending_make(struct crypt_device *cd, const struct reencrypt *conversion,
		const struct segments *segments)
{
	_cleanup_(luks_freep) struct crypt_device *fresh = NULL;
	int r;

	r = check_backup(cd, conversion);
	if (r != 0)
		return r;
	if (segments->moved_offset_bytes != 0) {
		r = crypt_wipe(cd, conversion->device, CRYPT_WIPE_RANDOM,
			       segments->moved_offset_bytes, HEADER_SHIFT_BYTES, WIPE_BLOCK_BYTES,
			       0, NULL, NULL);
		if (r == 0)
			r = file_sync_path(conversion->device);
		if (r < 0)
			return r;
	}
	r = luks_init(conversion->device, conversion->file, &fresh);
	if (r == 0)
		r = crypt_header_restore(fresh, CRYPT_LUKS2, conversion->backup);
	if (r == 0)
		r = file_sync_path(conversion->file ? conversion->file : conversion->device);
	return r < 0 ? log_debug_errno(r, "Device %s: cannot end: %m", conversion->device) : 0;
}

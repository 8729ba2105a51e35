/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/ending.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>

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

/* UUID of what blkid finds at an offset of the device. Return: 0, -ENODATA, or -errno. */
static int probe_uuid(const char *device, uint64_t offset_bytes, char **ret)
{
	_cleanup_(closep) int fd = -EBADF;
	const char *uuid;
	blkid_probe probe;
	int r;

	fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	probe = blkid_new_probe();
	if (!probe)
		return -ENOMEM;
	if (blkid_probe_set_device(probe, fd, (blkid_loff_t)offset_bytes, 0) < 0 ||
	    blkid_probe_enable_superblocks(probe, 1) < 0 ||
	    blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_UUID) < 0)
		r = -EIO;
	else
		r = blkid_do_probe(probe);
	if (r == 0 && blkid_probe_lookup_value(probe, "UUID", &uuid, NULL) == 0) {
		*ret = strdup(uuid);
		r = *ret ? 0 : -ENOMEM;
	} else {
		r = r < 0 ? -EIO : -ENODATA;
	}
	blkid_free_probe(probe);
	return r;
}

/**
 * ending_is_torn() - was the recovery of the last step itself cut, after it began to wipe?
 * @device:   data device
 * @segments: of a header whose step was cut (CRYPT_REENCRYPT_CRASH)
 * @ret:      true = the library's recovery would destroy the first segment
 *
 * To recover the last step, the library encrypts the parked first segment once more, wipes the
 * parked copy, and only then writes the header. Cut in between, it would do so again, from a copy
 * that is wiped. The wipe goes from the start, and the superblock by which the filesystem is known
 * lies in the copy's first 128 KiB: gone with the first block. When it is gone, the segment in its
 * place is whole and flushed (luks_flush_begin() was around the recovery), and the way on is
 * ending_make().
 *
 * Return: 0 or -errno. Source: libcryptsetup 2.4 to 2.8, reencrypt_recovery(),
 * reencrypt_teardown_ok().
 */
int ending_is_torn(struct crypt_device *cd, const char *device, const struct segments *segments,
		   bool *ret)
{
	_cleanup_(freep) char *uuid = NULL, *expected = NULL;
	int r;

	*ret = false;
	if (segments->is_decrypting || !segments->is_first_hot || segments->moved_offset_bytes == 0)
		return 0;
	r = header_filesystem_uuid(cd, &expected);
	if (r != 0)
		return r < 0 ? r : 0; /* not ours: nothing to know it by */
	r = probe_uuid(device, segments->moved_offset_bytes, &uuid);
	if (r < 0 && r != -ENODATA)
		return r;
	*ret = !uuid || strcasecmp(uuid, expected) != 0;
	return 0;
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
 * @cd:       header for which ending_is_due() or ending_is_torn()
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

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* the way back: header_export(), header_initialise_decryption() */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/header.h"
#include "volume/keyslots.h"
#include "volume/luks.h"
#include "volume/segments.h"

#define SECTOR_BYTES    512
#define HOTZONE_SECTORS (8ULL * 1024 * 1024 / SECTOR_BYTES)
#define SIGNATURES_MAX                                                                             \
	16 /* a LUKS2 header has two; libcryptsetup looks for the second at 8 places */

/* Is @file the header of the same volume, whole? Return: 0, -EEXIST or -errno. */
static int is_same_header(const char *device, const char *file, const char *uuid)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	int r;

	r = luks_open(device, file, &cd);
	if (r < 0)
		return r;
	return r == 0 && strcmp(crypt_get_uuid(cd), uuid) == 0 ? 0 : -EEXIST;
}

/**
 * header_export() - copy an attached header to a file on another device
 * @file: then 0600 and durable; one that is there already from the same volume is taken as it is
 *
 * Changes nothing on @device. Both headers say the same until decryption is initialised; from the
 * moment on that crypttab names the file, the file is the volume's header.
 *
 * Return: 0, HEADER_E_NONE, HEADER_E_FOREIGN, HEADER_E_MALFORMED, HEADER_E_ALREADY (a conversion is
 * not finished), -EEXIST (another file stands there), or -errno.
 */
int header_export(const char *device, const char *file)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	_cleanup_(freep) char *temporary = NULL;
	int r;

	r = luks_open(device, NULL, &cd);
	if (r != 0)
		return r;
	if (crypt_reencrypt_status(cd, NULL) != CRYPT_REENCRYPT_NONE)
		return HEADER_E_ALREADY;
	if (access(file, F_OK) == 0)
		return is_same_header(device, file, crypt_get_uuid(cd));
	r = text_format(&temporary, "%s.vmcrypt-new", file);
	if (r < 0)
		return r;
	if (unlink(temporary) < 0 && errno != ENOENT)
		return -errno;
	r = crypt_header_backup(cd, CRYPT_LUKS2, temporary);
	if (r == 0 && chmod(temporary, 0600) < 0)
		r = -errno;
	if (r == 0)
		r = file_sync_path(temporary);
	if (r == 0 && rename(temporary, file) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(temporary);
		return r;
	}
	return file_sync_parent(file);
}

/* Wipe the signatures of both header copies at the device's head, nothing else. Return: 0 or
 * -errno. */
static int wipe_signatures(const char *device)
{
	static char *types[] = { "crypto_LUKS", NULL };
	_cleanup_(closep) int fd = -EBADF;
	blkid_probe probe;
	int r = 0;

	fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	probe = blkid_new_probe();
	if (!probe)
		return -ENOMEM;
	if (blkid_probe_set_device(probe, fd, 0, 0) < 0 ||
	    blkid_probe_enable_superblocks(probe, 1) < 0 ||
	    blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_MAGIC) < 0 ||
	    blkid_probe_filter_superblocks_type(probe, BLKID_FLTR_ONLYIN, types) < 0)
		r = -EIO;
	for (unsigned i = 0; r == 0 && i < SIGNATURES_MAX; i++) {
		r = blkid_do_probe(probe);
		if (r != 0)
			break;
		/* steps back by itself, so that the second copy is found next */
		r = blkid_do_wipe(probe, 0) < 0 ? -EIO : 0;
	}
	blkid_free_probe(probe);
	if (r < 0)
		return -EIO;
	if (r == 0)
		return -ELOOP;
	return fsync(fd) < 0 ? -errno : 0;
}

/* The initialisation failed before anything counted on it: the device gets its header back. */
static void put_header_back(const char *device, const char *file)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	int r;

	r = luks_init(device, NULL, &cd);
	if (r == 0)
		r = crypt_header_restore(cd, CRYPT_LUKS2, file);
	if (r == 0)
		r = file_sync_path(device);
	if (r < 0)
		log_debug_errno(r, "Device %s: cannot put the header back: %m", device);
}

static int initialise(struct crypt_device *cd, const char *device, const char *mapping,
		      const struct crypt_params_reencrypt *params, const struct secret *passphrase)
{
	struct luks_flush flush;
	int r, flushed;

	r = luks_set_minimal_pbkdf(cd);
	if (r == 0)
		r = luks_flush_begin(cd, device, &flush);
	if (r < 0)
		return r;
	r = crypt_reencrypt_init_by_passphrase(
		cd, mapping, (const char *)secret_bytes_const(passphrase), secret_size(passphrase),
		CRYPT_ANY_SLOT, CRYPT_ANY_SLOT, NULL, NULL, params);
	flushed = luks_flush_end(&flush);
	return r < 0 ? r : flushed;
}

static int passphrase_fits(struct crypt_device *cd, const struct secret *passphrase)
{
	int r;

	r = crypt_activate_by_passphrase(cd, NULL, CRYPT_ANY_SLOT,
					 (const char *)secret_bytes_const(passphrase),
					 secret_size(passphrase), 0);
	if (r == -EPERM || r == -ENOENT)
		return HEADER_E_PASSPHRASE;
	return r < 0 ? r : 0;
}

/* Is the volume whole and encrypted? Return: 0, 1 = its decryption is initialised already (or
 * done), HEADER_E_ALREADY, or -errno. */
static int is_decryptable(struct crypt_device *cd, const char *device)
{
	struct segments segments;
	int r;

	r = luks_segments(cd, device, &segments);
	if (r < 0)
		return r;
	switch (crypt_reencrypt_status(cd, NULL)) {
	case CRYPT_REENCRYPT_NONE:
		return segments.encrypted_bytes > 0 ? 0 : 1;
	case CRYPT_REENCRYPT_CLEAN:
	case CRYPT_REENCRYPT_CRASH:
		return segments.is_decrypting ? 1 : HEADER_E_ALREADY;
	case CRYPT_REENCRYPT_INVALID:
		break;
	}
	return -EBADMSG;
}

/**
 * header_initialise_decryption() - make a header say that its volume is about to be decrypted
 * @file:    exported header (header_export(), and crypttab names it), or the detached header that
 * the volume has always had; on another device
 * @mapping: name of the active mapping; NULL when nothing is mapped
 *
 * Detached: one header write, nothing else. Attached: the volume's first 16 MiB (from behind the
 * header) are copied over the header at the device's head, and the file then says so; a mapping is
 * suspended meanwhile.
 *
 * A power cut leaves, in the order of things:
 * - the header at the head and in the file, saying the same: either opens the volume;
 * - no signature at the head (so that nothing takes the stale header for the volume's): the file
 * opens it;
 * - a piece of data over the header at the head: the file opens it, the data behind the header is
 * whole;
 * - the file says that the first segment lies at the head, where it has been flushed to before the
 *   file could say so (luks_flush_begin()): the file opens it, recovered if need be.
 * In each the file is all that is needed, and calling this again does what is left to do. Its
 * keyslots are kept beside it first, for the last step (keyslots.h).
 *
 * Return: 0 (also when it was initialised before), HEADER_E_ALREADY (another conversion is not
 * finished), HEADER_E_PASSPHRASE, HEADER_E_BUSY, HEADER_E_NONE, HEADER_E_FOREIGN,
 * HEADER_E_MALFORMED, or -errno. Source: libcryptsetup.h, crypt_reencrypt_init_by_passphrase(),
 * decryption with a header in a file.
 */
int header_initialise_decryption(const char *device, const char *file, const char *mapping,
				 const struct secret *passphrase)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	_cleanup_(closep) int exclusive = -EBADF;
	struct crypt_params_reencrypt params = {
		.mode = CRYPT_REENCRYPT_DECRYPT,
		.hash = "sha256",
		.max_hotzone_size = HOTZONE_SECTORS,
	};
	int r;

	r = luks_open(device, file, &cd);
	if (r != 0)
		return r;
	r = is_decryptable(cd, device);
	if (r == 1)
		return 0;
	if (r == 0)
		r = passphrase_fits(cd, passphrase);
	if (r == 0 && !mapping)
		r = luks_open_exclusive(device, &exclusive);
	if (r != 0)
		return r;
	if (exclusive >= 0)
		(void)close(steal_fd(exclusive));
	r = keyslots_keep(file);
	if (r != 0)
		return r;

	if (crypt_get_data_offset(cd) == 0) {
		params.direction = CRYPT_REENCRYPT_BACKWARD;
		params.resilience = "checksum";
		params.flags = CRYPT_REENCRYPT_INITIALIZE_ONLY;
		r = initialise(cd, device, mapping, &params, passphrase);
	} else {
		params.direction = CRYPT_REENCRYPT_FORWARD;
		params.resilience = "datashift-checksum";
		params.data_shift = crypt_get_data_offset(cd);
		/* the moved segment as long as the shift: with a shorter one, the library
		 * (2.6, 2.8) takes the last step after a resume for one as long as the shift, and
		 * fails */
		params.max_hotzone_size = params.data_shift;
		params.flags = CRYPT_REENCRYPT_INITIALIZE_ONLY | CRYPT_REENCRYPT_MOVE_FIRST_SEGMENT;
		r = wipe_signatures(device);
		if (r == 0)
			r = initialise(cd, device, mapping, &params, passphrase);
		if (r < 0 && crypt_reencrypt_status(cd, NULL) == CRYPT_REENCRYPT_NONE)
			put_header_back(device, file);
	}
	if (r < 0 && crypt_reencrypt_status(cd, NULL) == CRYPT_REENCRYPT_NONE)
		(void)keyslots_forget(file);
	if (r < 0)
		return r;
	r = file_sync_path(file);
	return r < 0 ? r : file_sync_parent(file);
}

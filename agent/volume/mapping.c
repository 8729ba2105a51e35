/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/mapping.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "volume/blkpg.h"
#include "volume/ending.h"
#include "volume/header.h"
#include "volume/keyslots.h"
#include "volume/luks.h"

#define SECTOR_BYTES   512 /* what libcryptsetup counts in */
#define LOCK_DIRECTORY "/run/vmcrypt/locks"

static int activate(struct crypt_device *cd, const char *device, const char *name,
		    const struct secret *passphrase)
{
	bool is_crashed = crypt_reencrypt_status(cd, NULL) == CRYPT_REENCRYPT_CRASH;
	struct luks_flush flush;
	int r, flushed = 0;

	if (is_crashed) {
		r = luks_flush_begin(cd, device, &flush);
		if (r < 0)
			return r;
	}
	r = crypt_activate_by_passphrase(cd, name, CRYPT_ANY_SLOT,
					 (const char *)secret_bytes_const(passphrase),
					 secret_size(passphrase), 0);
	if (is_crashed)
		flushed = luks_flush_end(&flush);
	return r < 0 ? r : flushed;
}

/* @ret_may_give_back: was it refused for keyslots that the library may have destroyed too early? */
static int try_to_open(const char *device, const char *file, const char *name,
		       const struct secret *passphrase, bool *ret_may_give_back)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	struct segments segments;
	bool is_active, is_torn = false, is_crashed;
	int r;

	r = luks_open(device, file, &cd);
	if (r == 0)
		r = luks_segments(cd, device, &segments);
	if (r != 0)
		return r;
	if (luks_is_plain(&segments, crypt_reencrypt_status(cd, NULL)))
		return HEADER_E_PLAIN;
	is_crashed = crypt_reencrypt_status(cd, NULL) == CRYPT_REENCRYPT_CRASH;
	if (is_crashed)
		r = ending_is_torn(cd, device, &segments, &is_torn);
	if (r < 0 || is_torn)
		return r < 0 ? r : HEADER_E_TORN;
	r = mapping_is_active(name, &is_active);
	if (r < 0 || is_active)
		return r;
	if (segments.sector_bytes > 0)
		(void)blkpg_round_down(device, segments.sector_bytes);
	r = activate(cd, device, name, passphrase);
	if (r == -EPERM || r == -ENOENT) {
		*ret_may_give_back = is_crashed && segments.is_decrypting && file;
		return HEADER_E_PASSPHRASE;
	}
	if (r == -EBUSY || r == -EEXIST)
		return HEADER_E_BUSY;
	return r < 0 ? log_debug_errno(r, "Mapping %s: cannot be opened: %m", name) : 0;
}

static int open_locked(const char *device, const char *file, const char *name,
		       const struct secret *passphrase)
{
	bool may_give_back = false;
	int r;

	r = try_to_open(device, file, name, passphrase, &may_give_back);
	if (!may_give_back)
		return r;
	/* after the last recovery, too, no keyslot opens it: then it is plain */
	r = keyslots_give_back(file, passphrase);
	return r < 0 ? r : try_to_open(device, file, name, passphrase, &may_give_back);
}

/**
 * mapping_open() - unlock a volume
 * @file: detached header, or NULL
 * @name: below /dev/mapper
 *
 * Flags that the header keeps (discards) apply. A conversion step that was cut is recovered first,
 * which writes to the device: the caller has made sure that it is the right one. Already open under
 * this name is fine. Of several programs that open it at once, one does and the others find it open
 * (a mapping that is being made has no table yet, which looks like a broken one). libdevmapper
 * waits for udev where it runs, so that the links to the new node are there on return. A partition
 * that was grown to an odd end counts without it, see blkpg_round_down().
 *
 * Return: 0, HEADER_E_NONE, HEADER_E_FOREIGN, HEADER_E_MALFORMED, HEADER_E_PASSPHRASE,
 * HEADER_E_BUSY, HEADER_E_PLAIN, HEADER_E_TORN, or -errno.
 */
int mapping_open(const char *device, const char *file, const char *name,
		 const struct secret *passphrase)
{
	_cleanup_(closep) int lock = -EBADF;
	_cleanup_(freep) char *path = NULL;
	int r;

	r = directory_make(LOCK_DIRECTORY, 0700);
	if (r == 0)
		r = text_format(&path, LOCK_DIRECTORY "/%s", name);
	if (r == 0)
		r = file_lock(path, &lock);
	return r == 0 ? open_locked(device, file, name, passphrase) : r;
}

static int close_mapping(const char *name, uint32_t flags)
{
	int r;

	r = luks_prepare();
	if (r < 0)
		return r;
	r = crypt_deactivate_by_name(NULL, name, flags);
	if (r == -ENODEV)
		return 0;
	if (r == -EBUSY)
		return HEADER_E_BUSY;
	return r < 0 ? r : 0;
}

/* All of the device, in whole encryption sectors: the library's own "all" fails where there is a
 * rest. */
static int resize(struct crypt_device *cd, const char *name)
{
	uint64_t device_bytes, offset_bytes = crypt_get_data_offset(cd) * SECTOR_BYTES;
	unsigned sector_bytes = (unsigned)crypt_get_sector_size(cd);
	int r;

	r = header_device_bytes(crypt_get_device_name(cd), &device_bytes);
	if (r < 0)
		return r;
	if (device_bytes < offset_bytes + sector_bytes || sector_bytes < SECTOR_BYTES)
		return -EINVAL;
	return crypt_resize(cd, name,
			    (device_bytes - offset_bytes) / sector_bytes * sector_bytes /
				    SECTOR_BYTES);
}

/**
 * mapping_resize() - an open mapping becomes as large as its device allows
 * @file: detached header, or NULL
 *
 * A conversion leaves its mapping at the size that the filesystem had given way to; only opening
 * anew, or this, brings the rest.
 *
 * Return: 0, HEADER_E_PASSPHRASE, or -errno. Source: cryptsetup-resize(8): the volume key has to be
 * in the kernel's keyring, which the passphrase brings there.
 */
int mapping_resize(const char *file, const char *name, const struct secret *passphrase)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	int r;

	r = luks_prepare();
	if (r == 0)
		r = crypt_init_by_name_and_header(&cd, name, file);
	if (r < 0)
		return r;
	r = crypt_activate_by_passphrase(cd, NULL, CRYPT_ANY_SLOT,
					 (const char *)secret_bytes_const(passphrase),
					 secret_size(passphrase), CRYPT_ACTIVATE_KEYRING_KEY);
	if (r == -EPERM || r == -ENOENT)
		return HEADER_E_PASSPHRASE;
	return r < 0 ? r : resize(cd, name);
}

/**
 * mapping_close() - take an unmounted mapping away; absent is fine
 *
 * For who has it open for a moment, udev and lists of disks, the library waits 5 s. One that is to
 * go with its last user, as after a decryption, goes meanwhile, and the library calls that an
 * error.
 *
 * Return: 0, HEADER_E_BUSY or -errno.
 */
int mapping_close(const char *name)
{
	bool is_active = true;
	int r = close_mapping(name, 0);

	if (r != 0)
		log_debug("Mapping %s: closing it comes to %d.", name, r);
	return r != 0 && mapping_is_active(name, &is_active) == 0 && !is_active ? 0 : r;
}

/** mapping_close_later() - the kernel closes it when its last user goes. Return: 0 or -errno. */
int mapping_close_later(const char *name)
{
	return close_mapping(name, CRYPT_DEACTIVATE_DEFERRED);
}

/** mapping_is_active() - is there such a mapping? Return: 0 or -errno. */
int mapping_is_active(const char *name, bool *ret)
{
	int r;

	r = luks_prepare();
	if (r < 0)
		return r;
	switch (crypt_status(NULL, name)) {
	case CRYPT_ACTIVE:
	case CRYPT_BUSY:
		*ret = true;
		return 0;
	case CRYPT_INACTIVE:
		*ret = false;
		return 0;
	case CRYPT_INVALID:
		break;
	}
	return -EIO;
}

/** mapping_path() - a new string. Return: 0 or -ENOMEM. */
int mapping_path(const char *name, char **ret)
{
	return text_format(ret, "%s/%s", crypt_get_dir(), name);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume/reencrypt.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "volume/ending.h"
#include "volume/header.h"
#include "volume/keyslots.h"
#include "volume/luks.h"

#define SECTOR_BYTES 512
#define HOTZONE_DEFAULT_BYTES                                                                      \
	(8ULL * 1024 * 1024) /* stalls its own stretch for 50 ms at 150 MB/s */

#define NOTHING_LEFT 100 /* beside REENCRYPT_E_* */

struct run {
	const struct reencrypt *conversion;
	bool is_stopped;
};

/* Called by the library between two steps, and before the first. Non-zero stops it there. */
static int progress(uint64_t size_bytes, uint64_t offset_bytes, void *user)
{
	struct run *run = user;
	const struct reencrypt *conversion = run->conversion;

	if (conversion->progress &&
	    !conversion->progress(size_bytes, offset_bytes, conversion->user))
		run->is_stopped = true;
	return run->is_stopped;
}

static int condition(int r)
{
	if (r == -EPERM || r == -ENOENT)
		return REENCRYPT_E_PASSPHRASE;
	if (r == -EBUSY)
		return REENCRYPT_E_BUSY;
	return r < 0 ? r : 0;
}

/* A step was cut and nothing is mapped: finish that step. Return: 0, REENCRYPT_E_* or -errno. */
static int recover(struct crypt_device *cd, const struct reencrypt *conversion)
{
	const struct crypt_params_reencrypt params = { .flags = CRYPT_REENCRYPT_RECOVERY };
	struct luks_flush flush;
	int r, flushed;

	r = luks_flush_begin(cd, conversion->device, &flush);
	if (r < 0)
		return r;
	r = crypt_reencrypt_init_by_passphrase(
		cd, NULL, (const char *)secret_bytes_const(conversion->passphrase),
		secret_size(conversion->passphrase), CRYPT_ANY_SLOT, CRYPT_ANY_SLOT, NULL, NULL,
		&params);
	flushed = luks_flush_end(&flush);
	return r < 0 ? condition(r) : flushed;
}

/* Open a volume between two steps; a step that was cut is finished first. The library's context of
 * the recovery is not used further: it holds what was before. Return: 0, NOTHING_LEFT,
 * REENCRYPT_E_* or -errno. */
static int open_clean(const struct reencrypt *conversion, struct crypt_device **ret)
{
	bool is_recovered = false, is_given_back = false;

	for (;;) {
		_cleanup_(luks_freep) struct crypt_device *cd = NULL;
		crypt_reencrypt_info state;
		struct segments segments;
		bool is_torn;
		int r;

		r = luks_open(conversion->device, conversion->file, &cd);
		if (r == 0)
			r = luks_segments(cd, conversion->device, &segments);
		if (r != 0)
			return r < 0 ? r : -EBADMSG;
		state = crypt_reencrypt_status(cd, NULL);
		if (luks_is_plain(&segments, state))
			return NOTHING_LEFT;
		if (ending_is_due(&segments, state)) {
			r = ending_make(cd, conversion, &segments);
			return r == 0 ? NOTHING_LEFT : r;
		}
		switch (state) {
		case CRYPT_REENCRYPT_NONE:
			return NOTHING_LEFT;
		case CRYPT_REENCRYPT_CLEAN:
			*ret = steal(cd);
			return 0;
		case CRYPT_REENCRYPT_INVALID:
			return -EBADMSG;
		case CRYPT_REENCRYPT_CRASH:
			break;
		}
		r = ending_is_torn(cd, conversion->device, &segments, &is_torn);
		if (r < 0)
			return r;
		if (is_torn) {
			r = ending_make(cd, conversion, &segments);
			return r == 0 ? NOTHING_LEFT : r;
		}
		/* while it is mapped, its hotzone is suspended: only a reboot gets it back */
		if (conversion->mapping || is_recovered)
			return REENCRYPT_E_STEP;
		r = recover(cd, conversion);
		if (r == REENCRYPT_E_PASSPHRASE && segments.is_decrypting && conversion->file &&
		    !is_given_back) {
			r = keyslots_give_back(conversion->file, conversion->passphrase);
			if (r != 0)
				return r < 0 ? r : REENCRYPT_E_PASSPHRASE;
			is_given_back = true;
			continue;
		}
		if (r != 0)
			return r;
		is_recovered = true;
	}
}

static int resume(struct crypt_device *cd, const struct reencrypt *conversion)
{
	_cleanup_(freep) char *resilience = NULL, *hash = NULL;
	struct crypt_params_reencrypt params;
	int r;

	/* resilience and shift as they were chosen: libraries before 2.5 do not remember them;
	 * copies, since the library reads its header anew while it still uses them */
	if (crypt_reencrypt_status(cd, &params) != CRYPT_REENCRYPT_CLEAN ||
	    (params.flags & CRYPT_REENCRYPT_REPAIR_NEEDED) || !params.resilience)
		return -EBADMSG;
	resilience = strdup(params.resilience);
	/* 2.5 and 2.6 do not tell the hash of datashift-checksum; all our headers have this one */
	hash = strdup(params.hash ? params.hash : "sha256");
	if (!resilience || !hash)
		return -ENOMEM;
	params.resilience = resilience;
	params.hash = hash;
	params.max_hotzone_size = (conversion->max_hotzone_bytes ? conversion->max_hotzone_bytes
								 : HOTZONE_DEFAULT_BYTES) /
				  SECTOR_BYTES;
	params.flags |= CRYPT_REENCRYPT_RESUME_ONLY;
	r = crypt_reencrypt_init_by_passphrase(
		cd, conversion->mapping, (const char *)secret_bytes_const(conversion->passphrase),
		secret_size(conversion->passphrase), CRYPT_ANY_SLOT, CRYPT_ANY_SLOT, NULL, NULL,
		&params);
	return condition(r);
}

/**
 * reencrypt_run() - convert a volume whose header is initialised, up to the end or until told to
 * stop
 * @conversion: ->mapping must be the name that the volume is active under, or NULL when nothing is
 * mapped
 *
 * Encryption or decryption, as the header says; one that is finished is done at once. The caller
 * has locked all memory of the process: a page fault on the hotzone, while it is suspended, would
 * wait for itself.
 *
 * Cost: each byte read and written once, one thread; about 24 MiB and the hotzone.
 *
 * Return: 0 (nothing is left to do), REENCRYPT_E_STOPPED, REENCRYPT_E_STEP, REENCRYPT_E_PASSPHRASE,
 * REENCRYPT_E_BUSY, REENCRYPT_E_BACKUP, or -errno (nothing was moved). Source: libcryptsetup.h,
 * crypt_reencrypt_run().
 */
int reencrypt_run(const struct reencrypt *conversion)
{
	_cleanup_(luks_freep) struct crypt_device *cd = NULL;
	struct run run = { .conversion = conversion };
	int r;

	r = open_clean(conversion, &cd);
	if (r != 0)
		return r == NOTHING_LEFT ? 0 : r;
	r = resume(cd, conversion);
	if (r != 0)
		return r;

	r = crypt_reencrypt_run(cd, progress, &run);
	if (r < 0) {
		log_debug_errno(r, "Device %s: a step failed: %m", conversion->device);
		return REENCRYPT_E_STEP;
	}
	if (crypt_reencrypt_status(cd, NULL) == CRYPT_REENCRYPT_NONE)
		return 0;
	return run.is_stopped ? REENCRYPT_E_STOPPED : REENCRYPT_E_STEP;
}

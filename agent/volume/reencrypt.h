/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/reencrypt.h - moves the data, step by step, while the volume is in use
 *
 * Rules for a step: the process has locked all its memory, never writes to the filesystem in
 * conversion, and stops only from the progress callback. A step that fails leaves the hotzone
 * suspended: the volume hangs until a reboot, which recovers by itself (REENCRYPT_E_STEP).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/secret.h"

enum {
	REENCRYPT_E_STOPPED = 1, /* the callback said so; continue any time */
	REENCRYPT_E_STEP, /* a step failed on a read or write error: reboot, it recovers by itself
			   */
	REENCRYPT_E_PASSPHRASE,
	REENCRYPT_E_BUSY,   /* another process converts it */
	REENCRYPT_E_BACKUP, /* all is encrypted, but only ->backup can end it, and it is not there
			       or not fit */
};

struct reencrypt {
	const char *device;
	const char *file;    /* detached or exported header, or NULL */
	const char *mapping; /* active name; NULL = offline (nothing is mapped) */
	const struct secret *passphrase;
	/* header as built, from before header_initialise(), on any device; or NULL. An encryption
	 * that is cut after its last step and before its end mark cannot be ended by the library,
	 * only by this copy. */
	const char *backup;
	uint64_t max_hotzone_bytes; /* 0 = 8 MiB; data shift uses the shift */
	/* after each step, between steps only: may sleep to yield, true = go on, false = stop */
	bool (*progress)(uint64_t size_bytes, uint64_t offset_bytes, void *user);
	void *user;
};

int reencrypt_run(const struct reencrypt *conversion);

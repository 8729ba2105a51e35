/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/unlock.h - the pieces of vmcrypt-unlock
 *
 * unlock.c: the story. unlock-volumes.c: which volumes there are and where. unlock-mounts.c: what
 * hangs on them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "key/client.h"
#include "volume/header.h"

#define UNLOCK_REST_S 300 /* permissions do get corrected, and nobody wants to reboot for it */
#define UNLOCK_VOLUMES_MAX                                                                         \
	64 /* data disks of the largest machine; one batch has room for their keys */

enum unlock_state {
	UNLOCK_MISSING, /* device or header are not there yet */
	UNLOCK_LOCKED,  /* known, and nothing speaks against it */
	UNLOCK_WAITS,   /* the key service did not answer: again soon */
	UNLOCK_REFUSED, /* a person must act; tried again now and then */
	UNLOCK_OPEN,    /* or decrypted: nothing left to do */
};

struct unlock_volume {
	char *mapping;
	char *source;      /* as in crypttab, or the device where it was found */
	char *header_file; /* or NULL */
	char *device;      /* found now, or NULL */
	struct header_info *header;
	enum unlock_state state;
	char *reason;       /* of MISSING, WAITS and REFUSED: a sentence */
	bool is_news;       /* the reason is to be told */
	time_t rests_until; /* REFUSED: not tried before this moment of the monotonic clock */
	bool is_mounting;
};

struct unlock_volumes {
	struct unlock_volume *volumes;
	size_t n;
};

time_t unlock_now_s(void);
void unlock_volumes_clear(struct unlock_volumes *volumes);
int unlock_volumes_find(struct unlock_volumes *volumes, char *const names[], size_t n_names);
void unlock_volume_say(struct unlock_volume *volume, enum unlock_state state, const char *format,
		       ...) __attribute__((format(printf, 3, 4)));

int unlock_mounts_start(const struct unlock_volume *volume);
bool unlock_mounts_are_there(const struct unlock_volume *volume);

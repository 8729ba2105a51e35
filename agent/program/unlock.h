/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/unlock.h - the pieces of vmcrypt-unlock
 *
 * unlock.c: the story in the running system; unlock-root.c: that in the initramfs.
 * unlock-volumes.c: which volumes there are and where. unlock-attempt.c: keys for them, once.
 * unlock-mounts.c: what hangs on them. unlock-prompt.h, unlock-console.h: a person is asked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "boot/initramfs-conf.h"
#include "key/client.h"
#include "volume/header.h"

#define UNLOCK_REST_S 300 /* permissions do get corrected, and nobody wants to reboot for it */
#define UNLOCK_REST_INITRAMFS_S                                                                    \
	30 /* somebody sits before a machine that does not boot, and corrects them now */
#define UNLOCK_HEADERS "/boot/vmcrypt/headers"
#define UNLOCK_VOLUMES_MAX                                                                         \
	512 /* a bound on what a crypttab can ask for: twice what enable takes                     \
	     */

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
	char *header_file; /* or NULL; of the root: only where its header says that it is detached
			    */
	char *device;      /* found now, or NULL */
	struct header_info *header;
	enum unlock_state state;
	char *reason;       /* of MISSING, WAITS and REFUSED: a sentence */
	bool is_news;       /* the reason is to be told */
	bool is_new_reason; /* and is not the one before */
	time_t rests_until; /* REFUSED: not tried before this moment of the monotonic clock */
	unsigned rest_s;
	bool is_root;      /* the boot waits for it alone */
	bool is_initrd;    /* opened before the root was there */
	char *header_uuid; /* LUKS UUID that the root is known to have, or NULL */
	bool is_past_keys; /* REFUSED, and no key would help */
	bool is_mounting;
};

struct unlock_volumes {
	struct unlock_volume *volumes;
	size_t n;
	unsigned rest_s; /* after a refusal */
};

struct unlock_attempt;

time_t unlock_now_s(void);
void unlock_volumes_clear(struct unlock_volumes *volumes);
int unlock_volumes_find(struct unlock_volumes *volumes, char *const names[], size_t n_names);
int unlock_volumes_find_early(struct unlock_volumes *volumes, const struct initramfs_conf *conf);
unsigned unlock_volumes_count(const struct unlock_volumes *volumes, enum unlock_state state);
void unlock_volume_say(struct unlock_volume *volume, enum unlock_state state, const char *format,
		       ...) __attribute__((format(printf, 3, 4)));

int unlock_volume_open(struct unlock_volume *volume, const struct secret *passphrase);
void unlock_attempt_run(struct unlock_volumes *volumes);
int unlock_attempt_begin(struct unlock_volumes *volumes, struct unlock_attempt **ret);
int unlock_attempt_fd(const struct unlock_attempt *attempt);
void unlock_attempt_end(struct unlock_volumes *volumes, struct unlock_attempt *attempt);
void unlock_attempt_report(struct unlock_volumes *volumes, unsigned number, bool is_talking);

int unlock_root(void);

int unlock_mounts_start(const struct unlock_volume *volume);
bool unlock_mounts_are_there(const struct unlock_volume *volume);

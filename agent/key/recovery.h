/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* key/recovery.h - a recovery key that a person can type
 *
 * 256 bits in groups of letters that are hard to confuse, each group with its own check letter(s),
 * so that a typing mistake is found and named by group before any keyslot is tried. The text
 * itself, exactly as printed (upper case, with its hyphens), is the keyslot's passphrase:
 * `cryptsetup open` takes it as it is. Never stored.
 */
#pragma once

#include "base/secret.h"

enum {
	RECOVERY_E_FORM = 1, /* wrong number of groups or letters that do not occur */
	RECOVERY_E_TYPO,     /* a group's check does not fit; *ret_group says which, from 1 */
};

int recovery_generate(struct secret **ret);
int recovery_normalize(const struct secret *typed, struct secret **ret, unsigned *ret_group);

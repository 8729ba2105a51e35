/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/keyslots.h - a decryption's keyslots, kept beside its header file until all is plain
 *
 * Recovering the last step of a decryption, the library destroys the keyslots before its header
 * says that the step is done. Cut in between, that header asks for a recovery that no passphrase
 * opens any more, though the data is whole. The copy gives the keyslots back, so that the recovery
 * is made once more; it may be, any number of times.
 */
#pragma once

#include "base/secret.h"

int keyslots_keep(const char *file); /* @file: header that no conversion is initialised in */
/* 0 = the passphrase opens @file again, HEADER_E_PASSPHRASE = it opens the copy neither */
int keyslots_give_back(const char *file, const struct secret *passphrase);
int keyslots_forget(const char *file); /* absent is fine */

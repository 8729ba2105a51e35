/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* key/passphrase.h - makes a machine's passphrase
 *
 * 256 bits from the kernel as 43 letters of base64url: text, so that the value of a vault's secret
 * can be given to cryptsetup as it is.
 */
#pragma once

#include "base/secret.h"

#define PASSPHRASE_RANDOM_BYTES 32
#define PASSPHRASE_MAX_BYTES    512 /* cryptsetup's own limit for an interactive passphrase is 512 */

int passphrase_generate(struct secret **ret);

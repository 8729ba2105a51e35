/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/ending.h - the last moment of an encryption
 *
 * For reencrypt.c and mapping.c only.
 */
#pragma once

#include <stdbool.h>

#include "volume/luks.h"
#include "volume/reencrypt.h"

int ending_is_torn(struct crypt_device *cd, const char *device, const struct segments *segments,
		   bool *ret);
bool ending_is_due(const struct segments *segments, crypt_reencrypt_info state);
int ending_make(struct crypt_device *cd, const struct reencrypt *conversion,
		const struct segments *segments);

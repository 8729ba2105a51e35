/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/role.h - what each volume is for
 *
 * Decides from what has been read; reads nothing itself. For the modules of this room only.
 */
#pragma once

#include "volume/inventory.h"

int role_assign_all(struct inventory *inventory);
bool role_is_above_crypt(const struct inventory *inventory, const struct volume *volume);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/record.h - the lines of fstab as they were, kept for as long as a volume is encrypted
 *
 * A job's journal goes with old jobs; a `disable` may come years later and brings the lines back
 * byte for byte.
 */
#pragma once

#include "base/json.h"
#include "boot/fstab.h"

enum {
	RECORD_E_DAMAGED = 1, /* does not parse */
};

struct json_object *record_fstab_to_json(const struct fstab_entries *entries);
int record_fstab_from_json(struct json_object *array, struct fstab_entries *ret);

int record_keep(const char *uuid, const struct fstab_entries *entries);
int record_recall(const char *uuid, struct fstab_entries *entries);
int record_forget(const char *uuid);

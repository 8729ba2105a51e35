/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptctl-recover.h - how each encrypted volume is opened and repaired on another
 * machine
 *
 * Sentences and commands, from what Show answers. Does nothing itself, and needs no daemon to say
 * the general way. What comes from outside gets into a command only when a shell takes each of its
 * letters for itself.
 */
#pragma once

#include <stdio.h>

#include "base/json.h"

enum {
	RECOVER_E_UNKNOWN = 1, /* there is no such volume, or it is not encrypted by us */
};

int recover_print(struct json_object *reply, const char *volume, FILE *out);
void recover_print_general(FILE *out);
int recover_to_json(struct json_object *reply, const char *volume, struct json_object **ret);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptctl-watch.h - a job or the status, while it changes
 *
 * On a terminal a bar for each volume that is drawn anew; elsewhere a line when something has
 * happened.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/json.h"

struct watch_volume {
	char *uuid;
	char *step;
	char *state;
	int tenths; /* of the conversion, as last told */
};

struct watch {
	FILE *out;
	bool is_terminal;
	size_t drawn_lines;
	char *state; /* of the job, as last told */
	struct watch_volume *volumes;
	size_t n_volumes;
};

void watch_clear(struct watch *watch);
void watch_erase(struct watch *watch);
int watch_report(struct watch *watch, struct json_object *report);
int watch_status(struct watch *watch, struct json_object *reply, bool has_style);

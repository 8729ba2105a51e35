/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptd-units.h - the workers' units, through the service manager
 *
 * Starts and stops vmcrypt-worker@JOB.service over the system bus and tells when one has ended. The
 * worker is nobody's child: it outlives a restart or an upgrade of the daemon. Connects when it is
 * needed and again after the bus has gone; never blocks the loop.
 */
#pragma once

#include <systemd/sd-event.h>

struct units;

struct units_callbacks {
	/* the manager would not start it; @what is its sentence */
	void (*not_started)(const char *id, const char *what, void *userdata);
	/* it does not run (any more) */
	void (*ended)(const char *id, void *userdata);
};

int units_new(struct sd_event *event, const struct units_callbacks *callbacks, void *userdata,
	      struct units **ret);
struct units *units_free(struct units *units);
void units_freep(struct units **units);

int units_connect(struct units *units);
int units_start(struct units *units, const char *id);
int units_stop(struct units *units, const char *id);
int units_reboot(struct units *units);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptd-door.h - io.vmcrypt.Agent: the methods behind the socket
 *
 * Status for everyone, changes for root. Each method is a row of a table; those that need the disks
 * or a job's end answer later.
 */
#pragma once

#include <systemd/sd-event.h>

#define DOOR_SOCKET    "/run/vmcrypt/vmcrypt.sock"
#define DOOR_INTERFACE "io.vmcrypt.Agent"

struct door;

int door_new(struct sd_event *event, struct door **ret);
struct door *door_free(struct door *door);
void door_freep(struct door **door);

int door_open(struct door *door, int fd);

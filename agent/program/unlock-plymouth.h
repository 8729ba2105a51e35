/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/unlock-plymouth.h - Plymouth, where it runs in an initramfs without systemd
 *
 * Its daemon has the keyboard then: what somebody else reads from the terminal is missing there. So
 * it asks, and it says that a key was pressed. Source: plymouth 22.02.122, src/client/plymouth.c,
 * src/main.c.
 */
#pragma once

#include <stdbool.h>

#include "program/unlock-tool.h"

#define UNLOCK_PLYMOUTH "/usr/bin/plymouth"

bool unlock_plymouth_answers(const char *tool);
int unlock_plymouth_ask(const char *tool, const char *question, struct unlock_tool *ret);
int unlock_plymouth_watch(const char *tool, struct unlock_tool *ret);
void unlock_plymouth_ignore(const char *tool);
void unlock_plymouth_quit(const char *tool);

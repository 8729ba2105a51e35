/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/unlock-tool.h - a tool that runs beside us, for as long as a person thinks
 *
 * Its standard output is a descriptor that the caller polls and that never waits; it gets no input.
 * It ends when we do.
 */
#pragma once

#include <sys/types.h>

#define UNLOCK_TOOL_NONE 127 /* exit status of a tool that cannot be run, as a shell says it */

struct unlock_tool {
	pid_t child; /* 0: none runs */
	int fd;      /* -EBADF: none runs */
};

int unlock_tool_start(const char *const argv[], struct unlock_tool *ret);
int unlock_tool_end(struct unlock_tool *tool);
void unlock_tool_stop(struct unlock_tool *tool);

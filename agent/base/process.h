/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* base/process.h - runs a system tool and waits for it
 *
 * For the tools that own a format (e2fsck, resize2fs, xfs_growfs, btrfs, lvextend, mkfs.*): an
 * argument vector, no shell, a fixed PATH, output captured with a bound. Never passes a secret.
 */
#pragma once

#include <stddef.h>

/* enough for every tool we run; the rest is dropped */
#define PROCESS_OUTPUT_MAX_BYTES (64 * 1024)

int process_run(const char *const argv[], unsigned timeout_s, int *ret_status, char **ret_output);

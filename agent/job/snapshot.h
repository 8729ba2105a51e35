/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/snapshot.h - the state before a change
 *
 * snapshots/ID below the state of its volumes (STATE_DIRECTORY; BOOT_DIRECTORY for OS volumes)
 * holds partition tables, first and last 32 MiB of each volume, LUKS headers, fstab, crypttab, boot
 * loader and initramfs configuration, the mount table, and manifest.json with a SHA-256 for each
 * file; never on the volume itself. Restoring is refused once data has moved.
 */
#pragma once

#include "job/plan.h"

#define SNAPSHOT_EDGE_BYTES (32ULL * 1024 * 1024)
#define SNAPSHOT_MANIFEST_MAX_BYTES                                                                \
	(4 * 1024 * 1024) /* a thousand files at a few hundred bytes, and room */

int snapshot_take(
	struct job *job); /* this volume, and the machine's files if they are not there yet */
int snapshot_take_head(struct job *job); /* again, now that the volume is quiet */
int snapshot_put_head_back(struct job *job);
int snapshot_has(const struct job *job); /* 1, 0 or -errno */
int snapshot_discard(const struct job *job);
int snapshot_forget_data(
	struct job *job); /* plain data must not stay in the clear beside an encrypted volume */
int snapshot_restore(struct plan *plan);

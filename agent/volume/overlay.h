/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/overlay.h - changes to an ext filesystem that happen wholly or not at all
 *
 * For tools that do not order their writes (e2fsck, resize2fs). They work on an overlay, whose
 * changes go to a file on another device; then all of them are merged into the filesystem's device.
 * From the seal to the end of the merge the device's superblock has a magic number of ours, so that
 * nothing can recognise, check or mount what is neither old nor new. A power cut leaves the old
 * filesystem, the new one, or a sealed device that overlay_finish() makes the new one.
 */
#pragma once

#include <stdint.h>

#include "volume/geometry.h"

struct overlay;

enum {
	OVERLAY_E_NO_ROOM = 1, /* no room for the file, or more has changed than it takes */
	OVERLAY_E_BUSY,        /* the device is in use */
	OVERLAY_E_NO_TARGET,   /* the kernel has no dm-snapshot, or no loop devices */
	OVERLAY_E_LOST,        /* sealed, and its file is not there or damaged: nothing was done */
};

uint64_t overlay_minimum_bytes(const struct geometry *geometry);
int overlay_begin(const char *device, const struct geometry *geometry, const char *file,
		  struct overlay **ret);
const char *overlay_path(const struct overlay *overlay);
int overlay_check(const struct overlay *overlay);
int overlay_keep(struct overlay *overlay);
struct overlay *overlay_free(struct overlay *overlay);
void overlay_freep(struct overlay **overlay);

int overlay_finish(const char *device, const char *file);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/tail.h - an ext4 filesystem that a machine boots from gives way, with nothing else at hand
 *
 * As overlay.h, for a root with /boot in it, before anything is mounted: the tools' changes go to a
 * run of blocks at the end of the device that the filesystem neither uses nor will have, and then
 * all of them are merged. From the seal to the end of the merge the superblock has a checksum of
 * ours: the kernel does not mount that. A boot loader, which asks for no checksum, goes on reading
 * what is below /boot, since none of it moves (else nothing is begun). So a power cut leaves the
 * old filesystem, the new one, or a sealed one from which the machine boots into tail_finish().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	TAIL_E_NO_ROOM = 1, /* too much is in use at the end, or more has changed than fits */
	TAIL_E_BOOT_MOVES,  /* something below /boot lies at the end */
	TAIL_E_BUSY,        /* the device is in use */
	TAIL_E_NO_TARGET,   /* the kernel has no dm-snapshot */
	TAIL_E_UNSUPPORTED, /* its superblock has no checksum, or it is no ext4 */
	TAIL_E_UNCLEAN,     /* errors that only a person should repair */
	TAIL_E_LOST,        /* sealed, and what was to be merged is not there: nothing was done */
};

int tail_can_shrink(const char *device, uint64_t to_bytes, const char *folder, bool may_lower);
int tail_shrink(const char *device, uint64_t to_bytes, const char *folder, char **ret_detail);
int tail_finish(const char *device);
int tail_is_sealed(const char *device);
const char *tail_sentence(int condition);

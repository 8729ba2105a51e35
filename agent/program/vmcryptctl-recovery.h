/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptctl-recovery.h - takes the recovery key over and shows it once
 *
 * From the worker's socket into locked memory and from there to the terminal or a descriptor. The
 * daemon never sees it.
 */
#pragma once

int recovery_take(const char *path, int fd);

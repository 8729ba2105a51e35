/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/lower.h - files of a mounted ext4 are brought out of the end of their device
 *
 * New files land anywhere. One that reaches behind a limit gets a copy that does not, which takes
 * its name when it is whole and durable; places behind the limit that are offered meanwhile are
 * held until then, so that they are not offered again.
 */
#pragma once

#include <stdint.h>

int lower_files(const char *folder, uint64_t limit_bytes);

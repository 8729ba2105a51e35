/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/maptable.h - what an active mapping does with the data, as the kernel has it */
#pragma once

#include <stdbool.h>

int maptable_is_plain(const char *name, bool *ret);

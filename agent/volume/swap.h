/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* volume/swap.h - swap space that is not in use */
#pragma once

int swap_erase(const char *device);
int swap_make(const char *device, const char *uuid, const char *label);

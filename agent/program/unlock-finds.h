/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/unlock-finds.h - the devices that bear a header of ours */
#pragma once

#include <stddef.h>

#include "volume/header.h"

struct found {
	char *device;               /* its kernel name below /dev */
	struct header_info *header; /* NULL once a volume has taken it */
};

struct finds {
	struct found *finds;
	size_t n;
};

int finds_read(struct finds *finds);
void finds_clear(struct finds *finds);
struct found *finds_by_uuid(struct finds *finds, const char *uuid);
struct found *finds_by_device(struct finds *finds, const char *device);

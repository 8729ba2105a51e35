/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/preflight-os.h - what else must hold of the machine before its OS volumes are touched */
#pragma once

#include "job/plan.h"

int preflight_images(struct plan *plan);
int preflight_os(struct plan *plan, struct inventory *inventory);

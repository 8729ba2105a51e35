/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/preflight-volume.h - reasons that belong to one volume */
#pragma once

#include "job/plan.h"

int preflight_volume(struct plan *plan, struct inventory *inventory, struct job *job);
int preflight_left_out(struct plan *plan, struct inventory *inventory);

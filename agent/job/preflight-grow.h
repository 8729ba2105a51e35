/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/preflight-grow.h - reasons why a volume cannot follow its device */
#pragma once

#include "job/plan.h"

int preflight_grow(struct plan *plan);

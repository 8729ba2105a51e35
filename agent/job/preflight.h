/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/preflight.h - may we? All reasons at once
 *
 * Each reason is a row: a stable code, the volume, a sentence and a remedy. Changes nothing on any
 * volume; in the vault it writes, reads, wraps and unwraps a probe, with the machine's own
 * identity. Also the list of codes in vmcrypt(7).
 */
#pragma once

#include "job/plan.h"

int preflight_run(struct plan *plan, struct inventory *inventory);

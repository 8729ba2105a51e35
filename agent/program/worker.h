/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/worker.h - the parts of vmcrypt-worker */
#pragma once

#include "job/plan.h"

int worker_offer_recovery(struct plan *plan);
int worker_inspect(void);
int worker_early(void);
int worker_initramfs(void);
void worker_split(void);
int worker_kernel(const char *version);
void worker_note_plan(struct plan *plan);
void worker_tell_boot(struct plan *plan);

/* shared between worker.c and worker-early.c */
bool worker_is_over(const struct job *job);
size_t worker_begin(struct plan *plan, bool is_boot);
int worker_marker(const struct plan *plan, char **ret);

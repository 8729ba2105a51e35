/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptd-entry.h - one job as the daemon follows it; for vmcryptd-jobs.c, which has them
 * all
 */
#pragma once

#include "job/report.h"
#include "program/vmcryptd-jobs.h"
#include "program/vmcryptd-units.h"

struct jobs {
	struct sd_event *event;
	struct units *units;
	struct job_entry *entries; /* oldest first */
	void (*changed)(const struct job_entry *entry, void *userdata);
	void *userdata;
};

struct job_entry *entry_free(struct job_entry *entry);
void entry_freep(struct job_entry **entry);

const char *entry_state(const struct job_entry *entry);
bool entry_comes_back(const struct job_entry *entry);
bool entry_misses(const struct job_entry *entry); /* a disk, of a conversion that has begun */

int entry_blank(struct job_entry *entry);
void entry_set_report(struct job_entry *entry, struct json_object *report);
void entry_override(struct job_entry *entry, enum job_state state, const char *code,
		    const char *remedy, const char *what);
void entry_died(struct job_entry *entry, const char *code, const char *what);
void entry_refresh(struct job_entry *entry);

int entry_start(struct job_entry *entry);
void entry_restart(struct job_entry *entry);

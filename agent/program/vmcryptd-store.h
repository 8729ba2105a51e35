/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* program/vmcryptd-store.h - the folders of jobs and snapshots
 *
 * /var/lib/vmcrypt/jobs/ID holds request.json (ours, written once), journal.json and at the end
 * report.json (the worker's), and the marker "paused"; /run/vmcrypt/jobs/ID holds the report of a
 * job that runs. Reads with bounds, writes durably, starts nothing.
 */
#pragma once

#include <stdbool.h>

#include "job/request.h"

#define STORE_JOBS_DIRECTORY      "/var/lib/vmcrypt/jobs"
#define STORE_RUN_DIRECTORY       "/run/vmcrypt/jobs"
#define STORE_SNAPSHOTS_DIRECTORY "/var/lib/vmcrypt/snapshots"
#define STORE_OS_SNAPSHOTS_DIRECTORY                                                               \
	"/boot/vmcrypt/snapshots" /* of OS volumes: not on themselves */

#define STORE_REPORT_MAX_BYTES (1024 * 1024) /* 256 volumes with a fault each take 200 KiB */
#define STORE_MANIFEST_MAX_BYTES                                                                   \
	(4 * 1024 * 1024)        /* a thousand files at a few hundred bytes, and room */
#define STORE_FOLDERS_MAX   1000 /* of jobs or of snapshots that are listed */
#define STORE_FINISHED_KEPT 20

enum {
	STORE_E_ABSENT = 1,
	STORE_E_DAMAGED, /* there, but not what it should be */
};

struct store_names {
	char **names; /* sorted: jobs by their time */
	size_t n;
};

void store_names_clear(struct store_names *names);

int store_list_jobs(struct store_names *ret);
int store_list_snapshots(struct store_names *ret);

int store_job_create(const struct request *request, char **ret_id);
int store_job_prepare_run(const char *id);
int store_job_read_request(const char *id, struct request **ret);
int store_job_read_final(const char *id, struct json_object **ret);
int store_job_read_run(const char *id, struct json_object **ret);
int store_job_write_final(const char *id, struct json_object *report);
int store_job_cancel(const char *id, const struct request *request);
int store_job_forget_run(const char *id);
int store_job_keep_reboot(const char *id);
bool store_job_take_reboot(const char *id, bool is_first);
void store_job_arm_reboot(const char *id);
int store_job_set_paused(const char *id, bool is_paused);
int store_job_is_paused(const char *id);
int store_job_remove(const char *id);

int store_snapshot_read(const char *name, struct json_object **ret);
int store_snapshot_summary(const char *name, struct json_object **ret);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/split.h - /boot lies on the root: it gets a partition of its own before anything is encrypted
 *
 * Where that comes from is decided in preflight and kept in the journal: from free space on the
 * disk at once, or from the end of an ext4 root, in the initramfs of one boot more.
 */
#pragma once

#include "boot/split-conf.h"
#include "job/job.h"

#define SPLIT_BYTES                                                                                \
	(512ULL * 1024 * 1024) /* two kernels, their images, what a conversion needs               \
				*/
#define SPLIT_NOTE                                                                                 \
	RUNTIME_DIRECTORY "/split.json" /* the initramfs of this boot could not do it              \
					 */

#define SPLIT_MADE                                                                                 \
	STATE_DIRECTORY                                                                            \
	"/split.json" /* a partition that was made, until /boot is on it for good */
#define SPLIT_MADE_MAX_BYTES 4096

struct split {
	char *boot_uuid; /* of the new filesystem */
	char *folder;    /* of GRUB's menu on the root's filesystem: "/boot/grub", "/@/boot/grub" */
	struct split_conf conf;
};

struct split *split_free(struct split *split);
int split_to_json(const struct split *split, struct json_object **ret);
int split_from_json(struct json_object *object, struct split **ret);

bool split_is_inside(const struct inventory *inventory);
int split_decide(struct plan *plan, struct inventory *inventory);
bool split_waits(const struct plan *plan);

/* What steps-split.c and steps-bootfs.c share; of the job's inventory. NULL = not there (yet). */
#define SPLIT_CONF_BEFORE SPLIT_CONF ".before" /* while images without it are made */
const struct volume *split_disk(const struct job *job);
const struct volume *split_partition(const struct job *job);

/* steps */
int step_split_done(struct job *job);
int step_split(struct job *job);
int step_split_undo(struct job *job);
int step_bootfs_done(struct job *job);
int step_bootfs(struct job *job);
int step_bootfs_undo(struct job *job);
int step_loader_done(struct job *job);
int step_loader(struct job *job);

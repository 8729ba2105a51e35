/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* job/plan.h - what was decided for a request: a job for each volume
 *
 * A plan is made once from a request and the inventory, and kept in journal.json of the job's
 * folder: ids and choices that the disks cannot tell (names, key references, the lines of fstab as
 * they were). How far a job is is never read from here; the disks say that (job/steps.h). A journal
 * that does not parse is refused whole.
 */
#pragma once

#include <sys/stat.h>

#include "base/secret.h"
#include "boot/fstab.h"
#include "job/report.h"
#include "job/request.h"
#include "volume/header.h"
#include "volume/inventory.h"
#include "volume/room.h"

#define STATE_DIRECTORY "/var/lib/vmcrypt"
#define BOOT_DIRECTORY                                                                             \
	"/boot/vmcrypt" /* the same for OS volumes: what the initramfs needs to see */
#define RUNTIME_DIRECTORY "/run/vmcrypt"
#define HEADER_DIRECTORY                                                                           \
	"/boot/vmcrypt/headers" /* detached and exported headers: read live, never copied */
#define KEY_DIRECTORY     "/etc/vmcrypt/keys"
#define FSTAB_PATH        "/etc/fstab"
#define CRYPTTAB_PATH     "/etc/crypttab"
#define JOURNAL_MAX_BYTES (4 * 1024 * 1024) /* 256 volumes with a few kilobytes each */
#define KEY_TIMEOUT_MS    60000             /* interactive: a person waits */

enum {
	PLAN_E_DAMAGED = 1, /* the journal or the request does not parse */
};

struct plan;
struct split;

/* What becomes of one volume. */
struct job {
	struct plan *plan;
	bool is_os; /* on the OS disk: its header is written in the initramfs, its state lies in
		       BOOT_DIRECTORY */
	bool is_root;
	bool is_initrd; /* decrypt: its entry in crypttab said that the initramfs opens it */

	/* decided once, kept in the journal */
	char *uuid;       /* of the filesystem: the volume's name */
	char *filesystem; /* blkid's TYPE */
	char *label;
	char *header_uuid; /* LUKS UUID */
	char *mapping;     /* name below /dev/mapper */
	char *device;      /* link to the backing device that stays; its path when it has none */
	uint64_t device_bytes;
	char *header_file; /* detached or exported header, or NULL: attached */
	enum room_way room;
	unsigned sector_bytes;
	struct key_reference *reference;   /* NULL until the passphrase is stored and proven */
	struct fstab_entries fstab_before; /* decrypt: while it was encrypted */
	struct volume_mount *mounts;       /* where it was mounted when the plan was made */
	size_t n_mounts;
	uid_t root_uid; /* owner and mode of the filesystem's root folder, for a new filesystem */
	gid_t root_gid;
	mode_t root_mode;
	bool is_committing;   /* the header is on its way to the device: see header_apply() in
				 steps-encrypt.c */
	bool is_committed;    /* it has a header: without its device, nothing is undone */
	bool is_restoring;    /* its old head is on its way back: see header_undo() there */
	bool has_boot_failed; /* the initramfs tried and gave up: to be undone by the running system
			       */
	bool is_closed;       /* nothing is left to do */
	bool has_failed;      /* undone; nothing is left to do */

	/* now */
	struct inventory *inventory;
	struct volume *plain;   /* the filesystem on the bare device, or NULL */
	struct volume *backing; /* the bare device, or NULL when it is not attached */
	struct volume *mapped;  /* the filesystem on its mapping, or NULL when that is not active */
	struct header_info *header; /* NULL: no header of ours */
	struct secret *passphrase;
	struct secret *recovery; /* the plan's own; borrowed */
	struct report_volume *progress;
	bool is_forward;       /* its step is the one that commits, or a later one */
	bool has_foreign_disk; /* its key opens nothing there */
	bool is_given_up;      /* its device is away, and a person says that it stays so */
	bool waits_restart;    /* this run can go no further before a boot */
	bool waits_key;        /* nor before the key service answers; nothing is committed */
	bool has_quiet_head;   /* the snapshot's head was taken by this run, unmounted */
};

struct plan {
	char *id;
	char *directory; /* jobs/ID below STATE_DIRECTORY, or BOOT_DIRECTORY with an OS volume in it
			  */
	struct request *request;
	struct job *jobs;
	size_t n_jobs;
	struct split *split; /* /boot gets a partition first; or NULL */
	struct report report;
	struct secret *recovery;
	bool has_os;       /* one of whose steps the initramfs has to know */
	bool is_cancelled; /* what waits for a boot is taken back */
	bool is_look;      /* no job: what stands in the way is all that is asked */
	bool is_initramfs; /* we run there: /boot is all there is of the system */
	bool is_ended;     /* nothing is left to do: the final report is stored */
};

int plan_load(const char *id, struct plan **ret); /* request, and the journal when there is one */
int plan_move(struct plan *plan);                 /* to BOOT_DIRECTORY, when it has an OS volume */
int plan_unmark(const struct plan *plan);
int plan_leave_boot(const struct plan *plan);
int plan_save(struct plan *plan);
int plan_parse_journal(struct plan *plan, struct json_object *object);
int plan_write_journal(const struct plan *plan, struct json_object **ret);
struct plan *plan_free(struct plan *plan);
void plan_freep(struct plan **plan);

int plan_decide(struct plan *plan, struct inventory *inventory);
int plan_to_json(const struct plan *plan,
		 struct json_object **ret); /* varlink type Plan, for people */
int plan_publish(struct plan *plan); /* report.json to /run, and durably to the job's folder when it
					has ended */
int plan_link(struct plan *plan);
int plan_make_uuid(char **ret);
const char *job_state_directory(const struct job *job);
int job_path(const struct job *job, const char *folder, const char *suffix, char **ret);
void job_clear(struct job *job);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-worker --initramfs: the headers of OS volumes, before anything has mounted them */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "boot/cmdline.h"
#include "boot/initramfs-conf.h"
#include "job/job.h"
#include "job/split.h"
#include "job/steps.h"
#include "program/worker.h"
#include "volume/filesystem.h"
#include "volume/tablesplit.h"

#define MARKERS           BOOT_DIRECTORY "/next-boot"
#define BOOT_ID           "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_MAX_BYTES 64
#define CMDLINE           "/proc/cmdline"
#define SYSTEMD           "/run/systemd/system"
#define NOTE_MAX_BYTES    (64 * 1024) /* a few sentences a volume */
#define KEY_WAIT_S        90 /* network, identity and vault together; then the boot goes on as it was */
#define DEVICE_WAIT_S     30
#define MEND_WAIT_S       10 /* a disk that is there shows its partitions at once */
#define BACKOFF_MAX_S     10
#define POLL_MS           100

static time_t now_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static int boot_id(char **ret)
{
	size_t size_bytes;
	int r = file_read(BOOT_ID, BOOT_ID_MAX_BYTES, ret, &size_bytes);

	if (r == 0)
		(*ret)[strcspn(*ret, "\n")] = '\0';
	return r;
}

/* What happened at this boot, for the running system: it has no other way to know. */
static int leave_note(const struct plan *plan, const struct faults *said)
{
	_cleanup_(json_putp) struct json_object *object = json_object_new_object();
	_cleanup_(freep) char *path = NULL, *id = NULL;
	struct json_object *faults;
	int r;

	if (!object)
		return -ENOMEM;
	r = boot_id(&id);
	if (r == 0)
		r = json_set_string(object, "boot_id", id);
	if (r == 0)
		r = faults_to_json(said, &faults);
	if (r == 0)
		r = json_set(object, "faults", faults);
	if (r == 0)
		r = text_format(&path, "%s/boot.json", plan->directory);
	return r < 0 ? r : json_write_file(path, object, 0600);
}

static int copy_faults(struct plan *plan, struct json_object *note)
{
	struct json_object *faults = json_get_array(note, "faults");
	int r = 0;

	for (size_t i = 0; r == 0 && faults && i < json_object_array_length(faults); i++) {
		struct json_object *fault = json_object_array_get_idx(faults, i);
		const char *what = json_get_string(fault, "what"),
			   *remedy = json_get_string(fault, "remedy");

		if (what && remedy)
			r = faults_add(&plan->report.faults, FAULT_WARNING, "not-at-boot",
				       json_get_string(fault, "volume"), "header", remedy,
				       "At the last boot, before the root was mounted: %s", what);
	}
	return r;
}

/**
 * worker_tell_boot() - add what the initramfs has said to the report of a plan that still waits
 *
 * Nothing when this is the boot in which the plan was made.
 */
void worker_tell_boot(struct plan *plan)
{
	_cleanup_(json_putp) struct json_object *note = NULL;
	_cleanup_(freep) char *path = NULL, *id = NULL;
	const char *noted;
	bool waits = false;

	for (size_t i = 0; i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];

		waits |= job->is_os && !worker_is_over(job) && job_look(job) == 0 && !job->header;
	}
	if (!waits || boot_id(&id) < 0 || text_format(&path, "%s/boot.json", plan->directory) < 0 ||
	    json_read_file(path, NOTE_MAX_BYTES, &note) < 0)
		return;
	noted = json_get_string(note, "boot_id");
	if (noted && strcmp(noted, id) == 0)
		(void)copy_faults(plan, note);
	else
		(void)faults_add(
			&plan->report.faults, FAULT_WARNING, "initramfs-silent", NULL, "header",
			"Run vmcryptctl check; see that the boot loader starts a kernel whose initramfs "
			"has the unlocker, then reboot.",
			"The last boot did not come to the OS volume: its initramfs did nothing.");
}

/** worker_note_plan() - this boot is not the one that is waited for, unless a note says otherwise
 */
void worker_note_plan(struct plan *plan)
{
	_cleanup_(freep) char *path = NULL;

	if (!plan->has_os || split_waits(plan) ||
	    text_format(&path, "%s/boot.json", plan->directory) < 0 || access(path, F_OK) == 0)
		return;
	if (leave_note(plan, &(struct faults){ 0 }) < 0)
		log_debug("Job %s: no note on /boot.", plan->id);
}

static bool is_there(const char *uuid)
{
	_cleanup_(freep) char *path = NULL;

	return uuid && text_format(&path, "/dev/disk/by-uuid/%s", uuid) == 0 &&
	       access(path, F_OK) == 0;
}

/* The root has a header of ours, and its conversion is over: the usual boot. */
static bool is_finished(const struct initramfs_conf *conf)
{
	_cleanup_(inventory_freep) struct inventory *inventory = NULL;

	if (conf->header || inventory_read(&inventory) < 0)
		return false;
	for (size_t i = 0; i < inventory->n; i++) {
		_cleanup_(header_info_freep) struct header_info *header = NULL;
		const struct volume *volume = &inventory->volumes[i];

		if (!volume->filesystem || strcmp(volume->filesystem, "crypto_LUKS") != 0 ||
		    header_read(volume->path, NULL, &header) != 0 || !header->token ||
		    strcmp(header->token->mapping, conf->mapping) != 0)
			continue;
		return header->conversion == HEADER_CONVERSION_NONE && !header->is_decrypting;
	}
	return false;
}

static int mount_boot(const struct initramfs_conf *conf, unsigned wait_s, const char *options)
{
	_cleanup_(freep) char *device = NULL;
	int r;

	if (!conf->boot_uuid)
		return -ENOENT;
	for (time_t until = now_s() + wait_s; !is_there(conf->boot_uuid);) {
		if (now_s() > until)
			return -ENODEV;
		(void)poll(NULL, 0, POLL_MS);
	}
	r = text_format(&device, "/dev/disk/by-uuid/%s", conf->boot_uuid);
	if (r == 0)
		r = directory_make("/boot", 0755);
	return r < 0 ? r : filesystem_mount_one(device, "/boot", conf->boot_type, options);
}

/* The root's partition was being made larger when the power failed. */
static void mend_table(const struct initramfs_conf *conf)
{
	time_t until = now_s() + MEND_WAIT_S;

	/* others may come later: what LVM makes, say */
	if (!conf->device || strncmp(conf->device, TABLE_LINKS, strlen(TABLE_LINKS)) != 0)
		return;
	while (access(conf->device, F_OK) < 0 && now_s() < until)
		(void)poll(NULL, 0, POLL_MS);
	if (table_mend_missing(conf->device) == 1)
		(void)job_settle();
}

static bool has_markers(void)
{
	_cleanup_(closedirp) DIR *folder = opendir(MARKERS);
	struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			return true;
	return false;
}

/* Once the root is done, most boots have nothing to do here: they only look, and wait for nothing.
 * Return: as filesystem_mount_one(). */
static int open_boot(const struct initramfs_conf *conf)
{
	if (!is_finished(conf))
		return mount_boot(conf, DEVICE_WAIT_S, NULL);
	if (mount_boot(conf, 0, "ro") != 0 || !has_markers())
		return 0;
	return mount(NULL, "/boot", NULL, MS_REMOUNT, NULL) < 0 ? -errno : 0;
}

static bool has_ended(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_jobs; i++) {
		const struct job *job = &plan->jobs[i];

		if (job->is_os && !worker_is_over(job) && !job->has_boot_failed &&
		    (!job->header || job->is_committing))
			return false;
	}
	return true;
}

/* With dracut it is systemd that mounts the root: what the kernel was told, which must be there
 * when it is encrypted. initramfs-tools is told by our script. Return: 0 or negative, said. */
static int check_root(struct job *job)
{
	_cleanup_(freep) char *root = NULL;
	int r;

	if (!job->is_root || access(SYSTEMD, F_OK) < 0)
		return 0;
	r = cmdline_find_root(CMDLINE, &root);
	if (r < 0)
		return job_fail(job, r, "boot-loader", "Look at the kernel's log.",
				"the kernel's arguments cannot be read: %m");
	if (cmdline_is_by_uuid(root, job->uuid))
		return 0;
	return job_fail(job, -ENODEV, "boot-loader",
			"Make the kernel's arguments say root=UUID=… and reboot.",
			"encrypted, it is not found by what the kernel was told: root=%s",
			root ? root : "");
}

/* What a power cut has left half done needs no key, and without it nothing may boot. Return: 0,
 * JOB_E_LATER (a disk has not come yet), or negative, said. */
static int end_cuts(struct plan *plan)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];

		if (!job->is_os || worker_is_over(job) || job->has_boot_failed)
			continue;
		if (job->is_restoring && access(job->device, F_OK) < 0)
			return JOB_E_LATER;
		r = step_finish_room(job);
		if (r == 0)
			r = step_finish_header(job);
	}
	return r;
}

/* Have all keys in hand before anything changes. Return: 0, JOB_E_LATER, or negative: refused,
 * said. */
static int have_keys(struct plan *plan)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];

		if (!job->is_os || worker_is_over(job) || job->has_boot_failed)
			continue;
		r = job_look(job);
		/* cut before the first byte, and perhaps mounted since: all is made anew */
		if (r == 0 && job->is_committing && job->plain)
			r = step_set_committing(job, false);
		if (r != 0 || job->is_committing)
			continue;
		if (!job->header)
			r = check_root(job);
		if (r == 0 && !job->header)
			r = job_passphrase(job);
	}
	return r;
}

/* Try until all is done, something speaks against it, or it has taken long enough. */
static void carry_out(struct plan *plan)
{
	time_t until = now_s() + KEY_WAIT_S;
	unsigned backoff_s = 1;

	for (unsigned attempt = 1;; attempt++) {
		size_t later;
		int r;

		faults_clear(&plan->report.faults);
		r = end_cuts(plan);
		if (r == 0)
			r = have_keys(plan);
		if (r < 0) {
			log_warning(
				"Job %s: the machine boots as it was; the next boot tries again.",
				plan->id);
			return;
		}
		later = r > 0 ? 1 : worker_begin(plan, true);
		if (later == 0)
			return;
		if (now_s() + backoff_s >= until) {
			log_warning(
				"Job %s: the key could not be had; the machine boots as it was.",
				plan->id);
			return;
		}
		log_notice("Job %s: attempt %u failed, next in %u s.", plan->id, attempt,
			   backoff_s);
		(void)poll(NULL, 0, (int)backoff_s * 1000);
		backoff_s = 2 * backoff_s < BACKOFF_MAX_S ? 2 * backoff_s : BACKOFF_MAX_S;
	}
}

static void do_plan(const char *id)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_(freep) char *marker = NULL;
	int r = plan_load(id, &plan);

	if (r != 0) {
		log_error("Job %s: its journal on /boot is damaged; the machine boots as it was.",
			  id);
		return;
	}
	plan->is_initramfs = true;
	carry_out(plan);
	r = leave_note(plan, &plan->report.faults);
	if (r < 0)
		(void)log_warning_errno(r, "Job %s: no note can be left on /boot: %m", id);
	if (has_ended(plan) && text_format(&marker, MARKERS "/%s", id) == 0)
		(void)file_remove_durably(marker);
}

/**
 * worker_initramfs() - carry out what split.conf says, and what the running system has left on
 * /boot
 *
 * /boot is mounted, and stays so: it may hold the root's header, and who opens that comes next.
 *
 * Return: EXIT_SUCCESS, always: whatever happens, the boot goes on, as it was.
 */
int worker_initramfs(void)
{
	struct initramfs_conf conf = { 0 };
	_cleanup_(closedirp) DIR *folder = NULL;
	struct dirent *entry;
	int r;

	worker_split();
	r = initramfs_conf_read(INITRAMFS_CONF, &conf);
	if (r == -ENOENT)
		return EXIT_SUCCESS; /* nothing but that was wanted */
	if (r != 0) {
		log_error("File " INITRAMFS_CONF " in the initramfs cannot be used: %s.",
			  r < 0 ? strerror(-r) : "malformed");
		return EXIT_SUCCESS;
	}
	(void)job_settle();
	mend_table(&conf);
	r = open_boot(&conf);
	if (r != 0)
		log_warning("/boot cannot be mounted (%s): an encryption that waits for this "
			    "boot waits longer.",
			    r < 0 ? strerror(-r) : "the filesystem refused");
	else
		folder = opendir(MARKERS);
	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			do_plan(entry->d_name);
	initramfs_conf_clear(&conf);
	return EXIT_SUCCESS;
}

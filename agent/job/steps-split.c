/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /boot gets a partition of its own, before anything is encrypted; steps-bootfs.c goes on */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "boot/bootfs.h"
#include "boot/initramfs.h"
#include "job/split.h"
#include "job/steps.h"
#include "volume/lower.h"
#include "volume/tablesplit.h"
#include "volume/tail.h"

#define TABLE_COPY     STATE_DIRECTORY "/split-table" /* as sfdisk(8) reads it */
#define LOWERED        STATE_DIRECTORY "/split-lowered" /* the job that /boot's files were lowered for */
#define NOTE_MAX_BYTES 4096
#define DEVICE_TRIES   20 /* times half a second: udev makes the node */

const struct volume *split_disk(const struct job *job)
{
	const struct volume *root = NULL;
	struct stat device;

	if (stat(job->plan->split->conf.device, &device) == 0)
		root = inventory_find_devno(job->inventory, device.st_rdev);
	return root ? inventory_disk_of(job->inventory, root) : NULL;
}

/* The new partition as the kernel knows it; NULL = not yet. */
const struct volume *split_partition(const struct job *job)
{
	const struct split_conf *conf = &job->plan->split->conf;
	const struct volume *disk = split_disk(job);
	unsigned number;

	if (!disk || table_find(disk->path, conf->start_bytes, conf->size_bytes, &number) != 0)
		return NULL;
	for (size_t i = 0; i < job->inventory->n; i++) {
		const struct volume *volume = &job->inventory->volumes[i];

		if (volume->kind == VOLUME_KIND_PARTITION && volume->partition_number == number &&
		    volume->size_bytes == conf->size_bytes &&
		    inventory_disk_of(job->inventory, volume) == disk)
			return volume;
	}
	return NULL;
}

/* The kernel has it, and udev has made its node. */
int step_split_done(struct job *job)
{
	return job->plan->split && split_partition(job) != NULL;
}

static int save_table(struct job *job, const char *disk)
{
	_cleanup_(freep) char *text = NULL;
	int r = table_dump(disk, &text);

	if (r == 0)
		r = directory_make(STATE_DIRECTORY, 0700);
	if (r == 0)
		r = file_write_atomic(TABLE_COPY, text, strlen(text), 0600);
	return r == 0 ? 0
		      : job_fail(job, r, "snapshot-failed", "Make room below " STATE_DIRECTORY ".",
				 "the partition table cannot be saved");
}

/* Free space on the disk: nothing moves. */
static int split_at_once(struct job *job, const char *disk)
{
	const struct split_conf *conf = &job->plan->split->conf;
	const struct table_split split = { .number = (unsigned)conf->number,
					   .keeps_bytes = 0, /* mounted, and maybe grown since */
					   .start_bytes = conf->start_bytes,
					   .size_bytes = conf->size_bytes,
					   .uuid = conf->partition_uuid };
	int r = table_split(disk, &split);

	if (r != 0)
		return job_fail(job, r, "boot-inside-root",
				"Give /boot a partition of its own (512 MiB) and try again.",
				"no partition can be made for /boot: %s",
				r < 0 ? strerror(-r) : "the table has no place for it");
	for (int i = 0; i < DEVICE_TRIES; i++) {
		(void)job_settle();
		r = job_look(job);
		if (r < 0 || split_partition(job))
			return r;
		(void)usleep(500000);
	}
	return job_fail(job, -ENODEV, "boot-inside-root", "Look at the kernel's log.",
			"the new partition for /boot did not appear");
}

/* The initramfs of this boot has tried, and says why it could not. Return: 0 or negative, said. */
static int check_note(struct job *job)
{
	_cleanup_(json_putp) struct json_object *note = NULL;
	const char *id, *what;

	if (json_read_file(SPLIT_NOTE, NOTE_MAX_BYTES, &note) < 0)
		return 0;
	id = json_get_string(note, "job");
	what = json_get_string(note, "what");
	if (!id || strcmp(id, job->plan->split->conf.job) != 0)
		return 0;
	return job_fail(job, -ECANCELED, "boot-inside-root",
			"Give /boot a partition of its own (512 MiB) and try again.",
			"the root could not give way for a /boot partition: %s",
			what ? what : "unknown");
}

/* The images were ready before this boot, and it has not said a word. */
static int check_silence(struct job *job)
{
	struct timespec now, up;
	struct stat conf;

	if (stat(SPLIT_CONF, &conf) < 0 || clock_gettime(CLOCK_REALTIME, &now) < 0 ||
	    clock_gettime(CLOCK_BOOTTIME, &up) < 0 || conf.st_mtime >= now.tv_sec - up.tv_sec)
		return 0;
	return faults_add(
		&job->plan->report.faults, FAULT_WARNING, "initramfs-silent", job->uuid, "split",
		"See that the boot loader starts a kernel whose initramfs is made by this system, "
		"then reboot.",
		"The last boot made no /boot partition: its initramfs did nothing.");
}

/* Can every image do it? */
static bool is_prepared(const struct split_conf *conf)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	_cleanup_(initramfs_faults_clear) struct initramfs_faults faults = { 0 };
	_cleanup_(split_conf_clear) struct split_conf there = { 0 };

	return split_conf_read(SPLIT_CONF, &there) == 0 && strcmp(there.job, conf->job) == 0 &&
	       initramfs_find("", &images) == 0 && images.n > 0 &&
	       initramfs_verify_all("", &images, NULL, &faults) == 0 && faults.n == 0;
}

static bool is_lowered(const struct split_conf *conf)
{
	_cleanup_(freep) char *text = NULL;

	return file_read(LOWERED, NOTE_MAX_BYTES, &text, NULL) == 0 && strcmp(text, conf->job) == 0;
}

/* What has been written to /boot since, the images before all, may lie where the root gives way. */
static int lower_boot(struct job *job)
{
	const struct split_conf *conf = &job->plan->split->conf;
	int r = lower_files("/boot", conf->filesystem_bytes);

	if (r == 0)
		r = bootfs_settle("/boot");
	if (r == 0)
		r = tail_can_shrink(conf->device, conf->filesystem_bytes, "/boot", false);
	if (r == 0)
		r = file_write_atomic(LOWERED, conf->job, strlen(conf->job), 0600);
	return r == 0 ? 0
		      : job_fail(job, r, "boot-inside-root",
				 "Give /boot a partition of its own (512 MiB) and try again.",
				 "the root cannot give way for a /boot partition: %s",
				 tail_sentence(r));
}

/* Images that make the partition, or mend a table that was cut off. */
static int prepare(struct job *job)
{
	const struct split_conf *conf = &job->plan->split->conf;
	int r;

	r = directory_make("/etc/vmcrypt", 0755);
	if (r == 0)
		r = split_conf_write(SPLIT_CONF, conf);
	if (r < 0)
		return job_fail(job, r, "boot-files", "Make /etc writable.",
				SPLIT_CONF " cannot be written: %m");
	/* some menus boot without an initramfs first */
	r = step_os_point_loader(job, conf->root_uuid);
	if (r == 0)
		r = step_os_regenerate(job, NULL);
	if (r == 0 && conf->filesystem_bytes > 0)
		r = lower_boot(job);
	if (r == 0 && !is_prepared(conf))
		r = job_fail(job, -ENOEXEC, "initramfs-stale",
			     "Run update-initramfs -u -k all (or dracut -f --regenerate-all) and "
			     "look at its output.",
			     "the initramfs images cannot make the /boot partition");
	return r;
}

/* Cut off between two of its parts, all of it is done again; the boot since then says nothing. */
static int prepare_end(struct job *job)
{
	const struct split_conf *conf = &job->plan->split->conf;
	int r;

	if (is_lowered(conf)) {
		r = check_note(job);
		if (r == 0)
			r = check_silence(job);
		if (r < 0 || is_prepared(conf))
			return r;
	}
	r = file_remove_durably(LOWERED);
	if (r < 0)
		return job_fail(job, r, "journal-failed", "Make room below " STATE_DIRECTORY ".",
				LOWERED " cannot be removed: %m");
	(void)unlink(SPLIT_NOTE);
	return prepare(job);
}

/* It is the root that gives way, and for its own sake. */
static bool is_root_open(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_jobs; i++)
		if (plan->jobs[i].is_root)
			return !plan->jobs[i].has_failed && !plan->jobs[i].is_closed;
	return false;
}

/**
 * step_split() - a partition for /boot
 *
 * From free space at once; else the next boot's initramfs is told to take it from the root's end.
 *
 * Return: 0, JOB_E_BOOT, or negative, said.
 */
int step_split(struct job *job)
{
	const struct split *split = job->plan->split;
	const struct volume *disk;
	int r;

	if (!split)
		return 0;
	disk = split_disk(job);
	if (!disk)
		return job_fail(job, -ENODEV, "volume-missing", "Look at the kernel's log.",
				"the disk of the root is not there");
	if (split_partition(job))
		return 0;
	if (!is_root_open(job->plan))
		return job_fail(job, -ECANCELED, "boot-inside-root",
				"See why the root has failed, and try again.",
				"/boot stays in the root, which is not encrypted");
	r = save_table(job, disk->path);
	if (r < 0)
		return r;
	if (split->conf.filesystem_bytes == 0) {
		r = is_prepared(&split->conf) ? 0 : prepare(job);
		return r == 0 ? split_at_once(job, disk->path) : r;
	}
	r = prepare_end(job);
	if (r < 0)
		return r;
	r = faults_add(&job->plan->report.faults, FAULT_WARNING, "boot-split-waits", job->uuid,
		       "split",
		       "Reboot the machine; then, when it says VMRestartPending again, once more.",
		       "The next boot takes 512 MiB from the root's end for a /boot partition; the "
		       "one after it begins to encrypt.");
	return r < 0 ? r : JOB_E_BOOT;
}

/** step_split_undo() - images that make no partition. What has been made stays. Return: 0 or
 * negative. */
int step_split_undo(struct job *job)
{
	bool is_begun = access(SPLIT_CONF, F_OK) < 0;
	int r;

	(void)unlink(LOWERED);
	if (is_begun && access(SPLIT_CONF_BEFORE, F_OK) < 0)
		return 0;
	r = step_os_restore_loader(job,
				   job->plan->split ? job->plan->split->conf.root_uuid : job->uuid);
	if (r != 0)
		return r;
	/* under the one name or the other it is there until the images are made: cut, it is done
	 * again */
	if (rename(SPLIT_CONF, SPLIT_CONF_BEFORE) < 0 && errno != ENOENT)
		return -errno;
	r = step_os_regenerate(job, NULL);
	if (r != 0) {
		if (!is_begun)
			(void)rename(SPLIT_CONF_BEFORE, SPLIT_CONF);
		return r;
	}
	return file_remove_durably(SPLIT_CONF_BEFORE);
}

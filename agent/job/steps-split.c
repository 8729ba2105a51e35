/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /boot gets a partition of its own, and the boot loader follows, before anything is encrypted */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "boot/bootfs.h"
#include "boot/cmdline.h"
#include "boot/fstab.h"
#include "boot/grub.h"
#include "boot/initramfs.h"
#include "job/split.h"
#include "job/steps.h"
#include "volume/filesystem.h"
#include "volume/lower.h"
#include "volume/tablesplit.h"
#include "volume/tail.h"

#define CONF_BEFORE    SPLIT_CONF ".before"           /* while images without it are made */
#define TABLE_COPY     STATE_DIRECTORY "/split-table" /* as sfdisk(8) reads it */
#define ASIDE          RUNTIME_DIRECTORY "/boot"
#define FOLLOWED       BOOT_DIRECTORY "/loader" /* the filesystem that the loader has followed to */
#define NOTE_MAX_BYTES 4096
#define COPY_TIMEOUT_S 1800
#define DEVICE_TRIES   20 /* times half a second: udev makes the node */
#define BOOT_TYPE      "ext4"

static const struct volume *disk_of(const struct job *job)
{
	const struct volume *root = NULL;
	struct stat device;

	if (stat(job->plan->split->conf.device, &device) == 0)
		root = inventory_find_devno(job->inventory, device.st_rdev);
	return root ? inventory_disk_of(job->inventory, root) : NULL;
}

/* The new partition as the kernel knows it; NULL = not yet. */
static const struct volume *find_partition(const struct job *job)
{
	const struct split_conf *conf = &job->plan->split->conf;
	const struct volume *disk = disk_of(job);
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
	return job->plan->split && find_partition(job) != NULL;
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
					   .keeps_bytes = conf->keeps_bytes,
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
		if (r < 0 || find_partition(job))
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

static bool is_prepared(const struct split_conf *conf)
{
	_cleanup_(initramfs_images_clear) struct initramfs_images images = { 0 };
	_cleanup_(initramfs_faults_clear) struct initramfs_faults faults = { 0 };
	_cleanup_(split_conf_clear) struct split_conf there = { 0 };

	return split_conf_read(SPLIT_CONF, &there) == 0 && strcmp(there.job, conf->job) == 0 &&
	       initramfs_find("", &images) == 0 && images.n > 0 &&
	       initramfs_verify_all("", &images, NULL, &faults) == 0 && faults.n == 0;
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
	return r == 0 ? 0
		      : job_fail(job, r, "boot-inside-root",
				 "Give /boot a partition of its own (512 MiB) and try again.",
				 "the root cannot give way for a /boot partition: %s",
				 tail_sentence(r));
}

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
	r = step_os_regenerate(job, NULL);
	if (r == 0)
		r = lower_boot(job);
	if (r == 0 && !is_prepared(conf))
		r = job_fail(job, -ENOEXEC, "initramfs-stale",
			     "Run update-initramfs -u -k all (or dracut -f --regenerate-all) and "
			     "look at its output.",
			     "the initramfs images cannot make the /boot partition");
	return r;
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
	disk = disk_of(job);
	if (!disk)
		return job_fail(job, -ENODEV, "volume-missing", "Look at the kernel's log.",
				"the disk of the root is not there");
	if (find_partition(job))
		return 0;
	if (split->conf.filesystem_bytes == 0) {
		r = save_table(job, disk->path);
		return r == 0 ? split_at_once(job, disk->path) : r;
	}
	r = check_note(job);
	if (r == 0)
		r = check_silence(job);
	if (r == 0 && !is_prepared(&split->conf)) {
		r = save_table(job, disk->path);
		if (r == 0)
			r = prepare(job);
	}
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
	int r;

	if (access(SPLIT_CONF, F_OK) < 0 && access(CONF_BEFORE, F_OK) < 0)
		return 0;
	/* under the one name or the other it is there until the images are made: cut, it is done
	 * again */
	if (rename(SPLIT_CONF, CONF_BEFORE) < 0 && errno != ENOENT)
		return -errno;
	r = step_os_regenerate(job, NULL);
	if (r != 0) {
		(void)rename(CONF_BEFORE, SPLIT_CONF);
		return r;
	}
	return file_remove_durably(CONF_BEFORE);
}

static int fstab_line(const struct split *split, char **ret)
{
	return text_format(ret, "UUID=%s /boot " BOOT_TYPE " defaults 0 2", split->boot_uuid);
}

static const struct volume *boot_volume(const struct job *job)
{
	for (size_t i = 0; i < job->inventory->n; i++)
		for (size_t k = 0; k < job->inventory->volumes[i].n_mounts; k++)
			if (strcmp(job->inventory->volumes[i].mounts[k].target, "/boot") == 0)
				return &job->inventory->volumes[i];
	return NULL;
}

static bool is_mounted(const struct job *job)
{
	const struct volume *boot = boot_volume(job);

	return boot && boot->uuid && strcasecmp(boot->uuid, job->plan->split->boot_uuid) == 0;
}

/* Return: 1 when fstab names the new filesystem for /boot, 0, or -errno. */
static int is_in_fstab(const struct split *split)
{
	const struct fstab_device device = { .uuid = split->boot_uuid };
	struct fstab_entries entries = { 0 };
	int r = fstab_find(FSTAB_PATH, &device, &entries), found;

	found = entries.n > 0;
	fstab_entries_clear(&entries);
	return r < 0 ? r : r == 0 && found;
}

int step_bootfs_done(struct job *job)
{
	int r;

	if (!job->plan->split || !is_mounted(job))
		return 0;
	r = is_in_fstab(job->plan->split);
	return r <= 0 ? r : access(SPLIT_CONF, F_OK) < 0;
}

static int run(const char *const argv[])
{
	_cleanup_(freep) char *output = NULL;
	int status, r = process_run(argv, COPY_TIMEOUT_S, &status, &output);

	if (r == 0 && status != 0) {
		log_warning("%s: %s", argv[0], output ? output : "failed");
		r = -EIO;
	}
	return r;
}

/* All of /boot, into an empty filesystem that nobody knows of yet: cut, it is done again. */
static int copy_boot(struct job *job, const char *device)
{
	static const char *const copy[] = { "cp", "-ax", "/boot/.", ASIDE "/", NULL };
	_cleanup_(freep) char *detail = NULL;
	int r;

	(void)umount2(ASIDE, MNT_DETACH | UMOUNT_NOFOLLOW);
	r = filesystem_make(device, BOOT_TYPE, job->plan->split->boot_uuid, "boot", &detail);
	(void)job_settle();
	if (r == 0)
		r = directory_make(ASIDE, 0700);
	if (r == 0)
		r = filesystem_mount_one(device, ASIDE, BOOT_TYPE, NULL);
	if (r != 0)
		return job_fail(job, r, "boot-inside-root", "Look at the kernel's log.",
				"the new /boot cannot be made: %s",
				detail ? detail : strerror(r < 0 ? -r : EIO));
	r = run(copy);
	if (r == 0)
		r = bootfs_settle(ASIDE);
	(void)umount2(ASIDE, MNT_DETACH | UMOUNT_NOFOLLOW);
	return r < 0 ? job_fail(job, r, "boot-inside-root", "Make /boot smaller and try again.",
				"/boot cannot be copied: %m")
		     : 0;
}

/* What is mounted below the old /boot is to be seen below the new one, too. */
static int mount_below(const struct inventory *inventory)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < inventory->n; i++) {
		const struct volume *volume = &inventory->volumes[i];

		for (size_t k = 0; r == 0 && k < volume->n_mounts; k++) {
			const struct volume_mount *mount = &volume->mounts[k];

			if (strncmp(mount->target, "/boot/", strlen("/boot/")) != 0)
				continue;
			r = directory_make(mount->target, 0755);
			if (r == 0)
				r = filesystem_mount_one(volume->path, mount->target,
							 volume->filesystem, NULL);
		}
	}
	return r;
}

static int mount_boot(struct job *job, const char *device)
{
	static const char *const reload[] = { "systemctl", "daemon-reload", NULL };
	_cleanup_(freep) char *output = NULL;
	int status, r;

	if (is_mounted(job))
		return 0;
	r = filesystem_mount_one(device, "/boot", BOOT_TYPE, NULL);
	if (r == 0)
		r = mount_below(job->inventory);
	/* it makes units of fstab */
	(void)process_run(reload, 60, &status, &output);
	return r == 0 ? job_look(job) : r;
}

/**
 * step_bootfs() - the new filesystem takes the place of the folder
 *
 * The folder stays as it is below the mount point: a boot loader that has not followed yet goes on
 * booting from there, and images from there know of no conversion.
 *
 * Return: 0 or negative, said.
 */
int step_bootfs(struct job *job)
{
	const struct volume *partition;
	_cleanup_(freep) char *line = NULL, *device = NULL;
	int r;

	if (!job->plan->split)
		return 0;
	partition = find_partition(job);
	if (!partition)
		return job_fail(job, -ENODEV, "volume-missing", "Look at the kernel's log.",
				"the new partition for /boot is not there");
	r = file_remove_durably(SPLIT_CONF);
	if (r == 0)
		r = text_copy(partition->path, &device);
	if (r == 0)
		r = fstab_line(job->plan->split, &line);
	if (r == 0)
		r = is_in_fstab(job->plan->split);
	if (r == 0)
		r = copy_boot(job, device);
	if (r >= 0) {
		r = fstab_add(FSTAB_PATH, "/boot", line);
		if (r != 0)
			r = job_fail(job, r, "boot-files", "Repair fstab and make /etc writable.",
				     "/etc/fstab cannot take a line for /boot: %s",
				     r < 0 ? strerror(-r) : "there is one for something else");
	}
	if (r < 0)
		return r;
	r = mount_boot(job, device);
	if (r != 0)
		return job_fail(job, r, "cannot-mount", "Look at the kernel's log.",
				"the new /boot cannot be mounted");
	if (job->is_root && job->backing) {
		job->device_bytes = job->backing->size_bytes;
		job->progress->size_bytes = job->device_bytes;
	}
	r = plan_save(job->plan);
	return r < 0 ? job_fail(job, r, "journal-failed", "Make room on /boot.",
				"the journal cannot be written: %m")
		     : 0;
}

/** step_bootfs_undo() - the folder again, while the loader has not followed. Return: 0 or -errno.
 */
int step_bootfs_undo(struct job *job)
{
	_cleanup_(freep) char *line = NULL;
	int r;

	/* a machine with a /boot partition is fine as it is */
	if (!job->plan->split || step_loader_done(job) == 1)
		return 0;
	r = fstab_line(job->plan->split, &line);
	if (r == 0)
		r = fstab_remove(FSTAB_PATH, line);
	if (r == 0)
		r = job_look(job);
	if (r == 0 && is_mounted(job) && umount2("/boot", MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		r = -errno;
	return r == 0 ? job_look(job) : r;
}

int step_loader_done(struct job *job)
{
	_cleanup_(freep) char *text = NULL;
	size_t size_bytes;

	if (!job->plan->split || !is_mounted(job) ||
	    file_read(FOLLOWED, NOTE_MAX_BYTES, &text, &size_bytes) < 0)
		return 0;
	return strcmp(text, job->plan->split->boot_uuid) == 0;
}

/** step_loader() - the boot loader reads the new /boot. Return: 0 or negative, said. */
int step_loader(struct job *job)
{
	const struct split *split = job->plan->split;
	_cleanup_(freep) char *detail = NULL;
	const struct volume *disk;
	int r;

	if (!split)
		return 0;
	disk = disk_of(job);
	if (!disk)
		return job_fail(job, -ENODEV, "volume-missing", "Look at the kernel's log.",
				"the disk of the root is not there");
	/* its paths are those of the filesystem that it lies on */
	r = cmdline_make_menu("", &detail);
	if (r == 0)
		r = grub_install(disk->path, split->conf.root_uuid, split->boot_uuid, &detail);
	/* a menu without what installs: another program than GRUB reads it, and finds it by itself;
	 * a loader that does not finds the old one, which encrypts nothing */
	if (r == GRUB_E_NO_TOOL) {
		log_notice("Volume %s: there is no grub-install; the menu alone was made anew.",
			   job->uuid);
		r = 0;
	}
	if (r == 0)
		r = file_write_atomic(FOLLOWED, split->boot_uuid, strlen(split->boot_uuid), 0600);
	if (r == 0)
		r = bootfs_settle(FOLLOWED);
	return r == 0 ? 0
		      : job_fail(job, r, "boot-loader", "Look at the output of grub-install.",
				 "the boot loader cannot be made to follow to the new /boot: %s",
				 detail ? detail : strerror(r < 0 ? -r : EIO));
}

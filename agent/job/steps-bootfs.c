/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /boot moves to the partition that it has got, and the boot loader follows */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "boot/bootfs.h"
#include "boot/cmdline.h"
#include "boot/fstab.h"
#include "boot/grub.h"
#include "boot/packages.h"
#include "job/convert.h"
#include "job/split.h"
#include "job/steps.h"
#include "volume/filesystem.h"

#define ASIDE          RUNTIME_DIRECTORY "/boot"
#define FOLLOWING      STATE_DIRECTORY "/split-loader" /* the loader may be at either place */
#define FOLLOWED       BOOT_DIRECTORY "/loader" /* the filesystem that the loader has followed to */
#define NOTE_MAX_BYTES 4096
#define COPY_TIMEOUT_S 1800
#define QUIET_TRIES    1800 /* a second each: packages are installed */
#define BOOT_TYPE      "ext4"

static int fstab_line(const struct split *split, char **ret)
{
	return text_format(ret, "UUID=%s /boot " BOOT_TYPE " defaults 0 2", split->boot_uuid);
}

static bool is_mounted(const struct job *job)
{
	const struct volume *boot = step_os_boot_volume(job);

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
	struct stat there;
	int r = 0;

	for (size_t i = 0; r == 0 && i < inventory->n; i++) {
		const struct volume *volume = &inventory->volumes[i];

		for (size_t k = 0; r == 0 && k < volume->n_mounts; k++) {
			const struct volume_mount *mount = &volume->mounts[k];

			if (strncmp(mount->target, "/boot/", strlen("/boot/")) != 0 ||
			    (stat(mount->target, &there) == 0 && there.st_dev == volume->devno))
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
	int r = 0;

	if (!is_mounted(job))
		r = filesystem_mount_one(device, "/boot", BOOT_TYPE, NULL);
	if (r == 0)
		r = mount_below(job->inventory);
	(void)job_reload();
	return r == 0 ? job_look(job) : r;
}

/* That it is ours, whatever becomes of this job. */
static int keep_made(const struct split *split)
{
	_cleanup_(json_putp) struct json_object *object = NULL;
	int r = directory_make(STATE_DIRECTORY, 0700);

	if (r == 0)
		r = split_to_json(split, &object);
	return r == 0 ? json_write_file(SPLIT_MADE, object, 0600) : r;
}

/* The root is smaller now, whichever of the plan's volumes has come first. */
static void take_size(struct job *job)
{
	for (size_t i = 0; i < job->plan->n_jobs; i++) {
		struct job *root = &job->plan->jobs[i];
		const struct volume *volume =
			root->is_root ? inventory_find_uuid(job->inventory, root->uuid) : NULL;

		if (!volume)
			continue;
		root->device_bytes = volume->size_bytes;
		root->progress->size_bytes = volume->size_bytes;
	}
}

static struct grub_place place_inside(const struct split *split)
{
	return (struct grub_place){ split->conf.root_uuid, split->folder };
}

static struct grub_place place_own(const struct split *split)
{
	return (struct grub_place){ split->boot_uuid, strrchr(split->folder, '/') };
}

/* It may have begun to follow: back to the folder, which is in its place again. */
static int return_loader(struct job *job)
{
	const struct split *split = job->plan->split;
	const struct grub_place inside = place_inside(split), own = place_own(split);
	const struct volume *disk = split_disk(job);
	_cleanup_(freep) char *detail = NULL;
	int r;

	if (access(FOLLOWING, F_OK) < 0)
		return 0;
	r = disk ? grub_install(disk->path, &own, &inside, &detail) : -ENODEV;
	if (r != 0 && r != GRUB_E_NO_TOOL)
		return job_fail(job, r, "boot-loader", "Look at the output of grub-install.",
				"the boot loader cannot be made to return to the old /boot: %s",
				detail ? detail : strerror(r < 0 ? -r : EIO));
	return file_remove_durably(FOLLOWING);
}

/* A kernel that is installed meanwhile would be left in the folder. Return: 0, JOB_E_STOPPED, or
 * negative, said. */
static int lock_packages(struct job *job, struct packages_lock *ret)
{
	int r = -EAGAIN;

	for (unsigned i = 0; r == -EAGAIN && i < QUIET_TRIES; i++) {
		if (i > 0)
			(void)poll(NULL, 0, 1000);
		if (i == 1)
			log_notice("Volume %s: packages are being installed; that is waited for.",
				   job->uuid);
		if (convert_is_stopping())
			return JOB_E_STOPPED;
		r = packages_lock("", ret);
		if (r == -EAGAIN)
			packages_unlock(ret);
	}
	return r < 0 ? job_fail(job, r, "packages-busy",
				"Let what installs packages end, then try again.",
				"/boot cannot move while packages are installed: %m")
		     : 0;
}

/**
 * step_bootfs() - the new filesystem takes the place of the folder
 *
 * The folder stays as it is below the mount point: a boot loader that has not followed yet goes on
 * booting from there, and images from there know of no conversion.
 *
 * Return: 0, JOB_E_STOPPED, or negative, said.
 */
int step_bootfs(struct job *job)
{
	_cleanup_(packages_unlock) struct packages_lock lock = { .n = 0 };
	const struct volume *partition;
	_cleanup_(freep) char *line = NULL, *device = NULL;
	int r;

	if (!job->plan->split)
		return 0;
	partition = split_partition(job);
	if (!partition)
		return job_fail(job, -ENODEV, "volume-missing", "Look at the kernel's log.",
				"the new partition for /boot is not there");
	r = lock_packages(job, &lock);
	if (r != 0)
		return r;
	r = keep_made(job->plan->split);
	/* no image is made with it any more; those that are copied have it until all are made
	 * anew, by the step "boot" or by an undo */
	if (r == 0 && rename(SPLIT_CONF, SPLIT_CONF_BEFORE) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0)
		r = text_copy(partition->path, &device);
	if (r == 0)
		r = fstab_line(job->plan->split, &line);
	if (r == 0)
		r = is_in_fstab(job->plan->split);
	/* it is made anew: no loader may lead there any more */
	if (r == 0)
		r = return_loader(job);
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
	take_size(job);
	r = plan_save(job->plan);
	return r < 0 ? job_fail(job, r, "journal-failed", "Make room on /boot.",
				"the journal cannot be written: %m")
		     : 0;
}

/** step_bootfs_undo() - the folder again, while the loader has not followed. Return: 0 or negative.
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
	if (r == 0)
		r = mount_below(job->inventory);
	(void)job_reload();
	if (r == 0)
		r = job_look(job);
	return r == 0 ? return_loader(job) : r;
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
	struct grub_place inside, own;
	int r;

	if (!split)
		return 0;
	inside = place_inside(split);
	own = place_own(split);
	disk = split_disk(job);
	if (!disk)
		return job_fail(job, -ENODEV, "volume-missing", "Look at the kernel's log.",
				"the disk of the root is not there");
	/* its paths are those of the filesystem that it lies on */
	r = cmdline_make_menu("", &detail);
	if (r == 0)
		r = file_write_atomic(FOLLOWING, split->boot_uuid, strlen(split->boot_uuid), 0600);
	if (r == 0)
		r = grub_install(disk->path, &inside, &own, &detail);
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
	if (r == 0)
		r = file_remove_durably(SPLIT_MADE);
	if (r == 0)
		r = file_remove_durably(FOLLOWING);
	return r == 0 ? 0
		      : job_fail(job, r, "boot-loader", "Look at the output of grub-install.",
				 "the boot loader cannot be made to follow to the new /boot: %s",
				 detail ? detail : strerror(r < 0 ? -r : EIO));
}

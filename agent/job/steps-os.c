/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* how a machine is made to unlock its OS volumes in the initramfs */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "boot/cmdline.h"
#include "boot/initramfs-conf.h"
#include "boot/initramfs.h"
#include "job/split.h"
#include "job/steps.h"

#define CONF_BEFORE INITRAMFS_CONF ".before" /* while images without us are made */

/** step_os_boot_volume() - what is mounted at /boot; NULL = nothing */
struct volume *step_os_boot_volume(const struct job *job)
{
	for (size_t i = 0; i < job->inventory->n; i++)
		for (size_t k = 0; k < job->inventory->volumes[i].n_mounts; k++)
			if (strcmp(job->inventory->volumes[i].mounts[k].target, "/boot") == 0)
				return &job->inventory->volumes[i];
	return NULL;
}

/* What the initramfs is to know. @ret borrows from the job and its inventory: not to be cleared. */
static int plan_conf(const struct job *job, const char *header, struct initramfs_conf *ret)
{
	const struct volume *boot = step_os_boot_volume(job);

	if (!boot || !boot->uuid)
		return -ENOENT;
	*ret = (struct initramfs_conf){
		.root_uuid = job->uuid,
		.mapping = job->mapping,
		.boot_uuid = boot->uuid,
		.boot_type = boot->filesystem,
		.header = (char *)header,
		.header_uuid = job->header_uuid,
		.device = job->device,
		.filesystem = job->filesystem,
		.prompt_after_s = INITRAMFS_PROMPT_AFTER_S,
	};
	return 0;
}

/* Can every kernel that may be booted unlock the root? Return: 0 or negative, said. */
static int verify_images(struct job *job, const struct initramfs_images *images,
			 const struct initramfs_conf *conf)
{
	struct initramfs_faults faults = { 0 };
	int r = initramfs_verify_all("", images, conf, &faults);

	if (r < 0)
		return job_fail(job, r, "initramfs-failed", "Look at the journal.",
				"the initramfs images cannot be looked into: %m");
	for (size_t i = 0; i < faults.n; i++)
		r = job_fail(
			job, -ENOEXEC, "initramfs-stale",
			"Run update-initramfs -u -k all (or dracut -f --regenerate-all) and look at "
			"its output, or remove that kernel.",
			"the initramfs of kernel %s cannot unlock it: %s", faults.faults[i].version,
			faults.faults[i].missing);
	initramfs_faults_clear(&faults);
	return r;
}

/**
 * step_os_regenerate() - all images anew
 * @conf: what they must be made for; NULL = they need not unlock
 *
 * Return: 0 or negative; what is wrong has been said.
 */
int step_os_regenerate(struct job *job, const struct initramfs_conf *conf)
{
	struct initramfs_images images = { 0 };
	int r = initramfs_find("", &images);

	if (r == 0 && images.generator == INITRAMFS_GENERATOR_NONE)
		r = INITRAMFS_E_NO_GENERATOR;
	for (size_t i = 0; r == 0 && i < images.n; i++) {
		_cleanup_(freep) char *detail = NULL;

		if (images.kernels[i].is_rescue)
			continue;
		log_notice("Volume %s: initramfs of kernel %s.", job->uuid,
			   images.kernels[i].version);
		r = initramfs_regenerate("", &images, conf, images.kernels[i].version, &detail);
		if (r != 0)
			r = job_fail(job, r, "initramfs-failed",
				     "Make it work (room on /boot, broken hooks), then try again.",
				     "the initramfs of kernel %s cannot be made: %s",
				     images.kernels[i].version,
				     detail ? detail
				     : r == INITRAMFS_E_NO_ROOM
					     ? "/boot has no room for a second one"
					     : strerror(r < 0 ? -r : EIO));
	}
	if (r > 0)
		r = job_fail(job, r, "initramfs-failed", "Install initramfs-tools or dracut.",
			     "no initramfs can be made");
	if (r == 0 && conf)
		r = verify_images(job, &images, conf);
	initramfs_images_clear(&images);
	return r;
}

static bool is_same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : !a && !b;
}

/**
 * step_os_is_prepared() - does every initramfs know the root as it is to be now?
 * @header: file that the root's header is in, or NULL
 *
 * Images are held against the file that they are made from, so that one has to say it first.
 */
bool step_os_is_prepared(struct job *job, const char *header)
{
	_cleanup_(initramfs_faults_clear) struct initramfs_faults faults = { 0 };
	_cleanup_(initramfs_conf_clear) struct initramfs_conf conf = { 0 };
	struct initramfs_conf wanted;
	int r;

	r = plan_conf(job, header, &wanted);
	if (r == 0)
		r = initramfs_conf_read(INITRAMFS_CONF, &conf);
	if (r != 0 || !is_same(conf.header, wanted.header) ||
	    !is_same(conf.header_uuid, wanted.header_uuid) ||
	    !is_same(conf.mapping, wanted.mapping))
		return false;
	r = initramfs_verify_installed("", &wanted, &faults);
	return r == 0 && faults.n == 0;
}

/** step_os_point_loader() - it starts an initramfs, which finds the root by its UUID. Return: 0 or
 * negative, said. */
int step_os_point_loader(struct job *job, const char *root_uuid)
{
	_cleanup_(freep) char *detail = NULL;
	int r = cmdline_set_root("", root_uuid, &detail);

	if (r == CMDLINE_E_NO_LOADER && !detail)
		detail = strdup("there is no menu of GRUB and there are no loader entries "
				"(unified kernel images are not supported)");
	return r == 0 ? 0
		      : job_fail(job, r, "boot-loader",
				 "Make the kernel's arguments say root=UUID=… and try again.",
				 "the boot loader cannot be told to find the root by its UUID: %s",
				 detail ? detail : strerror(r < 0 ? -r : EIO));
}

/** step_os_restore_loader() - its files as they were. Return: 0 or negative, said. */
int step_os_restore_loader(struct job *job, const char *root_uuid)
{
	_cleanup_(freep) char *detail = NULL;
	int r = cmdline_reset_root("", root_uuid, &detail);

	return r == 0 ? 0
		      : job_fail(job, r, "boot-loader", "Look at the journal.",
				 "the boot loader's files cannot be put back: %s",
				 detail ? detail : strerror(r < 0 ? -r : EIO));
}

/**
 * step_os_prepare() - every later boot of this machine can unlock the root, and boots it plain too
 * @header: file that the root's header is in, or NULL
 *
 * The initramfs that does both is there, and has been looked into, before anything asks for it.
 *
 * Return: 0 or negative; what is wrong has been said.
 */
int step_os_prepare(struct job *job, const char *header)
{
	struct initramfs_conf conf;
	int r;

	r = plan_conf(job, header, &conf);
	if (r == 0)
		r = directory_make("/etc/vmcrypt", 0755);
	if (r == 0)
		r = initramfs_conf_write(INITRAMFS_CONF, &conf);
	if (r != 0)
		return job_fail(job, r, "boot-files", "Mount /boot and make /etc writable.",
				INITRAMFS_CONF " cannot be written: %s",
				strerror(r < 0 ? -r : EINVAL));
	r = step_os_point_loader(job, job->uuid);
	return r == 0 ? step_os_regenerate(job, &conf) : r;
}

/** step_os_forget() - an initramfs without us, and the files as they were. Return: 0 or negative.
 */
int step_os_forget(struct job *job)
{
	int r;

	if (access(INITRAMFS_CONF, F_OK) < 0 && access(CONF_BEFORE, F_OK) < 0)
		return 0;
	r = step_os_restore_loader(job, job->uuid);
	if (r != 0)
		return r;
	/* under the one name or the other it is there until the images are made: cut, it is done
	 * again */
	if (rename(INITRAMFS_CONF, CONF_BEFORE) < 0 && errno != ENOENT)
		return -errno;
	r = step_os_regenerate(job, NULL);
	if (r != 0) {
		(void)rename(CONF_BEFORE, INITRAMFS_CONF);
		return r;
	}
	return file_remove_durably(CONF_BEFORE);
}

/** step_os_boot_done() - crypttab has the volume, and every initramfs can unlock the root */
int step_os_boot_done(struct job *job)
{
	int r;

	if (job->plan->is_initramfs) /* it is what this is */
		return 1;
	r = step_boot_done(job);
	if (r <= 0 || !job->is_root)
		return r;
	return access(SPLIT_CONF_BEFORE, F_OK) < 0 && step_os_is_prepared(job, job->header_file);
}

int step_os_boot(struct job *job)
{
	int r = step_boot(job);

	if (r != 0 || !job->is_root)
		return r;
	r = step_os_prepare(job, job->header_file);
	if (r != 0)
		return r;
	/* no image makes a partition for /boot any more */
	r = file_remove_durably(SPLIT_CONF_BEFORE);
	return r < 0 ? job_fail(job, r, "boot-files", "Make /etc writable.",
				SPLIT_CONF_BEFORE " cannot be removed: %m")
		     : 0;
}

int step_os_boot_undo(struct job *job)
{
	int r = step_boot_undo(job);

	return r < 0 || !job->is_root ? r : step_os_forget(job);
}

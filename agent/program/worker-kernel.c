/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-worker --kernel VERSION: a kernel was installed; can it find and unlock the root? */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "boot/cmdline.h"
#include "boot/initramfs-conf.h"
#include "boot/initramfs.h"
#include "program/worker.h"

/* A new entry has the arguments of the kernel that runs, or GRUB's own: they may name the root's
 * device. */
static void name_root(void)
{
	_cleanup_(initramfs_conf_clear) struct initramfs_conf conf = { 0 };
	_cleanup_(freep) char *found = NULL, *detail = NULL;
	int r;

	if (initramfs_conf_read(INITRAMFS_CONF, &conf) != 0)
		return; /* said when the images are looked into */
	r = cmdline_check_root("", conf.root_uuid, &found);
	if (r == CMDLINE_E_OTHER_ROOT)
		r = cmdline_set_root("", conf.root_uuid, &detail);
	if (r == CMDLINE_E_NO_LOADER)
		log_warning("The boot loader's entries cannot be found; make the arguments of each "
			    "kernel say root=UUID=%s before the next reboot.",
			    conf.root_uuid);
	else if (r != 0)
		log_warning("The boot loader cannot be told to find the root by its UUID: %s. Make "
			    "the arguments of each kernel say root=UUID=%s before the next reboot.",
			    detail ? detail : strerror(r < 0 ? -r : EIO), conf.root_uuid);
}

/**
 * worker_kernel() - make the boot entries find the root, look into the initramfs of one kernel, and
 * warn before it is booted
 * @version: as `uname -r` says it; NULL or empty = all
 *
 * Called by what installs kernels, which must not fail for it: the machine runs, and its other
 * kernels boot.
 *
 * Return: EXIT_SUCCESS, always.
 */
int worker_kernel(const char *version)
{
	_cleanup_(initramfs_faults_clear) struct initramfs_faults faults = { 0 };
	int r;

	if (access(INITRAMFS_CONF, F_OK) < 0)
		return EXIT_SUCCESS;
	name_root();
	r = initramfs_verify_installed("", NULL, &faults);
	if (r != 0)
		log_warning(
			"The initramfs images cannot be looked into; run vmcryptctl check before "
			"the next reboot.");
	for (size_t i = 0; r == 0 && i < faults.n; i++) {
		const struct initramfs_fault *fault = &faults.faults[i];

		if (version && *version && strcmp(version, fault->version) != 0)
			continue;
		log_warning(
			"Kernel %s cannot unlock the root: its initramfs lacks %s. Do not boot it; "
			"run update-initramfs -u -k %s (or dracut -f --kver %s) first.",
			fault->version, fault->missing ? fault->missing : "our files",
			fault->version, fault->version);
	}
	return EXIT_SUCCESS;
}

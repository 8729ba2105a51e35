/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-worker --kernel VERSION: a kernel was installed; can it unlock the root? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "boot/initramfs-conf.h"
#include "boot/initramfs.h"
#include "program/worker.h"

/**
 * worker_kernel() - look into the initramfs of one kernel, and warn before it is booted
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

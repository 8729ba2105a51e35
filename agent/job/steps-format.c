/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "job/steps.h"
#include "volume/filesystem.h"
#include "volume/mapping.h"

/* Whole only when the note is gone: it stays until the new filesystem is made, mounted and flushed.
 */
static int format_done(struct job *job)
{
	return step_encrypt_done(job);
}

static int open_and_make(struct job *job)
{
	_cleanup_(freep) char *path = NULL, *detail = NULL;
	int r;

	r = mapping_path(job->mapping, &path);
	if (r < 0)
		return r;
	r = mapping_open(job->backing->path, NULL, job->mapping, job->passphrase);
	if (r != 0)
		return job_fail(job, r, "cannot-open", "Look at the kernel's log.",
				"its mapping cannot be opened");
	r = filesystem_make(path, job->filesystem, job->uuid, job->label, &detail);
	if (r != 0)
		return job_fail(job, r, "mkfs-failed", "Install the filesystem's tools and reboot.",
				"a new filesystem cannot be made: %s", detail ? detail : "unknown");
	r = file_sync_path(path);
	(void)job_settle();
	return r < 0 ? r : job_look(job);
}

/**
 * format_apply() - the header first, then a new filesystem of the same kind, UUID, label and root
 * folder
 *
 * Cut anywhere, it is simply made anew: the note in the journal goes away last.
 */
static int format_apply(struct job *job)
{
	_cleanup_(freep) char *file = NULL;
	int r;

	r = step_staging_path(job, &file);
	if (r == 0)
		r = job_passphrase(job);
	if (r != 0)
		return r;
	/* until the note says so, the old filesystem is there: what else is there is another's */
	if (!job->backing || (!job->is_committing && !job->plain))
		return job_fail(job, -ENODEV, "volume-missing", "Attach the disk again.",
				"its device %s is not there, or another", job->device);
	if (job->mapped)
		r = step_unmount(job, job->mapped);
	if (r == 0 && job->mapped)
		r = mapping_close(job->mapping);
	if (r == 0 && job->plain)
		r = step_unmount(job, job->plain);
	if (r == 0)
		r = step_set_committing(job, true);
	if (r != 0)
		return r < 0 ? r : -EBUSY;
	r = header_commit(job->backing->path, file);
	if (r != 0)
		return job_fail(job, r, "header-failed", "Reboot: it is written again.",
				"its header cannot be written: %s", strerror(r < 0 ? -r : EIO));
	(void)job_settle();
	r = job_look(job);
	if (r == 0)
		r = open_and_make(job);
	if (r == 0)
		r = job_attach(job);
	if (r != 0)
		return r;
	if (job->n_mounts > 0 && (chown(job->mounts[0].target, job->root_uid, job->root_gid) < 0 ||
				  chmod(job->mounts[0].target, job->root_mode & 07777) < 0))
		return job_fail(job, -errno, "cannot-mount", "Set owner and mode by hand.",
				"its root folder cannot get its owner and mode back");
	if (job->n_mounts > 0)
		(void)file_sync_path(job->mounts[0].target);
	r = step_set_committing(job, false);
	return r < 0 ? r : job_look(job);
}

/* clang-format off */
static const struct step steps[] = {
	{ "snapshot",   step_snapshot_done,   step_snapshot,   NULL,           false },
	{ "passphrase", step_passphrase_done, step_passphrase, NULL,           false },
	{ "keyslots",   step_keyslots_done,   step_keyslots,   step_keyslots_undo, false },
	{ "boot",       step_boot_done,       step_boot,       step_boot_undo, false },
	{ "format",     format_done,          format_apply,    NULL,           true  },
	{ "verify",     NULL,                 step_verify,     NULL,           false },
	{ "tidy",       step_tidy_done,       step_tidy,       NULL,           false },
};
/* clang-format on */

const struct steps format_steps = { steps, ARRAY_SIZE(steps) };

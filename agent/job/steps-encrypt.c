/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "job/snapshot.h"
#include "job/split.h"
#include "job/steps.h"
#include "volume/filesystem.h"
#include "volume/mapping.h"
#include "volume/reencrypt.h"

/** step_staging_path() - where a header is built: never on the volume itself */
int step_staging_path(const struct job *job, char **ret)
{
	return job_path(job, "headers", "staged", ret);
}

/* The copy in which reencryption is initialised, beside its place for a detached header. */
static int commit_path(const struct job *job, char **ret)
{
	return job->header_file ? text_format(ret, "%s.partial", job->header_file)
				: job_path(job, "headers", "commit", ret);
}

/** step_keyslots() - the whole header with all its keyslots, in a file on another device */
int step_keyslots(struct job *job)
{
	_cleanup_(freep) char *file = NULL, *folder = NULL;
	int r;

	if (!job->backing)
		return job_fail(job, -ENODEV, "volume-missing", "Attach the disk again.",
				"its device %s is not there", job->device);
	r = text_format(&folder, "%s/headers", job_state_directory(job));
	if (r == 0)
		r = directory_make(folder, 0700);
	if (r == 0)
		r = step_staging_path(job, &file);
	if (r < 0)
		return job_fail(job, r, "header-failed", "Make room below " STATE_DIRECTORY ".",
				"its header has no place: %m");
	r = job_passphrase(job);
	return r == 0 ? step_build_header(job, file) : r;
}

int step_keyslots_done(struct job *job)
{
	_cleanup_(header_info_freep) struct header_info *header = NULL;
	_cleanup_(freep) char *file = NULL, *backup = NULL;
	int r;

	if (!job->reference || !job->backing)
		return 0;
	r = step_staging_path(job, &file);
	if (r == 0)
		r = job_header_ending(job, &backup);
	if (r < 0)
		return r;
	if (access(file, F_OK) < 0 || access(backup, F_OK) < 0)
		return 0;
	r = header_read(job->backing->path, file, &header);
	return r == 0 && header->token &&
	       header->keyslots >= (job->plan->request->has_recovery_key ? 2 : 1);
}

int step_keyslots_undo(struct job *job)
{
	_cleanup_(freep) char *file = NULL, *ending = NULL;
	int r;

	r = step_staging_path(job, &file);
	if (r == 0)
		r = file_remove_durably(file);
	if (r == 0)
		r = job_header_ending(job, &ending);
	return r == 0 ? file_remove_durably(ending) : r;
}

/** step_mount_plain() - a data volume without a header is mounted as it was. Return: 0 or negative.
 */
int step_mount_plain(struct job *job)
{
	struct volume was = { .mounts = job->mounts, .n_mounts = job->n_mounts };
	int r = job_look(job);

	/* below a header elsewhere the device shows the filesystem, too, until its data moves */
	if (r < 0 || job->is_os || job->header || job->mapped || !job->plain ||
	    job->plain->n_mounts > 0)
		return r;
	return filesystem_mount_all(job->plain->path, &was);
}

/**
 * step_build_header() - keyslots and token in a file, proven
 *
 * Done while the volume is still in use: none of it touches the volume.
 */
int step_build_header(struct job *job, const char *file)
{
	_cleanup_(freep) char *backup = NULL;
	struct header_plan plan;
	int r;

	(void)unlink(file);
	r = job_header_ending(job, &backup);
	if (r < 0)
		return r;
	(void)unlink(backup);
	r = step_header_plan(job, file, &plan);
	if (r < 0)
		return job_fail(job, r, "header-failed", "Free some memory and try again.",
				"its header cannot be planned: %m");
	r = header_build(&plan);
	if (r == 0)
		r = header_prove(plan.device, file, job->passphrase);
	/* the end of a conversion that was cut in its very last moment is made from this */
	if (r == 0)
		r = header_backup(plan.device, file, backup);
	header_token_free((struct header_token *)plan.token);
	return r == 0 ? 0
		      : job_fail(job, r, "header-failed", "Make room below " STATE_DIRECTORY ".",
				 "its header cannot be built: %s",
				 r < 0 ? strerror(-r) : "the passphrase does not open it");
}

/* Reencryption is initialised in a copy: cut before the commit, it is stale, and the next try needs
 * a fresh one. */
static int copy_header(struct job *job, const char *file)
{
	_cleanup_(freep) char *built = NULL;
	int r;

	r = step_staging_path(job, &built);
	if (r == 0)
		r = file_copy(built, file, 0600);
	return r < 0 ? job_fail(job, r, "header-failed",
				"Make room below " STATE_DIRECTORY " and /boot.",
				"its header cannot be copied: %m")
		     : 0;
}

static int initialise(struct job *job, const char *file)
{
	struct header_plan plan;
	int r;

	r = step_header_plan(job, file, &plan);
	if (r < 0)
		return r;
	r = header_initialise(&plan);
	header_token_free((struct header_token *)plan.token);
	return r == 0 ? 0
		      : job_fail(job, r, "header-failed",
				 "Nothing was changed; look at the journal and try again.",
				 "its encryption cannot be initialised: %s",
				 r < 0                ? strerror(-r)
				 : r == HEADER_E_BUSY ? "the device is in use"
						      : "it is encrypted already");
}

int step_set_committing(struct job *job, bool is_committing)
{
	int r;

	job->is_committing = is_committing;
	r = plan_save(job->plan);
	return r < 0 ? job_fail(job, r, "journal-failed", "Make room below " STATE_DIRECTORY ".",
				"the journal cannot be written: %m")
		     : 0;
}

/*
 * The header goes onto the volume's head. The journal says so before the first byte is written, and
 * that it is over only after the last is flushed. So at the next start: no note = the volume is
 * untouched or whole; a note and a plain filesystem at the head = the cut came before the first
 * byte, and since the filesystem may have been mounted meanwhile, all is made anew; a note and
 * anything else = the file holds the only whole header, and is written again.
 */
static int commit_header(struct job *job, const char *file)
{
	int r;

	r = header_commit(job->backing->path, file);
	if (r != 0)
		return job_fail(job, r, "header-failed",
				"Reboot: it is written again from the file kept for that.",
				"its header cannot be written: %s", strerror(r < 0 ? -r : EIO));
	job->is_committed = true;
	r = step_set_committing(job, false);
	if (r < 0)
		return r;
	(void)file_remove_durably(file);
	return 0;
}

static int header_attached(struct job *job, const char *file)
{
	int r;

	/* the cut came after the last byte of it */
	if (job->is_committing && job->header && job->mapped)
		return step_set_committing(job, false);
	if (job->is_committing && !job->plain && access(file, F_OK) == 0)
		return commit_header(job, file);
	if (!job->plain)
		return job_fail(job, -ENODEV, "volume-missing", "Attach the disk again.",
				"its filesystem is not on %s", job->device);
	r = job_passphrase(job);
	if (r == 0)
		r = step_make_room_mounted(job);
	if (r == 0)
		r = step_unmount(job, job->plain);
	if (r == 0)
		r = job_look(job);
	if (r == 0)
		r = step_make_room_unmounted(job);
	if (r == 0 && snapshot_take_head(job) < 0)
		r = job_fail(job, -EIO, "snapshot-failed", "Make room below " STATE_DIRECTORY ".",
			     "its first sectors cannot be saved");
	job->has_quiet_head = r == 0;
	if (r == 0)
		r = copy_header(job, file);
	if (r == 0)
		r = initialise(job, file);
	if (r == 0)
		r = step_set_committing(job, true);
	return r == 0 ? commit_header(job, file) : r;
}

/* Nothing on the volume changes: the header's place is the commit. */
static int header_detached(struct job *job, const char *file)
{
	int r;

	if (!job->plain)
		return job_fail(job, -ENODEV, "volume-missing", "Attach the disk again.",
				"its filesystem is not on %s", job->device);
	r = job_passphrase(job);
	if (r == 0)
		r = directory_make(HEADER_DIRECTORY, 0700);
	if (r == 0)
		r = step_unmount(job, job->plain);
	if (r == 0)
		r = job_look(job);
	if (r == 0)
		r = copy_header(job, file);
	if (r == 0)
		r = initialise(job, file);
	if (r == 0 && rename(file, job->header_file) < 0)
		r = -errno;
	return r == 0 ? file_sync_parent(job->header_file) : r;
}

/**
 * step_finish_header() - the header that was being written when the power failed; needs no key
 *
 * Nothing where none was, where its device is not there, and where it has come to its end.
 *
 * Return: 0 or negative, said.
 */
int step_finish_header(struct job *job)
{
	_cleanup_(freep) char *file = NULL;
	int r;

	if (!job->is_committing || job->plan->request->kind != REQUEST_ENCRYPT)
		return 0;
	r = job_look(job);
	if (r == 0)
		r = commit_path(job, &file);
	if (r < 0)
		return r;
	if (!job->backing || job->plain || job->header || access(file, F_OK) < 0)
		return 0;
	return commit_header(job, file);
}

static int header_done(struct job *job)
{
	return job->header && !job->is_committing && !job->header->is_decrypting;
}

static int header_apply(struct job *job)
{
	_cleanup_(freep) char *file = NULL;
	int r;

	r = commit_path(job, &file);
	if (r < 0)
		return job_fail(job, r, "header-failed", "Make room below " STATE_DIRECTORY ".",
				"its header has no place: %m");
	r = job->header_file ? header_detached(job, file) : header_attached(job, file);
	if (r != 0)
		return r;
	(void)job_settle();
	r = job_look(job);
	if (r < 0)
		return r;
	if (job->header && !job->is_committed) {
		job->is_committed = true;
		r = plan_save(job->plan);
		if (r < 0)
			return job_fail(job, r, "journal-failed", "Make room on /boot.",
					"the journal cannot be written: %m");
	}
	return job_attach(job);
}

/* Only while nobody has written through the mapping: its head goes back, then it is mounted as it
 * was. */
static int header_undo(struct job *job)
{
	_cleanup_(freep) char *file = NULL;
	bool is_torn, is_unused;
	int r;

	/* a merge that failed has left nothing that could be mounted */
	r = step_finish_room(job);
	if (r == 0)
		r = job_look(job);
	if (r != 0)
		return r < 0 ? r : -ENODEV;
	/* detached just now: what is left of it can only be seen when it is back */
	if (job_is_away(job))
		return -ENODEV;
	is_torn = job->is_committing && !job->header && !job->plain && job->backing;
	is_unused = job->header && job->header->encrypted_bytes == 0 &&
		    !(job->mapped && job->mapped->n_mounts > 0);
	/* a boot in between may have mounted it and written: then its old head is not its head */
	if (job->header && (!is_unused || (!job->has_quiet_head && !job->header_file)))
		return -EBUSY;
	if (is_torn || is_unused) {
		r = mapping_close(job->mapping);
		if (r == 0 && job->header_file)
			r = file_remove_durably(job->header_file);
		else if (r == 0)
			r = step_restore_head(job);
		if (r != 0)
			return r < 0 ? r : -EBUSY;
	}
	job->is_committing = job->is_committed = false;
	if (commit_path(job, &file) == 0)
		(void)file_remove_durably(file);
	r = step_mount_plain(job);
	if (r == 0)
		r = job_look(job);
	if (r == 0 && job->plain && job->plain->n_mounts > 0) {
		_cleanup_(freep) char *detail = NULL;

		/* the filesystem takes back what it gave; a larger device stays larger */
		(void)filesystem_grow(job->plain->path, job->filesystem,
				      job->plain->mounts[0].target, &detail);
	}
	return r;
}

int step_encrypt_done(struct job *job)
{
	return job->header && !job->is_committing &&
	       job->header->conversion == HEADER_CONVERSION_NONE && !job->header->is_decrypting;
}

int step_tidy_done(struct job *job)
{
	return job->is_closed;
}

/** step_keep_header_backup() - as it is now, in place of the one before. Return: 0, HEADER_E_* or
 * -errno. */
int step_keep_header_backup(struct job *job)
{
	_cleanup_(freep) char *path = NULL, *elsewhere = NULL;
	int r;

	r = job_path(job, "headers", "backup", &path);
	if (r < 0)
		return r;
	(void)unlink(path);
	r = header_backup(job->backing->path, job_header_file(job), path);
	if (r != 0 || !job->is_os)
		return r;
	/* a /boot that is damaged while the root is open; for one that is lost with the machine off
	 * there is only the copy that "header-detached" asks for */
	r = directory_make(STATE_DIRECTORY "/headers", 0700);
	if (r == 0)
		r = text_format(&elsewhere, STATE_DIRECTORY "/headers/%s.backup", job->header_uuid);
	return r == 0 ? file_copy(path, elsewhere, 0600) : r;
}

/** tidy: the filesystem takes the room that is left, plain copies go, the header is kept once more
 */
int step_tidy(struct job *job)
{
	_cleanup_(freep) char *path = NULL, *detail = NULL;
	int r;

	r = job_look(job);
	if (r == 0)
		r = mapping_path(job->mapping, &path);
	if (r < 0)
		return r;
	if (job->mapped && job->mapped->n_mounts > 0 && !job->header_file) {
		r = job_passphrase(job);
		if (r == 0)
			r = mapping_resize(NULL, job->mapping, job->passphrase);
		if (r == 0)
			r = filesystem_grow(path, job->filesystem, job->mapped->mounts[0].target,
					    &detail);
		if (r != 0)
			log_warning("Volume %s: the filesystem could not grow back by 16 MiB: %s",
				    job->uuid, detail ? detail : "unknown");
	}
	if (step_keep_header_backup(job) != 0)
		log_warning("Volume %s: no backup of its header could be kept below %s.", job->uuid,
			    job_state_directory(job));
	/* the header on the disk is the only one that counts now */
	(void)step_keyslots_undo(job);
	r = snapshot_forget_data(job);
	if (r < 0)
		log_warning_errno(r, "Volume %s: the snapshot still holds plain sectors: %m",
				  job->uuid);
	/* systemd knows the volume by what fstab and crypttab say now */
	if (!job->is_os)
		(void)job_reload();
	return step_close(job);
}

/* clang-format off */
static const struct step os_steps[] = {
	{ "split",      step_split_done,      step_split,      step_split_undo, false },
	{ "bootfs",     step_bootfs_done,     step_bootfs,     step_bootfs_undo, false },
	{ "loader",     step_loader_done,     step_loader,     NULL,           false },
	{ "snapshot",   step_snapshot_done,   step_snapshot,   NULL,           false },
	{ "passphrase", step_passphrase_done, step_passphrase, NULL,           false },
	{ "keyslots",   step_keyslots_done,   step_keyslots,   step_keyslots_undo, false },
	{ "boot",       step_os_boot_done,    step_os_boot,    step_os_boot_undo, false },
	{ "header",     header_done,          header_apply,    header_undo,    false },
	{ "encrypt",    step_encrypt_done,    step_convert,    NULL,           true  },
	{ "verify",     NULL,                 step_verify,     NULL,           false },
	{ "swap",       NULL,                 step_swap_encrypt, NULL,         false },
	{ "tidy",       step_tidy_done,       step_tidy,       NULL,           false },
};

static const struct step steps[] = {
	{ "snapshot",   step_snapshot_done,   step_snapshot,   NULL,           false },
	{ "passphrase", step_passphrase_done, step_passphrase, NULL,           false },
	{ "keyslots",   step_keyslots_done,   step_keyslots,   step_keyslots_undo, false },
	{ "boot",       step_boot_done,       step_boot,       step_boot_undo, false },
	{ "header",     header_done,          header_apply,    header_undo,    false },
	{ "encrypt",    step_encrypt_done,    step_convert,    NULL,           true  },
	{ "verify",     NULL,                 step_verify,     NULL,           false },
	{ "tidy",       step_tidy_done,       step_tidy,       NULL,           false },
};
/* clang-format on */

const struct steps encrypt_steps = { steps, ARRAY_SIZE(steps) };
const struct steps encrypt_os_steps = { os_steps, ARRAY_SIZE(os_steps) };

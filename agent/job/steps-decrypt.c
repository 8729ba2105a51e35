/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "boot/crypttab.h"
#include "boot/fstab.h"
#include "job/record.h"
#include "job/snapshot.h"
#include "job/steps.h"
#include "volume/device.h"
#include "volume/filesystem.h"
#include "volume/keyslots.h"
#include "volume/mapping.h"
#include "volume/reencrypt.h"

/* Nothing was changed, and it is large: the next try takes one of its own. */
static int snapshot_undo(struct job *job)
{
	return snapshot_forget_data(job);
}

/* The header says where the passphrase is; that it answers is proven before anything changes. */
static int passphrase_apply(struct job *job)
{
	int r;

	if (!job->header)
		return job_fail(job, -ENOENT, "volume-missing", "Attach the disk again.",
				"its LUKS2 header is not there");
	r = job_passphrase(job);
	if (r != 0)
		return r;
	r = header_prove(job->backing->path, job_header_file(job), job->passphrase);
	return r == 0 ? 0
		      : job_fail(job, r, "key-corrupt", "Open it with a recovery key.",
				 "the stored passphrase does not open its header");
}

static int export_done(struct job *job)
{
	return job->header && job->header->is_detached;
}

/*
 * The way back begins with a copy of the header on another device, from now on the one that counts:
 * the head of the volume is where its first data will go. Until it is whole under its final name it
 * is nothing.
 */
static int export_apply(struct job *job)
{
	_cleanup_(freep) char *partial = NULL;
	int r;

	r = text_format(&partial, "%s.partial", job->header_file);
	if (r == 0)
		r = directory_make(HEADER_DIRECTORY, 0700);
	if (r < 0)
		return job_fail(job, r, "header-failed", "Make room on /boot and try again.",
				"its header has no place: %m");
	(void)unlink(partial);
	r = header_export(job->backing->path, partial);
	if (r == 0)
		r = header_prove(job->backing->path, partial, job->passphrase);
	if (r == 0 && rename(partial, job->header_file) < 0)
		r = -errno;
	if (r == 0)
		r = file_sync_parent(job->header_file);
	if (r != 0) {
		(void)unlink(partial);
		return job_fail(job, r, "header-failed", "Make room on /boot and try again.",
				"its header cannot be copied: %s", strerror(r < 0 ? -r : EBADMSG));
	}
	return job_look(job);
}

/*
 * Is the file the only header? It is where the header has always been detached, and from the moment
 * on that the initialisation of a decryption, whether or not it came to its end, has begun to wipe
 * the one at the head. Then the file, and all that names it, stays.
 *
 * Return: 1, 0 or -errno.
 */
static int is_only_header(const struct job *job)
{
	_cleanup_(header_info_freep) struct header_info *head = NULL;
	int r;

	if (!job->backing)
		return -ENODEV;
	r = header_read(job->backing->path, NULL, &head);
	if (r < 0)
		return r;
	return r > 0 || strcasecmp(head->uuid, job->header_uuid) != 0;
}

static int export_undo(struct job *job)
{
	int r = is_only_header(job);

	if (r >= 0 && keyslots_forget(job->header_file) < 0)
		return -EIO;
	if (r != 0)
		return r < 0 ? r : 0;
	return file_remove_durably(job->header_file);
}

static int tell_crypttab(const struct job *job, bool is_exported, bool is_initrd)
{
	_cleanup_(freep) char *source = NULL;
	struct crypttab_entry entry;
	int r;

	r = is_exported ? text_format(&source, "%s", job->device)
			: text_format(&source, "UUID=%s", job->header_uuid);
	if (r < 0)
		return r;
	entry = (struct crypttab_entry){ .name = job->mapping,
					 .device = source,
					 .header = is_exported ? job->header_file : NULL,
					 .is_initrd = is_initrd };
	r = crypttab_point(CRYPTTAB_PATH, &entry);
	return r > 0 ? -EBADMSG : r;
}

static struct fstab_device fstab_device_of(const struct job *job)
{
	return (struct fstab_device){ .path = job->mapped ? job->mapped->path : NULL,
				      .uuid = job->uuid,
				      .label = job->label,
				      .mapping = job->mapping };
}

/* Mounted in the initramfs, which opens the root before that, and finds /usr only by its UUID. */
static bool is_mounted_early(const struct job *job)
{
	bool is_early = job->is_root;

	for (size_t i = 0; i < job->n_mounts; i++)
		is_early |= strcmp(job->mounts[i].target, "/usr") == 0;
	return is_early;
}

/* Do all entries name the mapping, and nothing else? Return: 1, 0 or -errno. */
static int entries_are_pointed(const struct job *job)
{
	const struct fstab_device device = fstab_device_of(job);
	_cleanup_(fstab_entries_clear) struct fstab_entries entries = { 0 };
	_cleanup_(freep) char *spec = NULL;
	int r, is_pointed = 1;

	if (is_mounted_early(job))
		return 1;
	r = step_mapping_spec(job, &spec);
	if (r == 0)
		r = fstab_find(FSTAB_PATH, &device, &entries);
	for (size_t i = 0; r == 0 && i < entries.n; i++)
		is_pointed &= strcmp(entries.entries[i].spec, spec) == 0;
	return r < 0 ? r : r == 0 && is_pointed;
}

/*
 * The filesystem's head is the last that is decrypted. A cut in the middle of that may show its
 * UUID on the device, where it is not whole; mounted there, it would be lost. So from before the
 * first byte moves until all is done, its entries name the mapping, and wait for it.
 */
static int entries_point(struct job *job)
{
	const struct fstab_device device = fstab_device_of(job);
	_cleanup_(fstab_entries_clear) struct fstab_entries changed = { 0 };
	_cleanup_(freep) char *spec = NULL;
	int r = 0;

	if (is_mounted_early(job))
		return 0;
	/* what an earlier run has noted is older than its own change */
	if (job->fstab_before.n == 0)
		r = fstab_find(FSTAB_PATH, &device, &job->fstab_before);
	if (r == 0)
		r = plan_save(job->plan);
	if (r == 0)
		r = step_mapping_spec(job, &spec);
	if (r == 0)
		r = fstab_encrypt(FSTAB_PATH, &device, spec, &changed);
	return r > 0 ? -EBADMSG : r;
}

/* As they were while it was encrypted. */
static int entries_point_back(const struct job *job)
{
	const struct fstab_device mapping = { .mapping = job->mapping };
	int r = 0;

	if (job->fstab_before.n > 0)
		r = fstab_restore(FSTAB_PATH, &mapping, &job->fstab_before);
	return r > 0 ? -EBADMSG : r;
}

static int boot_done(struct job *job)
{
	struct crypttab_entries entries = { 0 };
	int r, found = 0;

	if (!export_done(job))
		return 0;
	r = crypttab_read(CRYPTTAB_PATH, &entries);
	for (size_t i = 0; r == 0 && i < entries.n; i++)
		found |= strcmp(entries.entries[i].name, job->mapping) == 0 &&
			 entries.entries[i].header &&
			 strcmp(entries.entries[i].header, job->header_file) == 0;
	crypttab_entries_clear(&entries);
	if (r < 0)
		return r;
	return found ? entries_are_pointed(job) : 0;
}

/* On its way back, a volume is the running system's to open: only of the root's exported header the
 * initramfs is told. */
static int boot_apply(struct job *job)
{
	int r = entries_point(job);

	if (r == 0)
		r = tell_crypttab(job, true, job->is_initrd && job->is_root);
	return r == 0 ? 0
		      : job_fail(job, r, "boot-files", "Make /etc writable and try again.",
				 "/etc/fstab and /etc/crypttab cannot be changed: %m");
}

static int boot_undo(struct job *job)
{
	int r = is_only_header(job);

	if (r < 0)
		return r;
	/* a header that has always been detached names its device, and so is found there too */
	r = tell_crypttab(job, r == 1,
			  job->is_initrd && (r == 0 || job->is_root ||
					     (job->header && job->header->token->device)));
	if (r == 0)
		r = entries_point_back(job);
	(void)job_reload();
	return r;
}

/* Plain on its own device, or a header that says that nothing is encrypted any more. */
static int decrypt_done(struct job *job)
{
	if (job->header)
		return job->header->is_detached &&
		       job->header->conversion == HEADER_CONVERSION_NONE &&
		       job->header->encrypted_bytes == 0;
	return job->plain != NULL;
}

static int initialise_done(struct job *job)
{
	return (job->header && job->header->is_decrypting) || decrypt_done(job);
}

static int initialise_apply(struct job *job)
{
	int r;

	r = job_attach(job);
	if (r == 0)
		r = job_passphrase(job);
	if (r != 0)
		return r;
	/* the unit that systemd has made for the mapping is bound to the header's UUID, which goes
	 * with the header */
	r = job_reload();
	if (r < 0)
		return job_fail(job, r, "decrypt-failed",
				"See what \"systemctl daemon-reload\" says, then run vmcryptctl "
				"resume.",
				"the service manager does not read /etc/crypttab again: %m");
	r = header_initialise_decryption(job->backing->path, job->header_file, job->mapping,
					 job->passphrase);
	if (r != 0)
		return job_fail(job, r, "decrypt-failed", "Reboot: it goes on by itself.",
				"its decryption cannot be initialised: %s",
				strerror(r < 0 ? -r : EBUSY));
	return job_look(job);
}

/* From here on a boot finds the plain filesystem by itself. */
static int put_entries_back(struct job *job)
{
	const struct fstab_device device = fstab_device_of(job);
	_cleanup_(fstab_entries_clear) struct fstab_entries before = { 0 };
	int r;

	r = record_recall(job->uuid, &before);
	if (r == RECORD_E_DAMAGED)
		log_warning("Volume %s: its old lines of fstab are lost; it keeps nofail.",
			    job->uuid);
	/* in two steps: what a person has written while it was encrypted is theirs */
	if (r >= 0)
		r = entries_point_back(job);
	if (r == 0)
		r = fstab_restore(FSTAB_PATH, &device, &before);
	if (r >= 0)
		r = crypttab_remove(CRYPTTAB_PATH, job->mapping);
	if (r < 0)
		return job_fail(job, r, "boot-files", "Make /etc writable and try again.",
				"/etc/fstab and /etc/crypttab cannot be put back: %m");
	/* nothing of systemd's depends on the mapping any more */
	(void)job_reload();
	return 0;
}

static int mount_again(struct job *job, const struct volume *volume, const struct volume *was)
{
	int r = filesystem_mount_all(volume->path, was);

	return r == 0 ? 0
		      : job_fail(job, r, "cannot-mount", "Mount it by hand; the volume is plain.",
				 "it cannot be mounted again as it was");
}

/* Its mapping stays as long as somebody has it open. Who only looks at it keeps it from being
 * closed, but not from being unmounted before: it is mounted again. */
static int release_later(struct job *job, const struct volume *was)
{
	int r = 0;

	if (job->mapped->n_mounts == 0)
		r = mount_again(job, job->mapped, was);
	(void)mapping_close_later(job->mapping);
	(void)faults_add(&job->plan->report.faults, FAULT_WARNING, "still-in-use", job->uuid,
			 "release", "Nothing needs to be done.",
			 "The volume is plain, but it was in use: its mapping goes away at the "
			 "next unmount or reboot.");
	return r;
}

/*
 * The entries first: from here on a boot finds the plain filesystem by itself. Then the mapping,
 * which is now a plain window onto the device, goes: at once when nobody uses it, else when its
 * last user does.
 */
static int release_apply(struct job *job)
{
	struct volume was = { .mounts = job->mounts, .n_mounts = job->n_mounts };
	_cleanup_(freep) char *detail = NULL;
	int r;

	r = put_entries_back(job);
	if (r != 0)
		return r;

	r = job_look(job);
	if (r == 0 && job->mapped)
		r = step_try_unmount(job->mapped);
	if (r == 0 && job->mapped)
		r = mapping_close(job->mapping);
	if (r != 0) {
		r = job_look(job);
		if (r == 0 && job->mapped)
			return release_later(job, &was);
	}
	if (r == 0 && job->backing) {
		r = device_refresh(job->backing->path);
		if (r < 0)
			return job_fail(job, r, "cannot-mount",
					"Reboot, or mount it by hand; the volume is plain.",
					"its device cannot be read anew: %m");
	}
	(void)job_settle();
	r = job_look(job);
	if (r == 0 && !job->plain && was.n_mounts > 0)
		return job_fail(job, -ENODEV, "cannot-mount",
				"Mount it by hand; the volume is plain.",
				"its device does not show its filesystem");
	if (r == 0 && job->plain && job->plain->n_mounts == 0)
		r = mount_again(job, job->plain, &was);
	if (r == 0)
		r = job_look(job);
	if (r == 0 && job->plain && job->plain->n_mounts > 0)
		(void)filesystem_grow(job->plain->path, job->filesystem,
				      job->plain->mounts[0].target, &detail);
	return r;
}

/* The initramfs reads the exported header too: it is told, and looked into, before data moves. */
static int os_boot_done(struct job *job)
{
	int r = boot_done(job);

	return r <= 0 || !job->is_root ? r : step_os_is_prepared(job, job->header_file);
}

static int os_boot_apply(struct job *job)
{
	int r = boot_apply(job);

	return r != 0 || !job->is_root ? r : step_os_prepare(job, job->header_file);
}

/* Of a root whose file is its only header, every image that was made so far looks there. */
static int os_boot_undo(struct job *job)
{
	int r = boot_undo(job);

	if (r != 0 || !job->is_root)
		return r;
	r = is_only_header(job);
	return r == 0 ? step_os_prepare(job, NULL) : r < 0 ? r : 0;
}

/* The mapping is a plain window onto the device by now; only a boot gets the root off it. */
static int os_release_apply(struct job *job)
{
	_cleanup_(freep) char *detail = NULL;
	int r;

	r = put_entries_back(job);
	if (r == 0)
		r = job_look(job);
	if (r == 0 && job->is_root)
		r = step_swap_decrypt(job);
	if (r != 0)
		return r;
	if (job->mapped)
		return JOB_E_BOOT;
	if (job->plain && job->plain->n_mounts > 0)
		(void)filesystem_grow(job->plain->path, job->filesystem,
				      job->plain->mounts[0].target, &detail);
	return job->is_root ? step_os_forget(job) : 0;
}

static int tidy_apply(struct job *job)
{
	_cleanup_(freep) char *backup = NULL, *elsewhere = NULL;
	int r;

	r = keyslots_forget(job->header_file);
	if (r == 0)
		r = file_remove_durably(job->header_file);
	if (r == 0)
		r = job_path(job, "headers", "backup", &backup);
	if (r == 0)
		r = file_remove_durably(backup);
	if (r == 0)
		r = text_format(&elsewhere, STATE_DIRECTORY "/headers/%s.backup", job->header_uuid);
	if (r == 0)
		r = file_remove_durably(elsewhere);
	if (r == 0)
		r = record_forget(job->uuid);
	if (r == 0)
		r = snapshot_forget_data(job);
	if (r < 0)
		log_warning_errno(r, "Volume %s: files of its encryption are left behind: %m",
				  job->uuid);
	return step_close(job);
}

/* clang-format off */
static const struct step steps[] = {
	{ "snapshot",   step_snapshot_done, step_snapshot,    snapshot_undo, false },
	{ "passphrase", NULL,               passphrase_apply, NULL,          false },
	{ "export",     export_done,        export_apply,     export_undo,   false },
	{ "boot",       boot_done,          boot_apply,       boot_undo,     false },
	{ "initialise", initialise_done,    initialise_apply, NULL,          true  },
	{ "decrypt",    decrypt_done,       step_convert,     NULL,          false },
	{ "release",    NULL,               release_apply,    NULL,          false },
	{ "tidy",       step_tidy_done,     tidy_apply,       NULL,          false },
};

static const struct step os_steps[] = {
	{ "snapshot",   step_snapshot_done, step_snapshot,    snapshot_undo, false },
	{ "passphrase", NULL,               passphrase_apply, NULL,          false },
	{ "export",     export_done,        export_apply,     export_undo,   false },
	{ "boot",       os_boot_done,       os_boot_apply,    os_boot_undo,  false },
	{ "initialise", initialise_done,    initialise_apply, NULL,          true  },
	{ "decrypt",    decrypt_done,       step_convert,     NULL,          false },
	{ "release",    NULL,               os_release_apply, NULL,          false },
	{ "tidy",       step_tidy_done,     tidy_apply,       NULL,          false },
};
/* clang-format on */

const struct steps decrypt_steps = { steps, ARRAY_SIZE(steps) };
const struct steps decrypt_os_steps = { os_steps, ARRAY_SIZE(os_steps) };

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* in which order the steps of a volume are asked and done: job_run() */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "job/convert.h"
#include "job/job.h"
#include "job/split.h"

#define SECTOR_MAX_BYTES 4096 /* of dm-crypt */

/* In reverse, and no further than it works: the entries in /etc must not go while the header stays.
 */
static bool undo(struct job *job, const struct steps *steps, size_t from)
{
	for (size_t i = from + 1; i-- > 0;) {
		int r;

		if (!steps->steps[i].undo)
			continue;
		log_notice("Volume %s: undoing %s.", job->uuid, steps->steps[i].name);
		r = steps->steps[i].undo(job);
		if (r == 0)
			continue;
		(void)job_fail(job, r, "undo-failed",
			       "Run vmcryptctl resume to go on instead, or reboot.",
			       "step %s could not be undone: %m", steps->steps[i].name);
		return false;
	}
	return true;
}

/*
 * The initramfs has tried, failed and said why, or somebody has thought better of it: the machine
 * is as it was, and is made so to the end.
 */
static int give_back(struct job *job, const struct steps *steps)
{
	size_t commit = 0;

	while (commit + 1 < steps->n && !steps->steps[commit].commits)
		commit++;
	job->has_failed = undo(job, steps, commit);
	job->progress->state = job->has_failed && job->plan->is_cancelled ? JOB_DONE : JOB_FAILED;
	(void)plan_save(job->plan);
	return -ECANCELED;
}

/**
 * job_is_at_another() - a link by the place of a disk may lead to one that is not its own
 *
 * It bears another's UUID, or a partition table where a filesystem was, or is smaller. An OS disk
 * is in no other's place, and its root's partition gives way to one for /boot.
 */
bool job_is_at_another(const struct job *job)
{
	const struct volume *backing = job->backing;

	if (!backing)
		return false;
	if (job->has_foreign_disk)
		return true;
	if (backing->uuid)
		return strcasecmp(backing->uuid, job->uuid) != 0 &&
		       (!job->header_uuid || strcasecmp(backing->uuid, job->header_uuid) != 0);
	/* opened, a partition that ends within a sector of ours is rounded down */
	return volume_has_table(backing) ||
	       (!job->is_os &&
		backing->size_bytes < job->device_bytes / SECTOR_MAX_BYTES * SECTOR_MAX_BYTES);
}

/**
 * job_is_away() - encrypted, or on its way, and detached or late
 *
 * What it needs to be unlocked is not undone. Where its device was, there may be another disk: then
 * neither a header nor a filesystem of the volume's is on that.
 */
bool job_is_away(const struct job *job)
{
	bool is_decrypt = job->plan->request->kind == REQUEST_DECRYPT;

	if (!job->backing)
		return job->is_committing || job->is_committed || is_decrypt;
	if (is_decrypt)
		return job_is_at_another(job) &&
		       !(job->header && job->header->encrypted_bytes == 0);
	if (job_is_at_another(job))
		return job->is_committing || job->is_committed || job->is_restoring;
	return job->is_committed && !job->is_committing && !job->is_restoring && !job->header &&
	       !job->plain;
}

/** job_wait_for_disk() - Return: JOB_E_LATER, or negative: it is given up; said. */
int job_wait_for_disk(struct job *job)
{
	const char *what = !job->backing            ? "is not there"
			   : job_is_at_another(job) ? "is another"
						    : "shows neither its header nor its filesystem";

	if (job->is_given_up) {
		(void)job_fail(job, 0, "volume-away",
			       "Remove its lines from /etc/fstab and /etc/crypttab.",
			       "its device %s %s, and is not waited for any more", job->device,
			       what);
		job->has_failed = true;
		job->progress->state = JOB_FAILED;
		(void)plan_save(job->plan);
		return -ENODEV;
	}
	(void)job_fail(
		job, 0, "volume-away",
		!job->backing || job_is_at_another(job)
			? "Attach the disk again: it is looked for every half a minute. If it is "
			  "gone for good, run vmcryptctl disable --volume with its UUID."
			: "Attach the right disk, or mount what its header is on, or put the "
			  "header's backup back: see vmcryptctl recover.",
		"its device %s %s", job->device, what);
	return JOB_E_LATER;
}

/*
 * A key that cannot be had now is no reason to give up where nobody waits for an answer: early at
 * boot, and after a boot that has made a partition for /boot.
 */
static bool outlasts_silence(const struct plan *plan)
{
	return plan->request->is_next_boot || plan->is_initramfs ||
	       (plan->split && plan->split->conf.filesystem_bytes > 0);
}

/** job_outlasts_silence() - is a key that cannot be had now asked for again by itself? */
bool job_outlasts_silence(const struct job *job)
{
	if (job->plan->request->kind == REQUEST_GROW)
		return outlasts_silence(job->plan);
	return outlasts_silence(job->plan) || job->is_forward ||
	       (job->plan->request->kind == REQUEST_DECRYPT
			? job->header && job->header->is_decrypting
			: job->is_committed);
}

/**
 * job_run() - do what is left to do
 * @until: name of the last step to do now, or NULL for all
 *
 * Return: 0, JOB_E_LATER, JOB_E_STOPPED, JOB_E_BOOT, or negative: then it has been said, and,
 * before the committing step, undone and closed.
 */
int job_run(struct job *job, const struct steps *steps, const char *until)
{
	size_t begin = 0, commit = steps->n;
	int r;

	r = job_look(job);
	if (r < 0)
		return job_fail(job, r, "cannot-look", "Look at the kernel's log.",
				"its state cannot be read: %m");
	job->is_committed |= job->header && !job->is_committing;
	if (job_is_away(job))
		return job_wait_for_disk(job);
	if ((job->has_boot_failed || job->plan->is_cancelled) && !job->plan->is_initramfs &&
	    job->plan->request->kind == REQUEST_ENCRYPT && !job->header && !job->is_committing)
		return give_back(job, steps);
	for (size_t i = steps->n; i-- > 0;) {
		if (steps->steps[i].commits)
			commit = i;
		if (begin > 0 || !steps->steps[i].done)
			continue;
		r = steps->steps[i].done(job);
		if (r < 0)
			return job_fail(job, r, "cannot-look", "Look at the kernel's log.",
					"step %s cannot tell whether it is done: %m",
					steps->steps[i].name);
		if (r > 0)
			begin = i + 1;
	}

	for (size_t i = 0; i < steps->n; i++) {
		if (i >= begin) {
			if (convert_is_stopping())
				return JOB_E_STOPPED;
			job->is_forward = i >= commit;
			job_step(job, steps->steps[i].name);
			r = steps->steps[i].apply(job);
			if (r > 0 && i < commit && r == JOB_E_STOPPED)
				return r;
			if (r > 0 && i >= commit)
				return r;
			/* a boot comes before all that is left */
			if (r == JOB_E_BOOT)
				return r;
			if (r == JOB_E_LATER && i < commit && job_outlasts_silence(job))
				return r;
			if (r < 0 && i < commit && job->plan->is_initramfs) {
				/* only this step, the rest is the running system's; what cannot be
				 * undone is ended by the next boot, before all else */
				job->has_boot_failed =
					!steps->steps[i].undo || steps->steps[i].undo(job) == 0;
				(void)plan_save(job->plan);
				return r;
			}
			if (r != 0 && i < commit) {
				/* what cannot be undone stays open, and goes on some time */
				job->has_failed = undo(job, steps, i);
				job->progress->state = JOB_FAILED;
				(void)plan_save(job->plan);
				return r < 0 ? r : -EAGAIN;
			}
			if (r < 0) {
				job->progress->state = JOB_FAILED;
				return r;
			}
		}
		if (until && strcmp(steps->steps[i].name, until) == 0)
			break;
	}
	return 0;
}

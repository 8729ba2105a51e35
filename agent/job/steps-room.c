/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* a volume gives room for its header, and gets it back */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "job/snapshot.h"
#include "job/steps.h"
#include "volume/filesystem.h"
#include "volume/room.h"
#include "volume/tablesplit.h"

static bool shrinks_mounted(const struct job *job)
{
	return strcmp(job->filesystem, "xfs") == 0 || strcmp(job->filesystem, "btrfs") == 0;
}

/**
 * step_restore_head() - the volume's first sectors are again as they were
 *
 * The journal knows of it from before the first write to after the last: cut, it is done again.
 *
 * Return: 0 or -errno.
 */
int step_restore_head(struct job *job)
{
	int r;

	job->is_restoring = true;
	r = plan_save(job->plan);
	if (r == 0)
		r = snapshot_put_head_back(job);
	if (r < 0)
		return r;
	job->is_restoring = job->is_committing = job->is_committed = false;
	r = plan_save(job->plan);
	(void)job_settle();
	return r;
}

/**
 * step_finish_room() - a filesystem that was cut while it gave way is brought to one side
 *
 * Before anything else is asked of the volume: until then nothing may recognise it.
 *
 * Return: 0, JOB_E_LATER (its disk is away), or negative; what is wrong has been said.
 */
int step_finish_room(struct job *job)
{
	_cleanup_(freep) char *detail = NULL, *changes = NULL;
	bool has_changes;
	int r;

	/* nor is a partition there whose table was cut while it grew */
	if (table_mend_missing(job->device) == 1)
		(void)job_settle();
	if (job->is_restoring) {
		r = job_look(job);
		if (r == 0 && (!job->backing || job_is_at_another(job)))
			return job_wait_for_disk(job);
		/* cut after the last write: it may have been mounted and written since */
		if (r == 0 && job->plain) {
			job->is_restoring = job->is_committing = job->is_committed = false;
			r = plan_save(job->plan);
			/* cut before the first write, and opened since: what it holds is newer than
			 * its old head */
		} else if (r == 0 && job->header && job->mapped) {
			job->is_restoring = job->is_committing = false;
			job->is_committed = true;
			r = plan_save(job->plan);
		} else if (r == 0) {
			r = step_restore_head(job);
		}
		if (r < 0)
			return job_fail(
				job, r, "room-unfinished",
				"Attach the disk; nothing else is done to it before.",
				"its first sectors were being put back and that cannot be ended: %s",
				strerror(-r));
	}
	if (job->room != ROOM_FILESYSTEM || job->plan->request->kind != REQUEST_ENCRYPT)
		return 0;
	r = job_path(job, "headers", "changes", &changes);
	has_changes = r == 0 && access(changes, F_OK) == 0;
	/* a part of the filesystem may lie in that file only, and then the disk shows none */
	if (has_changes) {
		r = job_look(job);
		if (r == 0 && (!job->backing || job_is_at_another(job)))
			return job_wait_for_disk(job);
	}
	if (r == 0 && (has_changes || access(job->device, F_OK) == 0))
		r = room_finish(has_changes ? job->backing->path : job->device, changes, &detail);
	if (r != 0)
		return job_fail(
			job, r, "room-unfinished",
			"Look at the kernel's log; nothing else is done to it before.",
			"its filesystem was being made smaller and that cannot be ended: %s",
			detail ? detail : strerror(r < 0 ? -r : EIO));
	/* it is still there: the disk has nothing that it could belong to */
	if (has_changes && access(changes, F_OK) == 0 && !job->header && !job->is_committing &&
	    !job->is_committed)
		return job_wait_for_disk(job);
	return 0;
}

static int make_room(struct job *job)
{
	_cleanup_(freep) char *detail = NULL, *changes = NULL;
	int r;

	r = job_path(job, "headers", "changes", &changes);
	if (r == 0)
		r = room_make(job->inventory, job->plain, job->room, changes, &detail);
	if (r == 0)
		return job_look(job);
	return job_fail(job, r, r == FILESYSTEM_E_UNCLEAN ? "filesystem-unclean" : "no-room",
			r == FILESYSTEM_E_UNCLEAN
				? "Repair it (fsck) and try again."
				: "Grow the disk, use --detached-header, or --encrypt-format-all.",
			"there is no room for a header: %s",
			detail ? detail : strerror(r < 0 ? -r : ENOSPC));
}

/**
 * step_make_room_mounted() - room that is made while the filesystem is mounted
 *
 * One that is not gets mounted aside for it.
 *
 * Return: 0 or negative, said.
 */
int step_make_room_mounted(struct job *job)
{
	static const char aside[] = RUNTIME_DIRECTORY "/mount";
	struct volume_mount mount = { .target = (char *)aside, .root = (char *)"/" };
	struct volume mounted;
	bool was_mounted = job->plain->n_mounts > 0;
	int r;

	if (job->room == ROOM_PARTITION || job->room == ROOM_EXTENTS)
		return make_room(job);
	if (job->room != ROOM_FILESYSTEM || !shrinks_mounted(job))
		return 0;
	if (!was_mounted) {
		r = directory_make(aside, 0700);
		if (r == 0)
			r = filesystem_mount_one(job->plain->path, aside, job->filesystem, NULL);
		if (r == 0)
			r = job_look(job);
		if (r != 0)
			return job_fail(job, r, "cannot-mount", "Mount it by hand and try again.",
					"it cannot be mounted to make room in it");
	}
	r = make_room(job);
	if (!was_mounted) {
		mounted = (struct volume){ .mounts = &mount,
					   .n_mounts = 1,
					   .path = job->plain->path };
		(void)filesystem_unmount_all(&mounted);
		if (r == 0)
			r = job_look(job);
	}
	return r;
}

/** step_make_room_unmounted() - the rest of room_make()'s ways. Return: 0 or negative, said. */
int step_make_room_unmounted(struct job *job)
{
	return job->room == ROOM_FILESYSTEM && !shrinks_mounted(job) ? make_room(job) : 0;
}

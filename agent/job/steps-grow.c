/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* a device that has become larger: partition, mapping and filesystem follow, in use
 *
 * Each step looks at the sizes and does what is missing, so a power cut between two of them is gone
 * on from; none is undone, since none takes anything away.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "job/steps.h"
#include "volume/filesystem.h"
#include "volume/growth.h"
#include "volume/mapping.h"
#include "volume/table.h"

static bool is_whole(const struct job *job)
{
	return job->backing && job->mapped && job->header &&
	       job->header->conversion == HEADER_CONVERSION_NONE && !job->header->is_decrypting;
}

static int find(const struct job *job, struct growth *ret)
{
	return growth_find(job->inventory, job->backing, job->mapped, job->header, ret);
}

/* Before each step: may it grow at all, and by what? Return: 0 or negative, said. */
static int look(struct job *job, struct growth *ret)
{
	int r;

	if (!job->backing)
		return job_fail(job, -ENODEV, "volume-missing", "Attach the disk again.",
				"its device %s is not there", job->device);
	if (!job->header)
		return job_fail(job, -ENOENT, "volume-missing",
				"Restore the header from its backup.",
				"its LUKS2 header is not there");
	if (!job->mapped)
		return job_fail(job, -ENODEV, "not-unlocked",
				"Unlock it (systemctl start vmcrypt-unlock) and try again.",
				"it is not unlocked");
	if (!is_whole(job))
		return job_fail(
			job, -EBUSY, "in-conversion",
			"Wait until vmcryptctl show says that it has ended, then try again.",
			"it cannot grow while its data is being converted");
	r = find(job, ret);
	return r < 0 ? job_fail(job, r, "cannot-look", "Look at the kernel's log.",
				"its sizes cannot be read: %m")
		     : 0;
}

static int partition_done(struct job *job)
{
	struct growth growth;
	int r;

	if (!is_whole(job))
		return 0;
	r = find(job, &growth);
	return r < 0 ? r : growth.partition_bytes == 0;
}

static int partition_apply(struct job *job)
{
	struct growth growth;
	int r;

	r = look(job, &growth);
	/* the mapping cannot follow without it, so it is had before anything changes */
	if (r == 0)
		r = job_passphrase(job);
	if (r != 0 || growth.partition_bytes == 0)
		return r;
	r = growth_partition(job->inventory, job->backing);
	if (r != 0)
		return job_fail(job, r, "grow-failed",
				"Grow the partition by hand (growpart), then try again.",
				"its partition cannot grow: %s",
				r < 0                 ? strerror(-r)
				: r == TABLE_E_NO_GAP ? "there is no gap behind it"
						      : "its partition table is not supported");
	(void)job_settle();
	return job_look(job);
}

static int mapping_done(struct job *job)
{
	struct growth growth;
	int r;

	if (!is_whole(job))
		return 0;
	r = find(job, &growth);
	return r < 0 ? r
		     : growth.partition_bytes == 0 && growth.mapping_bytes == 0 &&
			       !growth.is_header_behind;
}

/* Last of all: until then the header knows a smaller device, which who unlocks takes for the same
 * one. The other way round it would be refused. */
static int tell_header(struct job *job)
{
	int r;

	r = header_set_device_bytes(job->backing->path, job_header_file(job),
				    growth_whole_sectors(job->header, job->backing->size_bytes));
	if (r != 0)
		return job_fail(job, r, "header-failed", "Make room on /boot and try again.",
				"its header cannot be told how large its device is: %s",
				strerror(r < 0 ? -r : EBADMSG));
	if (step_keep_header_backup(job) != 0)
		log_warning("Volume %s: no backup of its header could be kept below %s.", job->uuid,
			    job_state_directory(job));
	return job_look(job);
}

static int mapping_apply(struct job *job)
{
	struct growth growth;
	int r;

	r = look(job, &growth);
	if (r == 0 && growth.mapping_bytes > 0) {
		r = job_passphrase(job);
		if (r != 0)
			return r;
		r = mapping_resize(job_header_file(job), job->mapping, job->passphrase);
		if (r == 0)
			r = job_look(job);
		if (r == 0 && is_whole(job))
			r = find(job, &growth);
		if (r != 0 || growth.mapping_bytes > 0)
			return job_fail(job, r, "grow-failed",
					"Look at the kernel's log; after a reboot it is as large.",
					"its mapping cannot grow: %s",
					r == HEADER_E_PASSPHRASE ? "the passphrase does not fit"
					: r < 0                  ? strerror(-r)
								 : "it stays as it is");
	}
	return r == 0 && growth.is_header_behind ? tell_header(job) : r;
}

static int filesystem_done(struct job *job)
{
	struct growth growth;
	int r;

	if (!is_whole(job))
		return 0;
	r = find(job, &growth);
	return r < 0 ? r : growth_is_none(&growth);
}

static int filesystem_apply(struct job *job)
{
	_cleanup_(freep) char *path = NULL, *detail = NULL;
	struct growth growth;
	int r;

	r = look(job, &growth);
	if (r == 0)
		r = mapping_path(job->mapping, &path);
	if (r < 0)
		return r;
	r = filesystem_grow(path, job->mapped->filesystem,
			    job->mapped->n_mounts > 0 ? job->mapped->mounts[0].target : NULL,
			    &detail);
	if (r != 0)
		return job_fail(
			job, r, "grow-failed",
			"The device is larger already: grow the filesystem by hand, or try again.",
			"its filesystem cannot grow: %s",
			detail                          ? detail
			: r == FILESYSTEM_E_UNSUPPORTED ? "it has to be mounted for that"
			: r < 0                         ? strerror(-r)
							: "see the kernel's log");
	return job_look(job);
}

static int tidy_apply(struct job *job)
{
	if (job->backing)
		job->device_bytes = job->progress->size_bytes = job->backing->size_bytes;
	return step_close(job);
}

/* clang-format off */
static const struct step steps[] = {
	{ "partition",  partition_done,  partition_apply,  NULL, false },
	{ "mapping",    mapping_done,    mapping_apply,    NULL, false },
	{ "filesystem", filesystem_done, filesystem_apply, NULL, false },
	{ "tidy",       step_tidy_done,  tidy_apply,       NULL, false },
};
/* clang-format on */

const struct steps grow_steps = { steps, ARRAY_SIZE(steps) };

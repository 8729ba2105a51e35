/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-worker --early: what was left for this boot, before the volumes are mounted */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "job/job.h"
#include "job/steps.h"
#include "program/worker.h"

/* Return: whether the plan needs no further boot. */
static bool prepare_one(const char *id)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	bool is_ready;
	size_t later;

	if (plan_load(id, &plan) != 0) {
		log_error("Job %s: its journal is damaged; its volumes stay as they are.", id);
		return false;
	}
	later = worker_begin(plan, true);
	is_ready = plan->n_jobs > 0; /* none: its journal is on a /boot that is not mounted */
	/* fstab may name a mapping already, which there is none of */
	for (size_t i = 0; i < plan->n_jobs; i++)
		if (!worker_is_over(&plan->jobs[i]) && plan->jobs[i].header_file)
			(void)step_mount_plain(&plan->jobs[i]);
	for (size_t i = 0; i < plan->n_jobs; i++)
		is_ready &= worker_is_over(&plan->jobs[i]) || plan->jobs[i].header != NULL ||
			    plan->jobs[i].is_os;
	if (later > 0 || !is_ready)
		log_warning(
			"Job %s: not all volumes could be prepared; they are mounted as they were, and "
			"the next boot tries again.",
			id);
	return is_ready;
}

/**
 * worker_early() - write the headers of all plans that wait for a boot
 *
 * Whatever happens, the boot goes on: a volume that cannot be prepared is mounted as it was.
 *
 * Return: EXIT_SUCCESS, always.
 */
int worker_early(void)
{
	_cleanup_(closedirp) DIR *folder = opendir(STATE_DIRECTORY "/next-boot");
	struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		_cleanup_(freep) char *marker = NULL;

		if (entry->d_name[0] == '.')
			continue;
		if (prepare_one(entry->d_name) &&
		    text_format(&marker, STATE_DIRECTORY "/next-boot/%s", entry->d_name) == 0)
			(void)file_remove_durably(marker);
	}
	return EXIT_SUCCESS;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/preflight-grow.h"

#include <string.h>
#include <strings.h>

#include "job/job.h"
#include "volume/filesystem.h"

static int reason(struct plan *plan, const struct job *job, const char *code, const char *remedy,
		  const char *what)
{
	return faults_add(&plan->report.faults, FAULT_ERROR, code, job->uuid, "preflight", remedy,
			  "%s", what);
}

static int check_job(struct plan *plan, struct job *job)
{
	const char *type;
	int r = job_look(job);

	if (r < 0)
		return r;
	if (!job->mapped)
		return reason(plan, job, "not-unlocked",
			      "Unlock it (systemctl start vmcrypt-unlock) and try again.",
			      "It is not unlocked.");
	if (!job->header || job->header->conversion != HEADER_CONVERSION_NONE ||
	    job->header->is_decrypting)
		return reason(plan, job, "in-conversion",
			      "Wait until vmcryptctl show says that it has ended, then try again.",
			      "It cannot grow while its data is being converted.");
	type = job->mapped->filesystem;
	if (!filesystem_is_supported(type))
		return reason(plan, job, "volume-unsupported", "Grow it by hand.",
			      "Its filesystem is none that can be made larger here.");
	if (job->mapped->n_mounts == 0 && strncmp(type, "ext", strlen("ext")) != 0)
		return reason(plan, job, "not-mounted", "Mount it and try again.",
			      "Its filesystem grows only while it is mounted.");
	return 0;
}

static bool has_job(const struct plan *plan, const char *uuid)
{
	for (size_t i = 0; i < plan->n_jobs; i++)
		if (strcasecmp(plan->jobs[i].uuid, uuid) == 0 ||
		    strcasecmp(plan->jobs[i].header_uuid, uuid) == 0)
			return true;
	return false;
}

/**
 * preflight_grow() - may the volumes grow, and is there anything to do?
 * @plan: with its jobs decided; reasons are added to its report
 *
 * Return: 0 or -errno.
 */
int preflight_grow(struct plan *plan)
{
	const struct request *request = plan->request;
	int r = 0;

	for (size_t i = 0; r == 0 && i < request->n_volumes; i++)
		if (!has_job(plan, request->volumes[i]))
			r = faults_add(&plan->report.faults, FAULT_ERROR, "volume-unknown",
				       request->volumes[i], "preflight", "See `vmcryptctl show`.",
				       "There is no such encrypted volume of this type.");
	for (size_t i = 0; r == 0 && i < plan->n_jobs; i++)
		r = check_job(plan, &plan->jobs[i]);
	if (r == 0 && request->n_volumes == 0 && plan->n_jobs == 0)
		r = faults_add(
			&plan->report.faults, FAULT_WARNING, "nothing-to-grow", NULL, "preflight",
			"Enlarge the disk first; if that is done, reboot, or let the kernel look "
			"again: echo 1 > /sys/class/block/DISK/device/rescan (NVMe: "
			"rescan_controller).",
			"No encrypted volume has a device that has become larger.");
	return r;
}

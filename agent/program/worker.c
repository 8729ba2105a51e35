/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-worker - changes volumes
 *
 *   vmcrypt-worker ID         carry out job ID, from wherever it is, to its end
 *   vmcrypt-worker --early    before the volumes are mounted: what was left for this boot
 *   vmcrypt-worker --initramfs  in the initramfs: what was left for OS volumes
 *   vmcrypt-worker --kernel [VERSION]  a kernel was installed: its entry finds the root, and a
 *                             warning when its initramfs cannot unlock it
 *   vmcrypt-worker --inspect  one question on standard input, one answer: what is there, and may we
 *
 * The only program that writes disks, /etc and /boot; has no network. SIGTERM stops it between two
 * steps of a conversion. Exit status: 0 done or stopped, 1 failed and said, 75 to be run again
 * later.
 */
#include "program/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "job/convert.h"
#include "job/preflight.h"
#include "job/snapshot.h"
#include "job/split.h"
#include "job/steps.h"

#define EXIT_LATER   75 /* sysexits.h, EX_TEMPFAIL */
#define ID_MAX_BYTES 64 /* 20261122T042233Z-3fa9 has 21 letters */

static void on_terminate(int signal)
{
	(void)signal;
	convert_request_stop();
}

static int machine_fault(struct plan *plan, const char *code, const char *remedy, const char *what)
{
	log_error("Job %s: %s (%s) %s", plan->id, what, code, remedy);
	return faults_add(&plan->report.faults, FAULT_ERROR, code, NULL, NULL, remedy, "%s", what);
}

/* Nothing has been decided yet: look, ask, and only then write the journal. */
static int prepare(struct plan *plan)
{
	_cleanup_(inventory_freep) struct inventory *inventory = NULL;
	int r;

	r = inventory_read(&inventory);
	if (r == 0)
		r = plan_decide(plan, inventory);
	if (r == 0)
		r = preflight_run(plan, inventory);
	if (r < 0) {
		(void)machine_fault(plan, "cannot-look", "Look at the kernel's log.",
				    "The machine's volumes cannot be read.");
		return r;
	}
	for (size_t i = 0; i < plan->report.faults.n; i++) {
		const struct fault *fault = &plan->report.faults.faults[i];

		log_internal(fault->level == FAULT_ERROR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, 0,
			     "Preflight: %s (%s) %s", fault->what, fault->code, fault->remedy);
	}
	if (faults_count(&plan->report.faults, FAULT_ERROR) > 0)
		return -ECANCELED;
	for (size_t i = 0; i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];
		struct stat root;

		if (job->n_mounts == 0 || stat(job->mounts[0].target, &root) < 0)
			continue;
		job->root_uid = root.st_uid;
		job->root_gid = root.st_gid;
		job->root_mode = root.st_mode;
	}
	r = plan_move(plan);
	if (r == 0 && plan->n_jobs > 0)
		r = plan_save(plan);
	if (r < 0)
		(void)machine_fault(plan, "journal-failed",
				    "Make room below " STATE_DIRECTORY " and on /boot.",
				    "The journal cannot be written; nothing was changed.");
	return r;
}

/** worker_marker() - the file that says: data volumes of this plan wait for the next boot */
int worker_marker(const struct plan *plan, char **ret)
{
	return text_format(ret, STATE_DIRECTORY "/next-boot/%s", plan->id);
}

/*
 * A mark that the generator sees at boot: these mount points must not be mounted before
 * vmcrypt-worker --early has been there. One mount point a line.
 */
static int leave_for_next_boot(struct plan *plan, const char *marker)
{
	_cleanup_(freep) char *targets = strdup("");
	int r = targets ? directory_make(STATE_DIRECTORY "/next-boot", 0700) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < plan->n_jobs; i++)
		for (size_t k = 0; r == 0 && !plan->jobs[i].is_os && k < plan->jobs[i].n_mounts;
		     k++) {
			char *longer;

			r = text_format(&longer, "%s%s\n", targets, plan->jobs[i].mounts[k].target);
			if (r == 0) {
				free(targets);
				targets = longer;
			}
		}
	if (r == 0)
		r = file_write_atomic(marker, targets, strlen(targets), 0600);
	return r;
}

bool worker_is_over(const struct job *job)
{
	return job->has_failed || job->is_closed;
}

/*
 * Its header is to be written while nothing has mounted it: an OS volume in the initramfs, a data
 * volume early at boot when that was asked for.
 */
static bool waits_for_boot(const struct job *job)
{
	const struct request *request = job->plan->request;

	return !worker_is_over(job) && request->kind == REQUEST_ENCRYPT && !job->header &&
	       !job->is_committing && !job->is_committed &&
	       (job->is_os ? !job->plan->is_initramfs : request->is_next_boot);
}

/* It is prepared, too: a boot is all that it waits for. */
static bool needs_boot(const struct job *job)
{
	return waits_for_boot(job) && !job->waits_key;
}

/* One that has failed, and could not be undone, waits for a person. */
static bool is_for_boot(const struct job *job)
{
	return waits_for_boot(job) && job->progress->state != JOB_FAILED;
}

static const char *last_step(const struct job *job)
{
	if (job->plan->request->kind == REQUEST_GROW)
		return NULL;
	if (job->plan->request->kind == REQUEST_DECRYPT)
		return "initialise";
	return steps_of(job) == &format_steps ? NULL : "header";
}

/**
 * worker_begin() - every volume as far as it goes before the long part, one after the other
 * @is_boot: this is the boot that volumes have waited for
 *
 * Return: how many are to be run again.
 */
size_t worker_begin(struct plan *plan, bool is_boot)
{
	size_t later = 0;

	for (size_t i = 0; i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];
		int r;

		if (worker_is_over(job) || convert_is_stopping() ||
		    (plan->is_initramfs && (!job->is_os || job->has_boot_failed)))
			continue;
		/* its boot is the initramfs; early in the running system /boot/efi may be missing
		 */
		if (is_boot && job->is_os && !plan->is_initramfs)
			continue;
		job->recovery = plan->recovery;
		r = step_finish_room(job);
		if (r == 0 && (job->is_os || plan->request->is_next_boot))
			r = job_look(job);
		if (r == 0)
			r = job_run(job, steps_of(job),
				    !is_boot && waits_for_boot(job) ? "boot" : last_step(job));
		later += (r == JOB_E_LATER || r == JOB_E_STOPPED) && !job->has_failed;
		/* nothing is encrypted whose old head is still to come */
		if (r < 0 && job->is_restoring)
			job->progress->state = JOB_FAILED;
		job->waits_restart |= r == JOB_E_BOOT;
		job->waits_key = r == JOB_E_LATER && !job->header && !job->is_committed &&
				 !worker_is_over(job);
	}
	return later;
}

static bool is_converting(const struct job *job)
{
	return job->header && !job->is_committing &&
	       (job->header->conversion == HEADER_CONVERSION_CLEAN ||
		job->header->conversion == HEADER_CONVERSION_CRASHED);
}

/* What follows the long part. Return: whether it is to be run again. */
static bool finish(struct job *job)
{
	int r = job_run(job, steps_of(job), NULL);

	job->waits_restart |= r == JOB_E_BOOT;
	return r == JOB_E_LATER || r == JOB_E_STOPPED;
}

/* The long part of all volumes side by side, then what follows it. Return: how many are to be run
 * again. */
static size_t convert(struct plan *plan)
{
	_cleanup_(freep) struct conversion *conversions =
		calloc(plan->n_jobs + 1, sizeof(*conversions));
	size_t n = 0, later = 0;

	for (size_t i = 0; conversions && i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];
		int r;

		/* opening may write (it recovers a step that was cut): not to another's disk */
		if (worker_is_over(job) || job->progress->state == JOB_FAILED ||
		    !is_converting(job) || job_is_away(job))
			continue;
		job_step(job, plan->report.kind);
		r = job_attach(job);
		if (r == 0)
			r = job_passphrase(job);
		if (r == 0)
			r = convert_start(job, &conversions[n]);
		if (r == 0)
			n++;
		later += r > 0;
	}
	plan->report.is_prepared = true;
	for (size_t i = 0; i < plan->n_jobs; i++) {
		plan->report.is_prepared &=
			!plan->jobs[i].waits_key && (!waits_for_boot(&plan->jobs[i]) ||
						     plan->jobs[i].progress->state != JOB_FAILED);
		plan->report.needs_restart |= needs_boot(&plan->jobs[i]);
	}
	(void)convert_wait(plan, conversions, n);
	for (size_t i = 0; i < n; i++)
		later += step_converted(conversions[i].job, conversions[i].condition) > 0;
	if (convert_is_stopping())
		return later;
	for (size_t i = 0; i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];

		if (!worker_is_over(job) && job->progress->state != JOB_FAILED && job->backing &&
		    !is_converting(job) && !waits_for_boot(job) && !job->waits_key &&
		    !job_is_away(job))
			later += finish(job);
	}
	return later;
}

static int conclude(struct plan *plan, size_t later)
{
	bool is_empty = plan->n_jobs == 0 && plan->request->kind != REQUEST_GROW;
	size_t open = 0, failed = 0;

	plan->report.needs_restart = false;
	for (size_t i = 0; i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];

		plan->report.needs_restart |= needs_boot(job) || job->waits_restart;
		open += !worker_is_over(job);
		failed += job->progress->state == JOB_FAILED;
		if (!worker_is_over(job) && job->progress->state == JOB_RUNNING)
			job->progress->state = JOB_WAITING;
	}
	plan->report.state = failed > 0 || is_empty ? JOB_FAILED
			     : open > 0             ? JOB_WAITING
						    : JOB_DONE;
	plan->is_ended = open == 0;
	if (plan->is_ended)
		(void)plan_unmark(plan);
	(void)plan_publish(plan);
	if (plan->is_ended)
		(void)plan_leave_boot(plan);
	if (convert_is_stopping())
		return EXIT_SUCCESS;
	return later > 0                          ? EXIT_LATER
	       : plan->report.state == JOB_FAILED ? EXIT_FAILURE
						  : EXIT_SUCCESS;
}

/* As it is; it goes on when a person says so. */
static int conclude_failed(struct plan *plan)
{
	for (size_t i = 0; i < plan->n_jobs; i++)
		if (!worker_is_over(&plan->jobs[i]))
			plan->jobs[i].progress->state = JOB_FAILED;
	return conclude(plan, 0);
}

/* Those cannot go on that have no header yet: worker_begin() takes back what was prepared. */
static void take_back(struct plan *plan)
{
	for (size_t i = 0; i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];

		if (worker_is_over(job) || job_look(job) < 0 || job->header || job->is_committing ||
		    job->is_committed)
			continue;
		if (plan->split || step_keyslots_done(job) == 1) {
			job->has_boot_failed = true;
		} else {
			job->has_failed = true;
			job->progress->state = JOB_FAILED;
		}
	}
	(void)plan_save(plan);
}

/* A recovery key is shown before the keyslots are made, and only then: it is stored nowhere. */
static bool needs_recovery(struct plan *plan)
{
	if (!plan->request->has_recovery_key)
		return false;
	for (size_t i = 0; i < plan->n_jobs; i++) {
		struct job *job = &plan->jobs[i];

		if (!worker_is_over(job) && job_look(job) == 0 && job->backing && !job->header &&
		    !job->is_committing && step_keyslots_done(job) != 1)
			return true;
	}
	return false;
}

/* Has each OS volume come as far as it comes before its boot? */
static bool is_os_ready(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_jobs; i++)
		if (plan->jobs[i].is_os && plan->jobs[i].waits_key)
			return false;
	return !convert_is_stopping();
}

/*
 * The mark for the initramfs comes when every OS volume of the plan is prepared: there, nothing but
 * the header's step can be done.
 */
static int leave_for_initramfs(struct plan *plan)
{
	_cleanup_(freep) char *marker = NULL;
	bool any = false;
	int r;

	for (size_t i = 0; i < plan->n_jobs; i++)
		any |= is_for_boot(&plan->jobs[i]) && plan->jobs[i].is_os;
	/* a boot before that one makes room for /boot */
	if (!plan->has_os || !is_os_ready(plan) || split_waits(plan))
		return 0;
	r = text_format(&marker, BOOT_DIRECTORY "/next-boot/%s", plan->id);
	if (r == 0 && !any)
		return file_remove_durably(marker);
	if (r == 0)
		r = directory_make(BOOT_DIRECTORY "/next-boot", 0700);
	return r == 0 ? file_write_atomic(marker, "", 0, 0600) : r;
}

/* The marks without which no boot would do anything. Return: 0 or negative, said. */
static int leave_for_boot(struct plan *plan)
{
	_cleanup_(freep) char *marker = NULL;
	bool any = false;
	int r;

	for (size_t i = 0; i < plan->n_jobs; i++)
		any |= is_for_boot(&plan->jobs[i]) && !plan->jobs[i].is_os;
	r = leave_for_initramfs(plan);
	if (r == 0 && any)
		r = worker_marker(plan, &marker);
	if (r == 0 && any)
		r = leave_for_next_boot(plan, marker);
	if (r < 0)
		(void)machine_fault(plan, "journal-failed",
				    "Make room below " STATE_DIRECTORY " and on /boot.",
				    "The mark for the next boot cannot be written.");
	return r;
}

/* What a job that is taken back has done before, or has begun at a boot that came between. */
static void tell_kept(struct plan *plan)
{
	for (size_t i = 0; i < plan->n_jobs; i++)
		if ((plan->jobs[i].is_closed && !plan->jobs[i].has_failed) ||
		    (!worker_is_over(&plan->jobs[i]) && job_look(&plan->jobs[i]) == 0 &&
		     plan->jobs[i].header))
			(void)faults_add(&plan->report.faults, FAULT_WARNING, "stays-encrypted",
					 plan->jobs[i].uuid, "cancel",
					 "Run \"vmcryptctl disable\" once more to decrypt it.",
					 "Only what waited for a boot was taken back; this volume "
					 "is encrypted and stays so.");
}

static int run_plan(struct plan *plan)
{
	size_t later;

	if (plan->request->kind == REQUEST_RESTORE) {
		plan->report.state = snapshot_restore(plan) < 0 ? JOB_FAILED : JOB_DONE;
		plan->is_ended = true;
		(void)plan_publish(plan);
		return plan->report.state == JOB_DONE ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	if (plan->n_jobs == 0 && prepare(plan) < 0) {
		for (size_t i = 0; i < plan->n_jobs; i++)
			plan->jobs[i].has_failed = true;
		plan->report.state = JOB_FAILED;
		plan->is_ended = true;
		(void)plan_publish(plan);
		return EXIT_FAILURE;
	}
	if (!plan->is_cancelled && needs_recovery(plan) && worker_offer_recovery(plan) < 0) {
		(void)machine_fault(plan, "recovery-key-not-taken",
				    "Run enable again and keep it running.",
				    "Nobody took the recovery key, so nothing was changed.");
		take_back(plan);
	}
	/* first, so that no boot begins what is taken back */
	if (plan->is_cancelled && plan_unmark(plan) < 0) {
		(void)machine_fault(plan, "journal-failed",
				    "Make " STATE_DIRECTORY " and /boot writable, then run "
				    "vmcryptctl resume.",
				    "The mark for the next boot cannot be removed.");
		return conclude_failed(plan);
	}
	if (plan->is_cancelled && plan->request->kind == REQUEST_ENCRYPT)
		tell_kept(plan);
	worker_tell_boot(plan);
	later = worker_begin(plan, false);
	if (leave_for_boot(plan) < 0) {
		take_back(plan);
		later = worker_begin(plan, false);
	}
	if (is_os_ready(plan))
		worker_note_plan(plan);
	if (!convert_is_stopping())
		later += convert(plan);
	return conclude(plan, later);
}

static int run(const char *id)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_(closep) int lock = -EBADF;
	_cleanup_(freep) char *lock_path = NULL;
	int r;

	if (strlen(id) > ID_MAX_BYTES || strchr(id, '/') || id[0] == '.')
		return log_error_errno(-EINVAL, "Job %.64s: not a name of a job.", id),
		       EXIT_FAILURE;
	r = directory_make(RUNTIME_DIRECTORY "/jobs", 0755);
	if (r == 0)
		r = text_format(&lock_path, RUNTIME_DIRECTORY "/worker.lock");
	if (r == 0)
		r = file_lock(lock_path, &lock);
	if (r < 0)
		return log_error_errno(r, "Job %s: cannot get the lock: %m", id), EXIT_FAILURE;
	r = plan_load(id, &plan);
	if (r == PLAN_E_DAMAGED) {
		struct plan damaged = {
			.id = (char *)id,
			.report = { .job = (char *)id, .kind = "unknown", .state = JOB_FAILED },
		};

		(void)machine_fault(&damaged, "journal-damaged",
				    "Move the job's folder below " STATE_DIRECTORY
				    "/jobs away; volumes in conversion are found by their headers.",
				    "The journal of the job is damaged; nothing was done.");
		(void)plan_publish(&damaged);
		faults_clear(&damaged.report.faults);
		return EXIT_FAILURE;
	}
	if (r < 0)
		return log_error_errno(r, "Job %s: cannot be read: %m", id), EXIT_FAILURE;
	return run_plan(plan);
}

int main(int argc, char *argv[])
{
	struct sigaction terminate = {
		.sa_handler = on_terminate,
		/* what reads an image through a pipe would take half of it for a damaged one */
		.sa_flags = SA_RESTART,
	};
	int r;

	log_set_from_environment();
	header_log_to_debug();
	if (argc >= 2 && strcmp(argv[1], "--kernel") == 0)
		return worker_kernel(argv[2]);
	if (argc != 2 || strcmp(argv[1], "--help") == 0) {
		(void)fprintf(
			argc == 2 ? stdout : stderr,
			"Usage: vmcrypt-worker JOB | --early | --initramfs | --inspect | --kernel "
			"[VERSION]\n"
			"Started by the vmcrypt units; see vmcrypt(7).\n");
		return argc == 2 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	if (strcmp(argv[1], "--version") == 0)
		return puts("vmcrypt-worker " VMCRYPT_VERSION) < 0;
	(void)sigaction(SIGTERM, &terminate, NULL);
	(void)sigaction(SIGINT, &terminate, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)umask(0077);
	if (strcmp(argv[1], "--inspect") == 0)
		return worker_inspect();
	r = secret_process_harden();
	if (r < 0)
		return log_error_errno(r, "Worker: cannot lock its memory: %m"), EXIT_FAILURE;
	if (strcmp(argv[1], "--early") == 0)
		return worker_early();
	if (strcmp(argv[1], "--initramfs") == 0)
		return worker_initramfs();
	return run(argv[1]);
}

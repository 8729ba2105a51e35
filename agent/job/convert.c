/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "job/steps.h"
#include "volume/mapping.h"
#include "volume/reencrypt.h"

#define REPORT_INTERVAL_MS 500
#define SAMPLES_MAX        60  /* half a minute at REPORT_INTERVAL_MS */
#define YIELD_MAX_MS       500 /* longest pause between two steps for the machine's own work */
#define YIELD_REQUESTS     4   /* requests of others during a step: below it nobody is disturbed */
#define CHILD_NICE         10

struct conversion_state {
	_Atomic uint64_t size_bytes, offset_bytes;
	atomic_bool stop;
};

struct conversion_sample {
	int64_t at_ms;
	uint64_t offset_bytes;
};

/* What the child's callback knows; nothing in it is allocated while data moves. */
struct mover {
	struct conversion_state *shared;
	int statistics;    /* /sys/dev/block/…/stat of the mapping, or -EBADF */
	uint64_t requests; /* of others, at the last callback */
	int64_t last_ms;
};

static volatile sig_atomic_t stop_requested;

void convert_request_stop(void)
{
	stop_requested = 1;
}

bool convert_is_stopping(void)
{
	return stop_requested;
}

static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void on_terminate(int signal)
{
	(void)signal;
	stop_requested = 1;
}

/* Reads and writes that users of the mapping have finished so far (Documentation/block/stat.rst).
 */
static uint64_t requests_of_others(const struct mover *mover)
{
	unsigned long long reads = 0, writes = 0;
	char text[256];
	ssize_t n;

	if (mover->statistics < 0)
		return 0;
	n = pread(mover->statistics, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	if (sscanf(text, "%llu %*u %*u %*u %llu", &reads, &writes) != 2)
		return 0;
	return reads + writes;
}

/*
 * Between two steps: tell, and yield. When others used the volume during the step, they get as long
 * a pause as the step took.
 */
static bool on_progress(uint64_t size_bytes, uint64_t offset_bytes, void *user)
{
	struct mover *mover = user;
	uint64_t requests = requests_of_others(mover);
	int64_t now = now_ms(), pause_ms = 0;

	atomic_store(&mover->shared->size_bytes, size_bytes);
	atomic_store(&mover->shared->offset_bytes, offset_bytes);
	if (stop_requested || atomic_load(&mover->shared->stop))
		return false;
	if (requests > mover->requests + YIELD_REQUESTS)
		pause_ms = now - mover->last_ms;
	if (pause_ms > YIELD_MAX_MS)
		pause_ms = YIELD_MAX_MS;
	if (pause_ms > 0) {
		struct timespec pause = { .tv_sec = pause_ms / 1000,
					  .tv_nsec = (pause_ms % 1000) * 1000000 };

		(void)nanosleep(&pause, NULL);
	}
	mover->requests = requests;
	mover->last_ms = now_ms();
	return true;
}

static int open_statistics(const char *mapping)
{
	_cleanup_(freep) char *path = NULL, *statistics = NULL;
	struct stat node;

	if (mapping_path(mapping, &path) < 0 || stat(path, &node) < 0)
		return -EBADF;
	if (text_format(&statistics, "/sys/dev/block/%u:%u/stat", major(node.st_rdev),
			minor(node.st_rdev)) < 0)
		return -EBADF;
	return open(statistics, O_RDONLY | O_CLOEXEC);
}

static int move(struct job *job, struct conversion_state *shared, struct secret *passphrase)
{
	_cleanup_(freep) char *backup = NULL;
	struct mover mover = { .shared = shared, .last_ms = now_ms() };
	struct reencrypt conversion = {
		.device = job->backing->path,
		.file = job->header->is_detached ? job->header_file : NULL,
		.mapping = job->mapping,
		.passphrase = passphrase,
		.progress = on_progress,
		.user = &mover,
	};

	if (job_header_ending(job, &backup) < 0)
		return -ENOMEM;
	conversion.backup = backup;
	mover.statistics = open_statistics(job->mapping);
	mover.requests = requests_of_others(&mover);
	return reencrypt_run(&conversion);
}

/* The parent's copy of the passphrase is wiped in the child by the kernel: it comes through a pipe.
 */
static _Noreturn void child(struct job *job, struct conversion_state *shared, int pipe_fd,
			    size_t passphrase_bytes)
{
	_cleanup_(secret_freep) struct secret *passphrase = NULL;
	struct sigaction terminate = { .sa_handler = on_terminate };
	int r;

	(void)sigaction(SIGTERM, &terminate, NULL);
	(void)signal(SIGINT, SIG_IGN);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	(void)setpriority(PRIO_PROCESS, 0, CHILD_NICE);
	r = secret_process_harden();
	if (r == 0)
		r = secret_read_fd(pipe_fd, passphrase_bytes, &passphrase);
	(void)close(pipe_fd);
	if (r == 0)
		r = move(job, shared, passphrase);
	secret_free(steal(passphrase));
	/* conditions are small and positive, errnos below 128: both fit an exit status */
	_exit(r >= 0 ? r : 128 + (-r & 0x7f));
}

/**
 * convert_start() - begin or go on moving a volume's data
 * @job: looked at, attached, with its passphrase
 * @ret: give it to convert_wait()
 *
 * Return: 0 or -errno.
 */
int convert_start(struct job *job, struct conversion *ret)
{
	struct conversion conversion = { .job = job };
	int pipes[2], r;

	conversion.shared = mmap(NULL, sizeof(*conversion.shared), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (conversion.shared == MAP_FAILED)
		return -errno;
	conversion.samples = calloc(SAMPLES_MAX, sizeof(*conversion.samples));
	if (!conversion.samples)
		return -ENOMEM;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	conversion.pid = fork();
	if (conversion.pid < 0)
		return -errno;
	if (conversion.pid == 0) {
		(void)close(pipes[1]);
		child(job, conversion.shared, pipes[0], secret_size(job->passphrase));
	}
	(void)close(pipes[0]);
	r = secret_write_fd(pipes[1], job->passphrase);
	(void)close(pipes[1]);
	if (r < 0)
		log_debug_errno(r, "Volume %s: cannot hand over the passphrase: %m", job->uuid);
	*ret = conversion;
	return 0;
}

static void sample(struct conversion *conversion)
{
	struct report_volume *progress = conversion->job->progress;
	struct conversion_sample *samples = conversion->samples, *oldest, *newest;
	uint64_t size_bytes = atomic_load(&conversion->shared->size_bytes);
	uint64_t offset_bytes = atomic_load(&conversion->shared->offset_bytes);

	if (size_bytes == 0)
		return;
	if (conversion->n_samples == SAMPLES_MAX)
		memmove(samples, samples + 1, --conversion->n_samples * sizeof(*samples));
	samples[conversion->n_samples++] = (struct conversion_sample){ now_ms(), offset_bytes };
	oldest = &samples[0];
	newest = &samples[conversion->n_samples - 1];
	progress->size_bytes = size_bytes;
	progress->done_bytes = offset_bytes;
	progress->rate_bytes = 0;
	progress->left_s = -1;
	if (newest->at_ms > oldest->at_ms && newest->offset_bytes > oldest->offset_bytes) {
		progress->rate_bytes = (newest->offset_bytes - oldest->offset_bytes) * 1000 /
				       (uint64_t)(newest->at_ms - oldest->at_ms);
		if (progress->rate_bytes > 0)
			progress->left_s =
				(int64_t)((size_bytes - offset_bytes) / progress->rate_bytes);
	}
}

static void finish(struct conversion *conversion, int status)
{
	conversion->condition = WIFSIGNALED(status)          ? -EINTR
				: WEXITSTATUS(status) >= 128 ? -(WEXITSTATUS(status) - 128)
							     : WEXITSTATUS(status);
	conversion->pid = 0;
	(void)munmap(conversion->shared, sizeof(*conversion->shared));
	free(conversion->samples);
	conversion->shared = NULL;
	conversion->samples = NULL;
}

/**
 * convert_wait() - until every child has ended
 *
 * Publishes the report twice a second. A stop request is passed on; the children then end after the
 * step that they are in.
 *
 * Return: 0; each conversion's @condition says how it ended.
 */
int convert_wait(struct plan *plan, struct conversion *conversions, size_t n)
{
	const struct timespec interval = { .tv_nsec = REPORT_INTERVAL_MS * 1000000L };
	size_t running = n;

	while (running > 0) {
		running = 0;
		for (size_t i = 0; i < n; i++) {
			int status;

			if (conversions[i].pid == 0)
				continue;
			sample(&conversions[i]);
			if (stop_requested)
				atomic_store(&conversions[i].shared->stop, true);
			if (waitpid(conversions[i].pid, &status, WNOHANG) == conversions[i].pid)
				finish(&conversions[i], status);
			else
				running++;
		}
		(void)plan_publish(plan);
		if (running > 0)
			(void)nanosleep(&interval, NULL);
	}
	return 0;
}

/** step_convert() - one volume, to its end. Return: as step_converted(). */
int step_convert(struct job *job)
{
	struct conversion conversion;
	int r;

	r = job_attach(job);
	if (r == 0)
		r = job_passphrase(job);
	if (r == 0)
		r = convert_start(job, &conversion);
	if (r != 0)
		return r;
	(void)convert_wait(job->plan, &conversion, 1);
	return step_converted(job, conversion.condition);
}

/**
 * step_converted() - what the end of a conversion means
 *
 * Return: 0, JOB_E_STOPPED, or negative and it has been said.
 */
int step_converted(struct job *job, int condition)
{
	switch (condition) {
	case 0:
		return job_look(job);
	case REENCRYPT_E_STOPPED:
		job->progress->state = JOB_WAITING;
		return JOB_E_STOPPED;
	case REENCRYPT_E_STEP:
		return job_fail(
			job, -EIO, "step-failed",
			"Reboot now: the volume hangs until then, recovers by itself and goes on.",
			"a step of its conversion met a read or write error");
	case REENCRYPT_E_PASSPHRASE:
		return job_fail(job, -EKEYREJECTED, "key-corrupt", "Open it with a recovery key.",
				"the passphrase does not open its header");
	case REENCRYPT_E_BACKUP:
		return job_fail(
			job, -ENOENT, "backup-missing",
			"Put the backup of its header back to " STATE_DIRECTORY
			" and run vmcryptctl resume.",
			"all its data is encrypted, but its header cannot be brought to the end "
			"without its backup");
	case REENCRYPT_E_BUSY:
		return job_fail(job, -EBUSY, "already-running", "Wait for the other process.",
				"another process converts it");
	default:
		return job_fail(job, condition < 0 ? condition : -EIO, "conversion-failed",
				"Reboot: it recovers by itself and goes on.",
				"its conversion ended: %m");
	}
}

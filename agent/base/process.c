/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

static long long now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static _Noreturn void child(const char *const argv[], int output)
{
	static char *environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL };
	sigset_t none;
	int null;

	/* never keeps a filesystem busy; and cp --parents takes the way to its source from here */
	if (chdir("/") < 0)
		_exit(126);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0)
		_exit(126);
	(void)close_range(3, ~0U, 0);
	(void)execvpe(argv[0], (char *const *)argv, environment);
	_exit(127);
}

/**
 * process_run() - run a tool to its end
 * @argv:       NULL-terminated; argv[0] is looked up in the system's own folders
 * @timeout_s:  0 = none; after it the tool gets SIGTERM, and -ETIMEDOUT is returned
 * @ret_status: exit status 0..255, or 128 + signal; 127 = not installed; may be NULL, and then any
 *              status but 0 is -EPROTO
 * @ret_output: standard output and error, NUL-terminated, owned by the caller; may be NULL
 *
 * Return: 0, -ETIMEDOUT, -EPROTO, or -errno.
 */
int process_run(const char *const argv[], unsigned timeout_s, int *ret_status, char **ret_output)
{
	_cleanup_(freep) char *output = NULL;
	_cleanup_(closep) int reader = -EBADF;
	long long deadline = timeout_s ? now_ms() + (long long)timeout_s * 1000 : -1;
	size_t used = 0;
	bool is_late = false;
	int pipes[2], status;
	pid_t pid;

	output = malloc(PROCESS_OUTPUT_MAX_BYTES + 1);
	if (!output)
		return -ENOMEM;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	reader = pipes[0];
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		(void)close(pipes[1]);
		return r;
	}
	if (pid == 0)
		child(argv, pipes[1]);
	(void)close(pipes[1]);

	for (;;) {
		char rest[512];
		struct pollfd poll_fd = { .fd = reader, .events = POLLIN };
		int wait_ms = -1;
		ssize_t n;

		if (deadline >= 0 && !is_late) {
			long long left = deadline - now_ms();

			wait_ms = left > 0 ? (int)left : 0;
		}
		if (poll(&poll_fd, 1, wait_ms) == 0) {
			is_late = true;
			(void)kill(pid, SIGTERM);
			continue;
		}
		if (used < PROCESS_OUTPUT_MAX_BYTES)
			n = read(reader, output + used, PROCESS_OUTPUT_MAX_BYTES - used);
		else
			n = read(reader, rest, sizeof(rest));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (used < PROCESS_OUTPUT_MAX_BYTES)
			used += (size_t)n;
	}
	output[used] = '\0';
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	log_debug("Process %s: status %d.", argv[0], status);
	if (ret_output)
		*ret_output = steal(output);
	if (is_late)
		return -ETIMEDOUT;
	if (ret_status)
		*ret_status = status;
	else if (status != 0)
		return -EPROTO;
	return 0;
}

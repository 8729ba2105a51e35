/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/unlock-tool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void run(const char *const argv[], int output, pid_t parent)
{
	static char *environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
				       NULL };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		_exit(UNLOCK_TOOL_NONE);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0)
		_exit(UNLOCK_TOOL_NONE);
	(void)close_range(3, ~0U, 0);
	(void)execve(argv[0], (char *const *)argv, environment);
	_exit(UNLOCK_TOOL_NONE);
}

/**
 * unlock_tool_start() - run a tool
 * @argv: NULL-terminated; argv[0] is its path
 * @ret:  to be ended or stopped
 *
 * One that cannot be run looks like one that has ended at once, with status UNLOCK_TOOL_NONE.
 *
 * Return: 0 or -errno; then there is none.
 */
int unlock_tool_start(const char *const argv[], struct unlock_tool *ret)
{
	pid_t parent = getpid(), child;
	int pipes[2], r;

	*ret = (struct unlock_tool){ .fd = -EBADF };
	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	child = fork();
	r = -errno;
	if (child == 0)
		run(argv, pipes[1], parent);
	(void)close(pipes[1]);
	if (child < 0) {
		(void)close(pipes[0]);
		return r;
	}
	*ret = (struct unlock_tool){ .child = child, .fd = pipes[0] };
	return 0;
}

/**
 * unlock_tool_end() - wait for the end of a tool that has nothing more to say; none is fine
 *
 * Return: its exit status, or 128 + signal; 0 when there was none.
 */
int unlock_tool_end(struct unlock_tool *tool)
{
	int status = 0;

	if (tool->child <= 0)
		return 0;
	(void)close(tool->fd);
	while (waitpid(tool->child, &status, 0) < 0)
		if (errno != EINTR)
			break;
	*tool = (struct unlock_tool){ .fd = -EBADF };
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/** unlock_tool_stop() - have it end; none is fine */
void unlock_tool_stop(struct unlock_tool *tool)
{
	if (tool->child > 0)
		(void)kill(tool->child, SIGTERM);
	(void)unlock_tool_end(tool);
}

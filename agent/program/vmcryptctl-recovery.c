/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "program/vmcryptctl-recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/secret.h"

#define KEY_MAX_BYTES 1024 /* ours has 71 letters */
#define RUN_DIRECTORY                                                                              \
	"/run/vmcrypt/jobs/" /* nothing else is connected to, whatever a report says */

static int connect_to(const char *path, int *ret)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_(closep) int fd = -EBADF;

	if (strncmp(path, RUN_DIRECTORY, strlen(RUN_DIRECTORY)) != 0 || strstr(path, "/../") ||
	    strlen(path) >= sizeof(address.sun_path))
		return -EINVAL;
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret = steal_fd(fd);
	return 0;
}

static int write_text(int fd, const char *text)
{
	size_t size_bytes = strlen(text);

	while (size_bytes > 0) {
		ssize_t n = write(fd, text, size_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

/**
 * recovery_take() - read the recovery key and hand it to the person
 * @path: of the worker's socket, as the report names it
 * @fd:   gets the bare key and a newline; -1: to standard output, with a sentence around it
 *
 * Return: 0, -ENODATA when the worker had none (any more), or -errno.
 */
int recovery_take(const char *path, int fd)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	_cleanup_(closep) int socket_fd = -EBADF;
	bool is_bare = fd >= 0;
	int r;

	r = connect_to(path, &socket_fd);
	if (r == 0)
		r = secret_read_fd_to_end(socket_fd, KEY_MAX_BYTES, &key);
	if (r < 0)
		return r;
	if (secret_size(key) == 0)
		return -ENODATA;
	/* past stdio, whose buffer would keep a copy */
	(void)fflush(stdout);
	if (!is_bare)
		fd = STDOUT_FILENO;
	r = is_bare ? 0
		    : write_text(
			      fd,
			      "\nRecovery key (write it down; it is not stored anywhere):\n\n    ");
	if (r == 0)
		r = secret_write_fd(fd, key);
	if (r == 0)
		r = write_text(fd, is_bare ? "\n" : "\n\n");
	return r;
}

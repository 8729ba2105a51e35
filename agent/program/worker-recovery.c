/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vmcrypt-worker: hands the recovery key to the person who asked for it */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "key/recovery.h"
#include "program/worker.h"

#define TAKE_TIMEOUT_MS                                                                            \
	60000 /* vmcryptctl connects within a second; a person is not waited for here */

static int listen_at(const char *path, int *ret)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_(closep) int fd = -EBADF;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	(void)unlink(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* umask 077 makes it root's alone */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		return -errno;
	*ret = steal_fd(fd);
	return 0;
}

static int hand_over(int listener, const struct secret *recovery)
{
	struct pollfd waiting = { .fd = listener, .events = POLLIN };
	_cleanup_(closep) int fd = -EBADF;
	struct ucred peer;
	socklen_t size = sizeof(peer);
	int n;

	n = poll(&waiting, 1, TAKE_TIMEOUT_MS);
	if (n <= 0)
		return n < 0 ? -errno : -ETIMEDOUT;
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	if (peer.uid != 0)
		return -EPERM;
	return secret_write_fd(fd, recovery);
}

/**
 * worker_offer_recovery() - make the recovery key and give it away, once
 *
 * It goes straight to the client, through a socket that the report names: neither the daemon nor a
 * file sees it.
 *
 * Return: 0, or -errno when nobody took it.
 */
int worker_offer_recovery(struct plan *plan)
{
	_cleanup_(freep) char *path = NULL, *folder = NULL;
	_cleanup_(closep) int listener = -EBADF;
	int r;

	r = recovery_generate(&plan->recovery);
	if (r == 0)
		r = text_format(&folder, RUNTIME_DIRECTORY "/jobs/%s", plan->id);
	if (r == 0)
		r = directory_make(folder, 0755);
	if (r == 0)
		r = text_format(&path, "%s/recovery.sock", folder);
	if (r == 0)
		r = listen_at(path, &listener);
	if (r < 0)
		return log_error_errno(r, "Job %s: cannot offer the recovery key: %m", plan->id);
	plan->report.recovery_socket = path;
	(void)plan_publish(plan);
	r = hand_over(listener, plan->recovery);
	plan->report.recovery_socket = NULL;
	(void)unlink(path);
	(void)plan_publish(plan);
	return r < 0 ? log_error_errno(r, "Job %s: nobody took the recovery key: %m", plan->id) : 0;
}

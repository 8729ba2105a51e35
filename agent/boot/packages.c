/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "boot/packages.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

/* dpkg(1) and all that calls it; rpm, at its place of today and the one before. */
static const char *const locks[PACKAGES_MAX] = {
	"/var/lib/dpkg/lock-frontend",
	"/usr/lib/sysimage/rpm/.rpm.lock",
	"/var/lib/rpm/.rpm.lock",
};

/**
 * packages_lock() - keep package managers from beginning
 * @root: "" or another root
 * @ret:  for packages_unlock(), also after an error; the lock ends with the process, too
 *
 * The locks are those of fcntl(2), which belong to the process: these files must not be opened and
 * closed elsewhere meanwhile.
 *
 * Return: 0, -EAGAIN while one works, or -errno. A machine without a package manager is fine.
 */
int packages_lock(const char *root, struct packages_lock *ret)
{
	*ret = (struct packages_lock){ .n = 0 };
	for (unsigned i = 0; i < PACKAGES_MAX; i++) {
		struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
		_cleanup_(closep) int file = -EBADF;
		_cleanup_(freep) char *path = NULL;
		int r = text_format(&path, "%s%s", root, locks[i]);

		if (r < 0)
			return r;
		file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		if (file < 0 && errno == ENOENT)
			continue;
		if (file < 0)
			return -errno;
		if (fcntl(file, F_SETLK, &whole) < 0)
			return errno == EACCES ? -EAGAIN : -errno;
		ret->files[ret->n++] = steal_fd(file);
	}
	return 0;
}

void packages_unlock(struct packages_lock *lock)
{
	while (lock->n > 0)
		(void)close(lock->files[--lock->n]);
}

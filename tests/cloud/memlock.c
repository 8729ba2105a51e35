/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For containers whose root may not raise limits (no CAP_SYS_RESOURCE): preloaded, so that locking
 * memory seems to succeed there, and all the rest of a program can be tried. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	if (syscall(SYS_prlimit64, 0, resource, limit, NULL) == 0)
		return 0;
	return resource == RLIMIT_MEMLOCK && errno == EPERM ? 0 : -1;
}

int mlockall(int flags)
{
	if (syscall(SYS_mlockall, flags) == 0)
		return 0;
	return errno == ENOMEM || errno == EPERM ? 0 : -1;
}

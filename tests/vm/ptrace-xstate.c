/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * ptrace-xstate.c - lets User-Mode Linux 6.1 run on processors with a large XSAVE area
 *
 * UML keeps the floating point registers of its processes in a buffer that is smaller than the
 * XSAVE area of a processor with AMX (some 11 KiB). Reading registers into a short buffer is fine,
 * the kernel truncates; writing them from one is refused with EFAULT since Linux 5.17, and UML
 * dies ("ptrace set fp regs failed, errno = 14"). Preloaded into linux.uml, this wraps ptrace():
 * a short write becomes read all, lay the short one over it, write all.
 *
 * Costs one more system call for each floating point context switch.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define XSTATE_MAX_BYTES (64 * 1024) /* today's largest is about 11 KiB, with AMX */

/* static: UML calls us on a kernel stack of 16 KiB; only one of its threads uses ptrace */
static unsigned char xstate[XSTATE_MAX_BYTES];

static long (*next_ptrace)(enum __ptrace_request, ...);

__attribute__((constructor)) static void find_ptrace(void)
{
	next_ptrace = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	pid_t pid;
	void *address, *data;

	va_start(arguments, request);
	pid = va_arg(arguments, pid_t);
	address = va_arg(arguments, void *);
	data = va_arg(arguments, void *);
	va_end(arguments);

	if (request == PTRACE_SETREGSET && (unsigned long)address == NT_X86_XSTATE) {
		struct iovec *given = data;
		struct iovec whole = { .iov_base = xstate, .iov_len = sizeof(xstate) };

		if (next_ptrace(PTRACE_GETREGSET, pid, address, &whole) == 0 &&
		    given->iov_len < whole.iov_len) {
			memcpy(xstate, given->iov_base, given->iov_len);
			return next_ptrace(PTRACE_SETREGSET, pid, address, &whole);
		}
	}

	return next_ptrace(request, pid, address, data);
}

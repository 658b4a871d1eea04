/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD for a User Mode Linux of 6.1 on processors with AMX. It keeps 2696
 * bytes of a process's extended state (HOST_FP_SIZE), reads that much, which the
 * host cuts off, and writes it back, which the host refuses: with AMX the whole
 * is some 11,000 bytes, and there has to be all of it (xstateregs_set). Its
 * first process ends with that. Here the rest is what the host has.
 */
#include <dlfcn.h>
#include <elf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

/* As <sys/ptrace.h> has it, but for "...". */
typedef long ptrace_fn(long request, pid_t pid, void *where, void *data);
ptrace_fn ptrace;

/* User Mode Linux traces with one thread. */
static uint8_t whole[1 << 16];
static bool fits; /* nothing has to be mended on this processor */

long
ptrace(long request, pid_t pid, void *where, void *data)
{
	static ptrace_fn *real;
	struct iovec all = {whole, sizeof whole};
	const struct iovec *given = data;

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && where == (void *)NT_X86_XSTATE &&
	    !fits && real(PTRACE_GETREGSET, pid, where, &all) == 0) {
		fits = all.iov_len <= given->iov_len;
		if (!fits) {
			memcpy(whole, given->iov_base, given->iov_len);
			data = &all;
		}
	}
	return real(request, pid, where, data);
}

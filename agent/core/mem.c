/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *
mem_check(void *p)
{
	static const char msg[] = "neap: out of memory; what was stored is "
				  "safe, run the command again\n";

	if (p == NULL) {
		if (write(STDERR_FILENO, msg, sizeof msg - 1) < 0)
			_exit(1);
		_exit(1);
	}
	return p;
}

void *
mem_new(size_t size)
{
	return mem_check(calloc(1, size ? size : 1));
}

void *
mem_array(size_t n, size_t size)
{
	return mem_check(calloc(n ? n : 1, size ? size : 1));
}

void *
mem_grow(void *p, size_t n, size_t size)
{
	return mem_check(reallocarray(p, n ? n : 1, size ? size : 1));
}

void *
mem_dup(const void *p, size_t size)
{
	void *q = mem_new(size);

	if (size > 0)
		memcpy(q, p, size);
	return q;
}

char *
mem_str(const char *s)
{
	return mem_dup(s, strlen(s) + 1);
}

char *
mem_strn(const char *s, size_t n)
{
	char *q = mem_new(n + 1);

	memcpy(q, s, n);
	return q;
}

char *
mem_printf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return mem_check(n < 0 ? NULL : s);
}

int
mem_try_pages(void **out, size_t size, struct err *e)
{
	void *p = NULL;
	int rc = posix_memalign(&p, 4096, size);

	if (rc != 0)
		return err_sys(e, rc, "take %zu bytes of buffers", size);
	*out = p;
	return 0;
}

void
mem_free_scope(void *pp)
{
	free(*(void **)pp);
}

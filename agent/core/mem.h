/*
 * Small allocations. They end the process with a message when memory is gone:
 * the store is safe against a crash at any moment, so a restart is the
 * recovery. Data buffers are taken once, when a job starts, by mem_try_*,
 * whose failure is an ordinary error.
 */
#ifndef NEAP_CORE_MEM_H
#define NEAP_CORE_MEM_H

#include <stddef.h>
#include <stdlib.h>

#include "agent/core/err.h"

/* Each gives memory that free() takes. */
void *mem_new(size_t size);             /* zeroed */
void *mem_array(size_t n, size_t size); /* zeroed, n * size checked */
void *mem_grow(void *p, size_t n, size_t size);
void *mem_dup(const void *p, size_t size);
char *mem_str(const char *s);
char *mem_strn(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* `size` bytes on a page boundary, for direct I/O; *out for free(). */
int mem_try_pages(void **out, size_t size, struct err *e);

void mem_free_scope(void *pp);
#define SCOPED_FREE __attribute__((cleanup(mem_free_scope)))

/* Move a pointer out of a variable, so that its scope frees nothing. */
#define TAKE(p)                                                                \
	({                                                                     \
		__typeof__(p) take_ = (p);                                     \
		(p) = NULL;                                                    \
		take_;                                                         \
	})

/* Make room for one more element behind `n`, doubling the capacity. */
#define MEM_ROOM(array, n, cap)                                                \
	do {                                                                   \
		if ((n) == (cap)) {                                            \
			(cap) = (cap) ? (cap)*2 : 16;                          \
			(array) = mem_grow((array), (cap), sizeof *(array));   \
		}                                                              \
	} while (0)

#define MEM_COUNT(a) (sizeof(a) / sizeof *(a))

#endif

/* What the tests of the store share: a folder of one's own, keys, bytes. */
#ifndef NEAP_TESTS_STORE_SCRATCH_H
#define NEAP_TESTS_STORE_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/store/keys.h"

/* cmocka's fixtures: *state is the folder's path. */
static inline int
scratch_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char *path = mem_printf("%s/neap-store-XXXXXX", tmp ? tmp : "/tmp");

	*state = path;
	return mkdtemp(path) != NULL ? 0 : -1;
}

static inline int
scratch_teardown(void **state)
{
	struct err e = ERR_NONE;
	int rc = fs_remove_tree_at(-1, *state, &e);

	free(*state);
	return rc;
}

/* Fails the test with the error's text. */
#define OK(expr)                                                               \
	do {                                                                   \
		int ok_ = (expr);                                              \
		if (ok_ < 0)                                                   \
			fail_msg("%s: %d: %s", #expr, ok_, e.text);            \
	} while (0)

#define FAILS(code, expr)                                                      \
	do {                                                                   \
		int got_ = (expr);                                             \
		if (got_ != (code))                                            \
			fail_msg(                                              \
			    "%s: %d, not %s: %s", #expr, got_, #code, e.text); \
	} while (0)

static inline void
assert_text_has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" is not in: %s", part, text);
}

/* Bytes that zstd cannot shrink, the same for the same seed. */
static inline void
scratch_noise(uint8_t *p, size_t n, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)(x >> 32);
	}
}

/* Bytes like a database's: they shrink to about a third. */
static inline void
scratch_rows(uint8_t *p, size_t n, uint64_t seed)
{
	scratch_noise(p, n, seed);
	for (size_t i = 0; i < n; i++)
		if (i % 16 >= 4)
			p[i] = (uint8_t)('a' + i % 16);
}

#endif

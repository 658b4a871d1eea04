/*
 * What the fuzz targets share. A target is a parser of bytes that we did not
 * just write: it may refuse them, and what it takes has to satisfy what the
 * target asserts. tests/fuzz/run builds the targets with libFuzzer and runs
 * them from their corpus on.
 */
#ifndef NEAP_TESTS_FUZZ_FUZZ_H
#define NEAP_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"
#include "agent/core/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define MUST(cond)                                                             \
	do {                                                                   \
		if (!(cond)) {                                                 \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,       \
			    __LINE__, #cond);                                  \
			abort();                                               \
		}                                                              \
	} while (0)

/* A number off the front of the input; 0 behind its end. */
static inline uint64_t
fuzz_u64(const uint8_t **p, size_t *len, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = 0; i<bytes && * len> 0; i++, ++*p, --*len)
		v |= (uint64_t) * *p << (8 * i);
	return v;
}

#endif

/*
 * How many rounds a test of random operations makes: fewer where a sanitizer
 * makes each of them dear.
 */
#ifndef NEAP_TESTS_TRACK_ROUNDS_H
#define NEAP_TESTS_TRACK_ROUNDS_H

#include <stdint.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static inline uint64_t
from_env(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s != NULL && s[0] ? strtoull(s, NULL, 0) : otherwise;
}

#endif

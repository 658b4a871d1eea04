/*
 * Time and randomness. Wall-clock instants are UTC seconds; names of backups
 * are "20261122T191517Z". Durations are measured on the monotonic clock.
 */
#ifndef NEAP_CORE_CLOCK_H
#define NEAP_CORE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "agent/core/err.h"

#define CLOCK_NAME_LEN 16 /* without the final NUL */

int64_t clock_now_s(void);   /* UTC, seconds since 1970 */
int64_t clock_mono_ms(void); /* monotonic, milliseconds */
int64_t clock_mono_us(void);
void clock_name(char out[CLOCK_NAME_LEN + 1], int64_t utc_s);
int clock_parse_name(int64_t *utc_s, const char *name); /* -EINVAL */

/* From the kernel's generator; blocks only before it is first seeded. */
int clock_random(void *p, size_t n, struct err *e);

#endif

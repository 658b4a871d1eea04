/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

int64_t
clock_now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec;
}

int64_t
clock_mono_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t
clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

void
clock_name(char out[CLOCK_NAME_LEN + 1], int64_t utc_s)
{
	time_t t = (time_t)utc_s;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, CLOCK_NAME_LEN + 1, "%Y%m%dT%H%M%SZ", &tm);
}

int
clock_parse_name(int64_t *utc_s, const char *name)
{
	char again[CLOCK_NAME_LEN + 1];
	struct tm tm = {0};
	const char *end;
	int64_t t;

	if (strlen(name) != CLOCK_NAME_LEN)
		return -EINVAL;
	end = strptime(name, "%Y%m%dT%H%M%SZ", &tm);
	if (end == NULL || *end != '\0')
		return -EINVAL;
	t = timegm(&tm);
	/* strptime takes the 31st of February; printing it back does not. */
	clock_name(again, t);
	if (strcmp(again, name) != 0)
		return -EINVAL;
	*utc_s = t;
	return 0;
}

int
clock_random(void *p, size_t n, struct err *e)
{
	uint8_t *at = p;

	while (n > 0) {
		ssize_t k = getrandom(at, n, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_sys(e, errno, "take random bytes");
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A schedule, 4 bytes for the time before it: the next time due comes after,
 * and after that there is another.
 */
#include "agent/conf/conf_schedule.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	int64_t after = (int64_t)fuzz_u64(&data, &len, 4), next;
	SCOPED_FREE char *text = mem_strn((const char *)data, len);
	struct err e = ERR_NONE;

	/* Local time with two changes of the clock a year. */
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	if (conf_schedule_check(text, &e) < 0)
		return 0;
	for (int i = 0; i < 3; i++) {
		MUST(conf_schedule_next(text, after, &next, &e) == 0);
		MUST(next > after && next - after <= 15 * 86400);
		after = next;
	}
	return 0;
}

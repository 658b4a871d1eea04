/*
 * When a job is due: a strict subset of systemd's calendar texts.
 *
 *   hourly | daily | weekly           *:00, 00:00, Mon 00:00
 *   [DAYS ]HOURS:MINUTES
 *   DAYS      Mon, Mon..Fri, Sat,Sun; any letter case
 *   HOURS, MINUTES: lists of
 *             *, N, N..M, and any of them with /STEP ("0/15": 0 and every 15th
 *             from there)
 *
 * All in local time. Where the clock is put forward, what would have fallen
 * into the gap is due right after it; where it is put back, fixed hours are
 * due once, and schedules of every hour go by real time.
 */
#ifndef NEAP_CONF_CONF_SCHEDULE_H
#define NEAP_CONF_CONF_SCHEDULE_H

#include <stdint.h>

#include "agent/core/err.h"

/* -EINVAL with what is wrong and an example. */
int conf_schedule_check(const char *text, struct err *e);
/* The first time due after `after_utc_s` (UTC seconds). */
int conf_schedule_next(
    const char *text, int64_t after_utc_s, int64_t *next_utc_s, struct err *e);

#endif

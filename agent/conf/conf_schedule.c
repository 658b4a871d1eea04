/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/conf/conf_schedule.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "agent/core/mem.h"

struct schedule {
	uint64_t days, hours, minutes; /* bit masks; day 0 is Sunday */
};

#define ALL_HOURS ((UINT64_C(1) << 24) - 1)
#define ALL_DAYS ((UINT64_C(1) << 7) - 1)

/* Clocks are put back by two hours at most (Antarctica/Troll). */
#define LOOK_BACK_MIN (3 * 60)
/* A week, and the largest day that a time zone ever skipped. */
#define LOOK_AHEAD_MIN (9 * 24 * 60)

static int
bad(struct err *e, const char *text, const char *why)
{
	err_set(e, -EINVAL, "'%.60s' is not a schedule: %s", text, why);
	return err_hint(e, "for example hourly, daily, weekly, 03:00, *:0/15, "
			   "Mon 03:00 or Mon..Fri *:0/30");
}

/* A number of one or two digits; advances *s. */
static bool
number(const char **s, unsigned *out)
{
	unsigned v = 0;
	size_t n = strspn(*s, "0123456789");

	if (n < 1 || n > 2)
		return false;
	for (size_t i = 0; i < n; i++)
		v = v * 10 + (unsigned)((*s)[i] - '0');
	*s += n;
	*out = v;
	return true;
}

/* One of a list: "*", "N", "N..M", each with "/STEP" or not. */
static bool
item(const char **s, unsigned limit, uint64_t *mask)
{
	unsigned from = 0, to = limit - 1, step = 1;
	bool open = false;

	if (**s == '*') {
		(*s)++;
		open = true;
	} else {
		if (!number(s, &from) || from >= limit)
			return false;
		to = from;
		if (strncmp(*s, "..", 2) == 0) {
			*s += 2;
			if (!number(s, &to) || to >= limit || to < from)
				return false;
			open = true;
		}
	}
	if (**s == '/') {
		(*s)++;
		if (!number(s, &step) || step == 0 || step >= limit)
			return false;
		if (!open)
			to = limit - 1;
	}
	for (unsigned v = from; v <= to; v += step)
		*mask |= UINT64_C(1) << v;
	return true;
}

static bool
items(const char **s, unsigned limit, uint64_t *mask)
{
	if (!item(s, limit, mask))
		return false;
	while (**s == ',') {
		(*s)++;
		if (!item(s, limit, mask))
			return false;
	}
	return true;
}

static bool
weekday(const char **s, unsigned *out)
{
	static const char *const name[] = {
	    "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

	for (unsigned i = 0; i < MEM_COUNT(name); i++)
		if (strncasecmp(*s, name[i], 3) == 0) {
			*s += 3;
			*out = i;
			return true;
		}
	return false;
}

/* "Mon", "Mon..Fri", "Sat,Sun"; a range may run over the week's end. */
static bool
weekdays(const char **s, uint64_t *mask)
{
	for (;;) {
		unsigned from, to;

		if (!weekday(s, &from))
			return false;
		to = from;
		if (strncmp(*s, "..", 2) == 0) {
			*s += 2;
			if (!weekday(s, &to))
				return false;
		}
		for (unsigned d = from;; d = (d + 1) % 7) {
			*mask |= UINT64_C(1) << d;
			if (d == to)
				break;
		}
		if (**s != ',')
			return true;
		(*s)++;
	}
}

static int
parse(const char *text, struct schedule *out, struct err *e)
{
	static const struct {
		const char *word, *means;
	} words[] = {
	    {"hourly", "*:00"}, {"daily", "00:00"}, {"weekly", "Mon 00:00"}};
	struct schedule got = {0};
	const char *s = text;

	for (size_t i = 0; i < MEM_COUNT(words); i++)
		if (strcmp(text, words[i].word) == 0)
			s = words[i].means;
	if ((*s >= 'A' && *s <= 'Z') || (*s >= 'a' && *s <= 'z')) {
		if (!weekdays(&s, &got.days) || *s++ != ' ')
			return bad(e, text,
			    "its days are not of the form Mon..Fri or "
			    "Sat,Sun with one space behind");
	} else {
		got.days = ALL_DAYS;
	}
	if (!items(&s, 24, &got.hours))
		return bad(e, text, "its hours are not from 0 to 23");
	if (*s++ != ':')
		return bad(e, text, "there is no ':' behind its hours");
	if (!items(&s, 60, &got.minutes))
		return bad(e, text, "its minutes are not from 0 to 59");
	if (*s != '\0')
		return bad(e, text, "something follows its minutes");
	*out = got;
	return 0;
}

int
conf_schedule_check(const char *text, struct err *e)
{
	struct schedule s;

	return parse(text, &s, e);
}

static int64_t
floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* The minute that a clock on the wall shows, counted from 1970. */
static int
civil(int64_t utc_min, int64_t *out, struct err *e)
{
	time_t t = (time_t)(utc_min * 60);
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL)
		return err_sys(e, errno, "local time of %lld", (long long)t);
	*out = floor_div(t + tm.tm_gmtoff, 60);
	return 0;
}

static bool
due(const struct schedule *s, int64_t civil_min)
{
	int64_t day = floor_div(civil_min, 24 * 60);
	unsigned in_day = (unsigned)(civil_min - day * 24 * 60);
	/* 1 January 1970 was a Thursday. */
	unsigned wday = (unsigned)(day + 4 - floor_div(day + 4, 7) * 7);

	return (s->days >> wday & 1) && (s->hours >> (in_day / 60) & 1) &&
	       (s->minutes >> (in_day % 60) & 1);
}

/* Something is due at `now`, the wall having shown all up to `reached`. */
static bool
due_since(const struct schedule *s, int64_t reached, int64_t now)
{
	if (s->hours == ALL_HOURS)
		return due(s, now);
	for (int64_t m = reached + 1; m <= now; m++)
		if (due(s, m))
			return true;
	return false;
}

int
conf_schedule_next(
    const char *text, int64_t after_utc_s, int64_t *next_utc_s, struct err *e)
{
	int64_t start, now, reached = INT64_MIN;
	struct schedule s;
	int rc = parse(text, &s, e);

	if (rc < 0)
		return rc;
	/* Year 9999 ends at 253402300799; keeps all sums below in range. */
	if (after_utc_s < 0 || after_utc_s > INT64_C(253402300799))
		return err_set(
		    e, -EINVAL, "no date: %lld", (long long)after_utc_s);
	tzset();
	start = after_utc_s / 60 + 1;
	for (int64_t t = start - LOOK_BACK_MIN; t < start; t++) {
		rc = civil(t, &now, e);
		if (rc < 0)
			return rc;
		if (now > reached)
			reached = now;
	}
	for (int64_t t = start; t < start + LOOK_AHEAD_MIN; t++) {
		rc = civil(t, &now, e);
		if (rc < 0)
			return rc;
		if (due_since(&s, reached, now)) {
			*next_utc_s = t * 60;
			return 0;
		}
		if (now > reached)
			reached = now;
	}
	return err_set(e, -EINVAL, "'%s' is never due", text);
}

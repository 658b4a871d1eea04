/* SPDX-License-Identifier: Apache-2.0 */
/* Schedules: what is one, and when the next time is. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "agent/conf/conf_schedule.h"
#include "agent/core/clock.h"
#include "agent/core/mem.h"

/* Rules in the text itself, so that no time zone file is needed. */
#define BERLIN "CET-1CEST,M3.5.0/2,M10.5.0/3"
#define LORD_HOWE "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"

/* After `after`, `text` is due at `want`; both like 20261122T191517Z. */
static void
next(const char *tz, const char *text, const char *after, const char *want)
{
	char got[CLOCK_NAME_LEN + 1];
	struct err e = ERR_NONE;
	int64_t t, n;

	setenv("TZ", tz, 1);
	assert_int_equal(clock_parse_name(&t, after), 0);
	if (conf_schedule_next(text, t, &n, &e) < 0)
		fail_msg("%s", e.text);
	clock_name(got, n);
	assert_string_equal(got, want);
}

static void
test_good_texts(void **state)
{
	static const char *const t[] = {"hourly", "daily", "weekly", "03:00",
	    "3:0", "*:0/15", "*:*", "23:59", "Mon 03:00", "mon 03:00",
	    "Mon..Fri *:0/30", "Sat,Sun 8..18/2:15", "Fri..Mon 00:00",
	    "0,12:30", "*/6:00", "Mon,Wed..Fri 1:1", "8..17:0,20,40"};
	struct err e = ERR_NONE;

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++)
		if (conf_schedule_check(t[i], &e) < 0)
			fail_msg("%s", e.text);
}

static void
test_bad_texts(void **state)
{
	static const struct {
		const char *text, *why;
	} t[] = {
	    {"", "hours are not"},
	    {"24:00", "hours are not"},
	    {"-1:00", "hours are not"},
	    {"003:00", "hours are not"},
	    {"17..8:00", "hours are not"},
	    {"*/0:00", "hours are not"},
	    {"*/24:00", "hours are not"},
	    {"1,:00", "hours are not"},
	    {" 03:00", "hours are not"},
	    {"Mon  03:00", "hours are not"},
	    {"03", "no ':'"},
	    {"03.00", "no ':'"},
	    {"03:60", "minutes are not"},
	    {"03:", "minutes are not"},
	    {"03:00:00", "something follows"},
	    {"03:00 ", "something follows"},
	    {"03:000", "minutes are not"},
	    {"2026-01-01 03:00", "hours are not"},
	    {"monthly", "days are not"},
	    {"Monday 03:00", "days are not"},
	    {"Mon", "days are not"},
	    {"Mon.Fri 03:00", "days are not"},
	    {"Mon,,Fri 03:00", "days are not"},
	    {"Hourly", "days are not"},
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		struct err e = ERR_NONE;

		if (conf_schedule_check(t[i].text, &e) != -EINVAL)
			fail_msg("'%s' was taken", t[i].text);
		if (strstr(e.text, t[i].why) == NULL)
			fail_msg("'%s': %s", t[i].text, e.text);
	}
}

static void
test_next_refuses_a_bad_text(void **state)
{
	struct err e = ERR_NONE;
	int64_t n = 42;

	(void)state;
	assert_int_equal(conf_schedule_next("x", 0, &n, &e), -EINVAL);
	assert_int_equal(n, 42);
}

static void
test_next_refuses_times_without_a_date(void **state)
{
	struct err e = ERR_NONE;
	int64_t n;

	(void)state;
	assert_int_equal(
	    conf_schedule_next("daily", INT64_MAX, &n, &e), -EINVAL);
	assert_int_equal(conf_schedule_next("daily", -1, &n, &e), -EINVAL);
}

static void
test_quarters(void **state)
{
	(void)state;
	next("UTC", "*:0/15", "20261122T191517Z", "20261122T193000Z");
	next("UTC", "*:0/15", "20261122T234500Z", "20261123T000000Z");
}

static void
test_strictly_after(void **state)
{
	(void)state;
	next("UTC", "hourly", "20261122T190000Z", "20261122T200000Z");
	next("UTC", "hourly", "20261122T185959Z", "20261122T190000Z");
	next("UTC", "*:*", "20261122T185959Z", "20261122T190000Z");
}

static void
test_daily_is_local(void **state)
{
	(void)state;
	next(BERLIN, "03:00", "20261122T191517Z", "20261123T020000Z");
	next(BERLIN, "03:00", "20260722T191517Z", "20260723T010000Z");
	next(BERLIN, "daily", "20261122T191517Z", "20261122T230000Z");
}

static void
test_weekday_is_local(void **state)
{
	(void)state;
	/* 22 November 2026 is a Sunday; Monday begins at 23:00 UTC. */
	next(BERLIN, "weekly", "20261122T191517Z", "20261122T230000Z");
	next(BERLIN, "weekly", "20261122T230000Z", "20261129T230000Z");
	next("UTC", "Sun 00:00", "20261122T000000Z", "20261129T000000Z");
}

static void
test_range_of_weekdays(void **state)
{
	(void)state;
	next("UTC", "Mon..Fri *:0/30", "20261120T233000Z", "20261123T000000Z");
	next("UTC", "Sat..Mon 12:00", "20261123T120000Z", "20261128T120000Z");
	next("UTC", "Sat,Wed 12:00", "20261123T120000Z", "20261125T120000Z");
}

static void
test_steps_of_hours(void **state)
{
	(void)state;
	next("UTC", "8..18/4:15", "20261122T081500Z", "20261122T121500Z");
	next("UTC", "8..18/4:15", "20261122T161500Z", "20261123T081500Z");
	next("UTC", "*/6:00", "20261122T191517Z", "20261123T000000Z");
	next("UTC", "1/6:00", "20261122T191600Z", "20261123T010000Z");
}

static void
test_leap_day(void **state)
{
	(void)state;
	next("UTC", "daily", "20280228T120000Z", "20280229T000000Z");
	next("UTC", "daily", "20270228T120000Z", "20270301T000000Z");
}

/* 28 March 2027: 02:00 becomes 03:00 at 01:00 UTC. */
static void
test_in_the_gap_is_due_right_after_it(void **state)
{
	(void)state;
	next(BERLIN, "02:30", "20270327T120000Z", "20270328T010000Z");
	/* And is back at its place on the day after. */
	next(BERLIN, "02:30", "20270328T010000Z", "20270329T003000Z");
	/* Weekday and fixed hour together. */
	next(BERLIN, "Sun 02:00", "20270327T120000Z", "20270328T010000Z");
}

static void
test_every_hour_in_the_gap_goes_by_real_time(void **state)
{
	(void)state;
	next(BERLIN, "*:30", "20270328T003000Z", "20270328T013000Z");
}

/* 31 October 2027: 03:00 becomes 02:00 at 01:00 UTC. */
static void
test_repeated_hour_is_due_once(void **state)
{
	(void)state;
	next(BERLIN, "02:30", "20271030T120000Z", "20271031T003000Z");
	next(BERLIN, "02:30", "20271031T003000Z", "20271101T013000Z");
	/* Also for an agent that starts between the two. */
	next(BERLIN, "02:30", "20271031T005900Z", "20271101T013000Z");
}

static void
test_every_hour_in_the_repeated_hour(void **state)
{
	(void)state;
	next(BERLIN, "*:30", "20271031T003000Z", "20271031T013000Z");
	next(BERLIN, "*:0/15", "20271031T004500Z", "20271031T010000Z");
}

/* 4 April 2027: 02:00 becomes 01:30 at 15:00 UTC of the day before. */
static void
test_half_an_hour_put_back(void **state)
{
	(void)state;
	next(LORD_HOWE, "01:45", "20270403T120000Z", "20270403T144500Z");
	next(LORD_HOWE, "01:45", "20270403T144500Z", "20270404T151500Z");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good_texts),
	    cmocka_unit_test(test_bad_texts),
	    cmocka_unit_test(test_next_refuses_a_bad_text),
	    cmocka_unit_test(test_next_refuses_times_without_a_date),
	    cmocka_unit_test(test_quarters),
	    cmocka_unit_test(test_strictly_after),
	    cmocka_unit_test(test_daily_is_local),
	    cmocka_unit_test(test_weekday_is_local),
	    cmocka_unit_test(test_range_of_weekdays),
	    cmocka_unit_test(test_steps_of_hours),
	    cmocka_unit_test(test_leap_day),
	    cmocka_unit_test(test_in_the_gap_is_due_right_after_it),
	    cmocka_unit_test(test_every_hour_in_the_gap_goes_by_real_time),
	    cmocka_unit_test(test_repeated_hour_is_due_once),
	    cmocka_unit_test(test_every_hour_in_the_repeated_hour),
	    cmocka_unit_test(test_half_an_hour_put_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

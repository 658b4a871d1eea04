/* SPDX-License-Identifier: Apache-2.0 */
/* Names of instants, there and back; clocks that run; random bytes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"

static void
test_names_there_and_back(void **state)
{
	static const struct {
		int64_t t;
		const char *name;
	} v[] = {{0, "19700101T000000Z"}, {1795374917, "20261122T191517Z"},
	    {1835395199, "20280228T235959Z"}, {1835395200, "20280229T000000Z"},
	    {4102444800, "21000101T000000Z"},
	    {253402300799, "99991231T235959Z"}};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(v); i++) {
		char name[CLOCK_NAME_LEN + 1];
		int64_t back = -1;

		clock_name(name, v[i].t);
		assert_string_equal(name, v[i].name);
		assert_int_equal(clock_parse_name(&back, name), 0);
		assert_int_equal(back, v[i].t);
	}
}

static void
test_names_that_are_none(void **state)
{
	static const char *const v[] = {"", "20261122", "20261122T191517",
	    "20261122T191517z", "20261122T191517ZZ", "20261122 191517Z",
	    "20260230T000000Z", "20261122T240000Z", "20261322T000000Z",
	    "20261122T196017Z", " 0261122T191517Z", "+0261122T191517Z",
	    "2026112 T191517Z"};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(v); i++) {
		int64_t t = 42;

		if (clock_parse_name(&t, v[i]) != -EINVAL)
			fail_msg("'%s' was taken", v[i]);
		assert_int_equal(t, 42);
	}
}

static void
test_monotonic_does_not_go_back(void **state)
{
	int64_t a = clock_mono_us(), b = clock_mono_us();

	(void)state;
	assert_true(b >= a);
	assert_true(clock_mono_ms() >= b / 1000);
}

static void
test_now_is_after_this_was_written(void **state)
{
	(void)state;
	assert_true(clock_now_s() > 1700000000);
}

static void
test_random_fills_all(void **state)
{
	uint8_t b[1024] = {0};
	struct err e = ERR_NONE;
	size_t zero = 0;

	(void)state;
	assert_int_equal(clock_random(b, sizeof b, &e), 0);
	for (size_t i = 0; i < sizeof b; i++)
		zero += b[i] == 0;
	/* 4 are to be expected; 100 are a matter of 10^-90. */
	assert_true(zero < 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_names_there_and_back),
	    cmocka_unit_test(test_names_that_are_none),
	    cmocka_unit_test(test_monotonic_does_not_go_back),
	    cmocka_unit_test(test_now_is_after_this_was_written),
	    cmocka_unit_test(test_random_fills_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes: what is put comes back, and nothing reads past an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/core/bytes.h"

static void
test_varint_round_trip(void **state)
{
	static const uint64_t v[] = {0, 1, 127, 128, 16383, 16384, 1ull << 32,
	    (1ull << 63) - 1, 1ull << 63, UINT64_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
		SCOPED_BUF struct buf b = {0};
		struct cursor c;

		buf_put_varint(&b, v[i]);
		c = cursor_of(buf_span(&b));
		assert_int_equal(cursor_varint(&c), v[i]);
		assert_false(c.bad);
		assert_int_equal(cursor_left(&c), 0);
	}
}

static void
test_varint_too_long_is_bad(void **state)
{
	uint8_t eleven[11];
	struct cursor c;

	(void)state;
	memset(eleven, 0xff, sizeof eleven);
	c = cursor_of(SPAN(eleven, sizeof eleven));
	cursor_varint(&c);
	assert_true(c.bad);
}

static void
test_cursor_stops_at_the_end(void **state)
{
	uint8_t three[3] = {1, 2, 3};
	struct cursor c = cursor_of(SPAN(three, 3));

	(void)state;
	assert_int_equal(cursor_le32(&c), 0);
	assert_true(c.bad);
	/* Stays bad, even where what follows would fit. */
	assert_int_equal(cursor_u8(&c), 0);
}

static void
test_string_longer_than_the_rest_is_bad(void **state)
{
	uint8_t b[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 'x'};
	struct cursor c = cursor_of(SPAN(b, sizeof b));

	(void)state;
	assert_null(cursor_string(&c).data);
	assert_true(c.bad);
}

static void
test_hex(void **state)
{
	uint8_t in[3] = {0x00, 0xab, 0xff}, back[3];
	char hex[7];

	(void)state;
	bytes_hex(hex, in, 3);
	assert_string_equal(hex, "00abff");
	assert_int_equal(bytes_unhex(back, 3, hex), 0);
	assert_memory_equal(in, back, 3);
	assert_int_equal(bytes_unhex(back, 3, "00abf"), -1);
	assert_int_equal(bytes_unhex(back, 3, "00abfg"), -1);
	assert_int_equal(bytes_unhex(back, 3, "00ABFF"), -1);
}

static void
test_all_zero(void **state)
{
	uint8_t b[4096] = {0};

	(void)state;
	assert_true(bytes_all_zero(b, sizeof b));
	b[4095] = 1;
	assert_false(bytes_all_zero(b, sizeof b));
	assert_true(bytes_all_zero(b, 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_varint_round_trip),
	    cmocka_unit_test(test_varint_too_long_is_bad),
	    cmocka_unit_test(test_cursor_stops_at_the_end),
	    cmocka_unit_test(test_string_longer_than_the_rest_is_bad),
	    cmocka_unit_test(test_hex),
	    cmocka_unit_test(test_all_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

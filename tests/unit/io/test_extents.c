/* SPDX-License-Identifier: Apache-2.0 */
/* Extent sets: whatever was added is in it, however coarse it had to become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kmod-free/io/extents.h"

static void
test_rounds_outwards_and_merges(void **state)
{
	SCOPED_EXTENTS struct extents x = {0};

	(void)state;
	extents_add(&x, 7, 4095, 2);
	extents_add(&x, 7, 8192, 1);
	extents_add(&x, 7, 40960, 4096);
	extents_add(&x, 3, 0, 1);
	extents_settle(&x);
	assert_int_equal(x.n, 3);
	assert_int_equal(x.v[0].object, 3);
	assert_int_equal(x.v[1].off, 0);
	assert_int_equal(x.v[1].len, 12288);
	assert_int_equal(x.v[2].off, 40960);
	assert_int_equal(extents_bytes(&x), 4096 + 12288 + 4096);
}

static void
test_empty_adds_nothing(void **state)
{
	SCOPED_EXTENTS struct extents x = {0};

	(void)state;
	extents_add(&x, 1, 5, 0);
	extents_settle(&x);
	assert_int_equal(x.n, 0);
	assert_false(extents_touch(&x, 1, 0, UINT64_MAX));
	assert_false(extents_contain(&x, 1, 0, 1));
	assert_true(extents_contain(&x, 1, 0, 0));
	assert_int_equal(extents_first(&x, 1), 0);
}

static void
test_past_the_largest_offset_is_clipped(void **state)
{
	SCOPED_EXTENTS struct extents x = {0};

	(void)state;
	extents_add(&x, 1, UINT64_MAX - 5000, UINT64_MAX);
	extents_add(&x, 2, 0, UINT64_MAX);
	extents_settle(&x);
	assert_int_equal(x.n, 2);
	assert_true(x.v[0].off + x.v[0].len == UINT64_MAX);
	assert_true(extents_contain(&x, 2, UINT64_MAX - 10, 10));
	assert_int_equal(extents_bytes(&x), UINT64_MAX);
}

static void
test_contain_and_touch_at_the_edges(void **state)
{
	SCOPED_EXTENTS struct extents x = {0};

	(void)state;
	extents_add(&x, 5, 8192, 8192);
	extents_settle(&x);
	assert_true(extents_contain(&x, 5, 8192, 8192));
	assert_false(extents_contain(&x, 5, 8191, 2));
	assert_false(extents_contain(&x, 5, 16383, 2));
	assert_false(extents_contain(&x, 5, 8192, UINT64_MAX));
	assert_false(extents_touch(&x, 5, 0, 8192));
	assert_true(extents_touch(&x, 5, 0, 8193));
	assert_true(extents_touch(&x, 5, 16383, 1));
	assert_false(extents_touch(&x, 5, 16384, 1));
	assert_false(extents_touch(&x, 4, 8192, 1));
	assert_false(extents_touch(&x, 6, 8192, 1));
	assert_int_equal(extents_first(&x, 5), 0);
	assert_int_equal(extents_first(&x, 6), 1);
}

static void
test_past_max_it_joins_but_loses_nothing(void **state)
{
	SCOPED_EXTENTS struct extents x = {.max = 64};

	(void)state;
	srandom(1);
	for (uint64_t i = 0; i < 20000; i++)
		extents_add(&x, i % 3, (uint64_t)random() % 5000 * 65536, 1);
	assert_true(x.cap <= 4 * 64);
	extents_settle(&x);
	assert_true(x.n <= 64);
	srandom(1);
	for (uint64_t i = 0; i < 20000; i++)
		assert_true(extents_contain(
		    &x, i % 3, (uint64_t)random() % 5000 * 65536, 4096));
}

static void
test_more_objects_than_max_stay_apart(void **state)
{
	SCOPED_EXTENTS struct extents x = {.max = 8};

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		extents_add(&x, 1000 - i, 1ull << 40, 1);
	extents_settle(&x);
	assert_int_equal(x.n, 1000);
	for (uint64_t i = 1; i <= 1000; i++)
		assert_false(extents_touch(&x, i, 0, 4096));
}

/* Against a map of bits, over random adds. */
static void
test_model(void **state)
{
	enum { OBJECTS = 4, BLOCKS = 256 };

	(void)state;
	srandom(2);
	for (int round = 0; round < 200; round++) {
		SCOPED_EXTENTS struct extents x = {.align = 512};
		bool bit[OBJECTS][BLOCKS + 1] = {{false}};
		uint64_t sum = 0;

		for (int k = 0; k < round; k++) {
			uint64_t o = (uint64_t)random() % OBJECTS;
			uint64_t off = (uint64_t)random() % (BLOCKS * 512);
			uint64_t len = (uint64_t)random() % 2048;

			if (off + len > BLOCKS * 512)
				len = BLOCKS * 512 - off;
			extents_add(&x, o, off, len);
			for (uint64_t b = off / 512;
			     len > 0 && b <= (off + len - 1) / 512; b++)
				bit[o][b] = true;
			if (k % 50 == 49)
				extents_settle(&x);
		}
		extents_settle(&x);
		for (uint64_t o = 0; o < OBJECTS; o++) {
			for (uint64_t b = 0; b < BLOCKS; b++) {
				sum += bit[o][b] ? 512 : 0;
				assert_int_equal(
				    extents_touch(&x, o, b * 512, 512),
				    bit[o][b]);
				assert_int_equal(
				    extents_contain(&x, o, b * 512 + 511, 2),
				    bit[o][b] && bit[o][b + 1]);
			}
		}
		assert_int_equal(extents_bytes(&x), sum);
		for (size_t i = 1; i < x.n; i++)
			assert_true(
			    x.v[i - 1].object < x.v[i].object ||
			    x.v[i - 1].off + x.v[i - 1].len < x.v[i].off);
	}
}

static void
place(struct extents *x, uint64_t off, uint64_t len, uint64_t at)
{
	struct extent v = {.object = 1, .off = off, .len = len, .place = at};

	extents_add_placed(x, &v);
}

/* A place is that of the first byte, and of what is plain throughout. */
static void
test_places(void **state)
{
	SCOPED_EXTENTS struct extents x = {0};

	(void)state;
	place(&x, 40960, 4096, 900000);
	place(&x, 45056, 4096, 700000); /* behind it: joined at once */
	place(&x, 8192, 4096, 500000);
	place(&x, 4096, 4096, 300000); /* before it: joined at the end */
	place(&x, 20480 + 100, 50, 800100);
	place(&x, 81920, 4096, 100000);
	place(&x, 86016, 4096, 0);
	place(&x, 118784, 4096, 0);
	place(&x, 122880, 4096, 100000);
	place(&x, 204800 + 10, 10, 5); /* it cannot begin before the volume */
	extents_settle(&x);
	assert_int_equal(x.n, 6);
	assert_int_equal(x.v[0].off, 4096);
	assert_int_equal(x.v[0].place, 300000);
	assert_int_equal(x.v[1].off, 20480);
	assert_int_equal(x.v[1].place, 800000);
	assert_int_equal(x.v[2].len, 8192);
	assert_int_equal(x.v[2].place, 900000);
	assert_int_equal(x.v[3].len, 8192);
	assert_int_equal(x.v[3].place, 0);
	assert_int_equal(x.v[4].place, 0);
	assert_int_equal(x.v[5].place, 0);
}

/* Nobody knows what is in a gap that is read as well. */
static void
test_no_place_across_a_gap(void **state)
{
	SCOPED_EXTENTS struct extents x = {.max = 2};

	(void)state;
	for (uint64_t i = 0; i < 64; i++)
		place(&x, i * 65536, 4096, 1000000 + i * 4096);
	place(&x, 1ull << 40, 4096, 5000);
	extents_settle(&x);
	assert_int_equal(x.n, 2);
	assert_int_equal(x.v[0].place, 0);
	assert_int_equal(x.v[1].place, 5000);
}

/* Blocks of object 1, by chance; object 2 is beside. */
static void
some(struct extents *x, bool *bit, size_t blocks)
{
	for (size_t b = 0; b < blocks; b++) {
		bit[b] = random() % 3 == 0;
		if (bit[b])
			extents_add(x, 1, b * 4096, 4096);
		if (random() % 2)
			extents_add(x, 2, b * 4096, 4096);
	}
	extents_settle(x);
}

/* Red when a block that is in one of the two is left out, or one in both is not. */
static void
test_differing_and_next(void **state)
{
	enum { BLOCKS = 40 };

	(void)state;
	srandom(3);
	for (int round = 0; round < 300; round++) {
		SCOPED_EXTENTS struct extents a = {0}, b = {0}, d = {0};
		bool in_a[BLOCKS], in_b[BLOCKS];
		const struct extent *x;

		some(&a, in_a, BLOCKS);
		some(&b, in_b, BLOCKS);
		extents_differing(&a, &b, 1, &d);
		extents_settle(&d);
		for (uint64_t i = 0; i < BLOCKS; i++) {
			assert_int_equal(extents_touch(&d, 1, i * 4096, 4096),
			    in_a[i] != in_b[i]);
			x = extents_next(&a, 1, i * 4096);
			assert_int_equal(
			    x != NULL && x->off <= i * 4096, in_a[i]);
			assert_true(x == NULL || x->object == 1);
		}
		assert_null(extents_next(&a, 1, BLOCKS * 4096));
		assert_false(extents_touch(&d, 2, 0, UINT64_MAX));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_differing_and_next),
	    cmocka_unit_test(test_rounds_outwards_and_merges),
	    cmocka_unit_test(test_empty_adds_nothing),
	    cmocka_unit_test(test_past_the_largest_offset_is_clipped),
	    cmocka_unit_test(test_contain_and_touch_at_the_edges),
	    cmocka_unit_test(test_past_max_it_joins_but_loses_nothing),
	    cmocka_unit_test(test_more_objects_than_max_stay_apart),
	    cmocka_unit_test(test_model),
	    cmocka_unit_test(test_places),
	    cmocka_unit_test(test_no_place_across_a_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The odds of "The cross-check" in docs/architecture.md, by simulation with the
 * code that chooses the blocks. The dice are fixed: the numbers are the same in
 * each run, and a bound of 4 sigma is no matter of luck.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "agent/core/mem.h"
#include "agent/job/crosscheck.h"

#define TRIALS 20000

static uint64_t dice_state = 1;

/* splitmix64 */
static uint64_t
dice(void)
{
	uint64_t z = dice_state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void
draw(uint64_t *pick, size_t n, uint64_t blocks)
{
	for (size_t i = 0; i < n; i++)
		pick[i] = dice();
	crosscheck_pick(pick, n, blocks);
}

/* ---- wrong blocks: k of them in a map of all ---- */

typedef void lay_fn(uint8_t *map, uint64_t blocks, unsigned k);

static void
lay_scattered(uint8_t *map, uint64_t blocks, unsigned k)
{
	while (k > 0) {
		uint64_t at = dice() % blocks;

		k -= !map[at];
		map[at] = 1;
	}
}

static void
lay_run(uint8_t *map, uint64_t blocks, unsigned k)
{
	memset(map + dice() % (blocks - k + 1), 1, k);
}

/* In how many trials one of the wrong blocks is chosen. */
static unsigned
found_of(uint64_t blocks, double percent, unsigned k, lay_fn *lay)
{
	size_t n = crosscheck_samples(blocks, percent);
	SCOPED_FREE uint64_t *pick = mem_array(n, sizeof *pick);
	SCOPED_FREE uint8_t *map = mem_new(blocks);
	unsigned found = 0;

	for (unsigned t = 0; t < TRIALS; t++) {
		bool seen = false;

		memset(map, 0, blocks);
		lay(map, blocks, k);
		draw(pick, n, blocks);
		for (size_t i = 0; i < n; i++)
			seen = seen || map[pick[i]];
		found += seen;
	}
	return found;
}

static void
assert_rate(const char *what, unsigned found, double p)
{
	double off = (double)found / TRIALS - p;

	print_message("%s: found %.4f, said %.4f\n", what, off + p, p);
	/* 4 sigma, squared: the variance is p (1 - p) / TRIALS. */
	if (off * off > 16 * p * (1 - p) / TRIALS + 1e-18)
		fail_msg("%s: found %.4f, said %.4f", what, off + p, p);
}

/* C(N - n, k) / C(N, k): all k of them among those that were not taken. */
static double
miss_scattered(double blocks, double n, unsigned k)
{
	double miss = 1;

	for (unsigned j = 0; j < k; j++)
		miss *= 1 - n / (blocks - j);
	return miss;
}

/* k blocks in a row, no more than a part of m: in one part, or across two. */
static double
miss_run(double m, double k)
{
	return 1 - k / m + (k * k * k - k) / (6 * m * m * m);
}

static const struct {
	uint64_t blocks;
	double percent;
	size_t n;
} samples[] = {{1000, 0.1, 64}, {6400, 1, 64}, {20000, 1, 200}};

/* Red when a block is taken twice, never, or fewer than said. */
static void
test_scattered_blocks_are_found_as_said(void **state)
{
	static const unsigned wrong[] = {1, 3, 30, 200};

	(void)state;
	for (size_t s = 0; s < MEM_COUNT(samples); s++)
		for (size_t i = 0; i < MEM_COUNT(wrong); i++) {
			uint64_t blocks = samples[s].blocks;
			unsigned k = wrong[i];
			char what[80];

			assert_int_equal(
			    crosscheck_samples(blocks, samples[s].percent),
			    samples[s].n);
			snprintf(what, sizeof what, "%u scattered in %llu", k,
			    (unsigned long long)blocks);
			assert_rate(what,
			    found_of(
				blocks, samples[s].percent, k, lay_scattered),
			    1 - miss_scattered(
				    (double)blocks, (double)samples[s].n, k));
		}
}

/* Red when blocks are taken from the whole instead of one from each part. */
static void
test_a_run_of_blocks_is_found_as_said(void **state)
{
	static const unsigned wrong[] = {2, 20, 80, 100};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(wrong); i++) {
		char what[80];

		snprintf(what, sizeof what, "%u in a row of 20000", wrong[i]);
		assert_rate(what, found_of(20000, 1, wrong[i], lay_run),
		    1 - miss_run(100, wrong[i]));
	}
	/* Nearly two parts long: one of them is covered whole. */
	assert_int_equal(found_of(20000, 1, 199, lay_run), TRIALS);
}

/* Each block as often as any other: also where the parts cannot be equal. */
static void
test_no_block_is_favoured(void **state)
{
	enum { BLOCKS = 150, DRAWS = 200000 };
	unsigned times[BLOCKS] = {0};
	uint64_t pick[64];

	(void)state;
	for (unsigned t = 0; t < DRAWS; t++) {
		draw(pick, 64, BLOCKS);
		for (size_t i = 0; i < 64; i++)
			times[pick[i]]++;
	}
	/* In a part of 2 blocks or of 3: once in two or three draws; 5 sigma,
	 * for there are 150 of them. */
	for (unsigned b = 0; b < BLOCKS; b++) {
		double rate = (double)times[b] / DRAWS;

		assert_true((rate > 0.4944 && rate < 0.5056) ||
			    (rate > 0.3277 && rate < 0.3389));
	}
}

static void
test_how_many_are_taken(void **state)
{
	(void)state;
	assert_int_equal(crosscheck_samples(1000000, 0), 0);
	assert_int_equal(crosscheck_samples(0, 0.1), 0);
	assert_int_equal(crosscheck_samples(10, 0.1), 10);
	assert_int_equal(crosscheck_samples(1000, 0.1), 64);
	assert_int_equal(crosscheck_samples(2000000, 0.1), 2000);
	assert_int_equal(crosscheck_samples(1ull << 40, 0.1), 4096);
	assert_int_equal(crosscheck_samples(3000, 100), 3000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_how_many_are_taken),
	    cmocka_unit_test(test_scattered_blocks_are_found_as_said),
	    cmocka_unit_test(test_a_run_of_blocks_is_found_as_said),
	    cmocka_unit_test(test_no_block_is_favoured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

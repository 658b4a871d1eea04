/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cross-check against a tracker that leaves out what changed: what is
 * looked at is found, and the sample finds as often as docs/architecture.md
 * says.
 */
#include "tests/unit/job/world.h"

#include <errno.h>
#include <sys/random.h>

#include "agent/job/crosscheck.h"
#include "tests/unit/store/place.h"

#define BLOCKS 40u
#define NOW 1800000000
#define DAY 86400

/* The sample's dice, the same in each run. */
static struct dice dice;

ssize_t
getrandom(void *p, size_t n, unsigned flags)
{
	uint8_t *to = p;

	(void)flags;
	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)dice_u64(&dice);
	return (ssize_t)n;
}

struct fixture {
	struct world w;
	struct sweep *sweep;
	struct state state;
	struct tracker_answer named, second;
	struct crosscheck x;
};

/* Two files, backed up. */
static void
begin(struct fixture *f, void **state, unsigned blocks)
{
	*f = (struct fixture){0};
	dice.x = 1;
	world_begin(&f->w, *state);
	world_write(&f->w, "one", 0, blocks, 1);
	world_write(&f->w, "two", 0, blocks, 2);
	world_backup(&f->w);
}

/* As the next backup sees it: nothing named, nothing sampled. */
static void
look(struct fixture *f)
{
	struct err e = ERR_NONE;

	world_walk(&f->w);
	OK(sweep_new(&f->sweep, &f->w.tree, false, &e));
	extents_settle(&f->named.ranges);
	extents_settle(&f->second.ranges);
	f->state.last_rehash_s = NOW;
	f->x = (struct crosscheck){.tree = &f->w.tree,
	    .sweep = f->sweep,
	    .named = &f->named,
	    .state = &f->state,
	    .rolling_days = 30,
	    .now_s = NOW};
}

static void
end(struct fixture *f)
{
	crosscheck_fini(&f->x);
	sweep_free(f->sweep);
	world_abandon(&f->w);
	tracker_answer_fini(&f->named);
	tracker_answer_fini(&f->second);
	world_end(&f->w);
}

static uint64_t
inode_of(struct fixture *f, const char *name)
{
	SCOPED_FREE char *path = fs_join(f->w.data, name);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

static void
assert_found_at(struct fixture *f, const char *name, uint64_t block)
{
	SCOPED_FREE char *where = mem_printf("%s/%s, offset %llu", f->w.data,
	    name, (unsigned long long)block * WORLD_BLOCK);

	assert_non_null(f->x.wrong_where);
	assert_string_equal(f->x.wrong_where, where);
}

/* Red when the sample does not reach every block. */
static void
test_at_100_percent_every_block_is_seen(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state, BLOCKS);
	for (unsigned block = 0; block < BLOCKS; block += 3) {
		world_write(&f.w, "two", block, 1, 1000 + block);
		look(&f);
		f.x.sample_percent = 100;
		OK(crosscheck_run(&f.x, &e));
		assert_int_equal(f.x.sampled_blocks, 2 * BLOCKS);
		assert_int_equal(f.x.wrong_blocks, 1);
		assert_found_at(&f, "two", block);
		crosscheck_fini(&f.x);
		sweep_free(f.sweep);
		world_abandon(&f.w);
		world_write(&f.w, "two", 0, BLOCKS, 2); /* as it was */
	}
	look(&f);
	end(&f);
}

static void
test_what_is_named_is_not_wrong(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state, BLOCKS);
	world_write(&f.w, "one", 5, 2, 9);
	extents_add(&f.named.ranges, inode_of(&f, "one"), 5 * WORLD_BLOCK,
	    2ul * WORLD_BLOCK);
	look(&f);
	f.x.sample_percent = 100;
	OK(crosscheck_run(&f.x, &e));
	assert_int_equal(f.x.wrong_blocks, 0);
	assert_int_equal(f.x.sampled_blocks, 2 * BLOCKS - 2);
	end(&f);
}

static void
test_a_new_hole_is_found(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;
	SCOPED_FREE char *path = NULL;
	SCOPED_FD int fd = -1;

	begin(&f, state, BLOCKS);
	path = fs_join(f.w.data, "one");
	fd = open(path, O_WRONLY);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		8 * WORLD_BLOCK, 2 * WORLD_BLOCK) < 0) {
		print_message("no holes on this file system\n");
		look(&f);
		end(&f);
		skip();
		return;
	}
	look(&f);
	f.x.sample_percent = 100;
	OK(crosscheck_run(&f.x, &e));
	assert_int_equal(f.x.wrong_blocks, 2);
	assert_found_at(&f, "one", 8);
	end(&f);
}

static void
test_a_tracker_that_names_everything_is_not_sampled(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state, BLOCKS);
	world_write(&f.w, "one", 5, 2, 9);
	f.named.everything = true;
	look(&f);
	f.x.sample_percent = 100;
	OK(crosscheck_run(&f.x, &e));
	assert_int_equal(f.x.sampled_blocks, 0);
	assert_int_equal(f.x.wrong_blocks, 0);
	end(&f);
}

/* Four quarters of the period see every block once, also where one ends in the
 * middle of a file; then it begins anew. */
static void
test_rolling_goes_on_where_it_stopped(void **state)
{
	static const struct {
		const char *name;
		unsigned block;
	} wrong[] = {{"one", 5}, {"one", 25}, {"two", 0}, {"two", 39}};
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state, BLOCKS);
	for (size_t i = 0; i < MEM_COUNT(wrong); i++)
		world_write(&f.w, wrong[i].name, wrong[i].block, 1, 900 + i);
	look(&f);
	f.state.last_rehash_s = NOW - 15 * DAY / 2;
	for (size_t i = 0; i < 2 * MEM_COUNT(wrong); i++) {
		size_t k = i % MEM_COUNT(wrong);

		crosscheck_fini(&f.x);
		f.x.wrong_blocks = f.x.rehashed_blocks = 0;
		OK(crosscheck_run(&f.x, &e));
		assert_int_equal(f.x.rehashed_blocks, BLOCKS / 2);
		assert_int_equal(f.x.wrong_blocks, 1);
		assert_found_at(&f, wrong[k].name, wrong[k].block);
		assert_int_equal(f.state.last_rehash_s, f.x.now_s);
		f.x.now_s += 15 * DAY / 2;
	}
	/* Later than the whole period: everything, and no more. */
	f.x.now_s += 60 * DAY;
	f.x.wrong_blocks = f.x.rehashed_blocks = 0;
	OK(crosscheck_run(&f.x, &e));
	assert_int_equal(f.x.rehashed_blocks, 2 * BLOCKS);
	assert_int_equal(f.x.wrong_blocks, MEM_COUNT(wrong));
	end(&f);
}

static void
test_time_that_went_back_rehashes_nothing(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state, BLOCKS);
	look(&f);
	f.state.last_rehash_s = NOW + 400 * DAY;
	OK(crosscheck_run(&f.x, &e));
	assert_int_equal(f.x.rehashed_blocks, 0);
	end(&f);
}

static void
test_the_second_opinion_is_hashed(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state, BLOCKS);
	world_write(&f.w, "two", 30, 1, 9);
	/* The first names something else; the second all of it and more than
	 * the file has. */
	extents_add(&f.named.ranges, inode_of(&f, "two"), 0, WORLD_BLOCK);
	extents_add(&f.second.ranges, inode_of(&f, "two"), 28 * WORLD_BLOCK,
	    1000ul * WORLD_BLOCK);
	look(&f);
	f.x.second = &f.second;
	OK(crosscheck_run(&f.x, &e));
	assert_int_equal(f.x.second_blocks, BLOCKS - 28);
	assert_int_equal(f.x.wrong_blocks, 1);
	assert_found_at(&f, "two", 30);
	end(&f);
}

/*
 * docs/architecture.md: of N blocks with k wrong, n at random miss them all
 * with probability (1 - k/N)^n. The sampler takes one out of each of n parts,
 * which is as good where the wrong blocks lie in different parts, as here (16
 * blocks a part, wrong ones 25 apart), and better elsewhere. 600 trials of p =
 * 0.5 scatter by 0.02 (one sigma); the dice are fixed, so it is the same number
 * each time. Red when blocks are never looked at, or fewer than said.
 */
static void
test_the_odds_are_as_documented(void **state)
{
	enum { HALF = 500, SAMPLED = 64, TRIALS = 600 };
	static const unsigned wrong[] = {3, 11, 40};
	struct fixture f;
	struct err e = ERR_NONE;
	unsigned made = 0;

	begin(&f, state, HALF);
	for (size_t i = 0; i < MEM_COUNT(wrong); i++) {
		double missed = 1, off;
		unsigned found = 0;

		for (; made < wrong[i]; made++) {
			unsigned at = made * 7 % 40 * 25 + 7;

			world_write(&f.w, at < HALF ? "one" : "two", at % HALF,
			    1, 5000 + made);
		}
		look(&f);
		f.x.sample_percent = 0.1; /* 64 is the least */
		for (int t = 0; t < TRIALS; t++) {
			crosscheck_fini(&f.x);
			f.x.wrong_blocks = f.x.sampled_blocks = 0;
			OK(crosscheck_run(&f.x, &e));
			assert_true(f.x.sampled_blocks <= SAMPLED);
			found += f.x.wrong_blocks > 0;
		}
		for (int n = 0; n < SAMPLED; n++)
			missed *= 1 - wrong[i] / (2.0 * HALF);
		off = (double)found / TRIALS - (1 - missed);
		if (off > 0.06 || off < -0.06)
			fail_msg("%u of %u wrong: found in %u of %u, said %.3f",
			    wrong[i], 2 * HALF, found, TRIALS, 1 - missed);
		if (i + 1 < MEM_COUNT(wrong)) {
			sweep_free(f.sweep);
			world_abandon(&f.w);
		}
	}
	end(&f);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_at_100_percent_every_block_is_seen),
	    TEST(test_what_is_named_is_not_wrong),
	    TEST(test_a_new_hole_is_found),
	    TEST(test_a_tracker_that_names_everything_is_not_sampled),
	    TEST(test_rolling_goes_on_where_it_stopped),
	    TEST(test_time_that_went_back_rehashes_nothing),
	    TEST(test_the_second_opinion_is_hashed),
	    TEST(test_the_odds_are_as_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

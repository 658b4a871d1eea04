/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks into chunks: each block that is asked for is in one chunk, at the slot
 * that its extent says, and equal pieces meet.
 */
#include "tests/unit/store/scratch.h"

#include "agent/job/gather.h"
#include "agent/store/store.h"
#include "tests/unit/store/place.h"

#define BLOCK CHUNK_BLOCK_BYTES
#define OBJECTS 3
#define BLOCKS 1024

struct fixture {
	struct store store;
	struct ingest *ingest;
	struct gather g;
	/* how often each block came, of which object, with what in it */
	unsigned came[OBJECTS][BLOCKS];
	unsigned chunks, extents, blocks, last_blocks;
};

/* What a block of an object holds: its own address, so that none is like any
 * other. */
static void
fill(uint8_t *to, uint64_t object, uint64_t block)
{
	scratch_noise(to, BLOCK, object * 100000 + block);
}

static int
on_done(void *arg, const struct ingest_chunk *c, struct err *e)
{
	struct fixture *f = arg;
	unsigned slots = 0;

	(void)e;
	f->chunks++;
	f->extents += c->extents;
	f->blocks += c->blocks;
	f->last_blocks = c->blocks;
	for (unsigned i = 0; i < c->extents; i++) {
		const struct ingest_extent *x = &c->extent[i];

		assert_true(x->object < OBJECTS);
		assert_int_equal(x->slot, slots);
		for (unsigned b = 0; b < x->count; b++) {
			uint8_t want[BLOCK];

			fill(want, x->object, x->block + b);
			assert_memory_equal(
			    c->plain + (x->slot + b) * (size_t)BLOCK, want,
			    BLOCK);
			f->came[x->object][x->block + b]++;
		}
		slots += x->count;
	}
	assert_int_equal(slots, c->blocks);
	return 0;
}

static void
begin(struct fixture *f, void **state)
{
	SCOPED_FREE char *repo = fs_join(*state, "repo");
	struct store_how how = {.url = repo};
	struct ingest_how in = {
	    .zstd_level = 1, .workers = 1, .buffers = 4, .done = on_done};
	struct err e = ERR_NONE;

	*f = (struct fixture){0};
	OK(store_init(repo, false, NULL, NULL, NULL, &e));
	OK(store_open(&f->store, &how, &e));
	OK(store_index(&f->store, &e));
	in.repo = f->store.repo;
	in.keys = &f->store.keys;
	in.index = f->store.index;
	in.arg = f;
	OK(ingest_start(&f->ingest, &in, &e));
	f->g.ingest = f->ingest;
}

static void
finish(struct fixture *f, struct ingest_stats *stats)
{
	struct err e = ERR_NONE;

	OK(gather_flush(&f->g, &e));
	assert_null(f->g.open);
	OK(ingest_finish(f->ingest, stats, &e));
	store_close(&f->store);
}

/* The piece of `object` at `block`; what the mask leaves out is rubbish. */
static void
give(struct fixture *f, uint64_t object, uint64_t block, uint32_t mask)
{
	SCOPED_FREE uint8_t *data = mem_new(CHUNK_BYTES);
	struct err e = ERR_NONE;

	memset(data, 0xee, CHUNK_BYTES);
	for (unsigned i = 0; i < CHUNK_BLOCKS; i++)
		if (mask & (1u << i))
			fill(data + i * (size_t)BLOCK, object, block + i);
	OK(gather_piece(&f->g, object, block, data, mask, &e));
}

static void
test_half_a_chunk_is_one_of_its_own(void **state)
{
	struct ingest_stats stats;
	struct fixture f;

	begin(&f, state);
	give(&f, 1, 0, 0x0000ffff); /* 16 blocks in a row */
	give(&f, 1, 32, ~0u);
	give(&f, 1, 64, 0x55555555); /* 16 apart: 16 extents */
	finish(&f, &stats);
	assert_int_equal(f.chunks, 3);
	assert_int_equal(f.extents, 1 + 1 + 16);
	assert_int_equal(f.blocks, 16 + 32 + 16);
}

static void
test_what_is_scattered_shares_chunks(void **state)
{
	struct ingest_stats stats;
	struct fixture f;

	begin(&f, state);
	/* 20 pieces of 2 blocks, of two objects: 40 blocks, 32 a chunk. */
	for (unsigned i = 0; i < 20; i++)
		give(&f, i % 2, i * 32ul, 3);
	finish(&f, &stats);
	assert_int_equal(f.chunks, 2);
	assert_int_equal(f.last_blocks, 8);
	assert_int_equal(f.extents, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(f.came[i % 2][i * 32 + 1], 1);
}

/* The end of a piece and the beginning of the next: one extent. Not so of
 * another object with the same block. */
static void
test_neighbours_are_one_extent(void **state)
{
	struct ingest_stats stats;
	struct fixture f;

	begin(&f, state);
	give(&f, 1, 0, 0xc0000000);
	give(&f, 1, 32, 1);
	give(&f, 2, 32, 2); /* continues the block number only */
	finish(&f, &stats);
	assert_int_equal(f.chunks, 1);
	assert_int_equal(f.extents, 2);
	assert_int_equal(f.blocks, 4);
}

static void
test_nothing_is_nothing(void **state)
{
	struct ingest_stats stats;
	struct fixture f;

	begin(&f, state);
	give(&f, 1, 0, 0);
	finish(&f, &stats);
	assert_int_equal(f.chunks, 0);
	assert_int_equal(stats.packs, 0);
}

/* A full piece that comes again is known, also behind scattered blocks: that
 * is what a chunk of its own is for. */
static void
test_equal_pieces_meet(void **state)
{
	struct ingest_stats stats;
	struct fixture f;

	begin(&f, state);
	give(&f, 1, 0, ~0u);
	give(&f, 2, 96, 7);
	give(&f, 1, 0, ~0u);
	finish(&f, &stats);
	assert_int_equal(stats.chunks, 3);
	assert_int_equal(stats.known_chunks, 1);
	assert_int_equal(stats.new_bytes, (32 + 3) * BLOCK);
}

static void
test_random_masks_lose_nothing(void **state)
{
	struct ingest_stats stats;
	struct dice d = {.x = 3};
	struct fixture f;
	static uint32_t mask[OBJECTS][BLOCKS / CHUNK_BLOCKS];

	begin(&f, state);
	for (unsigned o = 0; o < OBJECTS; o++)
		for (unsigned p = 0; p < BLOCKS / CHUNK_BLOCKS; p++) {
			mask[o][p] = (uint32_t)dice_u64(&d);
			for (unsigned thin = dice_below(&d, 4); thin > 0;
			     thin--)
				mask[o][p] &= (uint32_t)dice_u64(&d);
			give(&f, o, p * (uint64_t)CHUNK_BLOCKS, mask[o][p]);
		}
	finish(&f, &stats);
	for (unsigned o = 0; o < OBJECTS; o++)
		for (unsigned b = 0; b < BLOCKS; b++)
			assert_int_equal(
			    f.came[o][b], mask[o][b / 32] >> b % 32 & 1);
}

/* On an error the open chunk goes back, so that the pipeline can stop. */
static void
test_drop_gives_the_open_chunk_back(void **state)
{
	struct fixture f;

	begin(&f, state);
	give(&f, 1, 0, 3);
	assert_non_null(f.g.open);
	gather_drop(&f.g);
	assert_null(f.g.open);
	gather_drop(&f.g);
	ingest_abort(f.ingest);
	store_close(&f.store);
	assert_int_equal(f.chunks, 0);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_half_a_chunk_is_one_of_its_own),
	    TEST(test_what_is_scattered_shares_chunks),
	    TEST(test_neighbours_are_one_extent),
	    TEST(test_nothing_is_nothing),
	    TEST(test_equal_pieces_meet),
	    TEST(test_random_masks_lose_nothing),
	    TEST(test_drop_gives_the_open_chunk_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

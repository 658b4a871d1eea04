/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of files in pieces: each piece comes once, within its 128 KiB, with
 * what the file holds there, however many of them one request reads.
 */
#include "tests/unit/job/world.h"

#include "agent/job/sweep.h"
#include "tests/unit/store/place.h"

#define FILES_MOST 200
#define PIECE_BLOCKS (SWEEP_PIECE_BYTES / SWEEP_BLOCK_BYTES)

struct fixture {
	struct world w;
	struct sweep *s;
	uint64_t pieces, blocks, holes;
	unsigned *came[FILES_MOST]; /* how often each block did */
	bool in_order;              /* each piece behind the last one */
	const struct tree_file *f;
	uint64_t next;
};

/* What a block holds: noise by its file and its place. */
static void
expect(uint8_t *to, const struct tree_file *f, uint64_t off)
{
	uint64_t left = f->size - off;

	scratch_noise(to, WORLD_BLOCK,
	    strtoull(strrchr(f->rel, 'f') + 1, NULL, 10) * 100000 +
		off / WORLD_BLOCK);
	if (left < WORLD_BLOCK)
		memset(to + left, 0, WORLD_BLOCK - left);
}

static int
on_piece(void *arg, const struct tree_file *f, uint64_t off, uint32_t len,
    const uint8_t *data, struct err *e)
{
	struct fixture *x = arg;
	unsigned *came = x->came[f - x->w.tree.file];

	(void)e;
	assert_true(len > 0);
	assert_int_equal(off % WORLD_BLOCK + len % WORLD_BLOCK, 0);
	assert_int_equal(
	    off / SWEEP_PIECE_BYTES, (off + len - 1) / SWEEP_PIECE_BYTES);
	x->in_order = x->in_order && (x->f != f || x->next <= off);
	x->f = f;
	x->next = off + len;
	x->pieces++;
	x->blocks += len / WORLD_BLOCK;
	for (uint32_t at = 0; at < len; at += WORLD_BLOCK) {
		uint8_t want[WORLD_BLOCK];

		expect(want, f, off + at);
		assert_memory_equal(data + at, want, sizeof want);
		came[(off + at) / WORLD_BLOCK]++;
	}
	return 0;
}

static int
on_hole(void *arg, const struct tree_file *f, uint64_t from, uint64_t to,
    struct err *e)
{
	struct fixture *x = arg;

	(void)f;
	(void)e;
	x->holes += to - from;
	return 0;
}

/* File `number` of `len` bytes, all of it data. */
static void
make(struct fixture *x, unsigned number, uint64_t len)
{
	SCOPED_FREE char *path = mem_printf("%s/f%u", x->w.data, number);
	struct tree_file f = {.rel = path + strlen(x->w.data) + 1,
	    .size = sweep_blocks(len) * WORLD_BLOCK};
	SCOPED_FREE uint8_t *all = mem_new(f.size);
	SCOPED_FD int fd = open(path, O_CREAT | O_WRONLY, 0644);

	assert_true(fd >= 0);
	for (uint64_t off = 0; off < len; off += WORLD_BLOCK)
		expect(all + off, &f, off);
	assert_int_equal(pwrite(fd, all, len, 0), len);
	assert_int_equal(fsync(fd), 0);
}

static void
begin(struct fixture *x, bool physical)
{
	struct err e = ERR_NONE;

	world_walk(&x->w);
	assert_true(x->w.tree.files <= FILES_MOST);
	for (size_t i = 0; i < x->w.tree.files; i++)
		x->came[i] = mem_array(
		    sweep_blocks(x->w.tree.file[i].size), sizeof(unsigned));
	OK(sweep_new(&x->s, &x->w.tree, physical, &e));
	sweep_to(x->s, on_piece, x);
	x->in_order = true;
}

static void
look(struct fixture *x, const struct tree_file *f)
{
	struct err e = ERR_NONE;

	OK(sweep_begin(x->s, f, &e));
	OK(sweep_look(x->s, 0, sweep_blocks(f->size), on_hole, &e));
	OK(sweep_end(x->s, &e));
}

/* Each block of all files came `times`. */
static void
finish(struct fixture *x, unsigned times)
{
	struct err e = ERR_NONE;

	OK(sweep_drain(x->s, &e));
	for (size_t i = 0; i < x->w.tree.files; i++) {
		uint64_t n = sweep_blocks(x->w.tree.file[i].size);

		for (uint64_t b = 0; b < n; b++)
			assert_int_equal(x->came[i][b], times);
		free(x->came[i]);
	}
	assert_int_equal(sweep_read_bytes(x->s), x->blocks * WORLD_BLOCK);
}

static void
end(struct fixture *x)
{
	sweep_free(x->s);
	world_abandon(&x->w);
	world_end(&x->w);
}

/* The last piece is short and the last block not whole: still one request. */
static void
test_neighbours_are_one_request(void **state)
{
	struct fixture x = {0};

	world_begin(&x.w, *state);
	make(&x, 1, 2 * SWEEP_PIECE_BYTES + 5 * WORLD_BLOCK + 100);
	begin(&x, false);
	look(&x, &x.w.tree.file[0]);
	finish(&x, 1);
	assert_int_equal(x.pieces, 3);
	assert_int_equal(sweep_requests(x.s), 1);
	assert_true(x.in_order);
	end(&x);
}

/* A request has an end, wherever in the file it begins. */
static void
test_requests_are_bounded(void **state)
{
	struct fixture x = {0};
	uint64_t n = SWEEP_REQUEST_BYTES / SWEEP_PIECE_BYTES;
	struct err e = ERR_NONE;

	world_begin(&x.w, *state);
	make(&x, 1, 4 * SWEEP_REQUEST_BYTES);
	begin(&x, false);
	OK(sweep_begin(x.s, &x.w.tree.file[0], &e));
	OK(sweep_range(x.s, 7 * WORLD_BLOCK,
	    4 * SWEEP_REQUEST_BYTES - 7 * WORLD_BLOCK, &e));
	OK(sweep_range(x.s, 0, 7 * WORLD_BLOCK, &e));
	OK(sweep_end(x.s, &e));
	finish(&x, 1);
	assert_int_equal(x.pieces, 4 * n + 1);
	assert_int_equal(sweep_requests(x.s), 4 + 1);
	end(&x);
}

/* The end of one and the beginning of the next, at the offset that would
 * follow, and at the same place of the disk for all that is known. */
static void
test_two_files_are_two_requests(void **state)
{
	struct fixture x = {0};
	struct err e = ERR_NONE;

	world_begin(&x.w, *state);
	make(&x, 1, 2 * SWEEP_PIECE_BYTES);
	make(&x, 2, 2 * SWEEP_PIECE_BYTES);
	begin(&x, false);
	for (unsigned i = 0; i < 2; i++) {
		OK(sweep_begin(x.s, &x.w.tree.file[i], &e));
		OK(sweep_range(x.s, i * (uint64_t)SWEEP_PIECE_BYTES,
		    SWEEP_PIECE_BYTES, &e));
		OK(sweep_end(x.s, &e));
	}
	OK(sweep_drain(x.s, &e));
	assert_int_equal(x.pieces, 2);
	assert_int_equal(sweep_requests(x.s), 2);
	for (size_t i = 0; i < x.w.tree.files; i++)
		free(x.came[i]);
	end(&x);
}

static void
test_what_lies_apart_is_read_apart(void **state)
{
	struct fixture x = {0};
	struct err e = ERR_NONE;

	world_begin(&x.w, *state);
	make(&x, 1, 64 * SWEEP_PIECE_BYTES);
	begin(&x, true);
	OK(sweep_begin(x.s, &x.w.tree.file[0], &e));
	for (uint64_t i = 64; i-- > 0;)
		OK(sweep_range(x.s, i * SWEEP_PIECE_BYTES + 3 * WORLD_BLOCK,
		    2 * WORLD_BLOCK, &e));
	OK(sweep_end(x.s, &e));
	OK(sweep_drain(x.s, &e));
	assert_int_equal(x.blocks, 64 * 2);
	assert_int_equal(sweep_requests(x.s), 64);
	free(x.came[0]);
	end(&x);
}

static int
on_order(void *arg, const struct tree_file *f, uint64_t off, uint32_t len,
    const uint8_t *data, struct err *e)
{
	struct fixture *x = arg;
	int rc;

	/* Placed backwards, they come backwards. */
	assert_true(x->blocks == 0 || off < x->next);
	rc = on_piece(arg, f, off, len, data, e);
	x->next = off;
	return rc;
}

/* Where the tracker says that pieces lie, that is their order. */
static void
test_places_of_the_tracker(void **state)
{
	struct fixture x = {0};
	struct err e = ERR_NONE;
	const uint64_t n = 300;

	world_begin(&x.w, *state);
	make(&x, 1, n * SWEEP_PIECE_BYTES);
	begin(&x, true);
	sweep_to(x.s, on_order, &x);
	OK(sweep_begin(x.s, &x.w.tree.file[0], &e));
	for (uint64_t i = 0; i < n; i++) {
		struct extent at = {.off = i * SWEEP_PIECE_BYTES,
		    .len = 2 * WORLD_BLOCK,
		    .place = (n - i) * 10 * SWEEP_PIECE_BYTES};

		sweep_placed(x.s, &at);
		OK(sweep_range(x.s, at.off, at.len, &e));
	}
	OK(sweep_end(x.s, &e));
	OK(sweep_drain(x.s, &e));
	assert_int_equal(x.pieces, n);
	free(x.came[0]);
	end(&x);
}

/* Some of a window in the order of the files, some in that of the disk. */
static void
test_scattered_ones_come_too(void **state)
{
	struct fixture x = {0};
	struct err e = ERR_NONE;

	world_begin(&x.w, *state);
	make(&x, 1, 64 * SWEEP_PIECE_BYTES);
	begin(&x, true);
	OK(sweep_begin(x.s, &x.w.tree.file[0], &e));
	for (uint64_t i = 64; i-- > 0;) {
		sweep_scattered(x.s, i % 3 == 0);
		OK(sweep_range(
		    x.s, i * SWEEP_PIECE_BYTES, SWEEP_PIECE_BYTES, &e));
	}
	OK(sweep_end(x.s, &e));
	finish(&x, 1);
	end(&x);
}

/* The smallest pieces, many windows of them: a window is not filled again
 * while pieces of it are still to be handed on. */
static void
test_many_small_neighbours(void **state)
{
	struct fixture x = {0};
	uint64_t n = 40 * PIECE_BLOCKS;
	struct err e = ERR_NONE;

	world_begin(&x.w, *state);
	make(&x, 1, n * WORLD_BLOCK);
	begin(&x, false);
	OK(sweep_begin(x.s, &x.w.tree.file[0], &e));
	for (unsigned round = 0; round < 5; round++)
		for (uint64_t b = 0; b < n; b++)
			OK(sweep_range(x.s, b * WORLD_BLOCK, WORLD_BLOCK, &e));
	OK(sweep_end(x.s, &e));
	finish(&x, 5);
	assert_int_equal(x.pieces, 5 * n);
	assert_true(sweep_requests(x.s) < x.pieces);
	end(&x);
}

/* More files than may be open for a window: short windows. */
static void
test_many_files(void **state)
{
	struct fixture x = {0};
	struct dice d = {.x = 9};
	uint64_t blocks = 0;

	world_begin(&x.w, *state);
	for (unsigned i = 0; i < FILES_MOST; i++)
		make(&x, i, 1 + dice_below(&d, 3 * SWEEP_PIECE_BYTES));
	begin(&x, true);
	assert_int_equal(x.w.tree.files, FILES_MOST);
	for (size_t i = 0; i < FILES_MOST; i++) {
		look(&x, &x.w.tree.file[i]);
		blocks += sweep_blocks(x.w.tree.file[i].size);
	}
	finish(&x, 1);
	assert_int_equal(x.blocks + x.holes, blocks);
	assert_int_equal(sweep_requests(x.s), FILES_MOST);
	end(&x);
}

/* A hole parts what lies before and behind it. */
static void
test_a_hole_is_not_read(void **state)
{
	struct fixture x = {0};
	SCOPED_FREE char *path = NULL;
	uint64_t hole = 4 * PIECE_BLOCKS;

	world_begin(&x.w, *state);
	make(&x, 1, 16 * SWEEP_PIECE_BYTES);
	path = fs_join(x.w.data, "f1");
	{
		SCOPED_FD int fd = open(path, O_WRONLY);

		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			6 * SWEEP_PIECE_BYTES, 4 * SWEEP_PIECE_BYTES) < 0) {
			world_end(&x.w);
			print_message("skip: no holes here\n");
			skip();
		}
	}
	begin(&x, true);
	look(&x, &x.w.tree.file[0]);
	{
		struct err e = ERR_NONE;

		OK(sweep_drain(x.s, &e));
	}
	assert_int_equal(x.holes, hole);
	assert_int_equal(x.blocks, 12 * PIECE_BLOCKS);
	for (uint64_t b = 0; b < 16 * PIECE_BLOCKS; b++)
		assert_int_equal(x.came[0][b],
		    b < 6 * PIECE_BLOCKS || b >= 10 * PIECE_BLOCKS);
	free(x.came[0]);
	end(&x);
}

static int
no_more(void *arg, const struct tree_file *f, uint64_t off, uint32_t len,
    const uint8_t *data, struct err *e)
{
	unsigned *calls = arg;

	(void)f;
	(void)off;
	(void)len;
	(void)data;
	return ++*calls == 2 ? err_set(e, -ENOSPC, "no more") : 0;
}

/* The second piece of a request fails: the third is not handed on. */
static void
test_a_failure_ends_it(void **state)
{
	struct fixture x = {0};
	struct err e = ERR_NONE;
	unsigned calls = 0;

	world_begin(&x.w, *state);
	make(&x, 1, 3 * SWEEP_PIECE_BYTES);
	begin(&x, false);
	sweep_to(x.s, no_more, &calls);
	OK(sweep_begin(x.s, &x.w.tree.file[0], &e));
	OK(sweep_range(x.s, 0, 3 * SWEEP_PIECE_BYTES, &e));
	OK(sweep_end(x.s, &e));
	assert_int_equal(sweep_drain(x.s, &e), -ENOSPC);
	assert_int_equal(calls, 2);
	free(x.came[0]);
	end(&x);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_neighbours_are_one_request),
	    TEST(test_requests_are_bounded),
	    TEST(test_two_files_are_two_requests),
	    TEST(test_what_lies_apart_is_read_apart),
	    TEST(test_places_of_the_tracker),
	    TEST(test_scattered_ones_come_too),
	    TEST(test_many_small_neighbours),
	    TEST(test_many_files),
	    TEST(test_a_hole_is_not_read),
	    TEST(test_a_failure_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* tsan */
/* The way in: everything once, in order, and a failure anywhere is clean. */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <stdatomic.h>

#include "agent/core/clock.h"
#include "agent/store/ingest.h"
#include "agent/store/pack.h"

/* ---- a driver that fails its Nth operation ------------------------------ */

struct faulty {
	struct repo base; /* first */
	struct repo *real;
	atomic_int left;      /* operations until the failure; < 0: never */
	atomic_int unsynced;  /* names given since the last sync */
	atomic_int too_early; /* segments named while packs were not safe */
};

struct faulty_put {
	struct repo_put base; /* first */
	struct repo_put *real;
};

static struct repo *
real_of(struct repo *r)
{
	return ((struct faulty *)r)->real;
}

static int
maybe_fail(struct repo *r, struct err *e)
{
	struct faulty *f = (struct faulty *)r;

	/* Once it has begun to fail, it goes on, as a full disk does. */
	if (atomic_load(&f->left) < 0)
		return 0;
	if (atomic_load(&f->left) > 0 && atomic_fetch_sub(&f->left, 1) > 0)
		return 0;
	atomic_store(&f->left, 0);
	return err_set(e, -ENOSPC, "injected");
}

static int
f_put_begin(struct repo *r, struct repo_put **out, struct err *e)
{
	struct faulty_put *p;

	if (maybe_fail(r, e) < 0)
		return e->code;
	p = mem_new(sizeof *p);
	p->base.repo = r;
	if (repo_put_begin(real_of(r), &p->real, e) < 0) {
		free(p);
		return e->code;
	}
	*out = &p->base;
	return 0;
}

static int
f_put_write(struct repo_put *b, struct span bytes, struct err *e)
{
	if (maybe_fail(b->repo, e) < 0)
		return e->code;
	return repo_put_write(((struct faulty_put *)b)->real, bytes, e);
}

static void
f_put_abort(struct repo_put *b)
{
	repo_put_abort(((struct faulty_put *)b)->real);
	free(b);
}

static int
f_put_commit(struct repo_put *b, const char *name, struct err *e)
{
	struct faulty *f = (struct faulty *)b->repo;
	int rc = maybe_fail(b->repo, e);

	if (rc < 0) {
		f_put_abort(b);
		return rc;
	}
	if (strncmp(name, "index/", 6) == 0 && atomic_load(&f->unsynced) > 0)
		atomic_fetch_add(&f->too_early, 1);
	atomic_fetch_add(&f->unsynced, 1);
	rc = repo_put_commit(((struct faulty_put *)b)->real, name, e);
	free(b);
	return rc;
}

static int
f_get(struct repo *r, const char *name, uint64_t off, void *to, size_t len,
    struct err *e)
{
	return repo_get(real_of(r), name, off, to, len, e);
}

static int
f_size(struct repo *r, const char *name, uint64_t *len, struct err *e)
{
	return repo_size(real_of(r), name, len, e);
}

static int
f_list(struct repo *r, const char *prefix, repo_list_fn *fn, void *arg,
    struct err *e)
{
	return repo_list(real_of(r), prefix, fn, arg, e);
}

static int
f_remove(struct repo *r, const char *name, struct err *e)
{
	return repo_remove(real_of(r), name, e);
}

static int
f_sync(struct repo *r, struct err *e)
{
	if (maybe_fail(r, e) < 0)
		return e->code;
	atomic_store(&((struct faulty *)r)->unsynced, 0);
	return repo_sync(real_of(r), e);
}

static const struct repo_ops faulty_ops = {
    .scheme = "faulty",
    .put_begin = f_put_begin,
    .put_write = f_put_write,
    .put_commit = f_put_commit,
    .put_abort = f_put_abort,
    .get = f_get,
    .size = f_size,
    .list = f_list,
    .remove = f_remove,
    .sync = f_sync,
};

/* ---- fixture ------------------------------------------------------------ */

#define SEEN_MAX 1024

struct fixture {
	struct faulty repo;
	struct keys keys;
	struct index *index;
	struct ingest *g;
	/* What the callback saw; its thread ends before we look. */
	struct chunk_id id[SEEN_MAX];
	unsigned blocks[SEEN_MAX];
	uint64_t object[SEEN_MAX];
	size_t seen;
	size_t fail_at; /* the callback fails at this one; 0: never */
};

static int
note(void *arg, const struct ingest_chunk *c, struct err *e)
{
	struct fixture *f = arg;

	assert_true(f->seen < SEEN_MAX);
	f->id[f->seen] = c->id;
	f->blocks[f->seen] = c->blocks;
	f->object[f->seen] = c->extents > 0 ? c->extent[0].object : 0;
	f->seen++;
	if (f->seen == f->fail_at)
		return err_set(e, -EDOM, "the callback failed");
	return 0;
}

static void
open_repo(struct fixture *f, void **state)
{
	struct err e = ERR_NONE;

	f->repo = (struct faulty){.base = {&faulty_ops, "faulty"}};
	atomic_store(&f->repo.left, -1);
	OK(repo_open(&f->repo.real, *state, false, &e));
}

static struct fixture *
begin(void **state, bool encrypted)
{
	struct fixture *f = mem_new(sizeof *f);
	struct err e = ERR_NONE;

	open_repo(f, state);
	OK(keys_generate(&f->keys, encrypted, &e));
	OK(index_open(&f->index, &f->repo.base, &f->keys, &e));
	return f;
}

static void
end(struct fixture *f)
{
	index_close(f->index);
	repo_close(f->repo.real);
	free(f);
}

static int
start(struct fixture *f, unsigned workers, unsigned buffers, struct err *e)
{
	struct ingest_how how = {
	    .repo = &f->repo.base,
	    .keys = &f->keys,
	    .index = f->index,
	    .zstd_level = 3,
	    .workers = workers,
	    .buffers = buffers,
	    .done = note,
	    .arg = f,
	};

	f->seen = 0;
	return ingest_start(&f->g, &how, e);
}

static unsigned
blocks_for(uint64_t seed)
{
	return (unsigned)(seed % CHUNK_BLOCKS) + 1;
}

/* The content that chunk `seed` has in all tests. */
static void
fill(uint8_t *p, uint64_t seed)
{
	size_t len = blocks_for(seed) * (size_t)CHUNK_BLOCK_BYTES;

	if (seed % 3 == 0)
		scratch_noise(p, len, seed);
	else
		scratch_rows(p, len, seed);
}

static int
submit(struct fixture *f, uint64_t seed, uint64_t object, struct err *e)
{
	struct ingest_chunk *c;
	int rc = ingest_take(f->g, &c, e);

	if (rc < 0)
		return rc;
	fill(c->plain, seed);
	c->blocks = blocks_for(seed);
	c->extents = 1;
	c->extent[0] = (struct ingest_extent){.object = object};
	return ingest_put(f->g, c, e);
}

/* Every chunk that the callback saw reads back as content `seed_of(i)`. */
static void
check_reads(struct fixture *f, uint64_t (*seed_of)(size_t))
{
	static uint8_t got[CHUNK_BYTES], want[CHUNK_BYTES];
	struct err e = ERR_NONE;
	struct pack_reader *p;

	OK(pack_reader_new(&p, &f->repo.base, &f->keys, &e));
	for (size_t i = 0; i < f->seen; i++) {
		struct chunk_place at;

		assert_int_equal(index_find(f->index, &f->id[i], &at, &e), 1);
		OK(pack_reader_get(p, &f->id[i], &at, got, &e));
		fill(want, seed_of(i));
		assert_int_equal(at.blocks, blocks_for(seed_of(i)));
		assert_int_equal(f->blocks[i], at.blocks);
		assert_memory_equal(got, want, at.blocks * 4096u);
	}
	pack_reader_free(p);
}

static uint64_t
seed_same(size_t i)
{
	return i;
}

static uint64_t
seed_of_four(size_t i)
{
	return i / 4; /* equal chunks side by side: they meet in flight */
}

/* ---- facts -------------------------------------------------------------- */

static void
check_round_trip(
    void **state, bool encrypted, unsigned workers, unsigned buffers)
{
	struct fixture *f = begin(state, encrypted);
	struct ingest_stats st;
	struct err e = ERR_NONE;

	OK(start(f, workers, buffers, &e));
	for (uint64_t i = 0; i < 150; i++)
		OK(submit(f, i, i + 1000, &e));
	OK(ingest_finish(f->g, &st, &e));
	assert_int_equal(f->seen, 150);
	for (size_t i = 0; i < 150; i++) /* in the order of the puts */
		assert_int_equal(f->object[i], i + 1000);
	assert_int_equal(st.chunks, 150);
	assert_int_equal(st.known_chunks, 0);
	assert_int_equal(st.packs, 1);
	assert_true(st.index_bytes > 0);
	check_reads(f, seed_same);
	/* And for a process that comes later. */
	index_close(f->index);
	OK(index_open(&f->index, &f->repo.base, &f->keys, &e));
	check_reads(f, seed_same);
	end(f);
}

static void
test_all_comes_back_in_order(void **state)
{
	check_round_trip(state, true, 4, 8);
}

static void
test_one_worker_one_buffer(void **state)
{
	check_round_trip(state, false, 1, 1);
}

static void
test_equal_chunks_in_flight_are_stored_once(void **state)
{
	struct fixture *f = begin(state, true);
	uint64_t unique_bytes = 0;
	struct ingest_stats st;
	struct err e = ERR_NONE;

	OK(start(f, 4, 16, &e));
	for (size_t i = 0; i < 200; i++)
		OK(submit(f, seed_of_four(i), i, &e));
	OK(ingest_finish(f->g, &st, &e));
	for (uint64_t s = 0; s < 50; s++)
		unique_bytes += blocks_for(s) * 4096u;
	assert_int_equal(st.chunks, 200);
	assert_int_equal(st.known_chunks, 150);
	assert_int_equal(st.new_bytes, unique_bytes);
	assert_int_equal(index_count(f->index), 50);
	check_reads(f, seed_of_four);
	end(f);
}

static void
test_what_is_known_is_not_stored_again(void **state)
{
	struct fixture *f = begin(state, true);
	struct ingest_stats st;
	struct err e = ERR_NONE;

	for (int round = 0; round < 2; round++) {
		OK(start(f, 2, 8, &e));
		for (uint64_t i = 0; i < 40; i++)
			OK(submit(f, i, i, &e));
		OK(ingest_finish(f->g, &st, &e));
		assert_int_equal(st.known_chunks, round * 40);
		assert_int_equal(st.packs, 1 - round);
	}
	assert_int_equal(st.new_bytes, 0);
	assert_int_equal(st.stored_bytes, 0);
	end(f);
}

struct sums {
	uint64_t bytes, files;
};

static int
add_len(void *arg, const char *name, uint64_t len, struct err *e)
{
	struct sums *s = arg;

	(void)name, (void)e;
	s->bytes += len;
	s->files++;
	return 0;
}

/* Also: the statistics are what lies on disk, to the byte. */
static void
test_packs_roll_at_their_size(void **state)
{
	struct fixture *f = begin(state, true);
	struct sums packs = {0, 0};
	struct ingest_stats st;
	struct err e = ERR_NONE;

	OK(start(f, 0, 0, &e));
	for (uint64_t i = 0; i < 290; i++) {
		struct ingest_chunk *c;

		OK(ingest_take(f->g, &c, &e));
		scratch_noise(c->plain, CHUNK_BYTES, i);
		c->blocks = CHUNK_BLOCKS;
		OK(ingest_put(f->g, c, &e));
	}
	OK(ingest_finish(f->g, &st, &e));
	assert_int_equal(st.packs, 2);
	OK(repo_list(&f->repo.base, "packs", add_len, &packs, &e));
	assert_int_equal(packs.files, 2);
	assert_int_equal(packs.bytes, st.stored_bytes);
	assert_int_equal(st.new_bytes, 290u * CHUNK_BYTES);
	end(f);
}

static void
test_dropped_chunk_is_free_again(void **state)
{
	struct fixture *f = begin(state, false);
	struct ingest_chunk *c;
	struct ingest_stats st;
	struct err e = ERR_NONE;

	OK(start(f, 1, 1, &e));
	for (int i = 0; i < 3; i++) {
		OK(ingest_take(f->g, &c, &e));
		ingest_drop(f->g, c);
	}
	OK(submit(f, 1, 1, &e));
	OK(ingest_finish(f->g, &st, &e));
	assert_int_equal(st.chunks, 1);
	end(f);
}

static void
test_nothing_put_is_fine(void **state)
{
	struct fixture *f = begin(state, true);
	struct ingest_stats st;
	struct err e = ERR_NONE;

	OK(start(f, 0, 0, &e));
	OK(ingest_finish(f->g, &st, &e));
	assert_int_equal(st.packs, 0);
	assert_int_equal(st.stored_bytes, 0);
	end(f);
}

static void
test_abort_never_hangs(void **state)
{
	struct fixture *f = begin(state, true);
	struct ingest_chunk *c;
	struct err e = ERR_NONE;

	for (uint64_t n = 0; n < 24; n += 3) {
		OK(start(f, 3, 8, &e));
		for (uint64_t i = 0; i < n; i++)
			OK(submit(f, i, i, &e));
		if (n % 2 == 0)
			OK(ingest_take(f->g, &c, &e));
		ingest_abort(f->g);
	}
	ingest_abort(NULL);
	/* What was aborted is not known: it was never whole. */
	assert_int_equal(index_count(f->index), 0);
	end(f);
}

static void
test_callback_error_ends_it(void **state)
{
	struct fixture *f = begin(state, true);
	struct err e = ERR_NONE;
	int rc = 0;

	f->fail_at = 5;
	OK(start(f, 2, 4, &e));
	for (uint64_t i = 0; i < 100 && rc == 0; i++)
		rc = submit(f, i, i, &e);
	assert_int_equal(rc, -EDOM);
	FAILS(-EDOM, ingest_finish(f->g, NULL, &e));
	assert_text_has(e.text, "the callback failed");
	assert_int_equal(f->seen, 5);
	end(f);
}

/* One run with the Nth operation failing; true when it did not come to it. */
static bool
run_with_fault(struct fixture *f, int nth)
{
	struct err e = ERR_NONE;
	int rc = 0;

	OK(start(f, 2, 4, &e));
	atomic_store(&f->repo.left, nth);
	for (uint64_t i = 0; i < 12 && rc == 0; i++)
		rc = submit(f, i, i, &e);
	if (rc < 0) {
		assert_int_equal(rc, -ENOSPC);
		assert_text_has(e.text, "injected");
		ingest_abort(f->g);
	} else {
		rc = ingest_finish(f->g, NULL, &e);
		if (rc < 0) {
			assert_int_equal(rc, -ENOSPC);
			assert_text_has(e.text, "injected");
		}
	}
	atomic_store(&f->repo.left, -1);
	return rc == 0;
}

/*
 * Fail the Nth operation, N = 0, 1, …, until a run succeeds. After each, what
 * the index of a new process knows can be read, and the next run is right.
 */
static void
test_every_failure_is_clean(void **state)
{
	bool done = false;
	int n;

	for (n = 0; !done && n < 200; n++) {
		struct fixture *f = begin(state, true);
		struct ingest_stats st;
		struct err e = ERR_NONE;

		done = run_with_fault(f, n);
		index_close(f->index);
		OK(index_open(&f->index, &f->repo.base, &f->keys, &e));
		OK(index_recover(f->index, &e));
		OK(start(f, 2, 4, &e));
		for (uint64_t i = 0; i < 12; i++)
			OK(submit(f, i, i, &e));
		OK(ingest_finish(f->g, &st, &e));
		assert_int_equal(f->seen, 12);
		assert_int_equal(index_count(f->index), 12);
		check_reads(f, seed_same);
		end(f);
		/* Each fault meets an empty repository. */
		OK(fs_remove_tree_at(-1, *state, &e));
		OK(fs_mkdirs(*state, 0700, &e));
	}
	assert_true(done);
	assert_true(n > 15); /* writes of 12 chunks, names, syncs, index */
}

/* Law 4: no segment before a sync of the packs that it names, and nothing is
 * left unsynced when finish has returned. */
static void
test_packs_are_synced_before_the_index(void **state)
{
	struct fixture *f = begin(state, true);
	struct err e = ERR_NONE;

	for (uint64_t round = 0; round < 3; round++) {
		OK(start(f, 1, 2, &e));
		for (uint64_t i = 0; i < 5; i++)
			OK(submit(f, round * 5 + i, i, &e));
		OK(ingest_finish(f->g, NULL, &e));
		assert_int_equal(atomic_load(&f->repo.unsynced), 0);
	}
	assert_int_equal(atomic_load(&f->repo.too_early), 0);
	end(f);
}

#define IN_FOLDER(t)                                                           \
	cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    IN_FOLDER(test_all_comes_back_in_order),
	    IN_FOLDER(test_one_worker_one_buffer),
	    IN_FOLDER(test_equal_chunks_in_flight_are_stored_once),
	    IN_FOLDER(test_what_is_known_is_not_stored_again),
	    IN_FOLDER(test_packs_roll_at_their_size),
	    IN_FOLDER(test_dropped_chunk_is_free_again),
	    IN_FOLDER(test_nothing_put_is_fine),
	    IN_FOLDER(test_abort_never_hangs),
	    IN_FOLDER(test_callback_error_ends_it),
	    IN_FOLDER(test_every_failure_is_clean),
	    IN_FOLDER(test_packs_are_synced_before_the_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

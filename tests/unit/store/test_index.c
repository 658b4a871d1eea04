/* SPDX-License-Identifier: Apache-2.0 */
/* The index: what was added is found, across flushes, merges and openings. */
#include "tests/unit/store/place.h"

#include <pthread.h>

#include "agent/store/index_internal.h"
#include "agent/store/pack.h"

static struct chunk_id
id_of(uint64_t n)
{
	struct dice d = {n * 7919};
	struct chunk_id id;

	for (size_t i = 0; i < sizeof id.b; i += 8)
		bytes_put_le64(id.b + i, dice_u64(&d));
	return id;
}

/* Chunk n lies in pack n / 50. */
static struct chunk_place
place_of(uint64_t n)
{
	struct chunk_id pack = id_of(1000000 + n / 50);
	struct chunk_place at = {.off = 64 + (uint32_t)(n % 50) * 1000,
	    .len = 100 + (uint32_t)(n % 900),
	    .blocks = (uint8_t)(1 + n % 32),
	    .codec = n % 2};

	memcpy(at.pack, pack.b, sizeof at.pack);
	return at;
}

static void
add(struct index *x, uint64_t from, uint64_t to)
{
	struct err e = ERR_NONE;

	for (uint64_t n = from; n < to; n++) {
		struct chunk_id id = id_of(n);
		struct chunk_place at = place_of(n);

		OK(index_add(x, &id, &at, &e));
	}
}

/* 1, 0: all of them, none of them. */
static void
assert_known(struct index *x, uint64_t from, uint64_t to, int known)
{
	struct err e = ERR_NONE;

	for (uint64_t n = from; n < to; n++) {
		struct chunk_id id = id_of(n);
		struct chunk_place at, want = place_of(n);

		FAILS(known, index_find(x, &id, &at, &e));
		if (!known)
			continue;
		assert_memory_equal(at.pack, want.pack, sizeof at.pack);
		assert_int_equal(at.off, want.off);
		assert_int_equal(at.len, want.len);
		assert_int_equal(at.blocks, want.blocks);
		assert_int_equal(at.codec, want.codec);
	}
}

static uint64_t
flush(struct index *x)
{
	struct err e = ERR_NONE;
	uint64_t written;

	OK(index_flush(x, &written, &e));
	return written;
}

static struct index *
open_index(struct place *p)
{
	struct err e = ERR_NONE;
	struct index *x;

	OK(index_open(&x, p->repo, &p->keys, &e));
	return x;
}

static int
count_file(void *arg, const char *name, uint64_t len, struct err *e)
{
	(void)name;
	(void)len;
	(void)e;
	++*(int *)arg;
	return 0;
}

static int
files(struct place *p)
{
	struct err e = ERR_NONE;
	int n = 0;

	OK(repo_list(p->repo, "index", count_file, &n, &e));
	return n;
}

static void
model(void **state, bool encrypted)
{
	struct dice d = {21};
	struct place p;
	struct index *x;
	uint64_t n = 0;

	place_begin(&p, *state, "repo", encrypted);
	x = open_index(&p);
	for (int i = 0; i < 25; i++) {
		uint64_t more = dice_below(&d, i % 5 ? 60 : 1500);

		add(x, n, n + more);
		n += more;
		assert_int_equal(index_count(x), n);
		if (i % 3)
			flush(x);
		if (i % 7 == 6) {
			flush(x);
			index_close(x);
			x = open_index(&p);
		}
		assert_int_equal(index_count(x), n);
	}
	assert_known(x, 0, n, 1);
	assert_known(x, n, n + 500, 0);
	index_close(x);
	place_end(&p);
}

static void
test_model_plain(void **state)
{
	model(state, false);
}

static void
test_model_encrypted(void **state)
{
	model(state, true);
}

static void
test_nothing_pending_writes_nothing(void **state)
{
	struct place p;
	struct index *x;

	place_begin(&p, *state, "repo", true);
	x = open_index(&p);
	assert_int_equal(index_count(x), 0);
	assert_known(x, 0, 1, 0);
	assert_int_equal(flush(x), 0);
	assert_int_equal(files(&p), 0);
	index_close(x);
	place_end(&p);
}

static void
test_twice_is_told(void **state)
{
	struct chunk_id id = id_of(3);
	struct chunk_place at = place_of(3);
	struct err e = ERR_NONE;
	struct place p;
	struct index *x;

	place_begin(&p, *state, "repo", true);
	x = open_index(&p);
	OK(index_add(x, &id, &at, &e));
	FAILS(-EEXIST, index_add(x, &id, &at, &e));
	assert_int_equal(index_count(x), 1);
	index_close(x);
	place_end(&p);
}

/* Bytes written follow the change: a small flush leaves a large segment be. */
static void
test_small_flush_beside_a_large_segment(void **state)
{
	struct place p;
	struct index *x;
	uint64_t large;

	place_begin(&p, *state, "repo", true);
	x = open_index(&p);
	add(x, 0, 4000);
	large = flush(x);
	add(x, 4000, 4100);
	assert_true(flush(x) * 10 < large);
	assert_int_equal(files(&p), 2);
	index_close(x);
	place_end(&p);
}

static int
remove_unless(void *arg, const char *name, uint64_t len, struct err *e)
{
	struct {
		struct repo *repo;
		struct index_ids *keep;
	} *a = arg;
	uint8_t id[TABLE_ID_LEN];

	(void)len;
	assert_int_equal(bytes_unhex(id, sizeof id, strrchr(name, '/') + 1), 0);
	if (index_ids_find(a->keep, id) < 0)
		return repo_remove(a->repo, name, e);
	return 0;
}

/* Ids of all segments that some segment contains. */
static int
collect_older(void *arg, const char *name, uint64_t len, struct err *e)
{
	struct {
		struct place *p;
		struct index_ids *dead, *all;
	} *a = arg;
	struct index_segment *s;
	uint8_t id[TABLE_ID_LEN];

	(void)len;
	assert_int_equal(bytes_unhex(id, sizeof id, strrchr(name, '/') + 1), 0);
	assert_int_equal(
	    index_segment_open(&s, a->p->repo, &a->p->keys, id, e), 0);
	for (size_t i = 0; i < s->older.n; i++)
		index_ids_add(a->dead, s->older.v[i]);
	index_ids_add(a->all, id);
	index_segment_close(s);
	return 0;
}

/*
 * Many flushes leave few live segments, and the live ones alone know all: what
 * prune will remove is not needed.
 */
static void
test_superseded_files_are_not_needed(void **state)
{
	struct index_ids dead = {0}, all = {0}, live = {0};
	struct err e = ERR_NONE;
	struct place p;
	struct index *x;

	place_begin(&p, *state, "repo", true);
	x = open_index(&p);
	for (uint64_t i = 0; i < 30; i++) {
		add(x, i * 20, i * 20 + 20);
		flush(x);
		if (i % 4 == 3) { /* as other processes would */
			index_close(x);
			x = open_index(&p);
		}
	}
	index_close(x);
	struct {
		struct place *p;
		struct index_ids *dead, *all;
	} a = {&p, &dead, &all};

	OK(repo_list(p.repo, "index", collect_older, &a, &e));
	index_ids_sort(&dead);
	for (size_t i = 0; i < all.n; i++) {
		if (index_ids_find(&dead, all.v[i]) < 0)
			index_ids_add(&live, all.v[i]);
	}
	index_ids_sort(&live);
	assert_in_range(live.n, 1, 4);
	struct {
		struct repo *repo;
		struct index_ids *keep;
	} b = {p.repo, &live};

	OK(repo_list(p.repo, "index", remove_unless, &b, &e));
	assert_int_equal(files(&p), live.n);
	x = open_index(&p);
	assert_int_equal(index_count(x), 600);
	assert_known(x, 0, 600, 1);
	index_close(x);
	index_ids_free(&dead);
	index_ids_free(&all);
	index_ids_free(&live);
	place_end(&p);
}

/* Two hosts merge the same segments: both results are right, and merge. */
static void
test_two_writers(void **state)
{
	struct place p;
	struct index *x, *y;

	place_begin(&p, *state, "repo", true);
	x = open_index(&p);
	add(x, 0, 100);
	flush(x);
	y = open_index(&p);
	add(x, 100, 200);
	add(y, 150, 250);
	flush(x);
	flush(y);
	assert_known(x, 0, 200, 1);
	assert_known(y, 0, 100, 1);
	index_close(x);
	index_close(y);
	x = open_index(&p);
	assert_known(x, 0, 250, 1);
	add(x, 250, 300);
	flush(x);
	assert_known(x, 0, 300, 1);
	index_close(x);
	place_end(&p);
}

static void
test_damaged_segment_is_named(void **state)
{
	uint8_t id[TABLE_ID_LEN] = {0xab};
	struct err e = ERR_NONE;
	struct place p;
	struct index *x;
	char name[64];

	place_begin(&p, *state, "repo", true);
	table_name(name, TABLE_INDEX, id);
	OK(repo_put_whole(p.repo, name, span_str("not a segment"), &e));
	FAILS(-EBADMSG, index_open(&x, p.repo, &p.keys, &e));
	assert_text_has(e.text, name);
	place_end(&p);
}

/* ---- recovering ---- */

static void
put_pack(struct place *p, uint64_t from, uint64_t to, uint8_t id[16])
{
	struct err e = ERR_NONE;
	struct pack_writer *w;

	OK(pack_writer_new(&w, p->repo, &p->keys, &e));
	memcpy(id, pack_writer_id(w), 16);
	for (uint64_t n = from; n < to; n++) {
		uint8_t sealed[200] = {0};
		struct pack_entry en = {.id = id_of(n),
		    .len = sizeof sealed,
		    .blocks = 3,
		    .codec = CODEC_ZSTD};

		en.off = pack_writer_reserve(w, en.len);
		OK(pack_writer_put(w, &en, SPAN(sealed, sizeof sealed), &e));
	}
	OK(pack_writer_finish(w, &e));
}

static void
assert_in_pack(struct index *x, uint64_t n, const uint8_t pack[16])
{
	struct chunk_id id = id_of(n);
	struct err e = ERR_NONE;
	struct chunk_place at;

	FAILS(1, index_find(x, &id, &at, &e));
	assert_memory_equal(at.pack, pack, 16);
	assert_int_equal(at.blocks, 3);
	assert_int_equal(at.len, 200);
}

static void
test_forgotten_packs_are_found(void **state)
{
	struct err e = ERR_NONE;
	uint8_t one[16], two[16];
	struct place p;
	struct index *x;

	place_begin(&p, *state, "repo", true);
	put_pack(&p, 0, 10, one);
	x = open_index(&p);
	FAILS(1, index_recover(x, &e));
	FAILS(0, index_recover(x, &e)); /* pending counts */
	flush(x);
	FAILS(0, index_recover(x, &e)); /* written counts */
	index_close(x);

	/* All its chunks are known by another pack: it is still looked at once
	 * only, not again by every run. */
	put_pack(&p, 0, 10, two);
	put_pack(&p, 10, 15, two);
	x = open_index(&p);
	FAILS(2, index_recover(x, &e));
	for (uint64_t n = 10; n < 15; n++)
		assert_in_pack(x, n, two);
	flush(x);
	FAILS(0, index_recover(x, &e));
	index_close(x);
	place_end(&p);
}

static void
test_damaged_forgotten_pack_stops_nothing(void **state)
{
	struct err e = ERR_NONE;
	struct place p;
	struct index *x;
	uint8_t id[16] = {1}, good[16];
	char name[64];

	place_begin(&p, *state, "repo", true);
	pack_name(name, id);
	OK(repo_put_whole(p.repo, name, span_str("torn"), &e));
	put_pack(&p, 0, 3, good);
	x = open_index(&p);
	FAILS(1, index_recover(x, &e));
	assert_in_pack(x, 2, good);
	index_close(x);
	place_end(&p);
}

static void
remove_pack(struct place *p, const uint8_t id[16])
{
	struct err e = ERR_NONE;
	char name[64];

	pack_name(name, id);
	OK(repo_remove(p->repo, name, &e));
}

static void
assert_unknown(struct index *x, uint64_t n)
{
	struct chunk_id id = id_of(n);
	struct err e = ERR_NONE;
	struct chunk_place at;

	FAILS(0, index_find(x, &id, &at, &e));
}

/* Places that a reader is offered. */
static unsigned
places(struct index *x, uint64_t n)
{
	struct chunk_id id = id_of(n);
	struct err e = ERR_NONE;
	struct chunk_place at;
	unsigned nth = 0;

	while (index_find_nth(x, &id, nth, &at, &e) > 0)
		nth++;
	assert_int_equal(e.code, 0);
	return nth;
}

/* Nothing new may refer to a pack that is gone; readers are still led there,
 * and when it comes back, so do its chunks. */
static void
test_absent_pack_counts_as_unknown(void **state)
{
	struct err e = ERR_NONE;
	uint8_t gone[16], stays[16], lost[16], again[16];
	struct index_absent one, two;
	struct place p;
	struct index *x;

	place_begin(&p, *state, "repo", true);
	put_pack(&p, 0, 10, gone);
	put_pack(&p, 10, 20, stays);
	put_pack(&p, 20, 30, lost);
	x = open_index(&p);
	FAILS(3, index_recover(x, &e));
	flush(x);
	assert_int_equal(index_absent(x).packs, 0);
	assert_int_equal(index_absent(x).mark, 0);

	remove_pack(&p, gone);
	FAILS(0, index_recover(x, &e));
	one = index_absent(x);
	assert_int_equal(one.packs, 1);
	assert_memory_equal(one.first, gone, 16);
	assert_unknown(x, 5);
	assert_in_pack(x, 15, stays);
	assert_int_equal(places(x, 5), 1);
	remove_pack(&p, lost);
	FAILS(0, index_recover(x, &e));
	two = index_absent(x);
	assert_int_equal(two.packs, 2);
	assert_true(one.mark != 0 && two.mark != 0 && one.mark != two.mark);
	index_close(x);

	/* Who has not looked is led to the gone pack. */
	x = open_index(&p);
	assert_in_pack(x, 5, gone);
	index_close(x);

	/* Stored again, and all of it merged: of a chunk that has a place, the
	 * other one is dropped; what has none is kept. */
	put_pack(&p, 0, 8, again);
	x = open_index(&p);
	FAILS(1, index_recover(x, &e));
	flush(x);
	add(x, 5000, 7000);
	flush(x);
	assert_in_pack(x, 5, again);
	assert_unknown(x, 9);
	index_close(x);
	x = open_index(&p);
	assert_in_pack(x, 5, again);
	assert_int_equal(places(x, 5), 1);
	assert_int_equal(places(x, 9), 1);
	assert_int_equal(places(x, 25), 1);
	assert_int_equal(places(x, 15), 1);
	index_close(x);
	place_end(&p);
}

static void
add_in(struct index *x, uint64_t from, uint64_t to, const uint8_t pack[16])
{
	struct err e = ERR_NONE;

	for (uint64_t n = from; n < to; n++) {
		struct chunk_place at = {.off = 64, .len = 200, .blocks = 3};
		struct chunk_id id = id_of(n);

		memcpy(at.pack, pack, 16);
		OK(index_add(x, &id, &at, &e));
	}
}

/* Two hosts stored the same chunks, and one pack is gone: who merges the two
 * segments keeps the place that is there, in the larger one or the smaller. */
static void
merge_without(void **state, const char *name, bool small_is_gone)
{
	static const uint8_t small[16] = {1}, large[16] = {2};
	const uint8_t *there = small_is_gone ? large : small;
	struct err e = ERR_NONE;
	struct index *x, *y;
	struct place p;
	char pack[64];

	place_begin(&p, *state, name, true);
	pack_name(pack, there);
	OK(repo_put_whole(p.repo, pack, span_str("not looked into"), &e));
	x = open_index(&p);
	y = open_index(&p);
	add_in(x, 0, 10, small);
	add_in(y, 0, 30, large);
	flush(x);
	flush(y);
	index_close(x);
	index_close(y);
	x = open_index(&p);
	FAILS(0, index_recover(x, &e));
	assert_int_equal(index_absent(x).packs, 1);
	for (uint64_t n = 0; n < 10; n++)
		assert_in_pack(x, n, there);
	add(x, 9000, 9500);
	flush(x);
	index_close(x);
	x = open_index(&p); /* a reader: it has not looked at the packs */
	for (uint64_t n = 0; n < 30; n++) {
		assert_in_pack(x, n, n < 10 ? there : large);
		assert_int_equal(places(x, n), 1);
	}
	index_close(x);
	place_end(&p);
}

static void
test_merge_keeps_the_place_that_is_there(void **state)
{
	merge_without(state, "small", true);
	merge_without(state, "large", false);
}

/* ---- threads ---- */

struct crowd {
	struct index *x;
	int wrong;
};

/* An entry is found at every moment of a flush. */
static void *
look(void *arg)
{
	struct crowd *c = arg;
	struct err e = ERR_NONE;

	for (uint64_t i = 0; i < 3000; i++) {
		struct chunk_id id = id_of(i % 300);
		struct chunk_place at;

		if (index_find(c->x, &id, &at, &e) != 1)
			c->wrong++;
	}
	return NULL;
}

static void
test_found_while_flushing(void **state)
{
	struct crowd c[3];
	pthread_t th[3];
	struct place p;
	struct index *x;

	place_begin(&p, *state, "repo", true);
	x = open_index(&p);
	add(x, 0, 300);
	for (int i = 0; i < 3; i++) {
		c[i] = (struct crowd){x, 0};
		pthread_create(&th[i], NULL, look, &c[i]);
	}
	for (uint64_t i = 0; i < 10; i++) {
		flush(x);
		add(x, 300 + i * 100, 400 + i * 100);
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(th[i], NULL);
		assert_int_equal(c[i].wrong, 0);
	}
	assert_known(x, 0, 1300, 1);
	index_close(x);
	place_end(&p);
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_model_plain),
	    TEST(test_model_encrypted),
	    TEST(test_nothing_pending_writes_nothing),
	    TEST(test_twice_is_told),
	    TEST(test_small_flush_beside_a_large_segment),
	    TEST(test_superseded_files_are_not_needed),
	    TEST(test_two_writers),
	    TEST(test_damaged_segment_is_named),
	    TEST(test_forgotten_packs_are_found),
	    TEST(test_damaged_forgotten_pack_stops_nothing),
	    TEST(test_absent_pack_counts_as_unknown),
	    TEST(test_merge_keeps_the_place_that_is_there),
	    TEST(test_found_while_flushing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

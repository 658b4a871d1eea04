/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exception stores of thick snapshots made by hand: every chunk that they name
 * is found and no other, and a store that cannot vouch for itself says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "kmod-free/track/cow_table.h"

#define ORIGIN_CHUNKS 100000u

struct store {
	int fd;
	uint32_t chunk;
	uint64_t chunks; /* the store's */
	uint64_t pairs;  /* written */
};

static void
put_u64(const struct store *s, uint64_t off, uint64_t v)
{
	uint8_t le[8];

	bytes_put_le64(le, v);
	assert_int_equal(pwrite(s->fd, le, 8, (off_t)off), 8);
}

static void
put_header(const struct store *s, uint32_t magic, uint32_t valid,
    uint32_t version, uint32_t sectors)
{
	uint8_t h[16];

	bytes_put_le32(h, magic);
	bytes_put_le32(h + 4, valid);
	bytes_put_le32(h + 8, version);
	bytes_put_le32(h + 12, sectors);
	assert_int_equal(pwrite(s->fd, h, sizeof h, 0), sizeof h);
}

static void
store_open(struct store *s, uint32_t chunk, uint64_t chunks)
{
	*s = (struct store){.chunk = chunk, .chunks = chunks};
	s->fd = memfd_create("store", MFD_CLOEXEC);
	assert_true(s->fd >= 0);
	assert_int_equal(ftruncate(s->fd, (off_t)(chunks * chunk)), 0);
	put_header(s, 0x70416e53, 1, 1, chunk / 512);
}

static void
store_close(struct store *s)
{
	close(s->fd);
}
#define SCOPED_STORE __attribute__((cleanup(store_close)))

static uint64_t
pair_at(const struct store *s, uint64_t n)
{
	uint64_t fit = s->chunk / 16;

	return (1 + (fit + 1) * (n / fit)) * s->chunk + n % fit * 16;
}

/* As the kernel does: data in the next free chunk, areas left out. */
static void
add(struct store *s, uint64_t old)
{
	uint64_t fit = s->chunk / 16, n = s->pairs++;

	put_u64(s, pair_at(s, n), old);
	put_u64(s, pair_at(s, n) + 8, 2 + n / fit * (fit + 1) + n % fit);
}

static int
read_store(const struct store *s, struct cow_table_info *info,
    struct extents *x, struct err *e)
{
	return cow_table_read(
	    s->fd, (uint64_t)ORIGIN_CHUNKS * s->chunk, info, x, e);
}

/* It fails so, and gives nothing. */
static void
fails(const struct store *s, int code, const char *what)
{
	struct cow_table_info info = {0};
	struct extents x = {0};
	struct err e = ERR_NONE;

	assert_int_equal(read_store(s, &info, &x, &e), code);
	if (strstr(e.text, what) == NULL)
		fail_msg("\"%s\" says not: %s", e.text, what);
	assert_int_equal(info.chunk_bytes, 0);
	assert_null(x.v);
}

static void
test_an_empty_table(void **state)
{
	SCOPED_STORE struct store s;
	SCOPED_EXTENTS struct extents x = {0};
	struct cow_table_info info;
	struct err e = ERR_NONE;

	(void)state;
	store_open(&s, 4096, 10);
	assert_int_equal(read_store(&s, &info, &x, &e), 0);
	assert_int_equal(info.chunks, 0);
	assert_int_equal(info.chunk_bytes, 4096);
	assert_int_equal(x.n, 0);
}

static void
test_ranges_are_sorted_and_merged(void **state)
{
	static const uint64_t old[] = {70, 5, 6, 9, 4, 71, 0, 99999};
	static const struct extent want[] = {{0, 0, 8192, 0},
	    {0, 4 * 8192, 3 * 8192, 0}, {0, 9 * 8192, 8192, 0},
	    {0, 70 * 8192, 2 * 8192, 0}, {0, 99999ull * 8192, 8192, 0}};
	SCOPED_STORE struct store s;
	SCOPED_EXTENTS struct extents x = {0};
	struct cow_table_info info;
	struct err e = ERR_NONE;

	(void)state;
	store_open(&s, 8192, 50);
	for (size_t i = 0; i < sizeof old / sizeof *old; i++)
		add(&s, old[i]);
	assert_int_equal(read_store(&s, &info, &x, &e), 0);
	assert_int_equal(info.chunks, 8);
	assert_int_equal(x.n, sizeof want / sizeof *want);
	assert_true(x.settled);
	assert_memory_equal(x.v, want, sizeof want);
}

/* Every size, and counts about the end of an area. */
static void
test_areas(void **state)
{
	(void)state;
	for (uint32_t chunk = 4096; chunk <= 512u << 10; chunk *= 2) {
		uint64_t fit = chunk / 16;
		/* Those of large chunks have as many pairs as a test bears. */
		uint64_t areas = chunk <= 8192 ? 3 : 1;
		uint64_t tries[] = {1, fit - 1, fit, fit + 1, fit * areas};

		if (chunk > 65536)
			tries[1] = tries[2] = tries[3] = 7;
		for (size_t i = 0; i < 5; i++) {
			SCOPED_STORE struct store s;
			SCOPED_EXTENTS struct extents x = {0};
			struct cow_table_info info;
			struct err e = ERR_NONE;

			store_open(&s, chunk, (fit + 1) * 4 + 2);
			for (uint64_t n = 0; n < tries[i]; n++)
				add(&s, n * 2);
			assert_int_equal(read_store(&s, &info, &x, &e), 0);
			assert_int_equal(info.chunks, tries[i]);
			assert_int_equal(x.n, tries[i]);
			for (uint64_t n = 0; n < tries[i]; n++) {
				assert_int_equal(x.v[n].off, n * 2 * chunk);
				assert_int_equal(x.v[n].len, chunk);
			}
		}
	}
}

/* What an older table left behind the end does not count. */
static void
test_what_is_behind_the_end(void **state)
{
	SCOPED_STORE struct store s;
	SCOPED_EXTENTS struct extents x = {0};
	struct cow_table_info info;
	struct err e = ERR_NONE;

	(void)state;
	store_open(&s, 4096, 1000);
	add(&s, 1);
	s.pairs = 2;
	add(&s, 7);
	s.pairs = 256;
	add(&s, 9);
	assert_int_equal(read_store(&s, &info, &x, &e), 0);
	assert_int_equal(info.chunks, 1);
	assert_int_equal(x.n, 1);
}

static void
test_the_origins_last_chunk_is_clipped(void **state)
{
	SCOPED_STORE struct store s;
	SCOPED_EXTENTS struct extents x = {0}, y = {0};
	struct cow_table_info info;
	struct err e = ERR_NONE;

	(void)state;
	store_open(&s, 65536, 10);
	add(&s, 2);
	assert_int_equal(
	    cow_table_read(s.fd, 2 * 65536 + 8192, &info, &x, &e), 0);
	assert_int_equal(x.v[0].off, 2 * 65536);
	assert_int_equal(x.v[0].len, 8192);
	/* The chunk behind is not the origin's. */
	assert_int_equal(
	    cow_table_read(s.fd, 2 * 65536, &info, &y, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "origin's end"));
}

/* Then more may be named, and never less. */
static void
test_few_ranges_are_coarser(void **state)
{
	SCOPED_STORE struct store s;
	SCOPED_EXTENTS struct extents x = {.max = 8};
	struct cow_table_info info;
	struct err e = ERR_NONE;

	(void)state;
	store_open(&s, 4096, 2000);
	for (uint64_t n = 0; n < 500; n++)
		add(&s, n * n % 5000);
	assert_int_equal(read_store(&s, &info, &x, &e), 0);
	assert_true(x.n <= 8);
	for (uint64_t n = 0; n < 500; n++)
		assert_true(extents_contain(&x, 0, n * n % 5000 * 4096, 4096));
}

static void
test_invalid_is_stale(void **state)
{
	SCOPED_STORE struct store s;

	(void)state;
	store_open(&s, 4096, 100);
	add(&s, 1);
	put_header(&s, 0x70416e53, 0, 1, 8);
	fails(&s, -ESTALE, "everything has to be read");
}

static void
test_headers_that_cannot_be(void **state)
{
	SCOPED_STORE struct store s;

	(void)state;
	store_open(&s, 4096, 100);
	put_header(&s, 0, 0, 0, 0);
	fails(&s, -EBADMSG, "does not begin");
	put_header(&s, 0x70416e54, 1, 1, 8);
	fails(&s, -EBADMSG, "does not begin");
	put_header(&s, 0x70416e53, 2, 1, 8);
	fails(&s, -EBADMSG, "neither valid");
	put_header(&s, 0x70416e53, 1, 2, 8);
	fails(&s, -EBADMSG, "version");
	for (uint32_t sectors = 0; sectors <= 4096; sectors++) {
		if (sectors >= 8 && sectors <= 1024 &&
		    (sectors & (sectors - 1)) == 0)
			continue;
		put_header(&s, 0x70416e53, 1, 1, sectors);
		fails(&s, -EBADMSG, "size");
	}
	put_header(&s, 0x70416e53, 1, 1, UINT32_MAX);
	fails(&s, -EBADMSG, "size");
	put_header(&s, 0x70416e53, 1, 1, 1u << 31);
	fails(&s, -EBADMSG, "size");
}

static void
test_pairs_that_cannot_be(void **state)
{
	SCOPED_STORE struct store s;

	(void)state;
	store_open(&s, 4096, 1000);
	add(&s, 1);
	add(&s, ORIGIN_CHUNKS);
	fails(&s, -EBADMSG, "origin's end");
	s.pairs = 1;
	add(&s, UINT64_MAX);
	fails(&s, -EBADMSG, "origin's end");
	s.pairs = 1;
	add(&s, 2);
	put_u64(&s, pair_at(&s, 1) + 8, 1000);
	fails(&s, -EBADMSG, "where none can be");
	put_u64(&s, pair_at(&s, 1) + 8, UINT64_MAX);
	fails(&s, -EBADMSG, "where none can be");
	put_u64(&s, pair_at(&s, 1) + 8, 1); /* the first area itself */
	fails(&s, -EBADMSG, "where none can be");
	put_u64(&s, pair_at(&s, 1) + 8, 258); /* the second */
	fails(&s, -EBADMSG, "where none can be");
}

static void
test_a_table_without_an_end(void **state)
{
	SCOPED_STORE struct store s;

	(void)state;
	store_open(&s, 4096, 258); /* where the next area would be */
	for (uint64_t n = 0; n < 256; n++)
		add(&s, n);
	fails(&s, -EBADMSG, "no end");
	assert_int_equal(ftruncate(s.fd, 4096), 0);
	fails(&s, -EBADMSG, "no end");
	assert_int_equal(ftruncate(s.fd, 100), 0);
	fails(&s, -EBADMSG, "exception table");
	assert_int_equal(ftruncate(s.fd, 0), 0);
	fails(&s, -EBADMSG, "exception table");
}

static void
test_noise_is_refused(void **state)
{
	SCOPED_STORE struct store s;
	uint8_t noise[4096];

	(void)state;
	store_open(&s, 4096, 1000);
	srandom(1);
	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (uint8_t)random();
	assert_int_equal(pwrite(s.fd, noise, 4096, 4096), 4096);
	fails(&s, -EBADMSG, "");
	assert_int_equal(pwrite(s.fd, noise, 4096, 0), 4096);
	fails(&s, -EBADMSG, "does not begin");
}

/* ---- a store in use ---- */

struct writer {
	struct store *s;
	_Atomic uint64_t committed;
	atomic_bool stop;
	uint8_t *map;
	bool rewrite; /* what stands there already */
};

/* Pairs whole, as a device gives sectors: the second half last. */
static void *
write_pairs(void *arg)
{
	struct writer *w = arg;
	uint64_t fit = w->s->chunk / 16;

	for (uint64_t n = w->committed; !w->stop; n++) {
		uint64_t *p = (uint64_t *)(w->map + pair_at(w->s, n));

		if (w->rewrite) {
			p = (uint64_t *)(w->map + pair_at(w->s, 0));
			__atomic_store_n(p, n % 1000, __ATOMIC_SEQ_CST);
			continue;
		}
		if (n >= 40000)
			break;
		__atomic_store_n(p, n, __ATOMIC_SEQ_CST);
		__atomic_store_n(
		    p + 1, 2 + n / fit * (fit + 1) + n % fit, __ATOMIC_SEQ_CST);
		w->committed = n + 1;
		for (volatile int i = 0; i < 200; i++)
			;
	}
	return NULL;
}

static void
begin_writing(struct writer *w, pthread_t *thread)
{
	w->map = mmap(NULL, w->s->chunks * w->s->chunk, PROT_READ | PROT_WRITE,
	    MAP_SHARED, w->s->fd, 0);
	assert_true(w->map != MAP_FAILED);
	assert_int_equal(pthread_create(thread, NULL, write_pairs, w), 0);
}

static void
end_writing(struct writer *w, pthread_t thread)
{
	w->stop = true;
	pthread_join(thread, NULL);
	munmap(w->map, w->s->chunks * w->s->chunk);
}

/* All that was committed when the reading began is found. */
static void
test_a_growing_table_is_a_superset(void **state)
{
	SCOPED_STORE struct store s;
	struct writer w = {.s = &s};
	pthread_t thread;

	(void)state;
	store_open(&s, 4096, 50000);
	begin_writing(&w, &thread);
	for (int i = 0; i < 300; i++) {
		SCOPED_EXTENTS struct extents x = {0};
		struct cow_table_info info;
		struct err e = ERR_NONE;
		uint64_t before = w.committed, after;

		assert_int_equal(read_store(&s, &info, &x, &e), 0);
		after = w.committed;
		assert_true(info.chunks >= before && info.chunks <= after + 1);
		assert_true(extents_contain(&x, 0, 0, before * 4096));
	}
	end_writing(&w, thread);
}

/* What stands there must stay: merging takes away and moves. */
static void
test_a_table_that_is_rewritten_is_stale(void **state)
{
	SCOPED_STORE struct store s = {.fd = -1};
	struct writer w = {.s = &s, .rewrite = true};
	pthread_t thread;
	bool stale = false;

	(void)state;
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		print_message("skipped: needs two processors\n");
		skip();
	}
	store_open(&s, 4096, 50);
	add(&s, 0);
	begin_writing(&w, &thread);
	for (int i = 0; i < 500000 && !stale; i++) {
		SCOPED_EXTENTS struct extents x = {0};
		struct cow_table_info info;
		struct err e = ERR_NONE;
		int rc = read_store(&s, &info, &x, &e);

		assert_true(rc == 0 || rc == -ESTALE);
		stale = rc == -ESTALE;
		if (stale)
			assert_non_null(strstr(e.text, "merged"));
	}
	end_writing(&w, thread);
	assert_true(stale); /* they met in one of so many */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_an_empty_table),
	    cmocka_unit_test(test_ranges_are_sorted_and_merged),
	    cmocka_unit_test(test_areas),
	    cmocka_unit_test(test_what_is_behind_the_end),
	    cmocka_unit_test(test_the_origins_last_chunk_is_clipped),
	    cmocka_unit_test(test_few_ranges_are_coarser),
	    cmocka_unit_test(test_invalid_is_stale),
	    cmocka_unit_test(test_headers_that_cannot_be),
	    cmocka_unit_test(test_pairs_that_cannot_be),
	    cmocka_unit_test(test_a_table_without_an_end),
	    cmocka_unit_test(test_noise_is_refused),
	    cmocka_unit_test(test_a_growing_table_is_a_superset),
	    cmocka_unit_test(test_a_table_that_is_rewritten_is_stale),
	};

	return cmocka_run_group_tests_name("cow_table", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thin pools of random devices and snapshots, whose mappings the test knows:
 * the metadata is written by thin_restore, or by thin_build.h so that nodes are
 * shared. What thin_meta says of them is compared with what the test knows, and
 * with thin_delta's answer. THIN_SEED and THIN_ROUNDS repeat a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "kmod-free/track/thin_meta.h"
#include "tests/unit/track/rounds.h"
#include "tests/unit/track/thin_build.h"

#define DEVICES 5u
#define BLOCKS_MAX 4000u
#define META_BLOCKS 40000u

/* LVM counts from 1; the last is the largest that can be. */
static const uint32_t ids[DEVICES] = {1, 2, 700, 65536, 16777215};

struct pool {
	uint64_t blocks; /* of each device */
	uint64_t next_data;
	uint64_t map[DEVICES][BLOCKS_MAX]; /* block of data, 0: unmapped */
	struct thin_build *build;          /* or NULL */
	uint64_t root[DEVICES];
	char path[200], xml[220];
	int fd;
};

static uint64_t rng;

static uint64_t
below(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

/* ---- making pools ---- */

static void
set(struct pool *p, unsigned d, uint64_t i, uint64_t data)
{
	uint64_t old = p->map[d][i];

	p->map[d][i] = data;
	if (p->build == NULL || old == data)
		return;
	if (data != 0)
		p->root[d] =
		    tb_put(p->build, p->root[d], i, thin_build_value(data, 3));
	else
		p->root[d] = tb_remove(p->build, p->root[d], i);
}

/* One thing that a writer may do: a run is written, or discarded, in the
 * middle, at the head or at the tail; or it comes from another device. */
static void
change(struct pool *p, unsigned d)
{
	unsigned other = (unsigned)below(d + 1);
	uint64_t first = below(p->blocks), n = 1 + below(p->blocks / 8 + 1);
	unsigned what = (unsigned)below(6);

	if (below(3) == 0)
		n = 1;
	if (what == 2)
		first = 0;
	if (n > p->blocks - first)
		n = p->blocks - first;
	if (what == 3)
		first = p->blocks - n;
	for (uint64_t i = first; i < first + n; i++) {
		if (what == 0 || what == 4)
			set(p, d, i, p->next_data++);
		else if (what == 5)
			set(p, d, i, p->map[other][i]);
		else
			set(p, d, i, 0);
	}
}

static void
make_first(struct pool *p)
{
	uint64_t i = 0;

	if (below(10) == 0)
		return; /* empty */
	while (i < p->blocks) {
		uint64_t n = 1 + below(60);

		if (below(4) == 0) {
			i += 1 + below(60);
			continue;
		}
		for (; n > 0 && i < p->blocks; n--, i++)
			set(p, 0, i, p->next_data++);
		p->next_data += below(3);
	}
}

static void
make_snapshot(struct pool *p, unsigned d)
{
	unsigned of = (unsigned)below(d);

	if (below(8) == 0) { /* of nothing */
		if (p->build != NULL)
			p->root[d] = tb_empty(p->build);
	} else {
		memcpy(p->map[d], p->map[of], sizeof p->map[d]);
		p->root[d] = p->root[of];
	}
	for (uint64_t n = below(8); n > 0; n--)
		change(p, d);
	if (below(12) == 0)
		for (uint64_t i = 0; i < p->blocks; i++)
			set(p, d, i, 0);
}

static uint64_t
mapped(const struct pool *p, unsigned d)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < p->blocks; i++)
		n += p->map[d][i] != 0;
	return n;
}

static void
make_devices(struct pool *p)
{
	if (p->build != NULL)
		p->root[0] = tb_empty(p->build);
	for (unsigned d = 0; d < DEVICES; d++) {
		if (d == 0)
			make_first(p);
		else
			make_snapshot(p, d);
		if (p->build != NULL)
			thin_build_device(
			    p->build, ids[d], p->root[d], mapped(p, d));
	}
}

/* ---- thin_restore ---- */

static void
put_device(const struct pool *p, unsigned d, FILE *f)
{
	const uint64_t *map = p->map[d];

	fprintf(f,
	    "<device dev_id=\"%u\" mapped_blocks=\"%" PRIu64
	    "\" transaction=\"%u\" creation_time=\"%u\" snap_time=\"%u\">\n",
	    ids[d], mapped(p, d), d, d + 1, d + 2);
	for (uint64_t i = 0, n; i < p->blocks; i += n) {
		n = 1;
		if (map[i] == 0)
			continue;
		while (i + n < p->blocks && map[i + n] == map[i] + n)
			n++;
		fprintf(f,
		    "<range_mapping origin_begin=\"%" PRIu64
		    "\" data_begin=\"%" PRIu64 "\" length=\"%" PRIu64
		    "\" time=\"%u\"/>\n",
		    i, map[i], n, d);
	}
	fprintf(f, "</device>\n");
}

static void
restore(struct pool *p)
{
	char line[600];
	FILE *f = fopen(p->xml, "w");

	assert_non_null(f);
	fprintf(f,
	    "<superblock uuid=\"\" time=\"5\" transaction=\"42\" version=\"2\" "
	    "data_block_size=\"128\" nr_data_blocks=\"%" PRIu64 "\">\n",
	    p->next_data + 1);
	for (unsigned d = 0; d < DEVICES; d++)
		put_device(p, d, f);
	fprintf(f, "</superblock>\n");
	assert_int_equal(fclose(f), 0);
	assert_int_equal(ftruncate(p->fd, 0), 0);
	assert_int_equal(ftruncate(p->fd, META_BLOCKS * 4096ll), 0);
	snprintf(line, sizeof line, "thin_restore -i %s -o %s >/dev/null",
	    p->xml, p->path);
	assert_int_equal(system(line), 0);
}

/* ---- what it says, and what is so ---- */

enum { SAME = 10, NOTHING = 11 };

static int
truth(const struct pool *p, unsigned a, unsigned b, uint64_t i)
{
	uint64_t x = p->map[a][i], y = p->map[b][i];

	if (x == y)
		return x == 0 ? NOTHING : SAME;
	if (x == 0)
		return THIN_META_ONLY_TO;
	return y == 0 ? THIN_META_ONLY_FROM : THIN_META_DIFFERENT;
}

struct answer {
	int side[BLOCKS_MAX];
	uint64_t end; /* of the last run */
	int last;
};

static int
note(void *arg, enum thin_meta_side side, uint64_t first, uint64_t count,
    struct err *e)
{
	struct answer *a = arg;

	(void)e;
	assert_true(count > 0 && first + count <= BLOCKS_MAX);
	assert_true(first >= a->end);
	/* Runs that touch are one run, unless they differ in kind. */
	assert_true(first > a->end || a->end == 0 || a->last != (int)side);
	for (uint64_t i = 0; i < count; i++)
		a->side[first + i] = (int)side;
	a->end = first + count;
	a->last = (int)side;
	return 0;
}

static void
check_compare(const struct pool *p, struct thin_meta *m, unsigned a, unsigned b)
{
	struct answer got = {0};
	struct err e = ERR_NONE;
	int rc;

	for (uint64_t i = 0; i < BLOCKS_MAX; i++)
		got.side[i] = NOTHING;
	rc = thin_meta_compare(m, ids[a], ids[b], note, &got, &e);
	if (rc < 0)
		fail_msg("%s", e.text);
	for (uint64_t i = 0; i < p->blocks; i++) {
		int want = truth(p, a, b, i);

		if (want == SAME)
			want = NOTHING;
		if (got.side[i] != want)
			fail_msg("devices %u and %u at %" PRIu64
				 ": %d, and not %d",
			    a, b, i, got.side[i], want);
	}
}

struct walked {
	const struct pool *p;
	unsigned d;
	uint64_t at, n;
};

static int
note_range(
    void *arg, uint64_t first, uint64_t data, uint64_t count, struct err *e)
{
	struct walked *w = arg;
	const uint64_t *map = w->p->map[w->d];

	(void)e;
	assert_true(first >= w->at && first + count <= w->p->blocks);
	for (uint64_t i = w->at; i < first; i++)
		assert_int_equal(map[i], 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(map[first + i], data + i);
	w->at = first + count;
	w->n += count;
	return 0;
}

static void
check_walk(const struct pool *p, struct thin_meta *m, unsigned d)
{
	struct walked w = {.p = p, .d = d};
	struct thin_meta_details details;
	struct err e = ERR_NONE;

	if (thin_meta_walk(m, ids[d], note_range, &w, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(w.n, mapped(p, d));
	assert_int_equal(thin_meta_device(m, ids[d], &details, &e), 0);
	assert_int_equal(details.mapped, w.n);
	if (p->build == NULL) {
		assert_int_equal(details.transaction, d);
		assert_int_equal(details.created, d + 1);
		assert_int_equal(details.snapshotted, d + 2);
	}
}

/* What a line of its XML says, <different begin="5" length="1"/>. */
static int
tag_side(const char *line)
{
	static const struct {
		const char *name;
		int side;
	} tags[] = {
	    {"<same ", SAME},
	    {"<different ", THIN_META_DIFFERENT},
	    {"<left_only ", THIN_META_ONLY_FROM},
	    {"<right_only ", THIN_META_ONLY_TO},
	};

	for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
		if (strstr(line, tags[i].name) != NULL)
			return tags[i].side;
	return NOTHING;
}

static uint64_t
number_of(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	assert_non_null(at);
	return strtoull(at + strlen(name), NULL, 10);
}

/* thin_delta says the same as what is so: then both it and we are right. */
static void
check_delta(const struct pool *p, unsigned a, unsigned b)
{
	char line[400];
	uint64_t first, n, seen = 0, want = 0;
	FILE *f;

	snprintf(line, sizeof line, "thin_delta %s --snap1 %u --snap2 %u %s",
	    p->build != NULL ? "-m" : "", ids[a], ids[b], p->path);
	f = popen(line, "r");
	assert_non_null(f);
	while (fgets(line, sizeof line, f) != NULL) {
		if (tag_side(line) == NOTHING)
			continue;
		first = number_of(line, " begin=\"");
		n = number_of(line, " length=\"");
		assert_true(first + n <= p->blocks);
		for (uint64_t i = first; i < first + n; i++)
			assert_int_equal(tag_side(line), truth(p, a, b, i));
		seen += n;
	}
	assert_int_equal(pclose(f), 0);
	for (uint64_t i = 0; i < p->blocks; i++)
		want += truth(p, a, b, i) != NOTHING;
	assert_int_equal(seen, want);
}

static void
check_pool(const struct pool *p, bool delta)
{
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct err e = ERR_NONE;

	if (thin_meta_open(&m, p->fd, p->build != NULL, &e) < 0)
		fail_msg("%s", e.text);
	for (unsigned d = 0; d < DEVICES; d++)
		check_walk(p, m, d);
	for (unsigned a = 0; a < DEVICES; a++)
		for (unsigned b = 0; b < DEVICES; b++)
			check_compare(p, m, a, b);
	assert_int_equal(thin_meta_check_held(m, &e), 0);
	for (int i = 0; delta && i < 2; i++)
		check_delta(
		    p, (unsigned)below(DEVICES), (unsigned)below(DEVICES));
}

/* ---- the rounds ---- */

static void
pool_open(struct pool *p)
{
	static const uint64_t sizes[] = {1, 12, 300, 1500, BLOCKS_MAX};
	const char *tmp = getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp";

	memset(p, 0, sizeof *p);
	p->blocks = sizes[below(5)];
	p->next_data = 1;
	snprintf(p->path, sizeof p->path, "%.150s/neap-thin-XXXXXX", tmp);
	p->fd = mkstemp(p->path);
	assert_true(p->fd >= 0);
	snprintf(p->xml, sizeof p->xml, "%s.xml", p->path);
}

static void
pool_close(struct pool *p)
{
	close(p->fd);
	unlink(p->path);
	unlink(p->xml);
}

static bool
have_tools(void)
{
	return system("thin_restore -V >/dev/null 2>&1 && "
		      "thin_delta -V >/dev/null 2>&1") == 0;
}

static uint64_t
begin_rounds(const char *what)
{
	uint64_t seed = from_env("THIN_SEED", (uint64_t)clock_now_s());
	uint64_t rounds = from_env("THIN_ROUNDS", SANITIZED ? 15 : 50);

	print_message("%s: THIN_SEED=%" PRIu64 ", %" PRIu64 " rounds\n", what,
	    seed, rounds);
	rng = seed * 0x9e3779b97f4a7c15u + 1;
	return rounds;
}

static void
test_what_thin_restore_writes(void **state)
{
	static struct pool p;

	(void)state;
	if (!have_tools()) {
		print_message("skipped: no thin_restore and thin_delta here "
			      "(thin-provisioning-tools)\n");
		skip();
	}
	for (uint64_t n = begin_rounds("restored pools"); n > 0; n--) {
		pool_open(&p);
		make_devices(&p);
		restore(&p);
		check_pool(&p, n % 2 == 0);
		pool_close(&p);
	}
}

/* Few entries a node make deep trees, many make those that pools have. */
static void
test_what_snapshots_share(void **state)
{
	static const uint32_t fits[] = {3, 3, 6, 30, THIN_BUILD_FIT_MAX};
	static struct pool p;
	bool tools = have_tools();

	(void)state;
	for (uint64_t n = begin_rounds("shared nodes"); n > 0; n--) {
		struct thin_build build;
		uint32_t fit = fits[below(5)];

		pool_open(&p);
		if (fit == 3 && p.blocks > 1500) /* too deep */
			fit = 6;
		thin_build_init(&build, p.fd, META_BLOCKS, fit);
		p.build = &build;
		make_devices(&p);
		thin_build_finish(&build);
		/* With more to a node some get emptier than it bears. */
		check_pool(&p, tools && fit == 3);
		thin_build_fini(&build);
		pool_close(&p);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_thin_restore_writes),
	    cmocka_unit_test(test_what_snapshots_share),
	};

	return cmocka_run_group_tests_name("thin_random", tests, NULL, NULL);
}

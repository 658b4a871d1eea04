/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/crosscheck.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"

typedef uint8_t hash_t[BLOCKMAP_HASH_LEN];

#define PIECE_BLOCKS (SWEEP_PIECE_BYTES / SWEEP_BLOCK_BYTES)
#define CLOSE_BLOCKS 4096u /* their hashes: 64 KiB */

/* The files that a tracker vouched for, by object number, with the count of
 * blocks in front of each. */
struct vouched {
	const struct tree_file **f;
	uint64_t *before;
	size_t n;
	uint64_t blocks;
};

static void
vouched_free(struct vouched *v)
{
	free(v->f);
	free(v->before);
}
#define SCOPED_VOUCHED __attribute__((cleanup(vouched_free)))

static int
by_object(const void *a, const void *b)
{
	const struct tree_file *x = *(const struct tree_file *const *)a;
	const struct tree_file *y = *(const struct tree_file *const *)b;

	return (x->object > y->object) - (x->object < y->object);
}

static void
vouched_of(struct vouched *v, const struct crosscheck *x)
{
	const struct tree *t = x->tree;

	v->f = mem_array(t->files, sizeof *v->f);
	for (size_t i = 0; i < t->files; i++) {
		const struct tree_file *f = &t->file[i];

		if (f->old != NULL && f->size > 0 &&
		    !x->named[f->volume].everything)
			v->f[v->n++] = f;
	}
	qsort(v->f, v->n, sizeof *v->f, by_object);
	v->before = mem_array(v->n + 1, sizeof *v->before);
	for (size_t i = 0; i < v->n; i++) {
		v->before[i] = v->blocks;
		v->blocks += sweep_blocks(v->f[i]->size);
	}
	v->before[v->n] = v->blocks;
}

static bool
is_named(const struct crosscheck *x, const struct tree_file *f, uint64_t block)
{
	return extents_touch(&x->named[f->volume].ranges, f->ino,
	    block * SWEEP_BLOCK_BYTES, SWEEP_BLOCK_BYTES);
}

static void
wrong(struct crosscheck *x, const struct tree_file *f, uint64_t block)
{
	x->wrong_blocks++;
	if (x->wrong_where == NULL) {
		SCOPED_FREE char *path = tree_path(x->tree, f);

		x->wrong_where = mem_printf("%s, offset %llu", path,
		    (unsigned long long)(block * SWEEP_BLOCK_BYTES));
	}
}

/* Compare blocks that were read (data) or are a hole (NULL). */
static int
compare(struct crosscheck *x, const struct tree_file *f, uint64_t block,
    unsigned n, const uint8_t *data, struct err *e)
{
	hash_t now[PIECE_BLOCKS] = {0}, old[PIECE_BLOCKS];
	int rc = blockmap_get(x->tree->blockmap, f->old, block, n, old, e);

	if (rc < 0)
		return rc;
	if (data != NULL)
		blockmap_hash(x->tree->blockmap, data, n, now);
	for (unsigned i = 0; i < n; i++)
		if (memcmp(now[i], old[i], sizeof now[i]) != 0 &&
		    !is_named(x, f, block + i))
			wrong(x, f, block + i);
	return 0;
}

static int
on_piece(void *arg, const struct tree_file *f, uint64_t off, uint32_t len,
    const uint8_t *data, struct err *e)
{
	return compare(
	    arg, f, off / SWEEP_BLOCK_BYTES, len / SWEEP_BLOCK_BYTES, data, e);
}

static int
on_hole(void *arg, const struct tree_file *f, uint64_t from, uint64_t to,
    struct err *e)
{
	struct crosscheck *x = arg;

	while (from < to) {
		uint64_t start, count, n;
		int rc = blockmap_stored(
		    x->tree->blockmap, f->old, from, &start, &count, e);

		if (rc <= 0 || start >= to)
			return rc < 0 ? rc : 0;
		n = count < PIECE_BLOCKS ? count : PIECE_BLOCKS;
		if (n > to - start)
			n = to - start;
		rc = compare(x, f, start, (unsigned)n, NULL, e);
		if (rc < 0)
			return rc;
		from = start + n;
	}
	return 0;
}

static int
check_range(struct crosscheck *x, const struct tree_file *f, uint64_t from,
    uint64_t to, struct err *e)
{
	int rc = sweep_begin(x->sweep, f, e);

	if (rc == 0)
		rc = sweep_look(x->sweep, from, to, on_hole, e);
	if (rc == 0)
		rc = sweep_end(x->sweep, e);
	return rc;
}

/* ---- the random sample ---------------------------------------------------------- */

size_t
crosscheck_samples(uint64_t blocks, double percent)
{
	double want = (double)blocks * percent / 100;
	size_t n = want > CROSSCHECK_SAMPLES_MAX ? CROSSCHECK_SAMPLES_MAX
						 : (size_t)want;

	if (percent <= 0)
		return 0;
	if (n < CROSSCHECK_SAMPLES_MIN)
		n = CROSSCHECK_SAMPLES_MIN;
	return n < blocks ? n : (size_t)blocks;
}

/* So at 100 percent all are taken, and of a run of wrong blocks as long as two
 * parts one is. */
void
crosscheck_pick(uint64_t *pick, size_t n, uint64_t blocks)
{
	uint64_t from = 0;

	assert(n <= blocks);
	for (size_t i = 0; i < n; i++) {
		uint64_t to = blocks / n * (i + 1) + blocks % n * (i + 1) / n;

		/* The bias of a 64-bit remainder is below 2^-12 for 2^52
		 * blocks. */
		pick[i] = from + pick[i] % (to - from);
		from = to;
	}
}

/*
 * Pages of the block map: they come from all over it, and one after the other a
 * disk gives a few thousand a second. What lies between two that are close is
 * read too: that takes less than a call for each.
 */
static void
read_ahead(const struct crosscheck *x, const struct vouched *v,
    const uint64_t *pick, size_t n)
{
	size_t at = 0;

	for (size_t i = 0, next; i < n; i = next) {
		while (pick[i] >= v->before[at + 1])
			at++;
		for (next = i + 1; next < n; next++)
			if (pick[next] >= v->before[at + 1] ||
			    pick[next] - pick[next - 1] > CLOSE_BLOCKS)
				break;
		blockmap_ahead(x->tree->blockmap, v->f[at]->old,
		    pick[i] - v->before[at], pick[next - 1] - pick[i] + 1);
	}
}

/* A hole is read too, as zeros: that takes less than to ask whether it is one.
 * What an image does not use is not zeros. */
static int
sample_block(struct crosscheck *x, const struct tree_file *f, uint64_t block,
    struct err *e)
{
	if (tree_used(x->tree, f) != NULL)
		return sweep_look(x->sweep, block, block + 1, on_hole, e);
	return sweep_range(
	    x->sweep, block * SWEEP_BLOCK_BYTES, SWEEP_BLOCK_BYTES, e);
}

/* Those of the picks from `i` on that are in file `at`; the first that is not
 * is returned through *i. */
static int
sample_file(struct crosscheck *x, const struct vouched *v, size_t at,
    const uint64_t *pick, size_t n, size_t *i, struct err *e)
{
	const struct tree_file *f = v->f[at];
	int rc = sweep_begin(x->sweep, f, e);

	for (; rc == 0 && *i < n && pick[*i] < v->before[at + 1]; ++*i) {
		uint64_t block = pick[*i] - v->before[at];

		if (is_named(x, f, block))
			continue;
		x->sampled_blocks++;
		rc = sample_block(x, f, block, e);
	}
	return rc == 0 ? sweep_end(x->sweep, e) : rc;
}

static int
sample(struct crosscheck *x, const struct vouched *v, struct err *e)
{
	size_t n = crosscheck_samples(v->blocks, x->sample_percent);
	SCOPED_FREE uint64_t *pick = NULL;
	size_t at = 0, i = 0;
	int rc = 0;

	if (n == 0)
		return 0;
	pick = mem_array(n, sizeof *pick);
	rc = clock_random(pick, n * sizeof *pick, e);
	if (rc < 0)
		return rc;
	crosscheck_pick(pick, n, v->blocks);
	read_ahead(x, v, pick, n);
	sweep_scattered(x->sweep, true);
	while (rc == 0 && i < n) {
		while (pick[i] >= v->before[at + 1])
			at++;
		rc = sample_file(x, v, at, pick, n, &i, e);
	}
	sweep_scattered(x->sweep, false);
	return rc;
}

/* ---- the rolling re-hash ----------------------------------------------------------- */

/* The position in `v` at which the last run stopped. */
static void
resume(const struct crosscheck *x, const struct vouched *v, size_t *file,
    uint64_t *block)
{
	*block = 0;
	for (*file = 0; *file < v->n; ++*file) {
		const struct tree_file *f = v->f[*file];

		if (f->object < x->state->rehash_object)
			continue;
		if (f->object == x->state->rehash_object &&
		    x->state->rehash_block < sweep_blocks(f->size))
			*block = x->state->rehash_block;
		return;
	}
	*file = 0;
}

static int
rolling(struct crosscheck *x, const struct vouched *v, struct err *e)
{
	struct state *s = x->state;
	int64_t elapsed = s->last_rehash_s ? x->now_s - s->last_rehash_s : 0;
	double share = (double)elapsed / (86400.0 * x->rolling_days);
	uint64_t left, block;
	size_t file;
	int rc = 0;

	/* The clock was ahead once: start counting anew, or nothing would be
	 * re-hashed until then. */
	if (share < 0) {
		share = 0;
		s->last_rehash_s = x->now_s;
	}
	left = share >= 1 ? v->blocks : (uint64_t)((double)v->blocks * share);
	resume(x, v, &file, &block);
	while (rc == 0 && left > 0) {
		const struct tree_file *f = v->f[file];
		uint64_t n = sweep_blocks(f->size) - block;

		if (n > left)
			n = left;
		rc = check_range(x, f, block, block + n, e);
		x->rehashed_blocks += n;
		left -= n;
		block += n;
		if (block == sweep_blocks(f->size)) {
			file = (file + 1) % v->n;
			block = 0;
		}
	}
	if (rc == 0 && v->n > 0 &&
	    (x->rehashed_blocks > 0 || s->last_rehash_s == 0)) {
		s->rehash_object = v->f[file]->object;
		s->rehash_block = block;
		s->last_rehash_s = x->now_s;
	}
	return rc;
}

/* ---- the second opinion -------------------------------------------------------------- */

static int
second_opinion(struct crosscheck *x, const struct vouched *v, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < v->n; i++) {
		const struct tree_file *f = v->f[i];
		const struct extents *r = &x->second[f->volume].ranges;
		uint64_t blocks = sweep_blocks(f->size);

		for (size_t k = extents_first(r, f->ino);
		     rc == 0 && k < r->n && r->v[k].object == f->ino; k++) {
			uint64_t from = r->v[k].off / SWEEP_BLOCK_BYTES;
			uint64_t to = sweep_blocks(r->v[k].off + r->v[k].len);

			if (to > blocks)
				to = blocks;
			if (from >= to ||
			    extents_contain(&x->named[f->volume].ranges, f->ino,
				from * SWEEP_BLOCK_BYTES,
				(to - from) * SWEEP_BLOCK_BYTES))
				continue;
			x->second_blocks += to - from;
			rc = check_range(x, f, from, to, e);
		}
	}
	return rc;
}

int
crosscheck_run(struct crosscheck *x, struct err *e)
{
	SCOPED_VOUCHED struct vouched v = {0};
	int rc = 0;

	vouched_of(&v, x);
	sweep_to(x->sweep, on_piece, x);
	if (v.blocks > 0)
		rc = sample(x, &v, e);
	if (rc == 0 && v.blocks > 0)
		rc = rolling(x, &v, e);
	if (rc == 0 && x->second != NULL)
		rc = second_opinion(x, &v, e);
	if (rc == 0)
		rc = sweep_drain(x->sweep, e);
	return rc < 0 ? err_wrap(e, "cross-check") : 0;
}

void
crosscheck_fini(struct crosscheck *x)
{
	free(x->wrong_where);
	x->wrong_where = NULL;
}

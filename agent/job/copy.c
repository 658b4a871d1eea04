/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/copy.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/core/log.h"
#include "agent/core/mem.h"

#define BLOCK CHUNK_BLOCK_BYTES
#define AHEAD_BYTES (1u << 20) /* longer ranges are read in order anyway */
typedef uint8_t hash_t[BLOCKMAP_HASH_LEN];

static int
put_extent(
    struct tree *t, uint64_t object, const struct map_extent *x, struct err *e)
{
	int rc;

	pthread_mutex_lock(&t->map_lock);
	rc = map_builder_extent(t->map, object, x, e);
	pthread_mutex_unlock(&t->map_lock);
	return rc;
}

int
copy_chunk_done(void *arg, const struct ingest_chunk *c, struct err *e)
{
	struct tree *t = arg;

	for (unsigned i = 0; i < c->extents; i++) {
		const struct ingest_extent *in = &c->extent[i];
		struct map_extent x = {.block = in->block,
		    .count = in->count,
		    .slot = (uint8_t)in->slot,
		    .chunk = c->id};
		int rc = put_extent(t, in->object, &x, e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- blocks that were read --------------------------------------------------- */

/* A torn block map: -ESTALE, for the run to start over without it. */
static int
doubt(int rc, struct err *e)
{
	return rc == -EBADMSG ? (e->code = -ESTALE) : rc;
}

/* Old content of `count` blocks of a file: zeros where it is new. */
static int
old_hashes(struct copy *c, const struct tree_file *f, uint64_t block,
    unsigned count, hash_t *out, struct err *e)
{
	if (f->old == NULL) {
		memset(out, 0, (size_t)count * sizeof *out);
		return 0;
	}
	return doubt(
	    blockmap_get(c->tree->blockmap, f->old, block, count, out, e), e);
}

/* Runs of changed blocks that are zeros now. */
static int
put_zeros(struct copy *c, const struct tree_file *f, uint64_t block,
    uint32_t mask, struct err *e)
{
	while (mask != 0) {
		unsigned from = (unsigned)__builtin_ctz(mask);
		uint32_t run = ~(mask >> from);
		unsigned n = run ? (unsigned)__builtin_ctz(run) : 32;
		struct map_extent x = {
		    .block = block + from, .count = n, .zero = true};
		int rc = put_extent(c->tree, f->object, &x, e);

		if (rc < 0)
			return rc;
		mask = from + n >= 32 ? 0 : mask & ~0u << (from + n);
	}
	return 0;
}

static int
on_piece(void *arg, const struct tree_file *f, uint64_t off, uint32_t len,
    const uint8_t *data, struct err *e)
{
	struct copy *c = arg;
	unsigned n = len / BLOCK;
	uint64_t block = off / BLOCK;
	hash_t now[CHUNK_BLOCKS], old[CHUNK_BLOCKS];
	uint32_t changed = 0, zero = 0;
	int rc = old_hashes(c, f, block, n, old, e);

	if (rc < 0)
		return rc;
	log_progress(c->job, sweep_read_bytes(c->sweep), c->named_bytes);
	blockmap_hash(c->tree->blockmap, data, n, now);
	for (unsigned i = 0; i < n; i++) {
		static const hash_t none;

		if (memcmp(now[i], old[i], sizeof now[i]) == 0)
			continue;
		changed |= 1u << i;
		if (memcmp(now[i], none, sizeof none) == 0)
			zero |= 1u << i;
	}
	if (changed == 0)
		return 0;
	c->changed_bytes += (uint64_t)__builtin_popcount(changed) * BLOCK;
	/* The update keeps all blocks from the first to the last changed one:
	 * unchanged ones in between are written as they are. */
	{
		unsigned a = (unsigned)__builtin_ctz(changed);
		unsigned b = 32 - (unsigned)__builtin_clz(changed);

		rc = blockmap_put(c->tree->blockmap, f->slot, block + a, b - a,
		    (const hash_t *)now + a, e);
	}
	if (rc == 0)
		rc = put_zeros(c, f, block, zero, e);
	if (rc == 0)
		rc = gather_piece(
		    &c->gather, f->object, block, data, changed & ~zero, e);
	return rc;
}

/* ---- ranges that need no reading ------------------------------------------------ */

/* What was stored within [from, to) and is a hole now: zeros. */
static int
hole(void *arg, const struct tree_file *f, uint64_t from, uint64_t to,
    struct err *e)
{
	struct copy *c = arg;
	static const hash_t none[CHUNK_BLOCKS];
	uint64_t at = from;

	while (f->old != NULL && at < to) {
		hash_t old[CHUNK_BLOCKS];
		uint32_t was = 0;
		uint64_t start, count;
		unsigned n;
		int rc = blockmap_stored(
		    c->tree->blockmap, f->old, at, &start, &count, e);

		if (rc <= 0)
			return rc;
		if (start >= to)
			return 0;
		n = (unsigned)(to - start < CHUNK_BLOCKS ? to - start
							 : CHUNK_BLOCKS);
		if (count < n)
			n = (unsigned)count;
		rc = doubt(
		    blockmap_get(c->tree->blockmap, f->old, start, n, old, e),
		    e);
		if (rc < 0)
			return rc;
		for (unsigned i = 0; i < n; i++)
			if (memcmp(old[i], none[0], sizeof none[0]) != 0)
				was |= 1u << i;
		if (was != 0) {
			c->changed_bytes +=
			    (uint64_t)__builtin_popcount(was) * BLOCK;
			rc = blockmap_put(
			    c->tree->blockmap, f->slot, start, n, none, e);
			if (rc == 0)
				rc = put_zeros(c, f, start, was, e);
			if (rc < 0)
				return rc;
		}
		at = start + n;
	}
	return 0;
}

/* A file that shrank: what lay behind its end reads as zeros if it grows. */
static int
cut_off(struct copy *c, const struct tree_file *f, struct err *e)
{
	uint64_t from = sweep_blocks(f->size), to;

	if (f->old == NULL || f->old->size <= f->size)
		return 0;
	to = sweep_blocks(f->old->size);
	while (from < to) {
		uint64_t n = to - from;
		struct map_extent x = {.block = from,
		    .count = (uint32_t)(n < UINT32_MAX ? n : UINT32_MAX),
		    .zero = true};
		int rc = put_extent(c->tree, f->object, &x, e);

		if (rc < 0)
			return rc;
		from += x.count;
	}
	return 0;
}

/* Of scattered changes each one's hashes are in a page of their own. */
static void
read_ahead(const struct copy *c, const struct tree_file *f,
    const struct extents *x, size_t i)
{
	for (; i < x->n && x->v[i].object == f->ino; i++)
		if (x->v[i].len <= AHEAD_BYTES && x->v[i].off < f->old->size)
			blockmap_ahead(c->tree->blockmap, f->old,
			    x->v[i].off / BLOCK, sweep_blocks(x->v[i].len));
}

static int
copy_file(struct copy *c, const struct tree_file *f, struct err *e)
{
	const struct tracker_answer *a = &c->named[f->volume];
	bool whole = a->everything || f->old == NULL;
	uint64_t blocks = sweep_blocks(f->size);
	size_t i = whole ? 0 : extents_first(&a->ranges, f->ino);
	int rc = cut_off(c, f, e);

	if (rc < 0)
		return rc;
	if (blocks == 0 ||
	    (!whole && (i == a->ranges.n || a->ranges.v[i].object != f->ino)))
		return 0;
	rc = sweep_begin(c->sweep, f, e);
	if (rc < 0)
		return rc;
	if (whole)
		rc = sweep_look(c->sweep, 0, blocks, hole, e);
	else
		read_ahead(c, f, &a->ranges, i);
	for (; rc == 0 && !whole && i < a->ranges.n &&
	       a->ranges.v[i].object == f->ino;
	     i++) {
		const struct extent *x = &a->ranges.v[i];
		uint64_t from = x->off / BLOCK;
		uint64_t to = sweep_blocks(x->off + x->len);

		sweep_placed(c->sweep, x);
		if (from < blocks)
			rc = sweep_look(
			    c->sweep, from, to < blocks ? to : blocks, hole, e);
	}
	if (rc < 0)
		return rc;
	return sweep_end(c->sweep, e);
}

/* What the tracker asks to look at, for the progress bar. */
static void
count_named(struct copy *c)
{
	const struct tree *t = c->tree;

	for (size_t i = 0; i < t->files; i++) {
		const struct tree_file *f = &t->file[i];
		const struct extents *used = tree_used(t, f);

		if (f->old == NULL || c->named[f->volume].everything)
			c->named_bytes +=
			    used != NULL ? extents_bytes(used) : f->size;
	}
	for (size_t v = 0; v < t->plan->volumes; v++)
		c->named_bytes += extents_bytes(&c->named[v].ranges);
	c->named_bytes += sweep_read_bytes(c->sweep);
}

int
copy_run(struct copy *c, struct err *e)
{
	int rc = 0;

	count_named(c);
	sweep_to(c->sweep, on_piece, c);
	for (size_t i = 0; rc == 0 && i < c->tree->files; i++)
		rc = copy_file(c, &c->tree->file[i], e);
	if (rc == 0)
		rc = sweep_drain(c->sweep, e);
	if (rc == 0)
		rc = gather_flush(&c->gather, e);
	log_progress_end();
	return rc;
}

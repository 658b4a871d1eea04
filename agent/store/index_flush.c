/* SPDX-License-Identifier: Apache-2.0 */
/* Pending entries become a segment; small segments are merged into it. */
#include <assert.h>
#include <stdlib.h>

#include "agent/core/mem.h"
#include "agent/store/index_internal.h"

#define MERGE_RATIO 4

/*
 * How many of the largest segments stay as they are when `n` new chunks come;
 * the others are merged with them, at once, so that each is written once.
 */
static size_t
stay(const struct index *x, uint64_t n)
{
	size_t first = x->seg_n;

	while (first > 0 && n * MERGE_RATIO >= x->seg[first - 1]->chunks) {
		first--;
		n += x->seg[first]->chunks;
	}
	return first;
}

/* Replace seg[first…] by `s`, which contains them. */
static void
swap_in(struct index *x, size_t first, struct index_segment *s)
{
	struct index_ids *dead = &x->dead;

	pthread_rwlock_wrlock(&x->segs);
	for (size_t i = first; i < x->seg_n; i++)
		index_segment_close(x->seg[i]);
	x->seg_n = first;
	MEM_ROOM(x->seg, x->seg_n, x->seg_cap);
	x->seg[x->seg_n++] = s;
	index_sort_segments(x);
	pthread_rwlock_unlock(&x->segs);
	for (size_t i = 0; i < s->older.n; i++)
		index_ids_add(dead, s->older.v[i]);
	index_ids_sort(dead);
}

/*
 * `sorted` is a copy: others look into `flushing` meanwhile. Only flushes
 * change the list of segments, so reading it here takes no lock.
 */
static int
write_segment(struct index *x, struct index_pending *sorted, uint64_t *written,
    struct err *e)
{
	size_t first = stay(x, sorted->n);
	struct index_ids older = {0};
	struct index_segment *s;
	uint8_t id[TABLE_ID_LEN];
	int rc;

	for (size_t i = first; i < x->seg_n; i++) {
		const struct index_segment *m = x->seg[i];

		index_ids_add(&older, table_id(m->table));
		for (size_t j = 0; j < m->older.n; j++) {
			if (index_ids_find(&x->dead, m->older.v[j]) >= 0)
				index_ids_add(&older, m->older.v[j]);
		}
	}
	index_ids_sort(&older);
	rc = index_write(x->repo, x->keys, sorted,
	    x->seg ? x->seg + first : NULL, x->seg_n - first, &older,
	    &x->absent, id, written, e);
	index_ids_free(&older);
	if (rc == 0)
		rc = index_segment_open(&s, x->repo, x->keys, id, e);
	if (rc == 0)
		swap_in(x, first, s);
	return rc;
}

/* Take the pending entries out to be written; a sorted copy of them. */
static void
begin_flush(struct index *x, struct index_pending *sorted)
{
	pthread_mutex_lock(&x->lock);
	assert(x->flushing.n == 0);
	index_pending_free(&x->flushing);
	x->flushing = x->pending;
	x->pending = (struct index_pending){0};
	pthread_mutex_unlock(&x->lock);
	*sorted = (struct index_pending){.n = x->flushing.n,
	    .entry = mem_dup(
		x->flushing.entry, x->flushing.n * sizeof *sorted->entry)};
	index_pending_sort(sorted);
}

static void
end_flush(struct index *x, int rc)
{
	pthread_mutex_lock(&x->lock);
	for (size_t i = 0; rc < 0 && i < x->flushing.n; i++) {
		const struct index_entry *en = &x->flushing.entry[i];

		index_pending_add(&x->pending, &en->id, &en->at);
	}
	index_pending_free(&x->flushing);
	pthread_mutex_unlock(&x->lock);
}

int
index_flush(struct index *x, uint64_t *written, struct err *e)
{
	struct index_pending sorted;
	uint64_t len = 0;
	int rc = 0;

	pthread_mutex_lock(&x->flush);
	begin_flush(x, &sorted);
	if (sorted.n > 0)
		rc = write_segment(x, &sorted, &len, e);
	index_pending_free(&sorted);
	end_flush(x, rc);
	pthread_mutex_unlock(&x->flush);
	if (rc < 0)
		return err_wrap(e, "write the index");
	*written = len;
	return 0;
}

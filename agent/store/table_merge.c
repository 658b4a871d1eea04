/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several sorted sources as one, by a binary heap of their next entries. Of
 * equal keys the newer source is on top, so the first is the one that counts.
 */
#include <assert.h>

#include "agent/core/mem.h"
#include "agent/store/table_internal.h"

struct input {
	struct table_source src;
	struct span key, value; /* its next entry */
	size_t rank;
};

struct table_merge {
	struct input *in;
	size_t n;            /* sources given */
	struct input **heap; /* those that have a next entry */
	size_t live;
	bool started;
	struct buf last; /* key handed out last */
	size_t winner;
	struct table_iter **own;
};

struct table_merge *
table_merge_new(const struct table_source *src, size_t n)
{
	struct table_merge *m = mem_new(sizeof *m);

	m->in = mem_array(n, sizeof *m->in);
	m->heap = mem_array(n, sizeof(struct input *));
	m->n = n;
	for (size_t i = 0; i < n; i++)
		m->in[i] = (struct input){.src = src[i], .rank = i};
	return m;
}

int
table_merge_tables(struct table_merge **out, struct table *const *t, size_t n,
    struct span from, struct err *e)
{
	SCOPED_MERGE struct table_merge *m = table_merge_new(NULL, 0);

	m->in = mem_grow(m->in, n, sizeof *m->in);
	m->heap = mem_grow(m->heap, n, sizeof(struct input *));
	m->own = mem_array(n, sizeof(struct table_iter *));
	for (size_t i = 0; i < n; i++) {
		int rc;

		m->own[i] = table_iter_new(t[i]);
		m->in[i] = (struct input){
		    .src = table_iter_source(m->own[i]), .rank = i};
		m->n++;
		rc = table_iter_seek(m->own[i], from, e);
		if (rc < 0)
			return rc;
	}
	*out = TAKE(m);
	return 0;
}

void
table_merge_free(struct table_merge *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; m->own != NULL && i < m->n; i++)
		table_iter_free(m->own[i]);
	free(m->own);
	free(m->in);
	free(m->heap);
	buf_free(&m->last);
	free(m);
}

void
table_merge_free_scope(struct table_merge **m)
{
	table_merge_free(*m);
}

static bool
before(const struct input *a, const struct input *b)
{
	int c = span_cmp(a->key, b->key);

	return c < 0 || (c == 0 && a->rank > b->rank);
}

static void
sift_down(struct table_merge *m, size_t at)
{
	for (;;) {
		size_t l = 2 * at + 1, best = at;
		struct input *swap;

		if (l < m->live && before(m->heap[l], m->heap[best]))
			best = l;
		if (l + 1 < m->live && before(m->heap[l + 1], m->heap[best]))
			best = l + 1;
		if (best == at)
			return;
		swap = m->heap[at];
		m->heap[at] = m->heap[best];
		m->heap[best] = swap;
		at = best;
	}
}

static int
start(struct table_merge *m, struct err *e)
{
	for (size_t i = 0; i < m->n; i++) {
		struct input *in = &m->in[i];
		int rc = in->src.next(in->src.arg, &in->key, &in->value, e);

		if (rc < 0)
			return rc;
		if (rc > 0)
			m->heap[m->live++] = in;
	}
	for (size_t i = m->live / 2; i-- > 0;)
		sift_down(m, i);
	m->started = true;
	return 0;
}

/* Move the source on top to its next entry. */
static int
advance_top(struct table_merge *m, struct err *e)
{
	struct input *in = m->heap[0];
	int rc = in->src.next(in->src.arg, &in->key, &in->value, e);

	if (rc < 0)
		return rc;
	if (rc == 0)
		m->heap[0] = m->heap[--m->live];
	sift_down(m, 0);
	return 0;
}

/* Past the entry handed out last and all that it hid. */
static int
skip_last(struct table_merge *m, struct err *e)
{
	while (
	    m->live > 0 && span_cmp(m->heap[0]->key, buf_span(&m->last)) == 0) {
		int rc = advance_top(m, e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

int
table_merge_next(
    struct table_merge *m, struct span *key, struct span *value, struct err *e)
{
	int rc = m->started ? skip_last(m, e) : start(m, e);

	if (rc < 0 || m->live == 0)
		return rc;
	*key = m->heap[0]->key;
	*value = m->heap[0]->value;
	m->winner = m->heap[0]->rank;
	/* A copy: the sources' keys go when they are advanced. */
	buf_clear(&m->last);
	buf_put(&m->last, key->data, key->len);
	return 1;
}

size_t
table_merge_winner(const struct table_merge *m)
{
	return m->winner;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an entry is: in `pending`; while a flush writes it, in `flushing`; then
 * in a segment. It enters the next place before it leaves the last one, and a
 * look-up goes through them in this order, so it never falls between two.
 */
#include "agent/store/index.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/index_internal.h"

/* Segments that vanish between the list and the open: merged by another host
 * and pruned. Each new list has their heirs; so many times is no accident. */
#define OPEN_TRIES 8

/* ---- opening ---- */

struct found { /* a file under index/ */
	uint8_t id[TABLE_ID_LEN];
	uint64_t len;
};

struct found_list {
	struct found *v;
	size_t n, cap;
};

static int
found_one(void *arg, const char *name, uint64_t len, struct err *e)
{
	struct found_list *l = arg;
	struct found f = {.len = len};
	const char *slash = strrchr(name, '/');

	(void)e;
	if (bytes_unhex(f.id, sizeof f.id, slash ? slash + 1 : name) < 0)
		return 0;
	MEM_ROOM(l->v, l->n, l->cap);
	l->v[l->n++] = f;
	return 0;
}

static int
longest_first(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->len < y->len) - (x->len > y->len);
}

static int
most_first(const void *a, const void *b)
{
	const struct index_segment *const *x = a, *const *y = b;

	return ((*x)->chunks < (*y)->chunks) - ((*x)->chunks > (*y)->chunks);
}

void
index_sort_segments(struct index *x)
{
	if (x->seg_n > 1)
		qsort(x->seg, x->seg_n, sizeof(*x->seg), most_first);
}

static void
drop_segments(struct index *x)
{
	for (size_t i = 0; i < x->seg_n; i++)
		index_segment_close(x->seg[i]);
	x->seg_n = 0;
	x->dead.n = 0;
}

/* Segments that one found later contains; rare, as those are the larger. */
static void
drop_dead(struct index *x)
{
	size_t n = 0;

	for (size_t i = 0; i < x->seg_n; i++) {
		struct index_segment *s = x->seg[i];

		if (index_ids_find(&x->dead, table_id(s->table)) >= 0)
			index_segment_close(s);
		else
			x->seg[n++] = s;
	}
	x->seg_n = n;
}

/* Only those that are still there need be named for ever after. */
static void
keep_found(struct index_ids *dead, const struct found_list *l)
{
	struct index_ids there = {0};
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		index_ids_add(&there, l->v[i].id);
	index_ids_sort(&there);
	for (size_t i = 0; i < dead->n; i++) {
		if (index_ids_find(&there, dead->v[i]) >= 0)
			memmove(dead->v[n++], dead->v[i], TABLE_ID_LEN);
	}
	dead->n = n;
	index_ids_free(&there);
}

/* A segment is longer than those it contains, so those need no opening. */
static int
open_found(struct index *x, struct found_list *l, struct err *e)
{
	if (l->n > 1)
		qsort(l->v, l->n, sizeof *l->v, longest_first);
	for (size_t i = 0; i < l->n; i++) {
		struct index_segment *s;
		int rc;

		if (index_ids_find(&x->dead, l->v[i].id) >= 0)
			continue;
		rc = index_segment_open(&s, x->repo, x->keys, l->v[i].id, e);
		if (rc < 0)
			return rc;
		MEM_ROOM(x->seg, x->seg_n, x->seg_cap);
		x->seg[x->seg_n++] = s;
		for (size_t j = 0; j < s->older.n; j++)
			index_ids_add(&x->dead, s->older.v[j]);
		index_ids_sort(&x->dead);
	}
	drop_dead(x);
	keep_found(&x->dead, l);
	index_sort_segments(x);
	return 0;
}

static int
open_segments(struct index *x, struct err *e)
{
	int rc = 0;

	for (int i = 0; i < OPEN_TRIES; i++) {
		struct found_list l = {0};

		drop_segments(x);
		rc = repo_list(x->repo, "index", found_one, &l, e);
		if (rc == 0)
			rc = open_found(x, &l, e);
		free(l.v);
		if (rc != -ENOENT)
			return rc;
	}
	return rc;
}

int
index_open(
    struct index **out, struct repo *r, const struct keys *k, struct err *e)
{
	struct index *x = mem_new(sizeof *x);
	int rc;

	x->repo = r;
	x->keys = k;
	pthread_mutex_init(&x->flush, NULL);
	pthread_rwlock_init(&x->segs, NULL);
	pthread_mutex_init(&x->lock, NULL);
	rc = open_segments(x, e);
	if (rc < 0) {
		index_close(x);
		return err_wrap(e, "open the index");
	}
	*out = x;
	return 0;
}

void
index_close(struct index *x)
{
	if (x == NULL)
		return;
	drop_segments(x);
	free(x->seg);
	index_ids_free(&x->dead);
	index_ids_free(&x->absent);
	index_pending_free(&x->pending);
	index_pending_free(&x->flushing);
	pthread_mutex_destroy(&x->flush);
	pthread_rwlock_destroy(&x->segs);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

/* ---- entries ---- */

/* Under the lock. */
static const struct index_entry *
find_pending(struct index *x, const struct chunk_id *id)
{
	const struct index_entry *en = index_pending_find(&x->pending, id);

	return en ? en : index_pending_find(&x->flushing, id);
}

int
index_find(struct index *x, const struct chunk_id *id, struct chunk_place *out,
    struct err *e)
{
	const struct index_entry *en;
	int rc = 0;

	pthread_mutex_lock(&x->lock);
	en = find_pending(x, id);
	if (en != NULL)
		*out = en->at;
	pthread_mutex_unlock(&x->lock);
	if (en != NULL)
		return 1;
	pthread_rwlock_rdlock(&x->segs);
	for (size_t i = 0; rc == 0 && i < x->seg_n; i++) {
		struct chunk_place at;

		rc = index_segment_find(x->seg[i], id, &at, e);
		if (rc > 0 && index_ids_find(&x->absent, at.pack) >= 0)
			rc = 0;
		if (rc > 0)
			*out = at;
	}
	pthread_rwlock_unlock(&x->segs);
	return rc < 0 ? err_wrap(e, "look in the index") : rc;
}

int
index_find_nth(struct index *x, const struct chunk_id *id, unsigned nth,
    struct chunk_place *out, struct err *e)
{
	const struct index_entry *en;
	bool found = false;
	int rc = 0;

	pthread_mutex_lock(&x->lock);
	en = find_pending(x, id);
	if (en != NULL && nth-- == 0) {
		*out = en->at;
		found = true;
	}
	pthread_mutex_unlock(&x->lock);
	if (found)
		return 1;
	pthread_rwlock_rdlock(&x->segs);
	for (size_t i = 0; rc == 0 && i < x->seg_n; i++) {
		struct chunk_place at;

		rc = index_segment_find(x->seg[i], id, &at, e);
		if (rc > 0 && nth-- > 0)
			rc = 0;
		if (rc > 0)
			*out = at;
	}
	pthread_rwlock_unlock(&x->segs);
	return rc < 0 ? err_wrap(e, "look in the index") : rc;
}

int
index_add(struct index *x, const struct chunk_id *id,
    const struct chunk_place *at, struct err *e)
{
	bool added = false;

	pthread_mutex_lock(&x->lock);
	if (index_pending_find(&x->flushing, id) == NULL)
		added = index_pending_add(&x->pending, id, at);
	pthread_mutex_unlock(&x->lock);
	return added ? 0 : err_set(e, -EEXIST, "the chunk is known already");
}

bool
index_full(const struct index *cx)
{
	struct index *x = (struct index *)cx; /* for the lock only */
	bool full;

	pthread_mutex_lock(&x->lock);
	full = x->pending.n >= INDEX_PENDING_MAX;
	pthread_mutex_unlock(&x->lock);
	return full;
}

uint64_t
index_count(const struct index *cx)
{
	struct index *x = (struct index *)cx; /* for the locks only */
	uint64_t n;

	pthread_mutex_lock(&x->lock);
	n = x->pending.n + x->flushing.n;
	pthread_mutex_unlock(&x->lock);
	pthread_rwlock_rdlock(&x->segs);
	for (size_t i = 0; i < x->seg_n; i++)
		n += x->seg[i]->chunks;
	pthread_rwlock_unlock(&x->segs);
	return n;
}

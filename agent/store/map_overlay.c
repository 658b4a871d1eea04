/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The extents of several maps as one sequence without overlaps.
 *
 * Each source keeps the rest of its next extent. The lowest (object, block) of
 * all is the next place; of the sources that begin there the newest wins. Its
 * piece ends where it ends or a newer one begins; what the others have below
 * that is cut away. No source ever has a rest before the place we are at, so
 * "begins there" is all that "covers it" can mean.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/core/mem.h"
#include "agent/store/map_internal.h"

struct layer {
	struct table_iter *it;
	bool have;
	uint64_t object;
	struct map_extent x; /* the rest of its next extent */
	uint64_t end;        /* of that extent */
};

struct map_overlay {
	struct layer *layer; /* oldest first */
	size_t n;
	bool started;
};

struct map_overlay *
map_overlay_new(struct table *const *t, size_t n)
{
	struct map_overlay *o = mem_new(sizeof *o);

	o->layer = mem_array(n, sizeof *o->layer);
	o->n = n;
	for (size_t i = 0; i < n; i++)
		o->layer[i].it = table_iter_new(t[i]);
	return o;
}

void
map_overlay_free(struct map_overlay *o)
{
	if (o == NULL)
		return;
	for (size_t i = 0; i < o->n; i++)
		table_iter_free(o->layer[i].it);
	free(o->layer);
	free(o);
}

void
map_overlay_free_scope(struct map_overlay **o)
{
	map_overlay_free(*o);
}

/* Drop what the extent has before `block`. */
static void
cut_front(struct map_extent *x, uint64_t block)
{
	uint32_t by = (uint32_t)(block - x->block);

	x->block += by;
	x->count -= by;
	if (!x->zero)
		x->slot = (uint8_t)(x->slot + by);
}

static int
pull(struct layer *l, struct err *e)
{
	uint64_t object = l->object, end = l->have ? l->end : 0;
	struct span key, value;
	int rc = table_iter_next(l->it, &key, &value, e);

	if (rc < 0)
		return rc;
	if (rc == 0 || *(const uint8_t *)key.data > MAP_TAG_EXTENT) {
		l->have = false;
		return 0;
	}
	rc = map_decode_extent(&l->object, &l->x, key, value, e);
	if (rc < 0)
		return rc;
	if (l->have && l->object == object && l->x.block < end)
		return err_set(e, -EBADMSG,
		    "two extents of object %llu overlap at block %llu of one "
		    "map",
		    (unsigned long long)object, (unsigned long long)l->x.block);
	l->have = true;
	l->end = l->x.block + l->x.count;
	return 0;
}

/* Past all that ends at or before `block` of `object`; the rest is cut. */
static int
trim(struct layer *l, uint64_t object, uint64_t block, struct err *e)
{
	while (l->have && (l->object < object ||
			      (l->object == object && l->end <= block))) {
		int rc = pull(l, e);

		if (rc < 0)
			return rc;
	}
	if (l->have && l->object == object && l->x.block < block)
		cut_front(&l->x, block);
	return 0;
}

int
map_overlay_seek(
    struct map_overlay *o, uint64_t object, uint64_t block, struct err *e)
{
	struct map_key k = map_key_extent(object, block);

	for (size_t i = 0; i < o->n; i++) {
		struct layer *l = &o->layer[i];
		int rc = table_iter_seek_last(l->it, map_key_span(&k), e);

		l->have = false; /* what comes need not follow what was */
		if (rc == 0)
			rc = pull(l, e);
		if (rc == 0)
			rc = trim(l, object, block, e);
		if (rc < 0)
			return rc;
	}
	o->started = true;
	return 0;
}

static bool
begins_before(const struct layer *a, const struct layer *b)
{
	if (a->object != b->object)
		return a->object < b->object;
	return a->x.block < b->x.block;
}

/* The newest of the layers that begin first; NULL at the end. */
static struct layer *
top(struct map_overlay *o)
{
	struct layer *best = NULL;

	for (size_t i = 0; i < o->n; i++) {
		struct layer *l = &o->layer[i];

		if (l->have && (best == NULL || !begins_before(best, l)))
			best = l;
	}
	return best;
}

int
map_overlay_next(struct map_overlay *o, uint64_t *object,
    struct map_extent *out, struct err *e)
{
	struct map_extent piece;
	struct layer *win;
	uint64_t cut, of;
	int rc = o->started ? 0 : map_overlay_seek(o, 0, 0, e);

	if (rc < 0)
		return rc;
	win = top(o);
	if (win == NULL)
		return 0;
	of = win->object;
	cut = win->end;
	for (struct layer *l = win + 1; l < o->layer + o->n; l++) {
		if (l->have && l->object == of && l->x.block < cut)
			cut = l->x.block;
	}
	piece = win->x;
	piece.count = (uint32_t)(cut - piece.block);
	for (size_t i = 0; i < o->n; i++) {
		rc = trim(&o->layer[i], of, cut, e);
		if (rc < 0)
			return rc;
	}
	*object = of;
	*out = piece;
	return 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The base map of a database that consists of its seed, again and again. Its
 * chunks are the seed's, so every block of it can be read back. That ids come
 * back does not make the map smaller: a frame holds about 600 extents, and
 * the seed has some thousands.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/map_internal.h"
#include "tools/scale/scale.h"

struct growing {
	struct scale *s;
	struct table_builder *out;
	struct map_extent *seed;
	size_t n, cap;
	bool done; /* the database's extents were written */
};

static int
take_seed(struct growing *g, const struct map_extent *x, struct err *e)
{
	if (x->zero || x->count != CHUNK_BLOCKS ||
	    x->block != g->n * CHUNK_BLOCKS)
		return err_set(e, -EINVAL,
		    "%s, block %llu: the seed has to be data in whole chunks",
		    g->s->path, (unsigned long long)x->block);
	MEM_ROOM(g->seed, g->n, g->cap);
	g->seed[g->n++] = *x;
	return 0;
}

static int
put_extents(struct growing *g, struct err *e)
{
	uint64_t n = g->s->size / CHUNK_BYTES;
	SCOPED_BUF struct buf value = {0};
	int rc = 0;

	g->done = true;
	if (g->n * CHUNK_BYTES != g->s->seed)
		return err_set(e, -EINVAL,
		    "%s: the map has %zu chunks of the seed", g->s->path, g->n);
	for (uint64_t i = 0; rc == 0 && i < n; i++) {
		struct map_extent x = g->seed[i % g->n];
		struct map_key k;

		x.block = i * CHUNK_BLOCKS;
		k = map_key_extent(g->s->object, x.block);
		buf_clear(&value);
		map_encode_extent(&value, &x);
		rc = table_builder_add(
		    g->out, map_key_span(&k), buf_span(&value), e);
	}
	return rc;
}

/* The database's own record, with its new size. */
static int
put_object(struct growing *g, struct span key, struct span value, struct err *e)
{
	SCOPED_BUF struct buf b = {0};
	struct object o = {0};
	int rc = object_decode(&o, value, e);

	if (rc < 0)
		return rc;
	o.size = g->s->size;
	object_encode(&o, &b);
	object_fini(&o);
	return table_builder_add(g->out, key, buf_span(&b), e);
}

static int
put_entry(struct growing *g, struct span key, struct span value, struct err *e)
{
	uint8_t tag = *(const uint8_t *)key.data;
	struct map_extent x;
	uint64_t object;
	int rc = 0;

	if (tag == MAP_TAG_EXTENT) {
		rc = map_decode_extent(&object, &x, key, value, e);
		if (rc == 0 && object == g->s->object)
			return take_seed(g, &x, e);
	}
	/* All that sorts behind the database's extents. */
	if (rc == 0 && !g->done && g->n > 0)
		rc = put_extents(g, e);
	if (rc == 0 && tag == MAP_TAG_OBJECT) {
		rc = map_decode_object_key(&object, key, e);
		if (rc == 0 && object == g->s->object)
			return put_object(g, key, value, e);
	}
	return rc < 0 ? rc : table_builder_add(g->out, key, value, e);
}

static int
grow(struct growing *g, struct table *old, struct err *e)
{
	struct table_iter *it = table_iter_new(old);
	struct span key, value;
	int rc;

	while ((rc = table_iter_next(it, &key, &value, e)) > 0) {
		rc = put_entry(g, key, value, e);
		if (rc < 0)
			break;
	}
	table_iter_free(it);
	return rc;
}

int
scale_map(struct scale *s, struct err *e)
{
	struct growing g = {.s = s};
	const struct keys *k = &s->store.keys;
	struct table *old;
	int rc =
	    table_open(&old, s->store.repo, k, TABLE_MAP, s->old_map.id, e);

	if (rc < 0)
		return rc;
	rc = table_builder_new(&g.out, s->store.repo, k, TABLE_MAP, e);
	if (rc == 0)
		rc = grow(&g, old, e);
	if (rc == 0) {
		s->map.count = table_builder_count(g.out);
		rc = table_builder_finish(
		    TAKE(g.out), s->map.id, &s->map.len, e);
	}
	table_builder_abort(g.out);
	table_close(old);
	free(g.seed);
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging the newest maps of a backup into one. The result says the same as
 * its parts: what a newer part hides is left out. Tombstones stay while an
 * older map may hold what they hide; in a merge down to the base nothing older
 * is left, and they go with all that they hid.
 */
#include <assert.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/map_internal.h"

#define MERGE_RATIO 4

struct compact {
	struct table **part; /* oldest first */
	size_t n;
	bool base; /* part[0] is the oldest map of the backup */
	struct table_builder *out;
};

/* The objects' tombstones in id order, beside another walk in id order. */
struct gone {
	struct table_merge *m;
	bool have;
	uint64_t object;
	bool is_gone;
};

static int
gone_next(struct gone *g, struct err *e)
{
	struct span key, value;
	int rc = table_merge_next(g->m, &key, &value, e);

	g->have = rc > 0;
	if (rc <= 0)
		return rc;
	g->is_gone = value.len == 0;
	return map_decode_object_key(&g->object, key, e);
}

static int
gone_begin(struct gone *g, const struct compact *c, struct err *e)
{
	struct map_key from = map_key_object(0);
	int rc =
	    table_merge_tables(&g->m, c->part, c->n, map_key_span(&from), e);

	return rc < 0 ? rc : gone_next(g, e);
}

/* 1: the newest of the parts that have `object` say that it is gone. */
static int
gone_is(struct gone *g, uint64_t object, struct err *e)
{
	while (g->have && g->object < object) {
		int rc = gone_next(g, e);

		if (rc < 0)
			return rc;
	}
	return g->have && g->object == object && g->is_gone;
}

static int
put_extent(struct compact *c, uint64_t object, const struct map_extent *x,
    struct buf *scratch, struct err *e)
{
	struct map_key k = map_key_extent(object, x->block);

	buf_clear(scratch);
	map_encode_extent(scratch, x);
	return table_builder_add(
	    c->out, map_key_span(&k), buf_span(scratch), e);
}

static int
walk_extents(
    struct compact *c, struct map_overlay *o, struct gone *g, struct err *e)
{
	SCOPED_BUF struct buf scratch = {0};
	struct map_extent x;
	uint64_t object;
	int rc;

	while ((rc = map_overlay_next(o, &object, &x, e)) > 0) {
		/* Under the base there is nothing that zeros could hide. */
		if (c->base && x.zero)
			continue;
		rc = gone_is(g, object, e);
		if (rc == 0)
			rc = put_extent(c, object, &x, &scratch, e);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static int
merge_extents(struct compact *c, struct err *e)
{
	SCOPED_OVERLAY struct map_overlay *o = map_overlay_new(c->part, c->n);
	struct gone g = {0};
	int rc = gone_begin(&g, c, e);

	if (rc == 0)
		rc = walk_extents(c, o, &g, e);
	table_merge_free(g.m);
	return rc;
}

/* 1: to be kept. */
static int
keep_name(struct compact *c, struct gone *g, struct span key, struct span value,
    struct err *e)
{
	uint64_t folder, object;
	struct span name;
	int rc = map_decode_name(&folder, &name, &object, key, value, e);

	if (rc < 0)
		return rc;
	if (c->base && object == 0)
		return 0;
	rc = gone_is(g, folder, e);
	return rc < 0 ? rc : rc == 0;
}

/* Names, and behind them objects: as they stand in key order. */
static int
walk_entries(
    struct compact *c, struct table_merge *m, struct gone *g, struct err *e)
{
	struct span key, value;
	uint64_t object;
	int rc;

	while ((rc = table_merge_next(m, &key, &value, e)) > 0) {
		if (*(const uint8_t *)key.data == MAP_TAG_NAME) {
			rc = keep_name(c, g, key, value, e);
		} else {
			rc = map_decode_object_key(&object, key, e);
			if (rc == 0)
				rc = !(c->base && value.len == 0);
		}
		if (rc > 0)
			rc = table_builder_add(c->out, key, value, e);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static int
merge_names_and_objects(struct compact *c, struct err *e)
{
	SCOPED_MERGE struct table_merge *m = NULL;
	struct map_key from = map_key_folder(0);
	struct gone g = {0};
	int rc = table_merge_tables(&m, c->part, c->n, map_key_span(&from), e);

	if (rc == 0)
		rc = gone_begin(&g, c, e);
	if (rc == 0)
		rc = walk_entries(c, m, &g, e);
	table_merge_free(g.m);
	return rc;
}

static int
merge(struct compact *c, struct map_ref *out, struct err *e)
{
	struct map_ref ref = {0};
	int rc = merge_extents(c, e);

	if (rc == 0)
		rc = merge_names_and_objects(c, e);
	if (rc < 0)
		return rc;
	ref.count = table_builder_count(c->out);
	rc = table_builder_finish(TAKE(c->out), ref.id, &ref.len, e);
	if (rc == 0)
		*out = ref;
	return rc;
}

/*
 * How many of the oldest maps stay as they are. All that will be merged is
 * merged at once: step by step the same entries would be written several times.
 */
static size_t
stay(const struct map_ref *maps, size_t n)
{
	size_t first = n - 1;
	uint64_t len = maps[first].len;

	while (first > 0 && MERGE_RATIO * len >= maps[first - 1].len) {
		first--;
		len += maps[first].len;
	}
	return first;
}

int
map_compact(struct repo *r, const struct keys *k, struct map_ref *maps,
    size_t *n, uint64_t *written, struct err *e)
{
	struct compact c = {0};
	struct map_ref ref;
	size_t first;
	int rc;

	assert(*n > 0);
	first = stay(maps, *n);
	if (first + 1 == *n) {
		*written = 0;
		return 0;
	}
	c.n = *n - first;
	c.base = first == 0;
	rc = map_open_tables(&c.part, r, k, maps + first, c.n, e);
	if (rc == 0)
		rc = table_builder_new(&c.out, r, k, TABLE_MAP, e);
	if (rc == 0)
		rc = merge(&c, &ref, e);
	table_builder_abort(c.out);
	map_close_tables(c.part, c.n);
	if (rc < 0)
		return err_wrap(e, "merge the newest %zu maps", c.n);
	maps[first] = ref;
	*n = first + 1;
	*written = ref.len;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/diff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/core/stop.h"

/* Extents are compared 4 GiB of the object at a time, so that memory does not
 * follow its size. */
#define WINDOW_BLOCKS (1u << 20)

struct names {
	struct {
		char *name;
		uint64_t object;
	} * v;
	size_t n, cap;
};

static void
names_free(struct names *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].name);
	free(s->v);
}
#define SCOPED_NAMES __attribute__((cleanup(names_free)))

struct extent_list {
	struct map_extent *v;
	size_t n, cap;
};

static void
extent_list_free(struct extent_list *l)
{
	free(l->v);
}
#define SCOPED_EXTENT_LIST __attribute__((cleanup(extent_list_free)))

struct diff {
	struct map_view *a, *b;
	diff_fn *fn;
	void *arg;
};

static int
on_name(void *arg, const char *name, uint64_t object)
{
	struct names *s = arg;

	MEM_ROOM(s->v, s->n, s->cap);
	s->v[s->n].name = mem_str(name);
	s->v[s->n++].object = object;
	return 0;
}

static int
on_extent(void *arg, const struct map_extent *x)
{
	struct extent_list *l = arg;

	MEM_ROOM(l->v, l->n, l->cap);
	l->v[l->n++] = *x;
	return 0;
}

/* The extent over `block`, or where the next one starts (UINT64_MAX: none). */
static const struct map_extent *
at(const struct extent_list *l, size_t *i, uint64_t block, uint64_t *next)
{
	while (*i < l->n && l->v[*i].block + l->v[*i].count <= block)
		++*i;
	*next = *i < l->n ? l->v[*i].block : UINT64_MAX;
	return *next <= block ? &l->v[*i] : NULL;
}

static uint64_t
differing(const struct extent_list *x, const struct extent_list *y,
    uint64_t from, uint64_t to)
{
	uint64_t block = from, n = 0;
	size_t i = 0, j = 0;

	while (block < to) {
		uint64_t na, nb, stop = to;
		const struct map_extent *p = at(x, &i, block, &na);
		const struct map_extent *q = at(y, &j, block, &nb);
		bool same = p == NULL && q == NULL;

		if (p != NULL && q != NULL)
			same = memcmp(&p->chunk, &q->chunk, sizeof p->chunk) ==
				   0 &&
			       p->slot + (block - p->block) ==
				   q->slot + (block - q->block);
		na = p ? p->block + p->count : na;
		nb = q ? q->block + q->count : nb;
		if (na < stop)
			stop = na;
		if (nb < stop)
			stop = nb;
		if (!same)
			n += stop - block;
		block = stop;
	}
	return n;
}

static int
content(struct diff *d, uint64_t oa, uint64_t ob, uint64_t size,
    uint64_t *bytes, struct err *e)
{
	uint64_t blocks = size / CHUNK_BLOCK_BYTES + 1;

	*bytes = 0;
	for (uint64_t at_ = 0; at_ < blocks; at_ += WINDOW_BLOCKS) {
		SCOPED_EXTENT_LIST struct extent_list x = {0}, y = {0};
		uint64_t n =
		    blocks - at_ < WINDOW_BLOCKS ? blocks - at_ : WINDOW_BLOCKS;
		int rc = map_view_extents(d->a, oa, at_, n, on_extent, &x, e);

		if (rc == 0)
			rc = map_view_extents(
			    d->b, ob, at_, n, on_extent, &y, e);
		if (rc < 0)
			return rc;
		*bytes += differing(&x, &y, at_, at_ + n) * CHUNK_BLOCK_BYTES;
	}
	return 0;
}

static int both(
    struct diff *d, uint64_t oa, uint64_t ob, const char *path, struct err *e);

static int
need(struct map_view *v, uint64_t object, struct object *o, const char *path,
    struct err *e)
{
	int rc = map_view_object(v, object, o, e);

	if (rc == 0)
		return err_set(e, -EBADMSG,
		    "%s: the maps name object %llu but do not hold it", path,
		    (unsigned long long)object);
	return rc < 0 ? rc : 0;
}

/* A whole subtree that is in one of the two only. */
static int
one_side(struct diff *d, struct map_view *v, enum diff_kind kind,
    uint64_t object, const char *path, struct err *e)
{
	SCOPED_NAMES struct names s = {0};
	SCOPED_OBJECT struct object o = {0};
	struct diff_line line = {.kind = kind, .path = path};
	int rc = need(v, object, &o, path, e);

	if (rc < 0)
		return rc;
	line.type = o.type;
	line.changed_bytes = object_has_content(o.type) ? o.size : 0;
	rc = d->fn(d->arg, &line);
	if (rc == 0 && o.type == OBJECT_DIR)
		rc = map_view_names(v, object, NULL, on_name, &s, e);
	for (size_t i = 0; rc == 0 && i < s.n; i++) {
		SCOPED_FREE char *sub = mem_printf("%s/%s", path, s.v[i].name);

		rc = one_side(d, v, kind, s.v[i].object, sub, e);
	}
	return rc;
}

static int
folders(
    struct diff *d, uint64_t oa, uint64_t ob, const char *path, struct err *e)
{
	SCOPED_NAMES struct names x = {0}, y = {0};
	size_t i = 0, j = 0;
	int rc = map_view_names(d->a, oa, NULL, on_name, &x, e);

	if (rc == 0)
		rc = map_view_names(d->b, ob, NULL, on_name, &y, e);
	while (rc == 0 && (i < x.n || j < y.n)) {
		int c = i == x.n   ? 1
			: j == y.n ? -1
				   : strcmp(x.v[i].name, y.v[j].name);
		SCOPED_FREE char *sub = mem_printf(
		    "%s/%s", path, c <= 0 ? x.v[i].name : y.v[j].name);

		if (c == 0)
			rc = both(d, x.v[i].object, y.v[j].object, sub, e);
		else if (c < 0)
			rc = one_side(
			    d, d->a, DIFF_REMOVED, x.v[i].object, sub, e);
		else
			rc = one_side(
			    d, d->b, DIFF_ADDED, y.v[j].object, sub, e);
		i += c <= 0;
		j += c >= 0;
	}
	return rc;
}

static int
both(struct diff *d, uint64_t oa, uint64_t ob, const char *path, struct err *e)
{
	SCOPED_OBJECT struct object x = {0}, y = {0};
	SCOPED_BUF struct buf bx = {0}, by = {0};
	struct diff_line line = {.path = path[0] ? path : "/"};
	int rc = stop_check(e);

	if (rc == 0)
		rc = need(d->a, oa, &x, path, e);
	if (rc == 0)
		rc = need(d->b, ob, &y, path, e);
	if (rc < 0)
		return rc;
	if (x.type != y.type) {
		rc = one_side(d, d->a, DIFF_REMOVED, oa, path, e);
		return rc ? rc : one_side(d, d->b, DIFF_ADDED, ob, path, e);
	}
	line.type = x.type;
	if (object_has_content(x.type))
		rc = content(d, oa, ob, x.size > y.size ? x.size : y.size,
		    &line.changed_bytes, e);
	if (rc < 0)
		return rc;
	object_encode(&x, &bx);
	object_encode(&y, &by);
	line.kind = line.changed_bytes || x.size != y.size ? DIFF_CONTENT
							   : DIFF_ATTRIBUTES;
	if (line.kind == DIFF_CONTENT ||
	    span_cmp(buf_span(&bx), buf_span(&by)) != 0)
		rc = d->fn(d->arg, &line);
	if (rc == 0 && x.type == OBJECT_DIR)
		rc = folders(d, oa, ob, path, e);
	return rc;
}

int
diff_run(struct map_view *a, struct map_view *b, diff_fn *fn, void *arg,
    struct err *e)
{
	struct diff d = {a, b, fn, arg};

	return both(&d, MAP_ROOT_OBJECT, MAP_ROOT_OBJECT, "", e);
}

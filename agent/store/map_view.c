/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/map.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/map_internal.h"

/* 2 MiB of a large map: random reads of a mounted database come back to the
 * same frames more often than not. */
#define VIEW_CACHE_FRAMES 64

struct map_view {
	struct table **t; /* oldest first */
	size_t n;
};

int
map_view_open(struct map_view **out, struct repo *r, const struct keys *k,
    const struct map_ref *maps, size_t n, struct err *e)
{
	struct map_view *v;
	struct table **t;
	int rc = map_open_tables(&t, r, k, maps, n, e);

	/* A record names it and it is not there: that is damage. */
	if (rc == -ENOENT)
		e->code = rc = -EBADMSG;
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < n; i++)
		table_cache_frames(t[i], VIEW_CACHE_FRAMES);
	v = mem_new(sizeof *v);
	v->t = t;
	v->n = n;
	*out = v;
	return 0;
}

void
map_view_close(struct map_view *v)
{
	if (v == NULL)
		return;
	map_close_tables(v->t, v->n);
	free(v);
}

/* The value in the newest map that has the key. */
static int
newest(struct map_view *v, struct span key, struct buf *out, struct err *e)
{
	for (size_t i = v->n; i-- > 0;) {
		int rc = table_get(v->t[i], key, out, e);

		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
lookup(struct map_view *v, uint64_t folder, struct span name, uint64_t *object,
    struct err *e)
{
	struct map_key k = map_key_folder(folder);
	SCOPED_BUF struct buf key = {0}, value = {0};
	struct span found;
	uint64_t of, to;
	int rc;

	if (!map_name_is_valid(name))
		return 0;
	buf_put(&key, k.b, k.len);
	buf_put(&key, name.data, name.len);
	rc = newest(v, buf_span(&key), &value, e);
	if (rc <= 0)
		return rc;
	rc = map_decode_name(
	    &of, &found, &to, buf_span(&key), buf_span(&value), e);
	if (rc < 0 || to == 0)
		return rc;
	*object = to;
	return 1;
}

int
map_view_lookup(struct map_view *v, uint64_t folder, const char *name,
    uint64_t *object, struct err *e)
{
	return lookup(v, folder, span_str(name), object, e);
}

static int
decode_object(
    struct object *out, uint64_t object, struct span value, struct err *e)
{
	int rc = object_decode(out, value, e);

	return rc < 0 ? err_wrap(e, "object %llu", (unsigned long long)object)
		      : 0;
}

int
map_view_object(
    struct map_view *v, uint64_t object, struct object *out, struct err *e)
{
	struct map_key k = map_key_object(object);
	SCOPED_BUF struct buf value = {0};
	int rc = newest(v, map_key_span(&k), &value, e);

	if (rc <= 0 || value.len == 0)
		return rc < 0 ? rc : 0;
	rc = decode_object(out, object, buf_span(&value), e);
	return rc < 0 ? rc : 1;
}

int
map_view_names(struct map_view *v, uint64_t folder, const char *after,
    map_name_fn *fn, void *arg, struct err *e)
{
	struct map_key k = map_key_folder(folder);
	SCOPED_MERGE struct table_merge *m = NULL;
	SCOPED_BUF struct buf from = {0};
	struct span key, value, name;
	int rc;

	buf_put(&from, k.b, k.len);
	/* The least key behind a name is the name and a NUL, which none has. */
	if (after != NULL)
		buf_put(&from, after, strlen(after) + 1);
	rc = table_merge_tables(&m, v->t, v->n, buf_span(&from), e);
	while (rc == 0 && (rc = table_merge_next(m, &key, &value, e)) > 0) {
		uint64_t of, to;
		SCOPED_FREE char *text = NULL;

		if (key.len < k.len || memcmp(key.data, k.b, k.len) != 0)
			return 0;
		rc = map_decode_name(&of, &name, &to, key, value, e);
		if (rc < 0 || to == 0)
			continue;
		text = mem_strn(name.data, name.len);
		rc = fn(arg, text, to);
	}
	return rc;
}

int
map_view_objects(
    struct map_view *v, map_object_fn *fn, void *arg, struct err *e)
{
	SCOPED_MERGE struct table_merge *m = NULL;
	struct map_key from = map_key_object(0);
	struct span key, value;
	int rc = table_merge_tables(&m, v->t, v->n, map_key_span(&from), e);

	while (rc == 0 && (rc = table_merge_next(m, &key, &value, e)) > 0) {
		SCOPED_OBJECT struct object o = {0};
		uint64_t object;

		rc = map_decode_object_key(&object, key, e);
		if (rc < 0 || value.len == 0)
			continue;
		rc = decode_object(&o, object, value, e);
		if (rc == 0)
			rc = fn(arg, object, &o);
	}
	return rc;
}

int
map_view_extents(struct map_view *v, uint64_t object, uint64_t block,
    uint64_t count, map_extent_fn *fn, void *arg, struct err *e)
{
	SCOPED_OVERLAY struct map_overlay *o = map_overlay_new(v->t, v->n);
	uint64_t end, of;
	struct map_extent x;
	int rc;

	/* Nothing lies behind the last block that an object can have. */
	end = count < MAP_BLOCK_MAX && block < MAP_BLOCK_MAX - count
		  ? block + count
		  : MAP_BLOCK_MAX;
	if (block >= end)
		return 0;
	rc = map_overlay_seek(o, object, block, e);
	while (rc == 0 && (rc = map_overlay_next(o, &of, &x, e)) > 0) {
		if (of != object || x.block >= end)
			return 0;
		if (x.count > end - x.block)
			x.count = (uint32_t)(end - x.block);
		rc = x.zero ? 0 : fn(arg, &x);
	}
	return rc;
}

int
map_view_path(
    struct map_view *v, const char *path, uint64_t *object, struct err *e)
{
	uint64_t at = MAP_ROOT_OBJECT;

	while (*path != '\0') {
		size_t n = strcspn(path, "/");
		int rc = 1;

		if (n > 0)
			rc = lookup(v, at, SPAN(path, n), &at, e);
		if (rc <= 0)
			return rc;
		path += n;
		path += strspn(path, "/");
	}
	*object = at;
	return 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of a map as the bytes that docs/format.md specifies. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/map_internal.h"

enum { KIND_ZERO = 0, KIND_CHUNK = 1 };

struct map_key
map_key_extent(uint64_t object, uint64_t block)
{
	struct map_key k = {.len = 17};

	k.b[0] = MAP_TAG_EXTENT;
	bytes_put_be64(k.b + 1, object);
	bytes_put_be64(k.b + 9, block);
	return k;
}

static struct map_key
key_of(uint8_t tag, uint64_t object)
{
	struct map_key k = {.len = 9};

	k.b[0] = tag;
	bytes_put_be64(k.b + 1, object);
	return k;
}

struct map_key
map_key_object(uint64_t object)
{
	return key_of(MAP_TAG_OBJECT, object);
}

struct map_key
map_key_folder(uint64_t folder)
{
	return key_of(MAP_TAG_NAME, folder);
}

/* The rules for an extent, for both directions. */
static bool
extent_is_valid(const struct map_extent *x)
{
	if (x->count == 0 || x->block >= MAP_BLOCK_MAX ||
	    x->count > MAP_BLOCK_MAX - x->block)
		return false;
	return x->zero ||
	       (x->count <= CHUNK_BLOCKS && x->slot <= CHUNK_BLOCKS - x->count);
}

void
map_encode_extent(struct buf *out, const struct map_extent *x)
{
	assert(extent_is_valid(x));
	buf_put_varint(out, x->count);
	buf_put_u8(out, x->zero ? KIND_ZERO : KIND_CHUNK);
	if (x->zero)
		return;
	buf_put_u8(out, x->slot);
	buf_put(out, x->chunk.b, sizeof x->chunk.b);
}

int
map_decode_extent(uint64_t *object, struct map_extent *out, struct span key,
    struct span value, struct err *e)
{
	const uint8_t *k = key.data, *id;
	struct cursor c = cursor_of(value);
	struct map_extent x = {0};
	uint64_t count = cursor_varint(&c);
	uint8_t kind = cursor_u8(&c);

	if (key.len != 17 || k[0] != MAP_TAG_EXTENT)
		return err_set(e, -EBADMSG, "the key of an extent is damaged");
	x.block = bytes_be64(k + 9);
	x.count = count <= UINT32_MAX ? (uint32_t)count : 0;
	x.zero = kind == KIND_ZERO;
	if (kind == KIND_CHUNK) {
		x.slot = cursor_u8(&c);
		id = cursor_bytes(&c, sizeof x.chunk.b);
		if (id != NULL)
			memcpy(x.chunk.b, id, sizeof x.chunk.b);
	}
	if (c.bad || cursor_left(&c) != 0 || kind > KIND_CHUNK ||
	    !extent_is_valid(&x))
		return err_set(e, -EBADMSG,
		    "the extent of object %llu at block %llu is damaged",
		    (unsigned long long)bytes_be64(k + 1),
		    (unsigned long long)x.block);
	*object = bytes_be64(k + 1);
	*out = x;
	return 0;
}

int
map_decode_object_key(uint64_t *object, struct span key, struct err *e)
{
	const uint8_t *k = key.data;

	if (key.len != 9 || k[0] != MAP_TAG_OBJECT || bytes_be64(k + 1) == 0)
		return err_set(e, -EBADMSG, "the key of an object is damaged");
	*object = bytes_be64(k + 1);
	return 0;
}

bool
map_name_is_valid(struct span name)
{
	const char *s = name.data;

	if (name.len == 0 || name.len > MAP_NAME_MAX ||
	    memchr(s, '/', name.len) != NULL ||
	    memchr(s, '\0', name.len) != NULL)
		return false;
	return !(
	    s[0] == '.' && (name.len == 1 || (name.len == 2 && s[1] == '.')));
}

int
map_decode_name(uint64_t *folder, struct span *name, uint64_t *object,
    struct span key, struct span value, struct err *e)
{
	const uint8_t *k = key.data;
	struct cursor c = cursor_of(value);
	uint64_t to = 0;

	if (key.len < 10 || k[0] != MAP_TAG_NAME ||
	    !map_name_is_valid(SPAN(k + 9, key.len - 9)))
		return err_set(e, -EBADMSG, "a name in the map is damaged");
	if (value.len > 0) {
		to = cursor_varint(&c);
		if (c.bad || cursor_left(&c) != 0 || to == 0)
			return err_set(e, -EBADMSG,
			    "the name \"%.*s\" in folder %llu is damaged",
			    (int)key.len - 9, (const char *)k + 9,
			    (unsigned long long)bytes_be64(k + 1));
	}
	*folder = bytes_be64(k + 1);
	*name = SPAN(k + 9, key.len - 9);
	*object = to;
	return 0;
}

static int
open_one(struct table **out, struct repo *r, const struct keys *k,
    const struct map_ref *m, struct err *e)
{
	int rc = table_open(out, r, k, TABLE_MAP, m->id, e);
	char name[64];

	if (rc < 0)
		return rc;
	if (table_len(*out) == m->len && table_count(*out) == m->count)
		return 0;
	table_close(*out);
	table_name(name, TABLE_MAP, m->id);
	return err_set(e, -EBADMSG,
	    "repository %s: %s: its length is not what the backup's record "
	    "says",
	    r->url, name);
}

int
map_open_tables(struct table ***out, struct repo *r, const struct keys *k,
    const struct map_ref *maps, size_t n, struct err *e)
{
	struct table **t = mem_array(n, sizeof(struct table *));

	for (size_t i = 0; i < n; i++) {
		int rc = open_one(&t[i], r, k, &maps[i], e);

		if (rc < 0) {
			map_close_tables(t, i);
			return rc;
		}
	}
	*out = t;
	return 0;
}

void
map_close_tables(struct table **t, size_t n)
{
	for (size_t i = 0; t != NULL && i < n; i++)
		table_close(t[i]);
	free(t);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/map.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/map_internal.h"

struct map_builder {
	struct table_builder *table;
	struct map_sort *sort;
	struct buf key, value; /* kept for their memory */
	uint64_t count;
};

int
map_builder_new(struct map_builder **out, struct repo *r, const struct keys *k,
    const char *spill_dir, struct err *e)
{
	struct table_builder *t;
	struct map_builder *b;
	int rc = table_builder_new(&t, r, k, TABLE_MAP, e);

	if (rc < 0)
		return rc;
	b = mem_new(sizeof *b);
	b->table = t;
	b->sort = map_sort_new(spill_dir);
	*out = b;
	return 0;
}

void
map_builder_abort(struct map_builder *b)
{
	if (b == NULL)
		return;
	table_builder_abort(b->table);
	map_sort_free(b->sort);
	buf_free(&b->key);
	buf_free(&b->value);
	free(b);
}

static int
add(struct map_builder *b, struct span key, struct err *e)
{
	int rc = map_sort_add(b->sort, key, buf_span(&b->value), e);

	if (rc == 0)
		b->count++;
	return rc;
}

int
map_builder_name(struct map_builder *b, uint64_t folder, const char *name,
    uint64_t object, struct err *e)
{
	struct map_key k = map_key_folder(folder);

	assert(folder != 0);
	if (!map_name_is_valid(span_str(name)))
		return err_set(e, -EINVAL,
		    "\"%.300s\" cannot be a file's name in a backup", name);
	buf_clear(&b->key);
	buf_put(&b->key, k.b, k.len);
	buf_put(&b->key, name, strlen(name));
	buf_clear(&b->value);
	if (object != 0)
		buf_put_varint(&b->value, object);
	return add(b, buf_span(&b->key), e);
}

int
map_builder_object(struct map_builder *b, uint64_t object,
    const struct object *o, struct err *e)
{
	struct map_key k = map_key_object(object);

	assert(object != 0);
	buf_clear(&b->value);
	if (o != NULL)
		object_encode(o, &b->value);
	if (b->value.len > TABLE_VALUE_MAX)
		return err_set(e, -E2BIG,
		    "its extended attributes take %zu bytes, a backup holds "
		    "%u for one file",
		    b->value.len, TABLE_VALUE_MAX);
	return add(b, map_key_span(&k), e);
}

int
map_builder_extent(struct map_builder *b, uint64_t object,
    const struct map_extent *x, struct err *e)
{
	struct map_key k = map_key_extent(object, x->block);

	assert(object != 0);
	buf_clear(&b->value);
	map_encode_extent(&b->value, x);
	return add(b, map_key_span(&k), e);
}

uint64_t
map_builder_count(const struct map_builder *b)
{
	return b->count;
}

static int
put_entry(void *arg, struct span key, struct span value, struct err *e)
{
	return table_builder_add(arg, key, value, e);
}

int
map_builder_finish(struct map_builder *b, struct map_ref *out, struct err *e)
{
	struct map_ref ref = {0};
	int rc = map_sort_each(b->sort, put_entry, b->table, e);

	if (rc == 0) {
		ref.count = table_builder_count(b->table);
		rc = table_builder_finish(TAKE(b->table), ref.id, &ref.len, e);
	}
	if (rc == 0)
		*out = ref;
	map_builder_abort(b);
	return rc;
}

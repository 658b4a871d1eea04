/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole file of a repository, in memory: opened as what its first bytes say
 * it is, a table, a pack or a document. First a byte: with bit 0, the checksums
 * are put right before it is opened, so that damage behind them is reached.
 */
#include <errno.h>
#include <xxhash.h>

#include "agent/core/jdoc.h"
#include "agent/store/doc.h"
#include "agent/store/index_internal.h"
#include "agent/store/map_internal.h"
#include "agent/store/pack_format.h"
#include "agent/store/table_internal.h"
#include "tests/fuzz/fuzz.h"

#define NAME "backups/orders/20261122T191517Z"

static struct buf file;
static const struct keys keys;

/* ---- a repository that is one file ---- */

static int
mem_get(struct repo *r, const char *name, uint64_t off, void *to, size_t len,
    struct err *e)
{
	(void)r;
	(void)name;
	if (off > file.len || len > file.len - off)
		return err_set(e, -EBADMSG, "behind its end");
	memcpy(to, file.data + off, len);
	return 0;
}

static int
mem_size(struct repo *r, const char *name, uint64_t *len, struct err *e)
{
	(void)r;
	(void)name;
	(void)e;
	*len = file.len;
	return 0;
}

static const struct repo_ops ops = {
    .scheme = "mem", .get = mem_get, .size = mem_size};
static struct repo repo = {.ops = &ops, .url = (char *)"mem"};

/* ---- putting checksums right ---- */

static void
seal_again(const char *kind, uint64_t number, struct span extra, size_t off,
    size_t sealed)
{
	struct err e = ERR_NONE;
	struct seal *s;

	if (sealed < SEAL_TAG_LEN || off > file.len || sealed > file.len - off)
		return;
	MUST(seal_new_meta(&s, &keys, kind, file.data + 16, &e) == 0);
	MUST(seal_frame(s, number, extra,
		 SPAN(file.data + off, sealed - SEAL_TAG_LEN), file.data + off,
		 &e) == 0);
	seal_free(s);
}

static void
mend_table(void)
{
	const char *kind = file.data[10] == TABLE_INDEX ? "index" : "map";
	uint8_t *t = file.data + file.len - TABLE_TRAILER_LEN;
	uint64_t off = bytes_le64(t + 8);
	struct table_dir d;
	uint8_t *own;
	struct err e = ERR_NONE;

	if (off < TABLE_HEADER_LEN || off > file.len - TABLE_TRAILER_LEN)
		return;
	memcpy(t, TABLE_END_MAGIC, 8);
	bytes_put_le32(t + 16, (uint32_t)(file.len - TABLE_TRAILER_LEN - off));
	bytes_put_le64(t + 24, XXH64(t, 24, 0));
	seal_again(
	    kind, TABLE_DIR_FRAME, SPAN(NULL, 0), off, bytes_le32(t + 16));
	if (bytes_le32(t + 16) <= SEAL_TAG_LEN)
		return;
	own = mem_dup(file.data + off, bytes_le32(t + 16));
	if (table_dir_parse(
		&d, own, bytes_le32(t + 16) - SEAL_TAG_LEN, off, &e) < 0) {
		free(own);
		return;
	}
	for (uint32_t i = 0; i < d.frames; i++) {
		struct table_dir_item it = table_dir_item(&d, i);

		seal_again(kind, i, SPAN(NULL, 0), it.off, it.sealed_len);
	}
	table_dir_fini(&d);
}

static void
mend_pack(void)
{
	uint8_t *t = file.data + file.len - PACK_FORMAT_TRAILER_LEN;
	uint64_t off = bytes_le64(t + 8);
	uint32_t len = (uint32_t)(file.len - PACK_FORMAT_TRAILER_LEN - off);

	if (off < PACK_FORMAT_HEADER_LEN ||
	    off > file.len - PACK_FORMAT_TRAILER_LEN)
		return;
	bytes_put_le32(t + 16, len);
	if (len > 8 + SEAL_TAG_LEN)
		bytes_put_le32(t + 20, (len - 8 - SEAL_TAG_LEN) / 40);
	bytes_put_le64(t + 24, XXH64(t, 24, 0));
	seal_again("pack-directory", off, SPAN(NULL, 0), off, len);
	for (uint32_t i = 0; len > 24 && i < (len - 24) / 40; i++) {
		uint8_t *p = file.data + off + 8 + i * 40ul;
		uint32_t at = bytes_le32(p + 32);

		/* All but the directory itself, which is sealed already. */
		if (at >= PACK_FORMAT_HEADER_LEN && at < off &&
		    (bytes_le32(p + 36) & 0xfffff) <= off - at)
			seal_again("pack-directory", at, SPAN(p, 32), at,
			    bytes_le32(p + 36) & 0xfffff);
	}
}

/* ---- reading it as a user would ---- */

static void
read_table(void)
{
	struct err e = ERR_NONE;
	struct table_iter *i;
	struct span key, value;
	SCOPED_BUF struct buf last = {0}, got = {0};
	struct table *t;
	int rc, n = 0;

	if (table_open(&t, &repo, &keys, file.data[10], file.data + 16, &e) < 0)
		return;
	i = table_iter_new(t);
	while ((rc = table_iter_next(i, &key, &value, &e)) > 0 && n++ < 5000) {
		MUST(key.len > 0);
		buf_clear(&last);
		buf_put(&last, key.data, key.len);
	}
	table_iter_free(i);
	if (rc == 0 && last.len > 0)
		table_get(t, buf_span(&last), &got, &e);
	table_close(t);
}

/* Look up the first chunk that it has. */
static void
find_first(struct index_segment *s)
{
	const uint8_t tag = INDEX_TAG_CHUNK;
	SCOPED_ITER struct table_iter *i = table_iter_new(s->table);
	struct err e = ERR_NONE;
	struct chunk_place at;
	struct span key, value;
	struct chunk_id id;

	if (table_iter_seek(i, SPAN(&tag, 1), &e) < 0 ||
	    table_iter_next(i, &key, &value, &e) <= 0 ||
	    key.len != 1 + sizeof id)
		return;
	memcpy(&id, (const uint8_t *)key.data + 1, sizeof id);
	if (index_segment_find(s, &id, &at, &e) == 1)
		MUST(at.blocks >= 1 && at.blocks <= CHUNK_BLOCKS);
}

static void
read_segment(void)
{
	struct err e = ERR_NONE;
	struct index_ids packs = {0};
	struct index_segment *s;

	if (index_segment_open(&s, &repo, &keys, file.data + 16, &e) < 0)
		return;
	for (size_t i = 1; i < s->older.n; i++)
		MUST(
		    memcmp(s->older.v[i - 1], s->older.v[i], TABLE_ID_LEN) < 0);
	index_segment_packs(s, &packs, &e);
	index_ids_free(&packs);
	find_first(s);
	index_segment_close(s);
}

static int
on_name(void *arg, const char *name, uint64_t object)
{
	(void)arg;
	MUST(name[0] != '\0' && object != 0);
	return 0;
}

static int
on_object(void *arg, uint64_t object, const struct object *o)
{
	(void)arg;
	MUST(object != 0 && o->type >= OBJECT_FILE);
	return 0;
}

static int
on_extent(void *arg, const struct map_extent *x)
{
	uint64_t *end = arg;

	MUST(x->block >= *end && x->count > 0 && !x->zero);
	*end = x->block + x->count;
	return 0;
}

static void
read_map(void)
{
	struct err e = ERR_NONE;
	struct map_view *v;
	struct map_ref ref = {.len = file.len};
	struct table *t;

	memcpy(ref.id, file.data + 16, sizeof ref.id);
	if (table_open(&t, &repo, &keys, TABLE_MAP, ref.id, &e) < 0)
		return;
	ref.count = table_count(t);
	table_close(t);
	if (map_view_open(&v, &repo, &keys, &ref, 1, &e) < 0)
		return;
	map_view_names(v, MAP_ROOT_OBJECT, NULL, on_name, NULL, &e);
	map_view_objects(v, on_object, NULL, &e);
	for (uint64_t o = 0; o < 8; o++) {
		uint64_t end = 0;

		map_view_extents(v, o, 0, MAP_BLOCK_MAX, on_extent, &end, &e);
	}
	map_view_close(v);
}

static void
read_pack(void)
{
	static uint8_t plain[CHUNK_BYTES];
	struct err e = ERR_NONE;
	SCOPED_FREE struct pack_entry *v = NULL;
	struct pack_reader *p;
	size_t n;

	if (pack_directory(&repo, &keys, file.data + 16, &v, &n, &e) < 0)
		return;
	MUST(n > 0 && pack_reader_new(&p, &repo, &keys, &e) == 0);
	for (size_t i = 0; i < n && i < 64; i++) {
		struct chunk_place at = {.off = v[i].off,
		    .len = v[i].len,
		    .blocks = v[i].blocks,
		    .codec = v[i].codec};

		memcpy(at.pack, file.data + 16, sizeof at.pack);
		pack_reader_get(p, &v[i].id, &at, plain, &e);
	}
	pack_reader_free(p);
}

static void
read_doc(void)
{
	const char *kind = file.data[10] == 1 ? "record" : "proof";
	SCOPED_JSON json_t *j = NULL;
	struct err e = ERR_NONE;

	doc_get(&repo, &keys, kind, NAME, &j, &e);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	bool mend = fuzz_u64(&data, &len, 1) & 1;

	buf_clear(&file);
	buf_put(&file, data, len);
	if (len < 96)
		return 0;
	if (memcmp(data, TABLE_MAGIC, 8) == 0) {
		if (mend)
			mend_table();
		read_table();
		if (data[10] == TABLE_MAP)
			read_map();
		else
			read_segment();
	} else if (memcmp(data, "neapPACK", 8) == 0) {
		if (mend)
			mend_pack();
		read_pack();
	} else if (memcmp(data, "neapDOC1", 8) == 0) {
		if (mend)
			seal_again(data[10] == 1 ? "record" : "proof", 0,
			    span_str(NAME), 64, len - 64);
		read_doc();
	}
	return 0;
}

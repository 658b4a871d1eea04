/* SPDX-License-Identifier: Apache-2.0 */
/* One segment of the index, open for reading. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/index_internal.h"

/*
 * 4 MiB of a large segment: chunk ids are random, so a look-up in a segment of
 * up to 90,000 chunks (11 GB of data) then mostly needs no file. Segments grow
 * by at least four from one to the next, so few of them are so large.
 */
#define SEGMENT_CACHE_FRAMES 128

#define LEN_BITS 20
#define BLOCKS_SHIFT 20
#define CODEC_SHIFT 25
#define RESERVED_SHIFT 28

void
index_encode_place(uint8_t out[INDEX_PLACE_LEN], uint32_t pack_number,
    const struct chunk_place *at)
{
	assert(at->len < 1u << LEN_BITS);
	assert(at->blocks >= 1 && at->blocks <= CHUNK_BLOCKS);
	assert(at->codec <= CODEC_ZSTD);
	bytes_put_le32(out, pack_number);
	bytes_put_le32(out + 4, at->off);
	bytes_put_le32(out + 8, at->len |
				    (uint32_t)(at->blocks - 1) << BLOCKS_SHIFT |
				    (uint32_t)at->codec << CODEC_SHIFT);
}

int
index_decode_place(struct chunk_place *out, uint32_t *pack_number,
    struct span value, struct err *e)
{
	const uint8_t *v = value.data;
	uint32_t packed;

	if (value.len != INDEX_PLACE_LEN)
		return err_set(e, -EBADMSG, "an entry of %zu bytes", value.len);
	packed = bytes_le32(v + 8);
	if (packed >> RESERVED_SHIFT != 0 ||
	    (packed >> CODEC_SHIFT) > CODEC_ZSTD ||
	    (packed & ((1u << LEN_BITS) - 1)) <= SEAL_TAG_LEN)
		return err_set(e, -EBADMSG, "an entry is damaged");
	*pack_number = bytes_le32(v);
	out->off = bytes_le32(v + 4);
	out->len = packed & ((1u << LEN_BITS) - 1);
	out->blocks =
	    (uint8_t)(((packed >> BLOCKS_SHIFT) & (CHUNK_BLOCKS - 1)) + 1);
	out->codec = (uint8_t)(packed >> CODEC_SHIFT);
	return 0;
}

static int
wrap(const struct index_segment *s, struct err *e)
{
	char name[64];

	table_name(name, TABLE_INDEX, table_id(s->table));
	return err_wrap(e, "%s", name);
}

static uint32_t
pack_number(const uint8_t key[5])
{
	return (uint32_t)key[1] << 24 | (uint32_t)key[2] << 16 |
	       (uint32_t)key[3] << 8 | key[4];
}

static void
pack_key(uint8_t out[5], uint32_t number)
{
	out[0] = INDEX_TAG_PACK;
	out[1] = (uint8_t)(number >> 24);
	out[2] = (uint8_t)(number >> 16);
	out[3] = (uint8_t)(number >> 8);
	out[4] = (uint8_t)number;
}

/* ---- opening ---- */

static int
load_older(struct index_segment *s, struct err *e)
{
	SCOPED_ITER struct table_iter *i = table_iter_new(s->table);
	uint8_t tag = INDEX_TAG_OLDER;
	struct span key, value;
	int rc = table_iter_seek(i, SPAN(&tag, 1), e);

	while (rc == 0 && (rc = table_iter_next(i, &key, &value, e)) > 0) {
		const uint8_t *k = key.data;

		if (key.len != 1 + TABLE_ID_LEN || *k != tag || value.len != 0)
			return err_set(e, -EBADMSG,
			    "the name of a contained segment is damaged");
		index_ids_add(&s->older, k + 1);
		rc = 0;
	}
	index_ids_sort(&s->older);
	return rc;
}

/* Packs are numbered from 0, so the last one's number says how many. */
static int
count_packs(struct index_segment *s, uint64_t *packs, struct err *e)
{
	SCOPED_ITER struct table_iter *i = table_iter_new(s->table);
	const uint8_t last[5] = {INDEX_TAG_PACK, 0xff, 0xff, 0xff, 0xff};
	struct span key, value;
	int rc = table_iter_seek_last(i, SPAN(last, sizeof last), e);

	if (rc == 0)
		rc = table_iter_next(i, &key, &value, e);
	if (rc < 0)
		return rc;
	*packs = 0;
	if (rc > 0 && key.len == 5 &&
	    *(const uint8_t *)key.data == INDEX_TAG_PACK)
		*packs = 1 + (uint64_t)pack_number(key.data);
	return 0;
}

int
index_segment_open(struct index_segment **out, struct repo *r,
    const struct keys *k, const uint8_t id[TABLE_ID_LEN], struct err *e)
{
	struct index_segment *s = mem_new(sizeof *s);
	uint64_t packs = 0;
	int rc = table_open(&s->table, r, k, TABLE_INDEX, id, e);

	if (rc == 0) {
		table_cache_frames(s->table, SEGMENT_CACHE_FRAMES);
		rc = load_older(s, e);
		if (rc == 0)
			rc = count_packs(s, &packs, e);
		if (rc == 0 && packs + s->older.n > table_count(s->table))
			rc = err_set(e, -EBADMSG, "its counts do not fit");
		if (rc < 0)
			wrap(s, e);
	}
	if (rc < 0) {
		index_segment_close(s);
		return rc;
	}
	s->chunks = table_count(s->table) - packs - s->older.n;
	*out = s;
	return 0;
}

void
index_segment_close(struct index_segment *s)
{
	if (s == NULL)
		return;
	table_close(s->table);
	index_ids_free(&s->older);
	free(s);
}

/* ---- looking up ---- */

static int
find(struct index_segment *s, const struct chunk_id *id,
    struct chunk_place *out, struct err *e)
{
	SCOPED_BUF struct buf value = {0};
	uint8_t key[1 + sizeof id->b], pack[5];
	struct chunk_place at;
	uint32_t number;
	int rc;

	key[0] = INDEX_TAG_CHUNK;
	memcpy(key + 1, id->b, sizeof id->b);
	rc = table_get(s->table, SPAN(key, sizeof key), &value, e);
	if (rc <= 0)
		return rc;
	rc = index_decode_place(&at, &number, buf_span(&value), e);
	if (rc < 0)
		return rc;
	pack_key(pack, number);
	rc = table_get(s->table, SPAN(pack, sizeof pack), &value, e);
	if (rc < 0)
		return rc;
	if (rc == 0 || value.len != sizeof at.pack)
		return err_set(
		    e, -EBADMSG, "pack number %u is not in it", number);
	memcpy(at.pack, value.data, sizeof at.pack);
	*out = at;
	return 1;
}

int
index_segment_find(struct index_segment *s, const struct chunk_id *id,
    struct chunk_place *out, struct err *e)
{
	int rc = find(s, id, out, e);

	return rc < 0 ? wrap(s, e) : rc;
}

static int
load_packs(struct index_segment *s, struct index_ids *out, struct err *e)
{
	SCOPED_ITER struct table_iter *i = table_iter_new(s->table);
	uint8_t want[5];
	struct span key, value;
	uint32_t number = 0;
	int rc;

	pack_key(want, 0);
	rc = table_iter_seek(i, SPAN(want, sizeof want), e);
	while (rc == 0 && (rc = table_iter_next(i, &key, &value, e)) > 0) {
		if (*(const uint8_t *)key.data != INDEX_TAG_PACK)
			return 0;
		pack_key(want, number++);
		if (span_cmp(key, SPAN(want, sizeof want)) != 0 ||
		    value.len != TABLE_ID_LEN)
			return err_set(e, -EBADMSG,
			    "the entry of pack number %u is damaged",
			    number - 1);
		index_ids_add(out, value.data);
		rc = 0;
	}
	return rc;
}

int
index_segment_packs(
    struct index_segment *s, struct index_ids *out, struct err *e)
{
	int rc = load_packs(s, out, e);

	return rc < 0 ? wrap(s, e) : 0;
}

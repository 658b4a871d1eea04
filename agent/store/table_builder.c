/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"
#include "agent/store/table_internal.h"

#define ZSTD_LEVEL 3
/*
 * Packed only where it is worth the unpacking. A map's frames are read in order
 * and shrink well. An index is looked up at random and is mostly digests: zstd
 * takes 13 % off it, and unpacking made a look-up three times as long (100 us
 * against 30 on 330,000 chunks).
 */
#define MAP_GAIN_SHIFT 4   /* a sixteenth */
#define INDEX_GAIN_SHIFT 2 /* a quarter */

struct table_builder {
	struct repo *repo;
	struct repo_put *put;
	struct seal *seal;
	struct codec *codec;
	enum table_kind kind;
	uint8_t id[TABLE_ID_LEN];
	uint64_t len; /* bytes written so far */
	uint64_t entries;
	uint32_t frames;
	struct buf plain, packed; /* the frame that is being filled */
	struct buf last_key;
	struct buf items; /* of the directory */
};

void
table_builder_abort(struct table_builder *b)
{
	if (b == NULL)
		return;
	repo_put_abort(b->put);
	seal_free(b->seal);
	codec_free(b->codec);
	buf_free(&b->plain);
	buf_free(&b->packed);
	buf_free(&b->last_key);
	buf_free(&b->items);
	free(b);
}

static int
put(struct table_builder *b, struct span s, struct err *e)
{
	int rc = repo_put_write(b->put, s, e);

	if (rc == 0)
		b->len += s.len;
	return rc;
}

static int
put_header(struct table_builder *b, bool encrypted, struct err *e)
{
	uint8_t h[TABLE_HEADER_LEN] = {0};

	memcpy(h, TABLE_MAGIC, 8);
	bytes_put_le16(h + 8, TABLE_VERSION);
	h[10] = (uint8_t)b->kind;
	h[11] = encrypted ? TABLE_FLAG_ENCRYPTED : 0;
	memcpy(h + 16, b->id, TABLE_ID_LEN);
	return put(b, SPAN(h, sizeof h), e);
}

int
table_builder_new(struct table_builder **out, struct repo *r,
    const struct keys *k, enum table_kind kind, struct err *e)
{
	struct table_builder *b = mem_new(sizeof *b);
	int rc;

	b->repo = r;
	b->kind = kind;
	rc = clock_random(b->id, sizeof b->id, e);
	if (rc == 0)
		rc = codec_new(&b->codec, ZSTD_LEVEL, e);
	if (rc == 0)
		rc =
		    seal_new_meta(&b->seal, k, table_seal_kind(kind), b->id, e);
	if (rc == 0)
		rc = repo_put_begin(r, &b->put, e);
	if (rc == 0)
		rc = put_header(b, k->encrypted, e);
	if (rc < 0) {
		table_builder_abort(b);
		return rc;
	}
	*out = b;
	return 0;
}

static size_t
least_gain(const struct table_builder *b, size_t len)
{
	return len >>
	       (b->kind == TABLE_INDEX ? INDEX_GAIN_SHIFT : MAP_GAIN_SHIFT);
}

/* Pack and seal the filled frame, write it, and complete its item. */
static int
close_frame(struct table_builder *b, struct err *e)
{
	struct span plain = buf_span(&b->plain);
	enum codec_id codec;
	uint64_t off = b->len;
	uint8_t *to;
	size_t len;
	int rc;

	buf_clear(&b->packed);
	to = buf_room(&b->packed, codec_bound(plain.len) + SEAL_TAG_LEN);
	rc = codec_pack(b->codec, plain, to, &len, &codec, e);
	if (rc < 0)
		return rc;
	if (codec == CODEC_RAW || len > plain.len - least_gain(b, plain.len)) {
		codec = CODEC_RAW;
		memcpy(to, plain.data, plain.len);
		len = plain.len;
	}
	rc =
	    seal_frame(b->seal, b->frames, SPAN(NULL, 0), SPAN(to, len), to, e);
	if (rc == 0)
		rc = put(b, SPAN(to, len + SEAL_TAG_LEN), e);
	if (rc < 0)
		return rc;
	buf_put_varint(&b->items, off);
	buf_put_varint(&b->items, len + SEAL_TAG_LEN);
	buf_put_varint(&b->items, plain.len);
	buf_put_u8(&b->items, (uint8_t)codec);
	b->frames++;
	buf_clear(&b->plain);
	return 0;
}

/* The shortest beginning of `key` that the key before it is less than. */
static struct span
shortest(struct span before, struct span key)
{
	const uint8_t *a = before.data, *b = key.data;
	size_t n = 0;

	while (n < before.len && a[n] == b[n])
		n++;
	return SPAN(key.data, n + 1);
}

int
table_builder_add(
    struct table_builder *b, struct span key, struct span value, struct err *e)
{
	assert(key.len >= 1 && key.len <= TABLE_KEY_MAX);
	assert(value.len <= TABLE_VALUE_MAX);
	assert(b->entries == 0 || span_cmp(buf_span(&b->last_key), key) < 0);

	if (b->plain.len == 0) {
		struct span least = shortest(buf_span(&b->last_key), key);

		buf_put_string(&b->items, least.data, least.len);
	}
	buf_put_string(&b->plain, key.data, key.len);
	buf_put_string(&b->plain, value.data, value.len);
	buf_clear(&b->last_key);
	buf_put(&b->last_key, key.data, key.len);
	b->entries++;
	return b->plain.len >= TABLE_FRAME_BYTES ? close_frame(b, e) : 0;
}

uint64_t
table_builder_count(const struct table_builder *b)
{
	return b->entries;
}

static int
put_directory(struct table_builder *b, struct err *e)
{
	SCOPED_BUF struct buf dir = {0};
	size_t len = 12 + b->items.len;
	uint8_t *to;
	int rc;

	if (len > INT32_MAX) /* what one sealed frame may have */
		return err_set(e, -EFBIG, "the table has too many frames");
	buf_put_le64(&dir, b->entries);
	buf_put_le32(&dir, b->frames);
	buf_put(&dir, b->items.data, b->items.len);
	to = buf_room(&dir, SEAL_TAG_LEN) - dir.len;
	rc = seal_frame(
	    b->seal, TABLE_DIR_FRAME, SPAN(NULL, 0), SPAN(to, len), to, e);
	return rc < 0 ? rc : put(b, SPAN(to, len + SEAL_TAG_LEN), e);
}

static int
put_trailer(struct table_builder *b, uint64_t dir_off, struct err *e)
{
	uint8_t t[TABLE_TRAILER_LEN] = {0};

	memcpy(t, TABLE_END_MAGIC, 8);
	bytes_put_le64(t + 8, dir_off);
	bytes_put_le32(t + 16, (uint32_t)(b->len - dir_off));
	bytes_put_le64(t + 24, XXH64(t, 24, 0));
	return put(b, SPAN(t, sizeof t), e);
}

static int
finish(struct table_builder *b, struct err *e)
{
	char name[64];
	uint64_t dir_off;
	int rc = 0;

	if (b->plain.len > 0)
		rc = close_frame(b, e);
	dir_off = b->len;
	if (rc == 0)
		rc = put_directory(b, e);
	if (rc == 0)
		rc = put_trailer(b, dir_off, e);
	if (rc < 0)
		return rc;
	table_name(name, b->kind, b->id);
	return repo_put_commit(TAKE(b->put), name, e);
}

int
table_builder_finish(struct table_builder *b, uint8_t id[TABLE_ID_LEN],
    uint64_t *len, struct err *e)
{
	int rc = finish(b, e);

	if (rc == 0) {
		memcpy(id, b->id, TABLE_ID_LEN);
		*len = b->len;
	}
	table_builder_abort(b);
	return rc;
}

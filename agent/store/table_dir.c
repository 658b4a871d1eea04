/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a table: first key, place and form of each frame. */
#include <errno.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/table_internal.h"

/* Shortest item: key length, one byte of key, three varints, codec. */
#define ITEM_MIN 6

static bool
frame_is_plausible(uint64_t sealed, uint64_t plain, uint8_t codec)
{
	if (plain == 0 || plain > TABLE_FRAME_PLAIN_MAX)
		return false;
	if (sealed <= SEAL_TAG_LEN)
		return false;
	if (codec == CODEC_RAW)
		return sealed == plain + SEAL_TAG_LEN;
	/* A writer keeps a compressed frame only where it is smaller. */
	return codec == CODEC_ZSTD && sealed < plain + SEAL_TAG_LEN;
}

/* Item `i` into the arrays; *at is where the frame must begin. */
static bool
parse_item(struct table_dir *d, uint32_t i, struct cursor *c, uint64_t *at)
{
	struct span key = cursor_string(c);
	uint64_t off = cursor_varint(c);
	uint64_t sealed = cursor_varint(c);
	uint64_t plain = cursor_varint(c);
	uint8_t codec = cursor_u8(c);

	if (c->bad || key.len == 0 || key.len > TABLE_KEY_MAX || off != *at ||
	    !frame_is_plausible(sealed, plain, codec))
		return false;
	if (i > 0 && span_cmp(table_dir_key(d, i - 1), key) >= 0)
		return false;
	memcpy(d->keys + d->key_off[i], key.data, key.len);
	d->key_off[i + 1] = d->key_off[i] + (uint32_t)key.len;
	d->off[i] = off;
	d->off[i + 1] = off + sealed; /* off < 2^63, sealed is small */
	d->plain_len[i] = (uint32_t)plain;
	d->codec[i] = codec;
	*at = d->off[i + 1];
	return true;
}

static int
parse(struct table_dir *d, struct cursor *c, size_t len, uint64_t end,
    struct err *e)
{
	uint64_t at = TABLE_HEADER_LEN;

	d->entries = cursor_le64(c);
	d->frames = cursor_le32(c);
	if (c->bad || len > UINT32_MAX ||
	    d->frames > cursor_left(c) / ITEM_MIN || d->entries < d->frames ||
	    (d->frames == 0 && d->entries != 0))
		return err_set(e, -EBADMSG, "the counts do not fit");
	d->keys = mem_new(cursor_left(c));
	d->key_off = mem_array(d->frames + 1ul, sizeof *d->key_off);
	d->off = mem_array(d->frames + 1ul, sizeof *d->off);
	d->plain_len = mem_array(d->frames, sizeof *d->plain_len);
	d->codec = mem_array(d->frames, sizeof *d->codec);
	d->off[0] = at;
	for (uint32_t i = 0; i < d->frames; i++) {
		if (!parse_item(d, i, c, &at))
			return err_set(e, -EBADMSG, "item %u is damaged", i);
	}
	if (cursor_left(c) != 0 || at != end)
		return err_set(e, -EBADMSG,
		    "the frames end at %llu, not at %llu",
		    (unsigned long long)at, (unsigned long long)end);
	return 0;
}

int
table_dir_parse(
    struct table_dir *out, struct span plain, uint64_t end, struct err *e)
{
	struct cursor c = cursor_of(plain);
	struct table_dir d = {0};
	int rc = parse(&d, &c, plain.len, end, e);

	if (rc < 0) {
		table_dir_fini(&d);
		return rc;
	}
	/* Most of a directory may be numbers; the arena was sized for all. */
	d.keys = mem_grow(d.keys, d.key_off[d.frames], 1);
	*out = d;
	return 0;
}

void
table_dir_fini(struct table_dir *d)
{
	free(d->keys);
	free(d->key_off);
	free(d->off);
	free(d->plain_len);
	free(d->codec);
	*d = (struct table_dir){0};
}

struct span
table_dir_key(const struct table_dir *d, uint32_t frame)
{
	return SPAN(d->keys + d->key_off[frame],
	    d->key_off[frame + 1] - d->key_off[frame]);
}

int64_t
table_dir_find(const struct table_dir *d, struct span key)
{
	uint32_t lo = 0, hi = d->frames;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (span_cmp(table_dir_key(d, mid), key) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (int64_t)lo - 1;
}

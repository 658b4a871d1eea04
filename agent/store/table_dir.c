/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a table: least key, place and form of each frame. */
#include <errno.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/table_internal.h"

/* Shortest item: key length, one byte of key, three varints, codec. */
#define ITEM_MIN 6

/* Items have no place of their own: a search ends in a walk of up to so many. */
#define STEP 16

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

/* The item at `c`; false: it cannot be one. */
static bool
read_item(struct table_dir_item *it, struct cursor *c)
{
	uint64_t sealed, plain;
	uint8_t codec;

	it->key = cursor_string(c);
	it->off = cursor_varint(c);
	sealed = cursor_varint(c);
	plain = cursor_varint(c);
	codec = cursor_u8(c);
	if (c->bad || it->key.len == 0 || it->key.len > TABLE_KEY_MAX ||
	    !frame_is_plausible(sealed, plain, codec))
		return false;
	it->sealed_len = (uint32_t)sealed;
	it->plain_len = (uint32_t)plain;
	it->codec = codec;
	return true;
}

static int
check_items(struct table_dir *d, struct cursor *c, uint64_t end, struct err *e)
{
	uint64_t at = TABLE_HEADER_LEN;
	struct span before = {0};

	for (uint32_t i = 0; i < d->frames; i++) {
		struct table_dir_item it;

		if (i % STEP == 0)
			d->at[i / STEP] = (uint32_t)(c->at - d->plain);
		if (!read_item(&it, c) || it.off != at ||
		    (i > 0 && span_cmp(before, it.key) >= 0))
			return err_set(e, -EBADMSG, "item %u is damaged", i);
		at += it.sealed_len; /* at < 2^63, the length is small */
		before = it.key;
	}
	if (cursor_left(c) != 0 || at != end)
		return err_set(e, -EBADMSG,
		    "the frames end at %llu, not at %llu",
		    (unsigned long long)at, (unsigned long long)end);
	return 0;
}

int
table_dir_parse(struct table_dir *out, uint8_t *plain, size_t len, uint64_t end,
    struct err *e)
{
	struct table_dir d = {.plain = plain, .len = len};
	struct cursor c = cursor_of(SPAN(plain, len));
	int rc;

	d.entries = cursor_le64(&c);
	d.frames = cursor_le32(&c);
	if (c.bad || len > UINT32_MAX ||
	    d.frames > cursor_left(&c) / ITEM_MIN || d.entries < d.frames ||
	    (d.frames == 0 && d.entries != 0))
		return err_set(e, -EBADMSG, "the counts do not fit");
	d.at = mem_array(d.frames / STEP + 1ul, sizeof *d.at);
	rc = check_items(&d, &c, end, e);
	if (rc < 0) {
		free(d.at);
		return rc;
	}
	*out = d;
	return 0;
}

void
table_dir_fini(struct table_dir *d)
{
	free(d->plain);
	free(d->at);
	*d = (struct table_dir){0};
}

/* At each 16th item; parsed before, so it is whole. */
static struct cursor
cursor_at(const struct table_dir *d, uint32_t step)
{
	return cursor_of(SPAN(d->plain + d->at[step], d->len - d->at[step]));
}

struct table_dir_item
table_dir_item(const struct table_dir *d, uint32_t n)
{
	struct cursor c = cursor_at(d, n / STEP);
	struct table_dir_item it;

	for (uint32_t i = n / STEP * STEP; i <= n; i++)
		read_item(&it, &c);
	return it;
}

int64_t
table_dir_find(const struct table_dir *d, struct span key)
{
	uint32_t lo = 0, hi = (d->frames + STEP - 1) / STEP, n;
	struct table_dir_item it;
	struct cursor c;

	/* The last of the 16ths whose key is not greater. */
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		c = cursor_at(d, mid);
		if (span_cmp(cursor_string(&c), key) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return -1;
	n = (lo - 1) * STEP;
	c = cursor_at(d, lo - 1);
	while (
	    n < d->frames && read_item(&it, &c) && span_cmp(it.key, key) <= 0)
		n++;
	return (int64_t)n - 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A frame of a table, opened: its plain bytes and where each entry begins. */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

#include "agent/core/mem.h"
#include "agent/store/table_internal.h"

/* Shortest entry: a length, one byte of key, a length. */
#define ENTRY_MIN 3

/* cursor_string with a short way for the lengths that nearly all have: a frame
 * of an index has 700 entries, and each look-up that misses parses one. */
static struct span
short_string(struct cursor *c)
{
	size_t n;
	struct span s;

	if (c->bad || c->at == c->end || *c->at >= 0x80)
		return cursor_string(c);
	n = *c->at;
	if (n >= cursor_left(c))
		return cursor_string(c);
	s = SPAN(c->at + 1, n);
	c->at += 1 + n;
	return s;
}

static int
parse(struct table_frame *f, struct err *e)
{
	size_t cap = 0;
	struct cursor c = cursor_of(SPAN(f->plain, f->len));
	struct span last = {NULL, 0};
	size_t at = 0;

	while (cursor_left(&c) > 0) {
		struct span key = short_string(&c);
		struct span value = short_string(&c);

		if (c.bad || key.len == 0 || key.len > TABLE_KEY_MAX ||
		    value.len > TABLE_VALUE_MAX)
			return err_set(e, -EBADMSG,
			    "entry %u at plain byte %zu is damaged", f->entries,
			    at);
		if (f->entries > 0 && span_cmp(last, key) >= 0)
			return err_set(e, -EBADMSG,
			    "entry %u at plain byte %zu is out of order",
			    f->entries, at);
		MEM_ROOM(f->at, f->entries, cap);
		f->at[f->entries++] = (uint32_t)at;
		last = key;
		at = f->len - cursor_left(&c);
	}
	return 0;
}

int
table_frame_new(
    struct table_frame **out, uint8_t *plain, size_t len, struct err *e)
{
	struct table_frame *f;
	int rc;

	if (len < ENTRY_MIN || len > TABLE_FRAME_PLAIN_MAX)
		return err_set(e, -EBADMSG, "a frame of %zu plain bytes", len);
	f = mem_new(sizeof *f);
	f->refs = 1;
	f->plain = plain;
	f->len = len;
	rc = parse(f, e);
	if (rc < 0) {
		f->plain = NULL; /* still the caller's */
		table_frame_unref(f);
		return rc;
	}
	*out = f;
	return 0;
}

void
table_frame_ref(struct table_frame *f)
{
	atomic_fetch_add(&f->refs, 1);
}

void
table_frame_unref(struct table_frame *f)
{
	if (f == NULL || atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	free(f->at);
	free(f->plain);
	free(f);
}

/* A length that parse has checked. */
static size_t
checked_varint(const uint8_t **p)
{
	size_t v = 0;

	for (unsigned shift = 0;; shift += 7) {
		uint8_t b = *(*p)++;

		v |= (size_t)(b & 0x7f) << shift;
		if (b < 0x80)
			return v;
	}
}

void
table_frame_entry(const struct table_frame *f, uint32_t i, struct span *key,
    struct span *value)
{
	const uint8_t *p;

	assert(i < f->entries);
	p = f->plain + f->at[i];
	key->len = checked_varint(&p);
	key->data = p;
	p += key->len;
	value->len = checked_varint(&p);
	value->data = p;
}

uint32_t
table_frame_lower(const struct table_frame *f, struct span key)
{
	uint32_t lo = 0, hi = f->entries;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		struct span k, v;

		table_frame_entry(f, mid, &k, &v);
		if (span_cmp(k, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

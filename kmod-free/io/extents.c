/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/io/extents.h"

#include <assert.h>
#include <string.h>

#include "agent/core/mem.h"

static uint64_t
align_of(const struct extents *x)
{
	uint64_t a = x->align ? x->align : 4096;

	assert((a & (a - 1)) == 0);
	return a;
}

static size_t
max_of(const struct extents *x)
{
	return x->max ? x->max : EXTENTS_MAX;
}

/* Never past 2^64: the last byte that an extent can end before is UINT64_MAX,
 * far behind the largest file (2^63 - 1). */
static uint64_t
end_of(const struct extent *v)
{
	return v->off + v->len;
}

static uint64_t
round_end(uint64_t end, uint64_t align)
{
	uint64_t up = (end + align - 1) & ~(align - 1);

	return up < end ? UINT64_MAX : up;
}

void
extents_fini(struct extents *x)
{
	free(x->v);
	x->v = NULL;
	x->n = x->cap = 0;
	x->settled = false;
}

static int
by_offset(const void *pa, const void *pb)
{
	const struct extent *a = pa, *b = pb;

	if (a->object != b->object)
		return a->object < b->object ? -1 : 1;
	return (a->off > b->off) - (a->off < b->off);
}

/* Trackers answer in order mostly: then there is nothing to sort. */
static void
sort(struct extents *x)
{
	assert(x->v != NULL || x->n == 0);
	for (size_t i = 1; i < x->n; i++) {
		if (by_offset(&x->v[i - 1], &x->v[i]) > 0) {
			qsort(x->v, x->n, sizeof *x->v, by_offset);
			return;
		}
	}
}

/* `b` begins within `a` or behind it: `a` up to where `b` ends, too. What is
 * compressed in parts has no place, and of a gap nothing is known. */
static void
stretch(struct extent *a, const struct extent *b)
{
	if (b->place == 0 || b->off > end_of(a))
		a->place = 0;
	if (end_of(b) > end_of(a))
		a->len = end_of(b) - a->off;
}

/* Join sorted neighbours of one object that lie at most `gap` apart. */
static void
join(struct extents *x, uint64_t gap)
{
	size_t to = 0;

	for (size_t i = 1; i < x->n; i++) {
		struct extent *a = &x->v[to];
		const struct extent *b = &x->v[i];

		if (a->object != b->object ||
		    (b->off > end_of(a) && b->off - end_of(a) > gap)) {
			x->v[++to] = *b;
			continue;
		}
		stretch(a, b);
	}
	if (x->n > 0)
		x->n = to + 1;
}

/*
 * Sort and merge; then, while there are more than `limit`, close ever larger
 * gaps. Ranges of different objects cannot be joined, so one for each object
 * always stays.
 */
static void
compact(struct extents *x, size_t limit)
{
	sort(x);
	join(x, 0);
	for (uint64_t gap = align_of(x); x->n > limit; gap *= 2) {
		join(x, gap);
		if (gap >> 63)
			return;
	}
}

/* The array is full. Twice `max` leaves room to gather before the next sort,
 * so that adding stays cheap. */
static void
make_room(struct extents *x)
{
	size_t max = max_of(x);

	if (x->cap / 2 >= max) {
		compact(x, max);
		if (x->n <= x->cap / 2)
			return;
	}
	x->cap = x->cap ? x->cap * 2 : 16;
	x->v = mem_grow(x->v, x->cap, sizeof *x->v);
}

/* Outwards to whole blocks; the place goes with its first byte. */
static struct extent
rounded(const struct extents *x, const struct extent *v)
{
	uint64_t align = align_of(x);
	uint64_t end =
	    v->len > UINT64_MAX - v->off ? UINT64_MAX : v->off + v->len;
	struct extent r = *v;
	uint64_t more = v->off & (align - 1);

	r.off -= more;
	r.len = round_end(end, align) - r.off;
	r.place = v->place > more ? v->place - more : 0;
	return r;
}

void
extents_add_placed(struct extents *x, const struct extent *v)
{
	struct extent r = rounded(x, v);
	struct extent *last = x->n > 0 ? &x->v[x->n - 1] : NULL;

	if (v->len == 0)
		return;
	x->settled = false;
	if (last != NULL && last->object == r.object && r.off >= last->off &&
	    r.off <= end_of(last)) {
		stretch(last, &r);
		return;
	}
	if (x->n == x->cap)
		make_room(x);
	x->v[x->n++] = r;
}

void
extents_add(struct extents *x, uint64_t object, uint64_t off, uint64_t len)
{
	struct extent v = {.object = object, .off = off, .len = len};

	extents_add_placed(x, &v);
}

void
extents_settle(struct extents *x)
{
	compact(x, max_of(x));
	x->settled = true;
}

/* Index of the first range that ends behind `off` of `object`. */
static size_t
lower(const struct extents *x, uint64_t object, uint64_t off)
{
	size_t lo = 0, hi = x->n;

	assert(x->settled);
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct extent *v = &x->v[mid];

		if (v->object < object ||
		    (v->object == object && end_of(v) <= off))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool
extents_contain(
    const struct extents *x, uint64_t object, uint64_t off, uint64_t len)
{
	size_t i = lower(x, object, off);

	if (len == 0)
		return true;
	/* Settled ranges never touch: what is covered is covered by one. */
	return i < x->n && x->v[i].object == object && x->v[i].off <= off &&
	       len <= end_of(&x->v[i]) - off;
}

bool
extents_touch(
    const struct extents *x, uint64_t object, uint64_t off, uint64_t len)
{
	size_t i = lower(x, object, off);

	if (len == 0 || i == x->n || x->v[i].object != object)
		return false;
	return x->v[i].off <= off || x->v[i].off - off < len;
}

const struct extent *
extents_next(const struct extents *x, uint64_t object, uint64_t off)
{
	size_t i = lower(x, object, off);

	return i < x->n && x->v[i].object == object ? &x->v[i] : NULL;
}

/* Where `off` lies in `x`, and how far all behind it does as well. */
static bool
within(const struct extents *x, uint64_t object, uint64_t off, uint64_t *until)
{
	const struct extent *v = extents_next(x, object, off);
	bool in = v != NULL && v->off <= off;

	*until = v == NULL ? UINT64_MAX : in ? end_of(v) : v->off;
	return in;
}

void
extents_differing(const struct extents *a, const struct extents *b,
    uint64_t object, struct extents *out)
{
	for (uint64_t at = 0; at < UINT64_MAX;) {
		uint64_t x, y;
		bool differ =
		    within(a, object, at, &x) != within(b, object, at, &y);
		uint64_t until = x < y ? x : y;

		if (differ)
			extents_add(out, object, at, until - at);
		at = until;
	}
}

size_t
extents_first(const struct extents *x, uint64_t object)
{
	return lower(x, object, 0);
}

uint64_t
extents_bytes(const struct extents *x)
{
	uint64_t sum = 0;

	assert(x->settled);
	for (size_t i = 0; i < x->n; i++) {
		if (x->v[i].len > UINT64_MAX - sum)
			return UINT64_MAX;
		sum += x->v[i].len;
	}
	return sum;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares where the bytes of every file lie on disk in two held snapshots.
 * While both are held, no block that either refers to is written again: a
 * nodatacow file too is copied at its first write after a snapshot. So equal
 * places mean equal bytes. Never the other way: what differs in place may
 * still be equal, and is named.
 *
 * One pass over both trees in key order; memory is two buffers. Its cost
 * follows the number of extents of the whole volume.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kmod-free/track/btrfs_pair.h"
#include "kmod-free/io/btrfs_search.h"
#include "kmod-free/track/tracker_all.h"

#define BLOCK 4096u

/* One snapshot, read forwards. */
struct side {
	struct btrfs_search search;
	struct btrfs_search_item item; /* looked at, not used yet */
	bool have_item;
	/* the file at hand */
	uint64_t ino;
	struct btrfs_search_inode inode;
	/* its extent at hand, the first that ends behind where we are */
	struct btrfs_search_extent x;
	bool have_x;
	struct buf inline_copy; /* what x.inline_bytes points to */
};

static void
side_fini(struct side *s)
{
	btrfs_search_fini(&s->search);
	buf_free(&s->inline_copy);
}

static uint64_t
round_up(uint64_t n)
{
	return (n + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
}

static uint64_t
round_down(uint64_t n)
{
	return n & ~(uint64_t)(BLOCK - 1);
}

/* The next item without using it: 1, 0 behind the last. */
static int
peek(struct side *s, struct err *e)
{
	int rc;

	if (s->have_item)
		return 1;
	rc = btrfs_search_next(&s->search, &s->item, e);
	s->have_item = rc == 1;
	return rc;
}

/* On to the next inode: 1, 0 behind the last. */
static int
next_inode(struct side *s, struct err *e)
{
	int rc;

	s->have_x = false;
	for (;;) {
		rc = peek(s, e);
		if (rc <= 0)
			return rc;
		s->have_item = false;
		if (s->item.key.type == BTRFS_SEARCH_INODE)
			break;
		/* Others belong to the file that we have left or skip. */
		if (s->item.key.type == BTRFS_SEARCH_EXTENT &&
		    s->item.key.objectid != s->ino)
			return err_set(e, -EBADMSG,
			    "btrfs tree search: extents of inode %llu, which "
			    "is not there",
			    (unsigned long long)s->item.key.objectid);
	}
	s->ino = s->item.key.objectid;
	rc = btrfs_search_inode(&s->item, &s->inode, e);
	return rc < 0 ? rc : 1;
}

/* The buffer of the search goes on while the extent is still compared. */
static void
keep_inline(struct side *s)
{
	if (s->x.data != BTRFS_SEARCH_INLINE)
		return;
	buf_clear(&s->inline_copy);
	buf_put(&s->inline_copy, s->x.inline_bytes.data, s->x.inline_bytes.len);
	s->x.inline_bytes = buf_span(&s->inline_copy);
	/* Behind its bytes the block reads as zeros; it is compared whole. */
	s->x.end = round_up(s->x.end);
}

/* The next extent of the file at hand into x; have_x false: no more. */
static int
next_extent(struct side *s, struct err *e)
{
	uint64_t behind = s->have_x ? s->x.end : 0;
	int rc;

	s->have_x = false;
	while ((rc = peek(s, e)) == 1 && s->item.key.objectid == s->ino) {
		s->have_item = false;
		if (s->item.key.type != BTRFS_SEARCH_EXTENT)
			continue;
		rc = btrfs_search_extent(&s->item, &s->x, e);
		if (rc < 0)
			return rc;
		if (s->x.start < behind)
			return err_set(e, -EBADMSG,
			    "btrfs tree search: extents of inode %llu overlap "
			    "at %llu",
			    (unsigned long long)s->ino,
			    (unsigned long long)s->x.start);
		keep_inline(s);
		s->have_x = true;
		return 0;
	}
	return rc < 0 ? rc : 0;
}

/* Leave behind all that ends at or before `pos`. */
static int
reach(struct side *s, uint64_t pos, struct err *e)
{
	while (s->have_x && s->x.end <= pos) {
		int rc = next_extent(s, e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Where what is at `pos` ends. */
static uint64_t
end_at(const struct side *s, uint64_t pos)
{
	if (!s->have_x)
		return UINT64_MAX;
	return s->x.start > pos ? s->x.start : s->x.end;
}

/* No item (the NO_HOLES format), a hole item, and preallocated space all read
 * as zeros. */
static bool
zeros_at(const struct side *s, uint64_t pos)
{
	if (!s->have_x || s->x.start > pos)
		return true;
	return s->x.data == BTRFS_SEARCH_PREALLOC ||
	       (s->x.data == BTRFS_SEARCH_REGULAR && s->x.disk_bytenr == 0);
}

static bool
same_encoding(
    const struct btrfs_search_extent *a, const struct btrfs_search_extent *b)
{
	return a->data == b->data && a->generation == b->generation &&
	       a->ram_bytes == b->ram_bytes &&
	       a->compression == b->compression &&
	       a->encryption == b->encryption &&
	       a->other_encoding == b->other_encoding;
}

/* The same bytes of the same extent at `pos`: extents are split when a part of
 * them is overwritten, so their starts may differ. */
static bool
same_at(const struct side *a, const struct side *b, uint64_t pos)
{
	const struct btrfs_search_extent *x = &a->x, *y = &b->x;

	if (zeros_at(a, pos) || zeros_at(b, pos))
		return zeros_at(a, pos) && zeros_at(b, pos);
	if (!same_encoding(x, y))
		return false;
	if (x->data == BTRFS_SEARCH_INLINE)
		return x->start == y->start &&
		       span_cmp(x->inline_bytes, y->inline_bytes) == 0;
	return x->disk_bytenr == y->disk_bytenr &&
	       x->disk_num_bytes == y->disk_num_bytes &&
	       x->offset + (pos - x->start) == y->offset + (pos - y->start);
}

static uint64_t
min3(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t m = a < b ? a : b;

	return m < c ? m : c;
}

static void
compare_sizes(const struct side *a, const struct side *b, struct extents *out)
{
	uint64_t x = a->inode.size, y = b->inode.size;
	uint64_t from = round_down(x < y ? x : y);

	if (x != y)
		extents_add(out, b->ino, from, (x < y ? y : x) - from);
}

static int
compare_file(struct side *a, struct side *b, struct extents *out, struct err *e)
{
	uint64_t limit, pos = 0;
	int rc;

	compare_sizes(a, b, out);
	limit = round_up(
	    a->inode.size < b->inode.size ? a->inode.size : b->inode.size);
	rc = next_extent(a, e);
	if (rc >= 0)
		rc = next_extent(b, e);
	while (rc >= 0 && pos < limit) {
		uint64_t end;

		rc = reach(a, pos, e);
		if (rc >= 0)
			rc = reach(b, pos, e);
		if (rc < 0)
			break;
		end = min3(end_at(a, pos), end_at(b, pos), limit);
		assert(end > pos);
		if (!same_at(a, b, pos))
			extents_add(out, b->ino, pos, end - pos);
		pos = end;
	}
	return rc;
}

static int
compare_pair(struct side *a, struct side *b, struct extents *out, struct err *e)
{
	/* Another file under a number used again: the caller takes it as
	 * new. */
	if (a->inode.generation != b->inode.generation)
		return 0;
	if ((a->inode.mode & S_IFMT) != (b->inode.mode & S_IFMT))
		return err_set(e, -EBADMSG,
		    "btrfs tree search: inode %llu turned from one kind into "
		    "another",
		    (unsigned long long)b->ino);
	return S_ISREG(b->inode.mode) ? compare_file(a, b, out, e) : 0;
}

static int
compare(const struct btrfs_pair *p, struct extents *out, struct err *e)
{
	struct side a __attribute__((cleanup(side_fini))) = {0};
	struct side b __attribute__((cleanup(side_fini))) = {0};
	int more_a, more_b, rc;

	btrfs_search_init(&a.search, p->from, 0);
	btrfs_search_init(&b.search, p->to, 0);
	more_a = next_inode(&a, e);
	more_b = more_a < 0 ? more_a : next_inode(&b, e);
	while (more_a == 1 && more_b == 1) {
		if (a.ino < b.ino) {
			more_a = next_inode(&a, e);
		} else if (b.ino < a.ino) {
			more_b = next_inode(&b, e);
		} else {
			rc = compare_pair(&a, &b, out, e);
			if (rc < 0)
				return rc;
			more_a = next_inode(&a, e);
			more_b = more_a < 0 ? more_a : next_inode(&b, e);
		}
	}
	if (more_a < 0)
		return more_a;
	return more_b < 0 ? more_b : 0;
}

static int
extents_changed(
    const struct tracker_pair *p, struct tracker_answer *out, struct err *e)
{
	return btrfs_pair_compare(p, compare, out, e);
}

const struct tracker_ops tracker_btrfs_extents = {
    .name = "btrfs-extents",
    .second = "btrfs-send",
    .summary = "compares where the bytes of two btrfs snapshots lie on disk",
    .compares = true,
    .probe = btrfs_pair_probe,
    .changed = extents_changed,
};

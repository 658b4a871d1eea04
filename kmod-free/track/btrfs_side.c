/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/btrfs_side.h"

#include <errno.h>

/* Some tree blocks: a reply that reaches further than what is compared next is
 * copied in vain. */
#define REPLY_BYTES (32u << 10)
/* Nearer places are reached by reading on: of blocks of data each, some ten
 * tree blocks. */
#define NEAR_BYTES (4ull << 20)
/* How far in front of a place the extent that holds it is looked for at first. */
#define BACK_BYTES (1ull << 20)

void
btrfs_side_open(struct btrfs_side *s, int fd, uint64_t ino, uint64_t from,
    uint64_t last, uint64_t since)
{
	*s = (struct btrfs_side){.fd = fd, .ino = ino};
	btrfs_search_init_file(&s->search, fd, REPLY_BYTES, ino, from);
	s->search.to.offset = last;
	s->search.since = since;
}

void
btrfs_side_close(struct btrfs_side *s)
{
	btrfs_search_fini(&s->search);
	buf_free(&s->inline_copy);
}

/* The buffer of the search goes on while the extent is still compared. Behind
 * its bytes the block reads as zeros; it is compared whole. */
static void
keep_inline(struct btrfs_side *s)
{
	if (s->x.data != BTRFS_SEARCH_INLINE)
		return;
	buf_clear(&s->inline_copy);
	buf_put(&s->inline_copy, s->x.inline_bytes.data, s->x.inline_bytes.len);
	s->x.inline_bytes = buf_span(&s->inline_copy);
	s->x.end = (s->x.end + BTRFS_SIDE_BLOCK - 1) &
		   ~(uint64_t)(BTRFS_SIDE_BLOCK - 1);
}

int
btrfs_side_next(struct btrfs_side *s, struct err *e)
{
	uint64_t behind = s->have_x ? s->x.end : 0;
	struct btrfs_search_item item;
	int rc = btrfs_search_next(&s->search, &item, e);

	s->have_x = false;
	if (rc <= 0)
		return rc;
	rc = btrfs_search_extent(&item, &s->x, e);
	if (rc < 0)
		return rc;
	if (s->x.start < behind)
		return err_set(e, -EBADMSG,
		    "btrfs tree search: extents of inode %llu overlap at %llu",
		    (unsigned long long)s->ino, (unsigned long long)s->x.start);
	keep_inline(s);
	s->have_x = true;
	return 1;
}

int
btrfs_side_reach(struct btrfs_side *s, uint64_t pos, struct err *e)
{
	int rc = 1;

	while (rc == 1 && s->have_x && s->x.end <= pos)
		rc = btrfs_side_next(s, e);
	return rc < 0 ? rc : 0;
}

/* Begin anew at `from`. */
static int
restart(struct btrfs_side *s, uint64_t from, struct err *e)
{
	uint64_t last = s->search.to.offset;

	btrfs_side_close(s);
	btrfs_side_open(s, s->fd, s->ino, from, last, s->search.since);
	return btrfs_side_next(s, e);
}

/* A search goes forwards only, and the extent that holds `pos` may begin in
 * front of it: as far as 128 MiB on Linux 6.18, and holes are longer. */
int
btrfs_side_seek(struct btrfs_side *s, uint64_t pos, struct err *e)
{
	uint64_t back = BACK_BYTES;
	int rc;

	if (!s->have_x && s->search.ended)
		return 0;
	if (s->have_x && (s->x.end > pos || pos - s->x.end < NEAR_BYTES))
		return btrfs_side_reach(s, pos, e);
	for (;; back = back > UINT64_MAX / 16 ? UINT64_MAX : back * 16) {
		rc = restart(s, pos > back ? pos - back : 0, e);
		if (rc < 0)
			return rc;
		if (pos <= back || (s->have_x && s->x.start <= pos))
			return btrfs_side_reach(s, pos, e);
	}
}

/* ---- what is there ---- */

uint64_t
btrfs_side_end(const struct btrfs_side *s, uint64_t pos)
{
	if (!s->have_x)
		return UINT64_MAX;
	return s->x.start > pos ? s->x.start : s->x.end;
}

/* A hole item and preallocated space read as zeros, as no item (the NO_HOLES
 * format) does. */
static bool
is_zeros(const struct btrfs_search_extent *x)
{
	return x->data == BTRFS_SEARCH_PREALLOC ||
	       (x->data == BTRFS_SEARCH_REGULAR && x->disk_bytenr == 0);
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

/* Extents are split when a part of them is overwritten, so their starts may
 * differ. */
bool
btrfs_side_same(const struct btrfs_side *s, const struct btrfs_search_extent *y,
    uint64_t pos)
{
	const struct btrfs_search_extent *x = &s->x;

	if (!s->have_x || x->start > pos || is_zeros(x))
		return is_zeros(y);
	if (is_zeros(y) || !same_encoding(x, y))
		return false;
	if (x->data == BTRFS_SEARCH_INLINE)
		return x->start == y->start &&
		       span_cmp(x->inline_bytes, y->inline_bytes) == 0;
	return x->disk_bytenr == y->disk_bytenr &&
	       x->disk_num_bytes == y->disk_num_bytes &&
	       x->offset + (pos - x->start) == y->offset + (pos - y->start);
}

uint64_t
btrfs_side_counted(
    const struct btrfs_search_extent *x, uint64_t from, uint64_t to)
{
	switch (x->data) {
	case BTRFS_SEARCH_INLINE:
		return from == x->start ? x->ram_bytes : 0;
	case BTRFS_SEARCH_REGULAR:
		return x->disk_bytenr != 0 ? to - from : 0;
	default:
		return to - from;
	}
}

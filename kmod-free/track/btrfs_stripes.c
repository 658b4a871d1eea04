/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/btrfs_stripes.h"

#include "kmod-free/io/btrfs_search.h"

/* Of a file; larger ones where there would be more of them, as each is searched,
 * changed or not: of 10 TB that was half of a backup's processor time. */
#define STRIPE_BYTES (64ull << 20)
#define STRIPES 1024u
#define REPLY_BYTES 4096u

void
btrfs_stripes_init(struct btrfs_stripes *s, const struct btrfs_pair *p)
{
	/* A snapshot is made at the end of its transaction, when nothing but
	 * names of snapshots is written in that any more. */
	*s = (struct btrfs_stripes){.fd = p->to, .since = p->a.otransid + 1};
}

/* On to the next file that has a younger block. */
static int
next_file(struct btrfs_stripes *s, struct err *e)
{
	struct btrfs_search_item item;
	struct btrfs_search_inode inode;
	struct btrfs_search search;
	int rc;

	btrfs_search_init(&search, s->fd, REPLY_BYTES);
	search.since = s->since;
	search.at_most = 1;
	if (s->ino != 0)
		search.from = (struct btrfs_search_key){.objectid = s->ino + 1};
	rc = btrfs_search_next(&search, &item, e);
	if (rc == 1) {
		s->ino = item.key.objectid;
		s->at = 0;
		s->more = true;
		s->size = UINT64_MAX; /* its inode is in an older block */
	}
	if (rc == 1 && item.key.type == BTRFS_SEARCH_INODE) {
		rc = btrfs_search_inode(&item, &inode, e);
		if (rc == 0) {
			s->size = inode.size;
			rc = 1;
		}
	}
	btrfs_search_fini(&search);
	return rc;
}

static uint64_t
stripe_bytes(uint64_t size)
{
	return size / STRIPES > STRIPE_BYTES ? size / STRIPES : STRIPE_BYTES;
}

int
btrfs_stripes_next(
    struct btrfs_stripes *s, struct btrfs_stripe *out, struct err *e)
{
	uint64_t len;

	while (!s->ended && !s->more) {
		int rc = next_file(s, e);

		s->ended = rc <= 0;
		if (rc < 0)
			return rc;
	}
	if (s->ended)
		return 0;
	len = stripe_bytes(s->size);
	*out = (struct btrfs_stripe){s->ino, s->at, UINT64_MAX, true};
	if (s->size != UINT64_MAX && s->size - s->at > len) {
		out->last = s->at + len - 1;
		out->ends = false;
	}
	s->at += len;
	s->more = !out->ends;
	return 1;
}

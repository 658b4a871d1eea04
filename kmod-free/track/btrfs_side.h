/*
 * Where the bytes of a file lie on disk, in one btrfs snapshot, read forwards.
 * Internal to kmod-free/track. One thread's. Memory: one buffer, small enough
 * for the processor's cache.
 *
 * While two snapshots are held, no block that either refers to is written
 * again: a nodatacow file too is copied at its first write after a snapshot. So
 * equal places mean equal bytes. Never the other way.
 */
#ifndef NEAP_TRACK_BTRFS_SIDE_H
#define NEAP_TRACK_BTRFS_SIDE_H

#include "agent/core/bytes.h"
#include "kmod-free/io/btrfs_search.h"

#define BTRFS_SIDE_BLOCK 4096u

struct btrfs_side {
	struct btrfs_search search;
	int fd; /* in the subvolume; borrowed */
	uint64_t ino;
	/* The extent at hand, if any; an inline one ends with its block. */
	struct btrfs_search_extent x;
	bool have_x;
	struct buf inline_copy; /* what x.inline_bytes points to */
};

/* The extents that begin at [from, last]; with `since`, of them those in tree
 * blocks that are not older (some older ones come too). */
void btrfs_side_open(struct btrfs_side *s, int fd, uint64_t ino, uint64_t from,
    uint64_t last, uint64_t since);
void btrfs_side_close(struct btrfs_side *s);
/* The next extent into x: 1, 0 where there is none, -EBADMSG. */
int btrfs_side_next(struct btrfs_side *s, struct err *e);
/* On to the first extent that ends behind `pos`. */
int btrfs_side_reach(struct btrfs_side *s, uint64_t pos, struct err *e);
/* The same without reading all in between. */
int btrfs_side_seek(struct btrfs_side *s, uint64_t pos, struct err *e);

/* Where what is at `pos`, an extent or none, ends. */
uint64_t btrfs_side_end(const struct btrfs_side *s, uint64_t pos);
/* Of `s`, at `pos`, which `y` holds, the same bytes as of `y`. */
bool btrfs_side_same(const struct btrfs_side *s,
    const struct btrfs_search_extent *y, uint64_t pos);
/* What of [from, to) of `x`, which holds it, the file's inode counts in nbytes;
 * an inline extent is counted where it begins. */
uint64_t btrfs_side_counted(
    const struct btrfs_search_extent *x, uint64_t from, uint64_t to);

#endif

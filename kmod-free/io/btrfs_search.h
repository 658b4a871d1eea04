/*
 * The items of one btrfs subvolume in key order, by BTRFS_IOC_TREE_SEARCH_V2.
 * Needs CAP_SYS_ADMIN. One thread's. Memory: one buffer.
 *
 * Source: uapi/linux/btrfs.h and btrfs_tree.h. The header of a found item is
 * in the host's byte order, the item itself is little-endian.
 */
#ifndef NEAP_TRACK_BTRFS_SEARCH_H
#define NEAP_TRACK_BTRFS_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

struct btrfs_search_key {
	uint64_t objectid, offset;
	uint32_t type; /* 0 to 255 */
};

struct btrfs_search_item {
	struct btrfs_search_key key;
	struct span body; /* borrowed until the next call */
};

enum {
	BTRFS_SEARCH_INODE = 1,    /* INODE_ITEM */
	BTRFS_SEARCH_EXTENT = 108, /* EXTENT_DATA */
};

/* The next item of a reply: 1, 0 at its end, -EBADMSG. */
int btrfs_search_take(
    struct cursor *reply, struct btrfs_search_item *out, struct err *e);

struct btrfs_search_inode {
	uint64_t generation, size;
	uint64_t nbytes; /* of its extents, holes aside */
	uint32_t mode;
};

enum btrfs_search_data {
	BTRFS_SEARCH_INLINE,
	BTRFS_SEARCH_REGULAR, /* disk_bytenr 0: a hole */
	BTRFS_SEARCH_PREALLOC,
};

struct btrfs_search_extent {
	uint64_t start, end; /* in the file; inline: as on disk, no rounding */
	enum btrfs_search_data data;
	uint64_t generation, ram_bytes;
	uint8_t compression, encryption;
	uint16_t other_encoding;
	uint64_t disk_bytenr, disk_num_bytes, offset; /* not inline */
	struct span inline_bytes;                     /* as stored */
};

/* -EBADMSG: too short, or numbers that cannot be. */
int btrfs_search_inode(const struct btrfs_search_item *item,
    struct btrfs_search_inode *out, struct err *e);
int btrfs_search_extent(const struct btrfs_search_item *item,
    struct btrfs_search_extent *out, struct err *e);

/* Where its bytes begin in the volume's own space; 0 where they do not lie there
 * as they are read: a hole, compressed, inline, reserved. */
static inline uint64_t
btrfs_search_place(const struct btrfs_search_extent *x)
{
	bool plain = x->data == BTRFS_SEARCH_REGULAR && x->disk_bytenr != 0 &&
		     x->compression == 0;

	return plain ? x->disk_bytenr + x->offset : 0;
}

struct btrfs_search {
	int fd;           /* in the subvolume; borrowed */
	void *args;       /* the ioctl's */
	size_t buf_bytes; /* of its reply */
	struct cursor reply;
	uint32_t left; /* items in it */
	struct btrfs_search_key from, to;
	uint64_t since;   /* skip tree blocks of an older generation */
	uint32_t at_most; /* items in a reply; 0: what fits */
	struct btrfs_search_key last; /* the newest item given */
	bool begun, ended;
};

/* Of all files and folders. buf_bytes 0: 512 KiB. It grows where one item does
 * not fit. */
void btrfs_search_init(struct btrfs_search *s, int fd, size_t buf_bytes);
/* Of the extents of inode `ino` those that begin at `off` or behind it. */
void btrfs_search_init_file(struct btrfs_search *s, int fd, size_t buf_bytes,
    uint64_t ino, uint64_t off);
/* The inode `ino` alone. */
void btrfs_search_init_inode(struct btrfs_search *s, int fd, uint64_t ino);
void btrfs_search_fini(struct btrfs_search *s);
/* 1 and the next item, 0 behind the last. */
int btrfs_search_next(
    struct btrfs_search *s, struct btrfs_search_item *out, struct err *e);

#endif

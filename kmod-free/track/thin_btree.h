/*
 * The B-trees in the metadata of a dm-thin pool: blocks of 4 KiB, each with a
 * checksum and its own number, whose keys rise. Nothing in them is believed:
 * what cannot be is -EBADMSG with the number of the block. Internal to
 * kmod-free/track; one thread's.
 *
 * A node (little-endian): u32 checksum, u32 flags (1 internal, 2 leaf), u64 its
 * block number, u32 entries, u32 entries that fit, u32 bytes of a value, u32
 * unused; u64 keys[that fit]; the values. The checksum is CRC-32C of the block
 * from its fifth byte on, xor a number for the kind of block. An entry of an
 * internal node leads to the node whose keys are from its own key on, up to
 * the next entry's.
 *
 * Source: Linux drivers/md/persistent-data/dm-btree-internal.h, dm-btree.c,
 * dm-btree-spine.c, dm-block-manager.c.
 */
#ifndef NEAP_TRACK_THIN_BTREE_H
#define NEAP_TRACK_THIN_BTREE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/err.h"

#define THIN_BLOCK_LEN 4096u
/* The kernel's trees have 5 at most: 252 entries a node, 16 GiB of nodes. */
#define THIN_DEPTH_MAX 16

/* Where the blocks lie. */
struct thin_disk {
	int fd;           /* borrowed */
	uint64_t blocks;  /* as many as it has */
	uint64_t reads;   /* blocks read so far */
	int64_t until_ms; /* clock_mono_ms time to be done by; 0: any */
};

/* -EBADMSG that names the block and says what to do. */
int thin_disk_bad(uint64_t block, const char *what, struct err *e);
/* One block, as it is, into THIN_BLOCK_LEN bytes on a page boundary. */
int thin_disk_read(
    struct thin_disk *d, uint64_t block, void *page, struct err *e);
/* What the checksum of a block ought to be. */
uint32_t thin_disk_sum(const void *page, uint32_t salt);
#define THIN_SALT_SUPER 160774u
#define THIN_SALT_NODE 121107u

struct thin_tree {
	uint64_t root;       /* its block */
	uint32_t value_size; /* bytes, in leaves */
	uint64_t key_end;    /* every key is below */
};

enum thin_front {
	THIN_END,
	THIN_SUBTREE, /* not read yet */
	THIN_ENTRY,   /* of a leaf */
};

struct thin_node {
	uint8_t *page;
	uint64_t end;       /* its keys are below */
	uint32_t n, max, i; /* entries, that fit, the one we are at */
	bool leaf;
};

/* As many blocks as are read at once where leaf after leaf is wanted. */
#define THIN_AHEAD_MAX 64u

/* Leaves in one piece, as they were read. */
struct thin_ahead {
	uint8_t *pages;
	uint64_t first; /* block */
	uint32_t n;     /* of them; 0: none */
	uint32_t want;  /* leaves to read at once: more as they are entered in
			   a row, one after a subtree that was passed */
};

/* Goes through a tree in the order of its keys, reads a subtree only if told.
 * Memory: a block for each level, and THIN_AHEAD_MAX leaves. */
struct thin_cursor {
	struct thin_disk *disk;
	struct thin_tree tree;
	uint8_t *pages;
	struct thin_node node[THIN_DEPTH_MAX]; /* from the root down */
	unsigned depth;                        /* of them are in use */
	unsigned leaf_depth;                   /* of the last leaf; 0: none */
	struct thin_ahead ahead;

	enum thin_front front;
	uint64_t key;         /* the entry's, or all in the subtree are >= it */
	uint64_t block;       /* the subtree's node */
	const uint8_t *value; /* the entry's; until the cursor moves */
};

/* In front is the root, unread. */
int thin_cursor_init(struct thin_cursor *c, struct thin_disk *d,
    const struct thin_tree *tree, struct err *e);
void thin_cursor_fini(struct thin_cursor *c);
#define SCOPED_THIN_CURSOR __attribute__((cleanup(thin_cursor_fini)))
/* Into the subtree in front: then its first child or entry is. */
int thin_cursor_enter(struct thin_cursor *c, struct err *e);
/* Past the subtree or the entry in front. */
void thin_cursor_skip(struct thin_cursor *c);

/* The value of a key: 1, or 0 where it is not there. */
int thin_tree_find(struct thin_disk *d, const struct thin_tree *tree,
    uint64_t key, void *value, struct err *e);
/* Levels on the way to the lowest key. */
int thin_tree_height(struct thin_disk *d, const struct thin_tree *tree,
    unsigned *out, struct err *e);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/thin_btree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/bytes.h"
#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/stop.h"
#include "kmod-free/track/crc32c.h"

enum { /* where it is in a node */
	AT_SUM = 0,
	AT_FLAGS = 4,
	AT_BLOCK = 8,
	AT_ENTRIES = 16,
	AT_MAX = 20,
	AT_VALUE_SIZE = 24,
	AT_KEYS = 32,
};

#define FLAG_INTERNAL 1u
#define FLAG_LEAF 2u
#define KEY_LEN 8u
#define CHILD_LEN 8u /* the value in an internal node */
#define GAP_MAX 4u   /* blocks from one leaf to the next, read as one */

/* ---- blocks ---- */

int
thin_disk_bad(uint64_t block, const char *what, struct err *e)
{
	err_set(e, -EBADMSG, "block %llu of the thin pool's metadata: %s",
	    (unsigned long long)block, what);
	return err_hint(e,
	    "the metadata may be damaged: with the pool inactive, run "
	    "thin_check on it");
}

/* 0, or why no more may be read. */
static int
check_stop(const struct thin_disk *d, struct err *e)
{
	int rc = stop_check(e);

	if (rc < 0)
		return rc;
	if (d->until_ms != 0 && clock_mono_ms() >= d->until_ms)
		return err_set(e, -ESTALE,
		    "the thin pool's metadata was not read in the time that it "
		    "may be held (%llu blocks of it were)",
		    (unsigned long long)d->reads);
	return 0;
}

int
thin_disk_read(struct thin_disk *d, uint64_t block, void *page, struct err *e)
{
	int rc = check_stop(d, e);

	if (rc < 0)
		return rc;
	assert(block < d->blocks);
	d->reads++;
	rc = fs_pread(d->fd, page, THIN_BLOCK_LEN, block * THIN_BLOCK_LEN, e);
	if (rc < 0)
		return err_wrap(e, "block %llu of the thin pool's metadata",
		    (unsigned long long)block);
	return 0;
}

uint32_t
thin_disk_sum(const void *page, uint32_t salt)
{
	const uint8_t *p = page;

	return crc32c(~0u, p + AT_FLAGS, THIN_BLOCK_LEN - AT_FLAGS) ^ salt;
}

/* ---- one node ---- */

static uint64_t
key_at(const struct thin_node *n, uint32_t i)
{
	assert(i < n->n);
	return bytes_le64(n->page + AT_KEYS + i * KEY_LEN);
}

static const uint8_t *
value_at(const struct thin_node *n, uint32_t i, uint32_t value_size)
{
	assert(i < n->n);
	return n->page + AT_KEYS + n->max * KEY_LEN + i * value_size;
}

static uint64_t
child_at(const struct thin_node *n, uint32_t i)
{
	return bytes_le64(value_at(n, i, CHILD_LEN));
}

/* Its numbers fit into the block. */
static int
check_header(const struct thin_tree *tree, struct thin_node *n, uint64_t block,
    struct err *e)
{
	const uint8_t *p = n->page;
	uint32_t flags = bytes_le32(p + AT_FLAGS);
	uint32_t value_size = bytes_le32(p + AT_VALUE_SIZE);

	if (bytes_le32(p + AT_SUM) != thin_disk_sum(p, THIN_SALT_NODE))
		return thin_disk_bad(block, "its checksum is wrong", e);
	if (bytes_le64(p + AT_BLOCK) != block)
		return thin_disk_bad(
		    block, "it was written for another place", e);
	if (flags != FLAG_INTERNAL && flags != FLAG_LEAF)
		return thin_disk_bad(block, "it is no node of a tree", e);
	n->leaf = flags == FLAG_LEAF;
	if (value_size != (n->leaf ? tree->value_size : CHILD_LEN))
		return thin_disk_bad(block, "it is a node of another tree", e);
	n->n = bytes_le32(p + AT_ENTRIES);
	n->max = bytes_le32(p + AT_MAX);
	if (n->max > (THIN_BLOCK_LEN - AT_KEYS) / (KEY_LEN + value_size) ||
	    n->n > n->max)
		return thin_disk_bad(
		    block, "it has more entries than a block can hold", e);
	/* A leaf without any is how an empty tree looks. */
	if (n->n == 0 && !n->leaf)
		return thin_disk_bad(block, "it leads nowhere", e);
	return 0;
}

/* Keys rise from `low` on and stay below n->end; children are on the disk. A
 * loop cannot last: its keys would have to lie in ever smaller ranges. */
static int
check_entries(const struct thin_disk *d, const struct thin_node *n,
    uint64_t block, uint64_t low, struct err *e)
{
	for (uint32_t i = 0; i < n->n; i++) {
		uint64_t key = key_at(n, i);

		if (key < low || key >= n->end)
			return thin_disk_bad(
			    block, "its keys are out of order", e);
		low = key + 1; /* key < end, so this is no overflow */
		/* Block 0 is the superblock. */
		if (!n->leaf &&
		    (child_at(n, i) == 0 || child_at(n, i) >= d->blocks))
			return thin_disk_bad(
			    block, "it leads outside the metadata device", e);
	}
	return 0;
}

/* ---- the cursor ---- */

int
thin_cursor_init(struct thin_cursor *c, struct thin_disk *d,
    const struct thin_tree *tree, struct err *e)
{
	void *pages;
	int rc;

	assert(tree->root > 0 && tree->root < d->blocks);
	rc = mem_try_pages(
	    &pages, (THIN_DEPTH_MAX + THIN_AHEAD_MAX) * THIN_BLOCK_LEN, e);
	if (rc < 0)
		return rc;
	*c = (struct thin_cursor){
	    .disk = d,
	    .tree = *tree,
	    .pages = pages,
	    .front = THIN_SUBTREE,
	    .block = tree->root,
	};
	/* Not touched, so not in memory, until leaves are read ahead. */
	c->ahead.pages = c->pages + (size_t)THIN_DEPTH_MAX * THIN_BLOCK_LEN;
	return 0;
}

void
thin_cursor_fini(struct thin_cursor *c)
{
	free(c->pages);
	c->pages = NULL;
	c->front = THIN_END;
}

/* What is in front, by the node at the bottom and where we are in it. */
static void
look(struct thin_cursor *c)
{
	const struct thin_node *n;

	while (c->depth > 0) {
		n = &c->node[c->depth - 1];
		if (n->i < n->n)
			break;
		c->depth--; /* through: its parent goes on */
		if (c->depth > 0)
			c->node[c->depth - 1].i++;
	}
	if (c->depth == 0) {
		c->front = THIN_END;
		return;
	}
	c->key = key_at(n, n->i);
	if (n->leaf) {
		c->front = THIN_ENTRY;
		c->value = value_at(n, n->i, c->tree.value_size);
	} else {
		c->front = THIN_SUBTREE;
		c->block = child_at(n, n->i);
	}
}

/* ---- leaves read ahead ---- */

/*
 * Blocks from the child in front on that hold it and up to `want` - 1 of those
 * behind it. Leaves mostly lie in the order of their keys, with a node of
 * another kind between them here and there, which costs less to read than
 * to leave out.
 */
static uint32_t
span(const struct thin_cursor *c)
{
	const struct thin_node *up = &c->node[c->depth - 1];
	uint64_t last = c->block;

	for (uint32_t i = 1; i < c->ahead.want && up->i + i < up->n; i++) {
		uint64_t block = child_at(up, up->i + i);

		if (block <= last || block - last > GAP_MAX ||
		    block - c->block >= THIN_AHEAD_MAX)
			break;
		last = block;
	}
	return (uint32_t)(last - c->block) + 1;
}

static bool
is_ahead(const struct thin_cursor *c)
{
	return c->block >= c->ahead.first &&
	       c->block - c->ahead.first < c->ahead.n;
}

static void
read_ahead(struct thin_cursor *c)
{
	struct thin_ahead *a = &c->ahead;
	struct err ignored = ERR_NONE;
	uint32_t n;

	a->want =
	    a->want < THIN_AHEAD_MAX / 2 ? 2 * a->want + 1 : THIN_AHEAD_MAX;
	a->n = 0;
	n = span(c);
	if (n == 1)
		return;
	/* Where it fails, the one that is needed is read alone. */
	if (fs_pread(c->disk->fd, a->pages, n * THIN_BLOCK_LEN,
		c->block * THIN_BLOCK_LEN, &ignored) < 0)
		return;
	c->disk->reads += n;
	a->first = c->block;
	a->n = n;
}

/* The node in front, as it is on the disk. What is reached from the roots is
 * not written while it may be read, so it can be old by now without harm. */
static int
read_node(struct thin_cursor *c, uint8_t *page, struct err *e)
{
	const struct thin_ahead *a = &c->ahead;
	int rc;

	/* Only leaves: nodes above them would push those out. */
	if (c->leaf_depth == 0 || c->depth != c->leaf_depth)
		return thin_disk_read(c->disk, c->block, page, e);
	rc = check_stop(c->disk, e);
	if (rc < 0)
		return rc;
	if (!is_ahead(c))
		read_ahead(c);
	if (!is_ahead(c))
		return thin_disk_read(c->disk, c->block, page, e);
	/* A copy: in a tree that is uneven it may have children there. */
	memcpy(page, a->pages + (c->block - a->first) * THIN_BLOCK_LEN,
	    THIN_BLOCK_LEN);
	return 0;
}

int
thin_cursor_enter(struct thin_cursor *c, struct err *e)
{
	struct thin_node n = {
	    .page = c->pages + (size_t)c->depth * THIN_BLOCK_LEN,
	    .end = c->tree.key_end,
	};
	int rc;

	assert(c->front == THIN_SUBTREE);
	if (c->depth == THIN_DEPTH_MAX)
		return thin_disk_bad(c->block, "its tree is too deep", e);
	if (c->depth > 0) {
		const struct thin_node *up = &c->node[c->depth - 1];

		n.end = up->i + 1 < up->n ? key_at(up, up->i + 1) : up->end;
	}
	rc = read_node(c, n.page, e);
	if (rc == 0)
		rc = check_header(&c->tree, &n, c->block, e);
	if (rc == 0)
		rc = check_entries(c->disk, &n, c->block, c->key, e);
	if (rc < 0)
		return rc;
	if (n.leaf)
		c->leaf_depth = c->depth;
	c->node[c->depth++] = n;
	look(c);
	return 0;
}

void
thin_cursor_skip(struct thin_cursor *c)
{
	assert(c->front != THIN_END);
	if (c->depth == 0) { /* the root, unread */
		c->front = THIN_END;
		return;
	}
	if (c->front == THIN_SUBTREE)
		c->ahead.want = 0;
	c->node[c->depth - 1].i++;
	look(c);
}

/* ---- trees ---- */

/* To the last entry of the bottom node that is not above `key`. */
static void
forward(struct thin_cursor *c, uint64_t key)
{
	struct thin_node *n;

	if (c->depth == 0)
		return;
	n = &c->node[c->depth - 1];
	while (n->i + 1 < n->n && key_at(n, n->i + 1) <= key)
		n->i++;
	look(c);
}

int
thin_tree_find(struct thin_disk *d, const struct thin_tree *tree, uint64_t key,
    void *value, struct err *e)
{
	SCOPED_THIN_CURSOR struct thin_cursor c = {0};
	int rc = thin_cursor_init(&c, d, tree, e);

	while (rc == 0 && c.front == THIN_SUBTREE) {
		rc = thin_cursor_enter(&c, e);
		if (rc == 0)
			forward(&c, key);
	}
	if (rc < 0)
		return rc;
	if (c.front != THIN_ENTRY || c.key != key)
		return 0;
	memcpy(value, c.value, tree->value_size);
	return 1;
}

int
thin_tree_height(struct thin_disk *d, const struct thin_tree *tree,
    unsigned *out, struct err *e)
{
	SCOPED_THIN_CURSOR struct thin_cursor c = {0};
	unsigned height = 0;
	int rc = thin_cursor_init(&c, d, tree, e);

	while (rc == 0 && c.front == THIN_SUBTREE) {
		rc = thin_cursor_enter(&c, e);
		height++;
	}
	if (rc == 0)
		*out = height;
	return rc;
}

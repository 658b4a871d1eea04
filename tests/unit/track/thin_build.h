/*
 * Writes the metadata of a thin pool as the kernel would leave it: trees that
 * are copied node by node as they change, so that snapshots share what did not.
 * thin_restore shares nothing. For tests: no space maps, nothing is freed, and
 * nodes are not balanced when mappings go.
 */
#ifndef NEAP_TESTS_THIN_BUILD_H
#define NEAP_TESTS_THIN_BUILD_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/core/bytes.h"
#include "kmod-free/track/thin_btree.h"

#define THIN_BUILD_LEN THIN_BLOCK_LEN
#define THIN_BUILD_FIT_MAX 252u
#define THIN_BUILD_DEVICES 16 /* details of 18 fit into a leaf */

struct thin_build {
	int fd;
	uint8_t *map;         /* the file */
	uint64_t cap;         /* blocks */
	uint64_t next, epoch; /* free from; older ones are shared */
	uint32_t fit;         /* entries of a node of mappings */
	uint64_t mapping_root, details_root, held;
	unsigned devices;
	struct {
		uint32_t id;
		uint64_t root, mapped;
	} device[THIN_BUILD_DEVICES]; /* in the order of their ids */
};

/* An empty pool in an empty file of `blocks`. */
static inline void
thin_build_init(struct thin_build *b, int fd, uint64_t blocks, uint32_t fit)
{
	assert(fit >= 3 && fit <= THIN_BUILD_FIT_MAX && fit % 3 == 0);
	if (ftruncate(fd, (off_t)(blocks * THIN_BUILD_LEN)) < 0)
		abort();
	*b =
	    (struct thin_build){.fd = fd, .cap = blocks, .next = 1, .fit = fit};
	b->map = mmap(NULL, blocks * THIN_BUILD_LEN, PROT_READ | PROT_WRITE,
	    MAP_SHARED, fd, 0);
	if (b->map == MAP_FAILED)
		abort();
}

static inline void
thin_build_fini(struct thin_build *b)
{
	munmap(b->map, b->cap * THIN_BUILD_LEN);
}

static inline uint8_t *
thin_build_at(const struct thin_build *b, uint64_t block)
{
	assert(block < b->cap);
	return b->map + block * THIN_BUILD_LEN;
}

/* ---- nodes, by their block ---- */

static inline uint64_t
tb_new(struct thin_build *b, bool leaf, uint32_t value_size, uint32_t fit)
{
	uint64_t block = b->next++;
	uint8_t *p = thin_build_at(b, block);

	bytes_put_le32(p + 4, leaf ? 2 : 1);
	bytes_put_le64(p + 8, block);
	bytes_put_le32(p + 20, fit);
	bytes_put_le32(p + 24, value_size);
	return block;
}

static inline uint32_t
tb_n(const struct thin_build *b, uint64_t block)
{
	return bytes_le32(thin_build_at(b, block) + 16);
}

static inline bool
tb_leaf(const struct thin_build *b, uint64_t block)
{
	return bytes_le32(thin_build_at(b, block) + 4) == 2;
}

static inline uint8_t *
tb_key(const struct thin_build *b, uint64_t block, uint32_t i)
{
	return thin_build_at(b, block) + 32 + 8 * i;
}

static inline uint8_t *
tb_value(const struct thin_build *b, uint64_t block, uint32_t i)
{
	uint8_t *p = thin_build_at(b, block);

	return p + 32 + 8 * bytes_le32(p + 20) + bytes_le32(p + 24) * i;
}

static inline void
tb_set(struct thin_build *b, uint64_t block, uint32_t i, uint64_t key,
    uint64_t value)
{
	bytes_put_le64(tb_key(b, block, i), key);
	bytes_put_le64(tb_value(b, block, i), value);
}

/* Entry i moves by one, and with it all behind. */
static inline void
tb_shift(struct thin_build *b, uint64_t block, uint32_t i, int by)
{
	uint32_t n = tb_n(b, block), from = by > 0 ? i : i + 1;

	memmove(tb_key(b, block, from) + 8 * by, tb_key(b, block, from),
	    8 * (n - from));
	memmove(tb_value(b, block, from) + 8 * by, tb_value(b, block, from),
	    8 * (n - from));
	bytes_put_le32(thin_build_at(b, block) + 16, (uint32_t)((int)n + by));
}

/* The node itself where it is new, else a copy that may be changed. */
static inline uint64_t
tb_shadow(struct thin_build *b, uint64_t block)
{
	uint64_t copy = b->next;

	if (block >= b->epoch)
		return block;
	b->next++;
	memcpy(thin_build_at(b, copy), thin_build_at(b, block), THIN_BUILD_LEN);
	bytes_put_le64(thin_build_at(b, copy) + 8, copy);
	return copy;
}

/* The last entry not above `key`, 0 where all are. */
static inline uint32_t
tb_search(const struct thin_build *b, uint64_t block, uint64_t key)
{
	uint32_t i = 0;

	while (i + 1 < tb_n(b, block) &&
	       bytes_le64(tb_key(b, block, i + 1)) <= key)
		i++;
	return i;
}

/* Its upper half moves to a node of its own, where it is full. */
static inline uint64_t
tb_split(struct thin_build *b, uint64_t block)
{
	uint8_t *p = thin_build_at(b, block);
	uint32_t n = tb_n(b, block), keep = (n + 1) / 2;
	uint64_t right;

	if (n < bytes_le32(p + 20))
		return 0;
	right = tb_new(b, tb_leaf(b, block), 8, bytes_le32(p + 20));
	memcpy(tb_key(b, right, 0), tb_key(b, block, keep), 8 * (n - keep));
	memcpy(tb_value(b, right, 0), tb_value(b, block, keep), 8 * (n - keep));
	bytes_put_le32(thin_build_at(b, right) + 16, n - keep);
	bytes_put_le32(p + 16, keep);
	return right;
}

/* ---- trees of 8-byte values, by their root ---- */

static inline uint64_t
tb_empty(struct thin_build *b)
{
	return tb_new(b, true, 8, b->fit);
}

static inline void
tb_add_entry(struct thin_build *b, uint64_t block, uint64_t key, uint64_t value,
    uint64_t *right)
{
	uint32_t i;

	*right = tb_split(b, block);
	if (*right != 0 && key >= bytes_le64(tb_key(b, *right, 0)))
		block = *right;
	for (i = 0; i < tb_n(b, block); i++)
		if (bytes_le64(tb_key(b, block, i)) > key)
			break;
	tb_shift(b, block, i, 1);
	tb_set(b, block, i, key, value);
}

static inline uint64_t
tb_put_node(struct thin_build *b, uint64_t block, uint64_t key, uint64_t value,
    uint64_t *right)
{
	uint64_t child, beside = 0;
	uint32_t i;

	*right = 0;
	block = tb_shadow(b, block);
	i = tb_search(b, block, key);
	if (tb_leaf(b, block)) {
		if (tb_n(b, block) > 0 &&
		    bytes_le64(tb_key(b, block, i)) == key)
			tb_set(b, block, i, key, value);
		else
			tb_add_entry(b, block, key, value, right);
		return block;
	}
	if (key < bytes_le64(tb_key(b, block, i)))
		bytes_put_le64(tb_key(b, block, i), key);
	child = bytes_le64(tb_value(b, block, i));
	child = tb_put_node(b, child, key, value, &beside);
	bytes_put_le64(tb_value(b, block, i), child);
	if (beside != 0)
		tb_add_entry(
		    b, block, bytes_le64(tb_key(b, beside, 0)), beside, right);
	return block;
}

static inline uint64_t
tb_put(struct thin_build *b, uint64_t root, uint64_t key, uint64_t value)
{
	uint64_t right, left = tb_put_node(b, root, key, value, &right);

	if (right == 0)
		return left;
	root = tb_new(b, false, 8, b->fit);
	bytes_put_le32(thin_build_at(b, root) + 16, 2);
	tb_set(b, root, 0, bytes_le64(tb_key(b, left, 0)), left);
	tb_set(b, root, 1, bytes_le64(tb_key(b, right, 0)), right);
	return root;
}

/* 0: nothing is left of it. */
static inline uint64_t
tb_remove_node(struct thin_build *b, uint64_t block, uint64_t key)
{
	uint32_t i = tb_search(b, block, key);
	uint64_t child = 0;

	block = tb_shadow(b, block);
	if (!tb_leaf(b, block))
		child =
		    tb_remove_node(b, bytes_le64(tb_value(b, block, i)), key);
	if (child != 0)
		bytes_put_le64(tb_value(b, block, i), child);
	else
		tb_shift(b, block, i, -1);
	return tb_n(b, block) > 0 ? block : 0;
}

/* The key is there. */
static inline uint64_t
tb_remove(struct thin_build *b, uint64_t root, uint64_t key)
{
	root = tb_remove_node(b, root, key);
	while (root != 0 && !tb_leaf(b, root) && tb_n(b, root) == 1)
		root = bytes_le64(tb_value(b, root, 0));
	return root != 0 ? root : tb_empty(b);
}

/* One level of nodes over n entries; their count replaces n. */
static inline uint64_t
tb_level(
    struct thin_build *b, bool leaf, uint64_t *key, uint64_t *value, uint64_t n)
{
	uint64_t nodes = 0;

	for (uint64_t i = 0; i < n; nodes++) {
		uint64_t block = tb_new(b, leaf, 8, b->fit), first = i;
		uint64_t of_level = (n + b->fit - 1) / b->fit;
		/* As many in each, so that none is nearly empty. */
		uint64_t end = n * (nodes + 1) / of_level;

		for (; i < end; i++)
			tb_set(
			    b, block, (uint32_t)(i - first), key[i], value[i]);
		bytes_put_le32(
		    thin_build_at(b, block) + 16, (uint32_t)(i - first));
		key[nodes] = key[first];
		value[nodes] = block;
	}
	return nodes;
}

/* A tree of n sorted entries at once; the arrays are used up. */
static inline uint64_t
tb_bulk(struct thin_build *b, uint64_t *key, uint64_t *value, uint64_t n)
{
	if (n == 0)
		return tb_empty(b);
	n = tb_level(b, true, key, value, n);
	while (n > 1)
		n = tb_level(b, false, key, value, n);
	return value[0];
}

/* ---- devices ---- */

static inline uint64_t
thin_build_value(uint64_t data, uint32_t time)
{
	return data << 24 | time;
}

/* From now on every node that exists is shared. */
static inline unsigned
thin_build_device(
    struct thin_build *b, uint32_t id, uint64_t root, uint64_t mapped)
{
	unsigned d = b->devices++;

	assert(d < THIN_BUILD_DEVICES);
	assert(d == 0 || b->device[d - 1].id < id);
	b->device[d].id = id;
	b->device[d].root = root;
	b->device[d].mapped = mapped;
	b->epoch = b->next;
	return d;
}

/* Its checksum made right. */
static inline void
thin_build_seal(struct thin_build *b, uint64_t block)
{
	uint8_t *p = thin_build_at(b, block);
	bool super = block == 0 || block == b->held;

	bytes_put_le32(
	    p, thin_disk_sum(p, super ? THIN_SALT_SUPER : THIN_SALT_NODE));
}

static inline void
tb_super(struct thin_build *b, uint64_t block, uint64_t held)
{
	uint8_t *p = thin_build_at(b, block);

	memset(p, 0, THIN_BUILD_LEN);
	bytes_put_le64(p + 8, block);
	bytes_put_le64(p + 32, 27022010);
	bytes_put_le32(p + 40, 2);
	bytes_put_le32(p + 44, 7);  /* time */
	bytes_put_le64(p + 48, 42); /* transaction */
	bytes_put_le64(p + 56, held);
	bytes_put_le64(p + 64, 1u << 30); /* blocks of data, in its space map */
	bytes_put_le64(p + 320, b->mapping_root);
	bytes_put_le64(p + 328, b->details_root);
	bytes_put_le32(p + 336, 128); /* sectors of a block of data */
	bytes_put_le32(p + 340, 8);
	bytes_put_le64(p + 344, b->cap);
	thin_build_seal(b, block);
}

/* The trees of devices, the superblock and its held copy, the checksums. */
static inline void
thin_build_finish(struct thin_build *b)
{
	uint64_t key[THIN_BUILD_DEVICES], root[THIN_BUILD_DEVICES];

	b->details_root = tb_new(b, true, 24, 18);
	bytes_put_le32(thin_build_at(b, b->details_root) + 16, b->devices);
	for (unsigned d = 0; d < b->devices; d++) {
		key[d] = b->device[d].id;
		root[d] = b->device[d].root;
		bytes_put_le64(tb_key(b, b->details_root, d), key[d]);
		bytes_put_le64(
		    tb_value(b, b->details_root, d), b->device[d].mapped);
	}
	b->mapping_root = tb_bulk(b, key, root, b->devices);
	b->held = b->next++;
	for (uint64_t i = 1; i < b->held; i++)
		thin_build_seal(b, i);
	tb_super(b, b->held, 0);
	tb_super(b, 0, b->held);
}

#endif

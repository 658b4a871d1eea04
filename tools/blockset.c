/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/blockset.h"

#include <assert.h>
#include <string.h>

#include "agent/core/mem.h"

#define LEAF_BITS 32768u
#define LEAF_WORDS (LEAF_BITS / 64)

/* Stands for a leaf with all bits set; never written, never freed. */
static uint64_t full[1];

void
blockset_fini(struct blockset *s)
{
	for (size_t i = 0; i < s->leaves; i++)
		if (s->leaf[i] != full)
			free(s->leaf[i]);
	free(s->leaf);
	s->leaf = NULL;
	s->leaves = 0;
}

static void
need_leaves(struct blockset *s, size_t n)
{
	size_t to = s->leaves ? s->leaves : 1;

	if (n <= s->leaves)
		return;
	while (to < n)
		to *= 2;
	s->leaf = mem_grow(s->leaf, to, sizeof *s->leaf);
	memset(s->leaf + s->leaves, 0, (to - s->leaves) * sizeof *s->leaf);
	s->leaves = to;
}

static void
add_in_leaf(uint64_t **leaf, unsigned first, unsigned count)
{
	if (*leaf == full)
		return;
	if (count == LEAF_BITS) {
		free(*leaf);
		*leaf = full;
		return;
	}
	if (*leaf == NULL)
		*leaf = mem_array(LEAF_WORDS, sizeof **leaf);
	for (unsigned b = first; b < first + count; b++)
		(*leaf)[b / 64] |= 1ull << (b % 64);
}

void
blockset_add(struct blockset *s, uint64_t first, uint64_t count)
{
	while (count > 0) {
		uint64_t at = first / LEAF_BITS;
		unsigned bit = (unsigned)(first % LEAF_BITS);
		uint64_t n = LEAF_BITS - bit;

		if (n > count)
			n = count;
		need_leaves(s, (size_t)at + 1);
		add_in_leaf(&s->leaf[at], bit, (unsigned)n);
		first += n;
		count -= n;
	}
}

bool
blockset_has(const struct blockset *s, uint64_t block)
{
	uint64_t at = block / LEAF_BITS;
	unsigned bit = (unsigned)(block % LEAF_BITS);

	if (at >= s->leaves || s->leaf[at] == NULL)
		return false;
	if (s->leaf[at] == full)
		return true;
	return (s->leaf[at][bit / 64] >> (bit % 64) & 1) != 0;
}

uint64_t
blockset_run(const struct blockset *s, uint64_t first, uint64_t end)
{
	bool is = blockset_has(s, first);
	uint64_t at = first + 1;

	assert(first < end);
	/* Callers ask for a read's length, 256 blocks: bit by bit will do. */
	while (at < end && blockset_has(s, at) == is)
		at++;
	return at - first;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/gather.h"

#include <assert.h>
#include <string.h>

/* Append a block; joins the last extent where it continues it. */
static void
append(struct ingest_chunk *c, uint64_t object, uint64_t block,
    const uint8_t *data)
{
	struct ingest_extent *x =
	    c->extents > 0 ? &c->extent[c->extents - 1] : NULL;

	memcpy(c->plain + (size_t)c->blocks * CHUNK_BLOCK_BYTES, data,
	    CHUNK_BLOCK_BYTES);
	if (x != NULL && x->object == object && x->block + x->count == block) {
		x->count++;
	} else {
		c->extent[c->extents++] = (struct ingest_extent){
		    object, block, (uint16_t)c->blocks, 1};
	}
	c->blocks++;
}

static int
own_chunk(struct gather *g, uint64_t object, uint64_t block,
    const uint8_t *data, uint32_t mask, struct err *e)
{
	struct ingest_chunk *c;
	int rc = ingest_take(g->ingest, &c, e);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < CHUNK_BLOCKS; i++)
		if (mask & (1u << i))
			append(c, object, block + i,
			    data + (size_t)i * CHUNK_BLOCK_BYTES);
	return ingest_put(g->ingest, c, e);
}

int
gather_piece(struct gather *g, uint64_t object, uint64_t block,
    const uint8_t *data, uint32_t mask, struct err *e)
{
	if ((unsigned)__builtin_popcount(mask) >= GATHER_OWN_BLOCKS)
		return own_chunk(g, object, block, data, mask, e);
	for (unsigned i = 0; i < CHUNK_BLOCKS; i++) {
		int rc = 0;

		if ((mask & (1u << i)) == 0)
			continue;
		if (g->open == NULL)
			rc = ingest_take(g->ingest, &g->open, e);
		if (rc < 0)
			return rc;
		append(g->open, object, block + i,
		    data + (size_t)i * CHUNK_BLOCK_BYTES);
		if (g->open->blocks == CHUNK_BLOCKS)
			rc = gather_flush(g, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int
gather_flush(struct gather *g, struct err *e)
{
	struct ingest_chunk *c = g->open;

	g->open = NULL;
	return c == NULL ? 0 : ingest_put(g->ingest, c, e);
}

void
gather_drop(struct gather *g)
{
	if (g->open != NULL)
		ingest_drop(g->ingest, g->open);
	g->open = NULL;
}

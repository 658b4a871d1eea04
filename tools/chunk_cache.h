/*
 * Plain chunks in memory, within a fixed budget that is taken at the start.
 * Two readers of one chunk decode it once. Thread-safe.
 *
 * A caller holds at most one chunk at a time: with more, threads could wait
 * for each other's places for ever.
 */
#ifndef NEAP_TOOLS_CHUNK_CACHE_H
#define NEAP_TOOLS_CHUNK_CACHE_H

#include "agent/store/store.h"

#define CHUNK_CACHE_BYTES (64u << 20)

struct chunk_cache;
struct chunk_cache_entry;

struct chunk_cache_hold {
	struct chunk_cache_entry *entry;
	const uint8_t *data;
	unsigned blocks;
};

int chunk_cache_new(
    struct chunk_cache **out, struct store *s, size_t bytes, struct err *e);
void chunk_cache_free(struct chunk_cache *c); /* NULL is fine */

/* Decodes it where it is not there; the errors of store_chunk. */
int chunk_cache_get(struct chunk_cache *c, const struct chunk_id *id,
    struct chunk_cache_hold *out, struct err *e);
void chunk_cache_put(struct chunk_cache *c, struct chunk_cache_hold *h);

uint64_t chunk_cache_decoded(const struct chunk_cache *c); /* chunks so far */

#endif

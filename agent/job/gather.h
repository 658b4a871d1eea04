/*
 * From changed blocks to chunks. A run of at least half a chunk within one
 * 128 KiB piece becomes a chunk of its own, so that equal files meet; what is
 * scattered, and small files, are gathered in order into shared chunks.
 * One thread's.
 */
#ifndef NEAP_JOB_GATHER_H
#define NEAP_JOB_GATHER_H

#include "agent/store/ingest.h"

/*
 * 16 of 32 blocks: below that the 44 bytes of index and map that a chunk costs,
 * and the smaller window for zstd, outweigh what dedup could find.
 */
#define GATHER_OWN_BLOCKS 16u

struct gather {
	struct ingest *ingest;
	struct ingest_chunk *open; /* being filled; or NULL */
};

/*
 * Blocks of one piece of an object: bit i of `mask` says that block + i (at
 * data + i * 4096) is to be stored.
 */
int gather_piece(struct gather *g, uint64_t object, uint64_t block,
    const uint8_t *data, uint32_t mask, struct err *e);
int gather_flush(struct gather *g, struct err *e);
void gather_drop(struct gather *g);

#endif

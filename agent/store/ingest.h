/*
 * The way in: chunks of plain blocks → digest → known? → compress → seal →
 * open and compare again → pack. One submitting thread, `workers` threads,
 * one writer; memory is fixed at start.
 *
 *	c = ingest_take(...);  fill c->plain, c->blocks, c->extents;
 *	ingest_put(c);
 *
 * For each chunk the `done` callback runs once, on the writer's thread, in the
 * order of the puts: chunk->id is then set.
 *
 * An index is fed by one ingest at a time: it gets the entries of whole packs
 * only, and is flushed when those are synced.
 */
#ifndef NEAP_STORE_INGEST_H
#define NEAP_STORE_INGEST_H

#include "agent/store/chunk.h"
#include "agent/store/index.h"

struct ingest;

struct ingest_extent { /* which blocks of an object lie in the chunk */
	uint64_t object, block;
	uint16_t slot, count;
};

struct ingest_chunk {
	uint8_t *plain; /* CHUNK_BYTES, page-aligned */
	unsigned blocks;
	unsigned extents;
	struct ingest_extent extent[CHUNK_BLOCKS];
	struct chunk_id id; /* set when done */
};

struct ingest_stats {
	uint64_t chunks, known_chunks; /* submitted; found in the index */
	uint64_t new_bytes;    /* plain bytes stored for the first time */
	uint64_t stored_bytes; /* pack bytes, directories included */
	uint64_t packs, index_bytes;
};

typedef int ingest_done_fn(
    void *arg, const struct ingest_chunk *c, struct err *e);

struct ingest_how {
	struct repo *repo;
	const struct keys *keys;
	struct index *index;
	int zstd_level;
	unsigned workers; /* 0: one for each processor */
	unsigned buffers; /* chunks in flight; 0: 64 */
	ingest_done_fn *done;
	void *arg;
};

int ingest_start(
    struct ingest **out, const struct ingest_how *how, struct err *e);
/* Waits for a free chunk; an earlier failure of the pipeline is returned. */
int ingest_take(struct ingest *g, struct ingest_chunk **out, struct err *e);
int ingest_put(struct ingest *g, struct ingest_chunk *c, struct err *e);
/* Give back a taken chunk unused. */
void ingest_drop(struct ingest *g, struct ingest_chunk *c);
/*
 * Wait for all, finish the last pack, sync packs, flush the index, sync it.
 * After 0, every chunk put can be read back after a power cut. Frees `g`.
 */
int ingest_finish(struct ingest *g, struct ingest_stats *stats, struct err *e);
/* Stop. Whole packs stay and are found by index_recover. Frees `g`, and the
 * chunks that are taken. */
void ingest_abort(struct ingest *g); /* NULL is fine */

#endif

/*
 * The index: chunk id → where it lies. All segments under index/ together,
 * less those that another names as superseded. Nothing of it is on the heap
 * but the entries that this process added and has not yet flushed (bounded).
 *
 * Thread-safe.
 */
#ifndef NEAP_STORE_INDEX_H
#define NEAP_STORE_INDEX_H

#include "agent/store/chunk.h"
#include "agent/store/table.h"

struct index;

/* Entries kept in memory before index_full says that a flush is due. */
#define INDEX_PENDING_MAX 65536u

int index_open(
    struct index **out, struct repo *r, const struct keys *k, struct err *e);
void index_close(struct index *x);

/* 1 found, 0 unknown, < 0 error. Sees pending entries too. */
int index_find(struct index *x, const struct chunk_id *id,
    struct chunk_place *out, struct err *e);
/* A chunk that this process has written (or is about to); 0, or -EEXIST. */
int index_add(struct index *x, const struct chunk_id *id,
    const struct chunk_place *at, struct err *e);
bool index_full(const struct index *x);
/*
 * Write the pending entries as a segment. The packs that they name are whole
 * and synced before (law 4). Merges small segments geometrically. The caller
 * syncs the repository afterwards. *written: bytes.
 */
int index_flush(struct index *x, uint64_t *written, struct err *e);
/*
 * After an interrupted run: packs that no segment names are read (directories
 * only) and their chunks added as pending. Returns how many packs.
 */
int index_recover(struct index *x, struct err *e);

uint64_t index_count(const struct index *x);

#endif

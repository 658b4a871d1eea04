/*
 * The index: chunk id → where it lies. All segments under index/ together,
 * less those that another names as superseded. Nothing of it is on the heap
 * but the entries that this process added and has not yet flushed (bounded).
 *
 * A chunk may be in several packs. One whose pack is absent (after
 * index_recover has looked) counts as unknown, so that nothing new refers to
 * it; its entry stays, for the pack may come back.
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
/*
 * For readers: one place of the chunk after the other, whether its pack is
 * there or not. 1 the place number `nth`, 0 no more, < 0 error.
 */
int index_find_nth(struct index *x, const struct chunk_id *id, unsigned nth,
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
 * Hold the index against packs/, by one listing. Packs that no segment names
 * (a run was interrupted, a segment got lost) are read, directories only, and
 * their chunks added as pending. Returns how many packs. Those that a segment
 * names and that are not there are told by index_absent from now on.
 */
int index_recover(struct index *x, struct err *e);
struct index_absent {
	uint64_t packs;
	uint64_t mark;     /* another one for another set; 0: none is absent */
	uint8_t first[16]; /* one of them */
};
struct index_absent index_absent(const struct index *x);

uint64_t index_count(const struct index *x);

#endif

/*
 * What the files of the index share: a segment open for reading, the table of
 * pending entries, and the writing of a segment out of both.
 */
#ifndef NEAP_STORE_INDEX_INTERNAL_H
#define NEAP_STORE_INDEX_INTERNAL_H

#include <pthread.h>

#include "agent/store/index.h"
#include "agent/store/table_internal.h"

#define INDEX_TAG_CHUNK 'C'
#define INDEX_TAG_PACK 'P'
#define INDEX_TAG_OLDER 'S'

/* ---- a growing list of 16-byte ids ---- */

struct index_ids {
	uint8_t (*v)[TABLE_ID_LEN];
	size_t n, cap;
};

void index_ids_add(struct index_ids *l, const uint8_t id[TABLE_ID_LEN]);
void index_ids_sort(struct index_ids *l); /* and drop what is there twice */
/* Position in a sorted list; -1: not there. */
int64_t index_ids_find(
    const struct index_ids *l, const uint8_t id[TABLE_ID_LEN]);
void index_ids_free(struct index_ids *l);

/* ---- entries not yet written ---- */

struct index_entry {
	struct chunk_id id;
	struct chunk_place at;
};

/* A hash table by the chunk id, whose bytes are already a hash. */
struct index_pending {
	struct index_entry *entry;
	size_t n, cap;
	uint32_t *slot; /* 1 + position in `entry`; 0: free */
	size_t slots;   /* a power of two */
};

const struct index_entry *index_pending_find(
    const struct index_pending *p, const struct chunk_id *id);
/* False: it is there already. */
bool index_pending_add(struct index_pending *p, const struct chunk_id *id,
    const struct chunk_place *at);
void index_pending_sort(struct index_pending *p); /* no more look-ups after */
void index_pending_free(struct index_pending *p);

/* ---- a segment ---- */

struct index_segment {
	struct table *table;
	uint64_t chunks;
	struct index_ids older; /* segments that it names as contained */
};

int index_segment_open(struct index_segment **out, struct repo *r,
    const struct keys *k, const uint8_t id[TABLE_ID_LEN], struct err *e);
void index_segment_close(struct index_segment *s); /* NULL is fine */
int index_segment_find(struct index_segment *s, const struct chunk_id *id,
    struct chunk_place *out, struct err *e);
/* Pack ids by number, appended to `out`. */
int index_segment_packs(
    struct index_segment *s, struct index_ids *out, struct err *e);

/* The value of a chunk's entry. */
#define INDEX_PLACE_LEN 12
void index_encode_place(uint8_t out[INDEX_PLACE_LEN], uint32_t pack_number,
    const struct chunk_place *at);
/* All but the pack's id; -EBADMSG. */
int index_decode_place(struct chunk_place *out, uint32_t *pack_number,
    struct span value, struct err *e);

/*
 * One new segment out of `pending` (sorted) and the segments given, with `S`
 * entries for the ids in `older` (sorted). Of two places of a chunk the one
 * whose pack is in `absent` (sorted) is left out.
 */
int index_write(struct repo *r, const struct keys *k,
    const struct index_pending *pending, struct index_segment *const *seg,
    size_t n, const struct index_ids *older, const struct index_ids *absent,
    uint8_t id[TABLE_ID_LEN], uint64_t *len, struct err *e);

/* ---- the index itself ---- */

struct index {
	struct repo *repo;
	const struct keys *keys;

	pthread_mutex_t flush;      /* one flush at a time */
	pthread_rwlock_t segs;      /* seg, segs_n; written by a flush only */
	struct index_segment **seg; /* most chunks first */
	size_t seg_n, seg_cap;
	struct index_ids dead;   /* files that a segment contains; sorted */
	struct index_ids absent; /* packs that are not there; sorted; as seg */

	pthread_mutex_t lock; /* pending, flushing */
	struct index_pending pending, flushing;
};

/* With `segs` held for writing, or while nobody else has the index. */
void index_sort_segments(struct index *x);

#endif

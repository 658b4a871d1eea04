/*
 * The packing end of an ingest: which chunks are on their way, the pack being
 * written, and its way into the index. An id is claimed from before its chunk
 * is compressed until its pack is whole and in the index, so that of equal
 * chunks in flight one is stored, and the index only ever has entries of whole
 * packs. Internal to agent/store.
 *
 * claim and release may be called from any thread, the rest from one.
 */
#ifndef NEAP_STORE_INGEST_PACK_H
#define NEAP_STORE_INGEST_PACK_H

#include <pthread.h>

#include "agent/store/idset.h"
#include "agent/store/ingest.h"
#include "agent/store/pack.h"

struct ingest_pack {
	struct repo *repo;
	const struct keys *keys;
	struct index *index;
	struct pack_writer *writer; /* NULL: none begun */
	struct seal *seal;          /* the pack's, our clone */
	struct pack_entry *entry;   /* of the pack being written */
	size_t n, cap;
	uint8_t *sealed, *again;   /* one frame; opened again */
	struct ingest_stats stats; /* its part of them */
	pthread_mutex_t lock;
	struct idset claimed;
};

int ingest_pack_init(
    struct ingest_pack *p, const struct ingest_how *how, struct err *e);
void ingest_pack_fini(struct ingest_pack *p); /* drops an unfinished pack */

/* True: the caller stores this chunk. False: somebody is at it already. */
bool ingest_pack_claim(struct ingest_pack *p, const struct chunk_id *id);
void ingest_pack_release(struct ingest_pack *p, const struct chunk_id *id);

/* Seal, open again and compare, put; en->id, blocks and codec are set. */
int ingest_pack_add(struct ingest_pack *p, struct pack_entry *en,
    struct span packed, struct err *e);
/* The last pack, sync, index, sync. */
int ingest_pack_finish(struct ingest_pack *p, struct err *e);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index against the packs: those that a killed run left whole, with chunks
 * that no segment names; and those that segments name and that are not there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "agent/core/mem.h"
#include "agent/store/index_internal.h"
#include "agent/store/pack.h"

struct recover {
	struct index_ids known; /* packs that are in the index; sorted */
	bool *there;            /* for each of them */
	struct index_ids lost;  /* those that are not in the index */
};

static int
look_at_pack(void *arg, const char *name, uint64_t len, struct err *e)
{
	struct recover *rec = arg;
	const char *slash = strrchr(name, '/');
	uint8_t id[TABLE_ID_LEN];
	int64_t i;

	(void)len;
	(void)e;
	if (bytes_unhex(id, sizeof id, slash ? slash + 1 : name) < 0)
		return 0;
	i = index_ids_find(&rec->known, id);
	if (i >= 0)
		rec->there[i] = true;
	else
		index_ids_add(&rec->lost, id);
	return 0;
}

/* In the order of `known`, which is sorted. */
static void
set_absent(struct index *x, const struct recover *rec)
{
	pthread_mutex_lock(&x->flush); /* it is read by a flush */
	pthread_rwlock_wrlock(&x->segs);
	x->absent.n = 0;
	for (size_t i = 0; i < rec->known.n; i++)
		if (!rec->there[i])
			index_ids_add(&x->absent, rec->known.v[i]);
	pthread_rwlock_unlock(&x->segs);
	pthread_mutex_unlock(&x->flush);
}

struct index_absent
index_absent(const struct index *cx)
{
	struct index *x = (struct index *)cx; /* for the lock only */
	struct index_absent a = {0};

	pthread_rwlock_rdlock(&x->segs);
	a.packs = x->absent.n;
	if (a.packs > 0) {
		memcpy(a.first, x->absent.v[0], sizeof a.first);
		/* 63 bits: it goes into a JSON integer. */
		a.mark = XXH3_64bits(
			     x->absent.v, x->absent.n * sizeof *x->absent.v) >>
			     1 |
			 1;
	}
	pthread_rwlock_unlock(&x->segs);
	return a;
}

static int
list_known(struct index *x, struct index_ids *known, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&x->lock);
	for (size_t i = 0; i < x->pending.n; i++) {
		const uint8_t *pack = x->pending.entry[i].at.pack;

		if (known->n == 0 ||
		    memcmp(known->v[known->n - 1], pack, TABLE_ID_LEN) != 0)
			index_ids_add(known, pack);
	}
	pthread_mutex_unlock(&x->lock);
	pthread_mutex_lock(&x->flush); /* the list of segments stays */
	for (size_t i = 0; rc == 0 && i < x->seg_n; i++)
		rc = index_segment_packs(x->seg[i], known, e);
	pthread_mutex_unlock(&x->flush);
	index_ids_sort(known);
	return rc;
}

/*
 * 1: its chunks are pending; 0: it is of no use. A pack that vanished was
 * pruned. A damaged one that no segment names holds nothing that a backup
 * needs, and must not stop every backup from now on: verify reports it.
 */
static int
recover_pack(struct index *x, const uint8_t id[TABLE_ID_LEN], struct err *e)
{
	struct pack_entry *entry;
	size_t n;
	int rc = pack_directory(x->repo, x->keys, id, &entry, &n, e);

	if (rc == -ENOENT || rc == -EBADMSG)
		return err_clear(e);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&x->lock);
	for (size_t i = 0; i < n; i++) {
		struct chunk_place at = {.off = entry[i].off,
		    .len = entry[i].len,
		    .blocks = entry[i].blocks,
		    .codec = entry[i].codec};

		memcpy(at.pack, id, sizeof at.pack);
		index_pending_add(&x->pending, &entry[i].id, &at);
	}
	pthread_mutex_unlock(&x->lock);
	free(entry);
	return 1;
}

/* So that a lost index/ folder does not come back on the heap. The packs are
 * synced first: the process that put them may have been killed before. */
static int
flush_if_full(struct index *x, struct err *e)
{
	uint64_t written;
	int rc = 0;

	if (index_full(x)) {
		rc = repo_sync(x->repo, e);
		if (rc == 0)
			rc = index_flush(x, &written, e);
	}
	return rc;
}

int
index_recover(struct index *x, struct err *e)
{
	struct recover rec = {0};
	int rc = list_known(x, &rec.known, e), packs = 0;

	rec.there = mem_array(rec.known.n + 1, sizeof *rec.there);
	if (rc == 0)
		rc = repo_list_names(x->repo, "packs", look_at_pack, &rec, e);
	if (rc == 0)
		set_absent(x, &rec);
	for (size_t i = 0; rc == 0 && i < rec.lost.n; i++) {
		rc = recover_pack(x, rec.lost.v[i], e);
		if (rc > 0) {
			packs++;
			rc = flush_if_full(x, e);
		}
	}
	index_ids_free(&rec.known);
	free(rec.there);
	index_ids_free(&rec.lost);
	return rc < 0 ? err_wrap(e, "find packs that the index lacks") : packs;
}

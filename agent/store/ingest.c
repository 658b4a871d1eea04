/* SPDX-License-Identifier: Apache-2.0 */
/*
 * take ── free queue ──< writer gives buffers back
 * put ──> work queue ──> workers ──> ring, by number of the put ──> writer
 *
 * Workers do what is dear (digest, compress, unpack and compare); the writer
 * seals, opens again, and writes in the order of the puts. Sealing there and
 * not in the workers is free: GCM runs at 4.3 GB/s over compressed bytes.
 */
#include "agent/store/ingest.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/mem.h"
#include "agent/core/queue.h"
#include "agent/store/codec.h"
#include "agent/store/ingest_pack.h"

#define BUFFERS 64
#define WORKERS_MAX 256
/* The reader and the writer do little for a chunk: when both were woken for
 * each, that was a tenth of a first backup's CPU time. */
#define WRITE_AT_ONCE 8

struct slot {
	struct ingest_chunk chunk; /* first: callers hold this */
	uint8_t *packed;
	size_t packed_len;
	enum codec_id codec;
	bool ours;  /* claimed by this chunk: the writer stores it */
	bool ready; /* under the lock: the worker is through */
};

struct worker {
	struct ingest *g;
	pthread_t thread;
	struct codec *codec;
	struct chunk_digest *digest;
	uint8_t *again; /* a chunk unpacked again */
};

struct ingest {
	struct ingest_how how;
	struct ingest_pack pack;
	struct slot *slot;       /* how.buffers of them */
	uint8_t *plain, *packed; /* their memory */
	struct queue idle, work;
	struct worker *worker;
	unsigned workers; /* threads that run */
	pthread_t writer;
	bool writing;           /* the writer runs */
	uint64_t chunks, known; /* the writer's counts */

	pthread_mutex_t lock;    /* of all below */
	pthread_cond_t progress; /* what the writer waits for */
	struct slot **ring;      /* ring[number of the put % buffers] */
	uint64_t put;            /* chunks put so far */
	uint64_t ready;          /* of these, through with the workers */
	uint64_t taken;          /* of these, the writer has had */
	bool ended;              /* no more will come */
	struct err err;          /* the first failure */
};

/* ---- failure ------------------------------------------------------------ */

/* The first error stops everything: nobody waits after this. */
static void
fail(struct ingest *g, const struct err *e)
{
	pthread_mutex_lock(&g->lock);
	if (g->err.code == 0)
		err_copy(&g->err, e);
	pthread_cond_broadcast(&g->progress);
	pthread_mutex_unlock(&g->lock);
	queue_close(&g->idle);
	queue_close(&g->work);
}

/* 0, or the first failure. */
static int
failure(struct ingest *g, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&g->lock);
	if (g->err.code < 0)
		rc = err_copy(e, &g->err);
	pthread_mutex_unlock(&g->lock);
	return rc;
}

/* With the lock held: is there something for the writer to do? Less than
 * WRITE_AT_ONCE only when nothing is with the workers, so nothing waits for
 * ever. */
static bool
worth_writing(const struct ingest *g)
{
	if (g->taken == g->put)
		return g->ended;
	return g->ring[g->taken % g->how.buffers]->ready &&
	       (g->ready - g->taken >= WRITE_AT_ONCE || g->ready == g->put);
}

/* ---- workers ------------------------------------------------------------ */

static int
pack_and_compare(
    struct worker *w, struct slot *s, struct span plain, struct err *e)
{
	int rc = codec_pack(
	    w->codec, plain, s->packed, &s->packed_len, &s->codec, e);

	if (rc < 0)
		return rc;
	rc = codec_unpack(w->codec, s->codec, SPAN(s->packed, s->packed_len),
	    w->again, plain.len, e);
	if (rc == 0 && memcmp(w->again, plain.data, plain.len) == 0)
		return 0;
	return err_set(e, -EIO,
	    "a chunk just compressed does not unpack to what it was: suspect "
	    "this machine's memory; nothing of it was stored");
}

static int
digest_and_pack(struct worker *w, struct slot *s, struct err *e)
{
	struct ingest_chunk *c = &s->chunk;
	struct span plain = SPAN(c->plain, c->blocks * CHUNK_BLOCK_BYTES);
	struct ingest *g = w->g;
	struct chunk_place at;
	int rc = chunk_digest_of(w->digest, plain, &c->id, e);

	if (rc < 0)
		return rc;
	/* Claim first, look up then: a claim ends only after the chunk is in
	 * the index, so one of the two always sees it. */
	s->ours = ingest_pack_claim(&g->pack, &c->id);
	if (!s->ours)
		return 0;
	rc = index_find(g->how.index, &c->id, &at, e);
	if (rc < 0)
		return rc;
	if (rc > 0) {
		ingest_pack_release(&g->pack, &c->id);
		s->ours = false;
		return 0;
	}
	return pack_and_compare(w, s, plain, e);
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct ingest *g = w->g;
	struct slot *s;

	while ((s = queue_get(&g->work)) != NULL) {
		struct err e = ERR_NONE;

		if (failure(g, &e) < 0)
			continue;
		if (digest_and_pack(w, s, &e) < 0) {
			fail(g, &e);
			continue;
		}
		pthread_mutex_lock(&g->lock);
		s->ready = true;
		g->ready++;
		if (worth_writing(g))
			pthread_cond_signal(&g->progress);
		pthread_mutex_unlock(&g->lock);
	}
	return NULL;
}

/* ---- the writer --------------------------------------------------------- */

/* The next chunk in the order of the puts; NULL: no more, or failed. */
static struct slot *
next_ready(struct ingest *g)
{
	struct slot *s = NULL;

	pthread_mutex_lock(&g->lock);
	if (g->taken == g->put || !g->ring[g->taken % g->how.buffers]->ready)
		while (g->err.code == 0 && !worth_writing(g))
			pthread_cond_wait(&g->progress, &g->lock);
	if (g->err.code == 0 && g->taken < g->put)
		s = g->ring[g->taken++ % g->how.buffers];
	pthread_mutex_unlock(&g->lock);
	return s;
}

static int
store_one(struct ingest *g, struct slot *s, struct err *e)
{
	struct pack_entry en = {
	    .id = s->chunk.id,
	    .blocks = (uint8_t)s->chunk.blocks,
	    .codec = (uint8_t)s->codec,
	};
	int rc = 0;

	g->chunks++;
	if (s->ours)
		rc = ingest_pack_add(
		    &g->pack, &en, SPAN(s->packed, s->packed_len), e);
	else
		g->known++;
	if (rc == 0 && g->how.done != NULL)
		rc = g->how.done(g->how.arg, &s->chunk, e);
	return rc < 0 ? rc : 0;
}

static void *
write_all(void *arg)
{
	struct ingest *g = arg;
	struct slot *s;

	while ((s = next_ready(g)) != NULL) {
		struct err e = ERR_NONE;

		if (store_one(g, s, &e) < 0) {
			fail(g, &e);
			break;
		}
		queue_put(&g->idle, s);
	}
	return NULL;
}

/* ---- start and end ------------------------------------------------------ */

static unsigned
processors(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		n = CPU_COUNT(&set);
	else
		n = (int)sysconf(_SC_NPROCESSORS_ONLN);
	return n < 1 ? 1 : (unsigned)n;
}

static int
take_buffers(struct ingest *g, struct err *e)
{
	size_t bound = codec_bound(CHUNK_BYTES), n = g->how.buffers;
	void *plain, *packed;
	int rc = mem_try_pages(&plain, n * CHUNK_BYTES, e);

	if (rc < 0)
		return rc;
	g->plain = plain;
	rc = mem_try_pages(&packed, n * bound, e);
	if (rc < 0)
		return rc;
	g->packed = packed;
	g->slot = mem_array(n, sizeof *g->slot);
	g->ring = mem_array(n, sizeof *g->ring);
	for (size_t i = 0; i < n; i++) {
		g->slot[i].chunk.plain = g->plain + i * CHUNK_BYTES;
		g->slot[i].packed = g->packed + i * bound;
		queue_put(&g->idle, &g->slot[i]);
	}
	return 0;
}

static int
start_worker(struct ingest *g, struct worker *w, struct err *e)
{
	void *again;
	int rc = mem_try_pages(&again, CHUNK_BYTES, e);

	if (rc < 0)
		return rc;
	w->g = g;
	w->again = again;
	rc = codec_new(&w->codec, g->how.zstd_level, e);
	if (rc == 0)
		rc = chunk_digest_new(&w->digest, g->how.keys, e);
	if (rc < 0)
		return rc;
	rc = pthread_create(&w->thread, NULL, work, w);
	if (rc != 0)
		return err_sys(e, rc, "start a worker thread");
	g->workers++;
	return 0;
}

static int
start_threads(struct ingest *g, struct err *e)
{
	int rc;

	for (unsigned i = 0; i < g->how.workers; i++)
		if (start_worker(g, &g->worker[i], e) < 0)
			return e->code;
	rc = pthread_create(&g->writer, NULL, write_all, g);
	if (rc != 0)
		return err_sys(e, rc, "start the writer thread");
	g->writing = true;
	return 0;
}

int
ingest_start(struct ingest **out, const struct ingest_how *how, struct err *e)
{
	struct ingest *g = mem_new(sizeof *g);
	int rc;

	g->how = *how;
	if (g->how.workers == 0)
		g->how.workers = processors();
	if (g->how.workers > WORKERS_MAX)
		g->how.workers = WORKERS_MAX;
	if (g->how.buffers == 0)
		g->how.buffers = BUFFERS;
	rc = ingest_pack_init(&g->pack, how, e);
	if (rc < 0) {
		free(g);
		return err_wrap(e, "start storing");
	}
	queue_init(&g->idle, g->how.buffers);
	queue_wake_at(&g->idle, g->how.buffers / 4, 1);
	queue_init(&g->work, g->how.buffers);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->progress, NULL);
	g->worker = mem_array(g->how.workers, sizeof *g->worker);
	rc = take_buffers(g, e);
	if (rc == 0)
		rc = start_threads(g, e);
	if (rc < 0) {
		ingest_abort(g);
		return err_wrap(e, "start storing");
	}
	*out = g;
	return 0;
}

/* All threads come home; by themselves when `ended` or a failure is set. */
static void
join(struct ingest *g)
{
	for (unsigned i = 0; i < g->workers; i++)
		pthread_join(g->worker[i].thread, NULL);
	if (g->writing)
		pthread_join(g->writer, NULL);
	g->workers = 0;
	g->writing = false;
}

static void
dispose(struct ingest *g)
{
	for (unsigned i = 0; i < g->how.workers; i++) {
		codec_free(g->worker[i].codec);
		chunk_digest_free(g->worker[i].digest);
		free(g->worker[i].again);
	}
	free(g->worker);
	queue_fini(&g->idle);
	queue_fini(&g->work);
	pthread_cond_destroy(&g->progress);
	pthread_mutex_destroy(&g->lock);
	ingest_pack_fini(&g->pack);
	free(g->ring);
	free(g->slot);
	free(g->packed);
	free(g->plain);
	free(g);
}

void
ingest_abort(struct ingest *g)
{
	struct err e = ERR_NONE;

	if (g == NULL)
		return;
	err_set(&e, -ECANCELED, "stopped");
	fail(g, &e);
	join(g);
	dispose(g);
}

int
ingest_finish(struct ingest *g, struct ingest_stats *stats, struct err *e)
{
	int rc;

	pthread_mutex_lock(&g->lock);
	g->ended = true;
	pthread_cond_broadcast(&g->progress);
	pthread_mutex_unlock(&g->lock);
	queue_close(&g->work);
	join(g);
	rc = failure(g, e);
	if (rc == 0)
		rc = ingest_pack_finish(&g->pack, e);
	if (rc == 0 && stats != NULL) {
		*stats = g->pack.stats;
		stats->chunks = g->chunks;
		stats->known_chunks = g->known;
	}
	dispose(g);
	return rc;
}

/* ---- submitting --------------------------------------------------------- */

int
ingest_take(struct ingest *g, struct ingest_chunk **out, struct err *e)
{
	struct slot *s = queue_get(&g->idle);
	int rc = failure(g, e);

	if (rc < 0)
		return rc;
	assert(s != NULL); /* the queue is closed by a failure only */
	s->chunk.blocks = 0;
	s->chunk.extents = 0;
	*out = &s->chunk;
	return 0;
}

int
ingest_put(struct ingest *g, struct ingest_chunk *c, struct err *e)
{
	struct slot *s = (struct slot *)c;

	assert(c->blocks >= 1 && c->blocks <= CHUNK_BLOCKS);
	assert(c->extents <= CHUNK_BLOCKS);
	pthread_mutex_lock(&g->lock);
	s->ready = false;
	g->ring[g->put++ % g->how.buffers] = s;
	pthread_mutex_unlock(&g->lock);
	if (queue_put(&g->work, s) < 0)
		return failure(g, e);
	return 0;
}

void
ingest_drop(struct ingest *g, struct ingest_chunk *c)
{
	queue_put(&g->idle, (struct slot *)c);
}

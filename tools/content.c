/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/content.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/mem.h"
#include "agent/core/queue.h"

/*
 * How far ahead of a sequential reader we decode. 4 MiB are 32 chunks: at the
 * 0.5 GB/s that one core decodes, 8 ms ahead; 16 such readers fit the cache.
 */
#define AHEAD_BYTES (4u << 20)
#define AHEAD_QUEUE 128
#define AHEAD_THREADS_MAX 4

struct ahead {
	uint64_t object, block;
};

struct content {
	struct map_view *view;
	struct chunk_cache *cache;
	struct queue queue; /* of struct ahead */
	pthread_t thread[AHEAD_THREADS_MAX];
	unsigned threads;
};

struct extent_list {
	struct map_extent *v;
	size_t n, cap;
};

static int
collect(void *arg, const struct map_extent *x)
{
	struct extent_list *l = arg;

	MEM_ROOM(l->v, l->n, l->cap);
	l->v[l->n++] = *x;
	return 0;
}

/* Copy what `x` has of [off, off + len) of the object. */
static int
copy_extent(struct content *c, const struct map_extent *x, uint64_t off,
    uint8_t *to, size_t len, struct err *e)
{
	uint64_t from = x->block * CHUNK_BLOCK_BYTES;
	uint64_t till = from + (uint64_t)x->count * CHUNK_BLOCK_BYTES;
	struct chunk_cache_hold h;
	size_t skip;
	int rc;

	rc = chunk_cache_get(c->cache, &x->chunk, &h, e);
	if (rc < 0)
		return rc;
	if (x->slot + x->count > h.blocks) {
		chunk_cache_put(c->cache, &h);
		return err_set(e, -EBADMSG,
		    "the map names slots %u to %u of "
		    "a chunk that has %u",
		    x->slot, x->slot + x->count - 1, h.blocks);
	}
	skip = (size_t)x->slot * CHUNK_BLOCK_BYTES;
	if (from < off) {
		skip += (size_t)(off - from);
		from = off;
	}
	if (till > off + len)
		till = off + len;
	if (till > from)
		memcpy(to + (from - off), h.data + skip, (size_t)(till - from));
	chunk_cache_put(c->cache, &h);
	return 0;
}

int
content_read(struct content *c, uint64_t object, uint64_t off, void *to,
    size_t len, struct err *e)
{
	struct extent_list l = {0};
	uint64_t first = off / CHUNK_BLOCK_BYTES;
	uint64_t end;
	int rc;

	memset(to, 0, len);
	if (len == 0)
		return 0;
	end = (off + len - 1) / CHUNK_BLOCK_BYTES + 1;
	rc = map_view_extents(
	    c->view, object, first, end - first, collect, &l, e);
	for (size_t i = 0; rc >= 0 && i < l.n; i++)
		rc = copy_extent(c, &l.v[i], off, to, len, e);
	free(l.v);
	return rc < 0 ? rc : 0;
}

/* ---- data and holes --------------------------------------------------- */

struct seek {
	uint64_t block; /* where we stand */
	bool data, found;
};

static int
on_seek(void *arg, const struct map_extent *x)
{
	struct seek *s = arg;

	if (s->data || x->block > s->block) {
		if (s->data)
			s->block = x->block;
		s->found = true;
		return 1;
	}
	s->block = x->block + x->count;
	return 0;
}

int
content_seek(struct content *c, uint64_t object, uint64_t off, uint64_t size,
    bool data, uint64_t *at, struct err *e)
{
	struct seek s = {.block = off / CHUNK_BLOCK_BYTES, .data = data};
	uint64_t end = (size + CHUNK_BLOCK_BYTES - 1) / CHUNK_BLOCK_BYTES;
	int rc = 0;

	if (s.block < end)
		rc = map_view_extents(
		    c->view, object, s.block, end - s.block, on_seek, &s, e);
	if (rc < 0)
		return rc;
	*at = data && !s.found ? size : s.block * CHUNK_BLOCK_BYTES;
	if (*at < off)
		*at = off;
	if (*at > size)
		*at = size;
	return 0;
}

/* ---- reading ahead --------------------------------------------------- */

static void
decode_ahead(struct content *c, const struct ahead *a)
{
	struct extent_list l = {0};
	struct err e = ERR_NONE;

	/* A failure is the reader's to meet and to report, not ours. */
	if (map_view_extents(c->view, a->object, a->block, CHUNK_BLOCKS,
		collect, &l, &e) < 0)
		l.n = 0;
	for (size_t i = 0; i < l.n; i++) {
		struct chunk_cache_hold h;

		if (chunk_cache_get(c->cache, &l.v[i].chunk, &h, &e) == 0)
			chunk_cache_put(c->cache, &h);
	}
	free(l.v);
}

static void *
ahead_main(void *arg)
{
	struct content *c = arg;
	struct ahead *a;

	while ((a = queue_get(&c->queue)) != NULL) {
		decode_ahead(c, a);
		free(a);
	}
	return NULL;
}

int
content_new(struct content **out, struct map_view *view,
    struct chunk_cache *cache, struct err *e)
{
	struct content *c = mem_new(sizeof *c);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned want = cpus < 1 ? 1 : (unsigned)cpus;

	c->view = view;
	c->cache = cache;
	queue_init(&c->queue, AHEAD_QUEUE);
	if (want > AHEAD_THREADS_MAX)
		want = AHEAD_THREADS_MAX;
	while (c->threads < want) {
		int rc =
		    pthread_create(&c->thread[c->threads], NULL, ahead_main, c);

		if (rc != 0) {
			content_free(c);
			return err_sys(e, rc, "start a read-ahead thread");
		}
		c->threads++;
	}
	*out = c;
	return 0;
}

void
content_free(struct content *c)
{
	struct ahead *a;

	if (c == NULL)
		return;
	queue_close(&c->queue);
	while ((a = queue_try_get(&c->queue)) != NULL)
		free(a);
	for (unsigned i = 0; i < c->threads; i++)
		pthread_join(c->thread[i], NULL);
	queue_fini(&c->queue);
	free(c);
}

static bool
has_room(struct queue *q)
{
	bool yes;

	pthread_mutex_lock(&q->lock);
	yes = q->count + 8 < q->cap;
	pthread_mutex_unlock(&q->lock);
	return yes;
}

void
content_follow(struct content *c, struct content_stream *s, uint64_t object,
    uint64_t off, size_t len, uint64_t size)
{
	uint64_t next = off + len;
	bool sequential = atomic_exchange(&s->next, next) == off && off > 0;
	uint64_t ahead = atomic_load(&s->ahead);
	uint64_t till = next + AHEAD_BYTES;

	if (!sequential) {
		atomic_store(&s->ahead, 0);
		return;
	}
	if (till > size)
		till = size;
	if (ahead < next)
		ahead = next;
	/* Guesses are dropped when there are too many: no reader ever waits. */
	while (ahead < till && has_room(&c->queue)) {
		struct ahead *a = mem_new(sizeof *a);

		a->object = object;
		a->block = ahead / CHUNK_BYTES * CHUNK_BLOCKS;
		ahead = (ahead / CHUNK_BYTES + 1) * CHUNK_BYTES;
		if (queue_put(&c->queue, a) < 0)
			free(a);
	}
	atomic_store(&s->ahead, ahead);
}

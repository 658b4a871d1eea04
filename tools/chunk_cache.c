/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/chunk_cache.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "agent/core/mem.h"

#define SHARDS 8u
#define BUCKETS 256u

enum state { EMPTY, LOADING, READY };

struct chunk_cache_entry {
	struct chunk_id id;
	enum state state;
	unsigned holds;
	unsigned blocks;
	uint8_t *data;
	struct chunk_cache_entry *chain;         /* of its bucket */
	struct chunk_cache_entry *newer, *older; /* by last use */
};

struct shard {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a load ended or a hold went */
	struct chunk_cache_entry *entry;
	struct chunk_cache_entry *bucket[BUCKETS];
	struct chunk_cache_entry *newest, *oldest;
};

struct chunk_cache {
	struct store *store;
	void *pages;
	struct chunk_cache_entry *entries;
	atomic_uint_fast64_t decoded;
	struct shard shard[SHARDS];
};

/* Ids are digests: any of their bytes are as good as a hash. */
static struct shard *
shard_of(struct chunk_cache *c, const struct chunk_id *id)
{
	return &c->shard[id->b[0] % SHARDS];
}

static void
unlink_use(struct shard *s, struct chunk_cache_entry *x)
{
	if (x->newer != NULL)
		x->newer->older = x->older;
	else
		s->newest = x->older;
	if (x->older != NULL)
		x->older->newer = x->newer;
	else
		s->oldest = x->newer;
	x->newer = x->older = NULL;
}

static void
make_newest(struct shard *s, struct chunk_cache_entry *x)
{
	x->older = s->newest;
	x->newer = NULL;
	if (s->newest != NULL)
		s->newest->newer = x;
	s->newest = x;
	if (s->oldest == NULL)
		s->oldest = x;
}

static void
make_oldest(struct shard *s, struct chunk_cache_entry *x)
{
	x->newer = s->oldest;
	x->older = NULL;
	if (s->oldest != NULL)
		s->oldest->older = x;
	s->oldest = x;
	if (s->newest == NULL)
		s->newest = x;
}

static struct chunk_cache_entry *
find(struct shard *s, const struct chunk_id *id)
{
	struct chunk_cache_entry *x = s->bucket[id->b[1] % BUCKETS];

	while (x != NULL && memcmp(&x->id, id, sizeof *id) != 0)
		x = x->chain;
	return x;
}

static void
forget(struct shard *s, struct chunk_cache_entry *x)
{
	struct chunk_cache_entry **at = &s->bucket[x->id.b[1] % BUCKETS];

	while (*at != x)
		at = &(*at)->chain;
	*at = x->chain;
	x->chain = NULL;
	x->state = EMPTY;
}

/* The entry unused for longest that nobody holds; NULL: all are held. */
static struct chunk_cache_entry *
victim(struct shard *s)
{
	struct chunk_cache_entry *x = s->oldest;

	while (x != NULL && x->holds > 0)
		x = x->newer;
	if (x != NULL && x->state != EMPTY)
		forget(s, x);
	return x;
}

int
chunk_cache_new(
    struct chunk_cache **out, struct store *st, size_t bytes, struct err *e)
{
	size_t each = bytes / CHUNK_BYTES / SHARDS;
	struct chunk_cache *c = mem_new(sizeof *c);
	int rc;

	if (each < 2)
		each = 2;
	rc = mem_try_pages(&c->pages, each * SHARDS * CHUNK_BYTES, e);
	if (rc < 0) {
		free(c);
		return err_wrap(e, "chunk cache");
	}
	c->store = st;
	c->entries = mem_array(each * SHARDS, sizeof *c->entries);
	for (size_t i = 0; i < SHARDS; i++) {
		struct shard *s = &c->shard[i];

		pthread_mutex_init(&s->lock, NULL);
		pthread_cond_init(&s->changed, NULL);
		for (size_t k = 0; k < each; k++) {
			size_t n = i * each + k;

			c->entries[n].data =
			    (uint8_t *)c->pages + n * CHUNK_BYTES;
			make_newest(s, &c->entries[n]);
		}
	}
	*out = c;
	return 0;
}

void
chunk_cache_free(struct chunk_cache *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_destroy(&c->shard[i].lock);
		pthread_cond_destroy(&c->shard[i].changed);
	}
	free(c->entries);
	free(c->pages);
	free(c);
}

/* Decode into `x`, which is ours while it is LOADING. Shard locked around. */
static int
load(struct chunk_cache *c, struct shard *s, struct chunk_cache_entry *x,
    struct err *e)
{
	unsigned blocks = 0;
	int rc;

	pthread_mutex_unlock(&s->lock);
	rc = store_chunk(c->store, &x->id, x->data, &blocks, e);
	atomic_fetch_add(&c->decoded, 1);
	pthread_mutex_lock(&s->lock);
	if (rc < 0) {
		/* Those who wait try for themselves and get their own text. */
		x->holds--;
		forget(s, x);
		unlink_use(s, x);
		make_oldest(s, x);
	} else {
		x->state = READY;
		x->blocks = blocks;
	}
	pthread_cond_broadcast(&s->changed);
	return rc;
}

/* The entry of `id`, held; *fresh where the caller has to load it. */
static struct chunk_cache_entry *
hold(struct shard *s, const struct chunk_id *id, bool *fresh)
{
	struct chunk_cache_entry *x;

	for (;;) {
		x = find(s, id);
		if (x != NULL && x->state == READY) {
			*fresh = false;
			break;
		}
		if (x == NULL && (x = victim(s)) != NULL) {
			x->id = *id;
			x->state = LOADING;
			x->chain = s->bucket[id->b[1] % BUCKETS];
			s->bucket[id->b[1] % BUCKETS] = x;
			*fresh = true;
			break;
		}
		pthread_cond_wait(&s->changed, &s->lock);
	}
	x->holds++;
	unlink_use(s, x);
	make_newest(s, x);
	return x;
}

int
chunk_cache_get(struct chunk_cache *c, const struct chunk_id *id,
    struct chunk_cache_hold *out, struct err *e)
{
	struct shard *s = shard_of(c, id);
	struct chunk_cache_entry *x;
	bool fresh;
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	x = hold(s, id, &fresh);
	if (fresh)
		rc = load(c, s, x, e);
	pthread_mutex_unlock(&s->lock);
	if (rc < 0)
		return rc;
	out->entry = x;
	out->data = x->data;
	out->blocks = x->blocks;
	return 0;
}

void
chunk_cache_put(struct chunk_cache *c, struct chunk_cache_hold *h)
{
	struct shard *s = shard_of(c, &h->entry->id);

	pthread_mutex_lock(&s->lock);
	assert(h->entry->holds > 0);
	if (--h->entry->holds == 0)
		pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	h->entry = NULL;
}

uint64_t
chunk_cache_decoded(const struct chunk_cache *c)
{
	return atomic_load(&c->decoded);
}

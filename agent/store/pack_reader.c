/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/pack.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/codec.h"
#include "agent/store/pack_format.h"

/* A pack's key costs a read of its header and 50 us of X25519; 256 packs are
 * 8 GB of data in reach at 40 bytes a key. */
#define KEYS_MAX 256

struct pack_key {
	uint8_t pack[16];
	struct seal *seal; /* cloned for each use */
	uint64_t used;
};

/* One thread's tools; as many exist as threads have ever read at once. */
struct decoder {
	struct decoder *next;
	struct codec *codec;
	struct chunk_digest *digest;
	uint8_t sealed[CHUNK_BYTES + SEAL_TAG_LEN];
};

struct pack_reader {
	struct repo *repo;
	const struct keys *keys;
	pthread_mutex_t lock; /* of all below; never held during work */
	uint64_t tick;
	size_t n;
	struct pack_key key[KEYS_MAX];
	struct decoder *idle;
};

int
pack_reader_new(struct pack_reader **out, struct repo *r, const struct keys *k,
    struct err *e)
{
	struct pack_reader *p;

	if (k->encrypted && !k->has_private)
		return err_set(e, -EKEYREJECTED,
		    "this key can add backups but not read them back; use the "
		    "recovery key");
	p = mem_new(sizeof *p);
	p->repo = r;
	p->keys = k;
	pthread_mutex_init(&p->lock, NULL);
	*out = p;
	return 0;
}

static void
decoder_free(struct decoder *d)
{
	codec_free(d->codec);
	chunk_digest_free(d->digest);
	free(d);
}

void
pack_reader_free(struct pack_reader *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->n; i++)
		seal_free(p->key[i].seal);
	while (p->idle != NULL) {
		struct decoder *d = p->idle;

		p->idle = d->next;
		decoder_free(d);
	}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int
decoder_take(struct pack_reader *p, struct decoder **out, struct err *e)
{
	struct decoder *d;

	pthread_mutex_lock(&p->lock);
	d = p->idle;
	if (d != NULL)
		p->idle = d->next;
	pthread_mutex_unlock(&p->lock);
	if (d == NULL) {
		d = mem_new(sizeof *d);
		if (codec_new(&d->codec, 1, e) < 0 ||
		    chunk_digest_new(&d->digest, p->keys, e) < 0) {
			decoder_free(d);
			return e->code;
		}
	}
	*out = d;
	return 0;
}

static void
decoder_give(struct pack_reader *p, struct decoder *d)
{
	pthread_mutex_lock(&p->lock);
	d->next = p->idle;
	p->idle = d;
	pthread_mutex_unlock(&p->lock);
}

/* A clone of the cached key, or NULL. */
static struct seal *
cached(struct pack_reader *p, const uint8_t pack[16])
{
	struct seal *s = NULL;

	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->n && s == NULL; i++) {
		if (memcmp(p->key[i].pack, pack, 16) != 0)
			continue;
		p->key[i].used = ++p->tick;
		s = seal_clone(p->key[i].seal);
	}
	pthread_mutex_unlock(&p->lock);
	return s;
}

/* Keep a clone of `s`; in place of the key unused for longest when full. */
static void
remember(struct pack_reader *p, const uint8_t pack[16], const struct seal *s)
{
	struct pack_key *to;

	pthread_mutex_lock(&p->lock);
	to = &p->key[0];
	if (p->n < KEYS_MAX) {
		to = &p->key[p->n++];
	} else {
		for (size_t i = 1; i < p->n; i++)
			if (p->key[i].used < to->used)
				to = &p->key[i];
		seal_free(to->seal);
	}
	memcpy(to->pack, pack, 16);
	to->seal = seal_clone(s);
	to->used = ++p->tick;
	pthread_mutex_unlock(&p->lock);
}

static int
open_pack(struct pack_reader *p, const char *name, const uint8_t pack[16],
    struct seal **out, struct err *e)
{
	uint8_t head[PACK_FORMAT_HEADER_LEN];
	struct seal *s = cached(p, pack);
	int rc;

	if (s == NULL) {
		rc = repo_get(p->repo, name, 0, head, sizeof head, e);
		if (rc < 0)
			return rc;
		rc =
		    pack_format_check_header(head, p->keys->encrypted, pack, e);
		if (rc == 0)
			rc = seal_open_pack(
			    &s, p->keys, pack, pack_format_public(head), e);
		if (rc < 0)
			return err_wrap(
			    e, "repository %s: %s", p->repo->url, name);
		remember(p, pack, s);
	}
	*out = s;
	return 0;
}

/* `d->sealed` holds the frame: open, unpack, compare the digest. */
static int
decode(struct decoder *d, struct seal *s, const struct chunk_id *id,
    const struct chunk_place *at, uint8_t *to, struct err *e)
{
	size_t len = at->blocks * (size_t)CHUNK_BLOCK_BYTES;
	struct chunk_id got;
	int rc;

	rc = seal_open_frame(s, at->off, SPAN(id->b, sizeof id->b),
	    SPAN(d->sealed, at->len), d->sealed, e);
	if (rc == 0)
		rc = codec_unpack(d->codec, (enum codec_id)at->codec,
		    SPAN(d->sealed, at->len - SEAL_TAG_LEN), to, len, e);
	if (rc == 0)
		rc = chunk_digest_of(d->digest, SPAN(to, len), &got, e);
	if (rc == 0 && memcmp(got.b, id->b, sizeof got.b) != 0)
		rc = err_set(
		    e, -EBADMSG, "the content is not what the chunk's id says");
	return rc;
}

static int
read_chunk(struct pack_reader *p, struct decoder *d, const char *name,
    const struct chunk_id *id, const struct chunk_place *at, uint8_t *to,
    struct err *e)
{
	struct seal *s = NULL;
	int rc = open_pack(p, name, at->pack, &s, e);

	if (rc < 0)
		return rc;
	rc = repo_get(p->repo, name, at->off, d->sealed, at->len, e);
	if (rc == 0 && decode(d, s, id, at, to, e) < 0)
		rc = err_wrap(e, "repository %s: %s: chunk at %u", p->repo->url,
		    name, at->off);
	seal_free(s);
	return rc;
}

int
pack_reader_get(struct pack_reader *p, const struct chunk_id *id,
    const struct chunk_place *at, uint8_t *to, struct err *e)
{
	struct decoder *d = NULL;
	char name[64];
	int rc;

	pack_name(name, at->pack);
	rc = pack_format_check_frame(at->len, at->blocks, at->codec, e);
	if (rc == 0 &&
	    (at->off < PACK_FORMAT_HEADER_LEN || at->off > PACK_MAX_BYTES))
		rc = err_set(e, -EBADMSG, "no frame can lie there");
	if (rc < 0)
		return err_wrap(e, "repository %s: %s: chunk at %u",
		    p->repo->url, name, at->off);
	rc = decoder_take(p, &d, e);
	if (rc < 0)
		return rc;
	rc = read_chunk(p, d, name, id, at, to, e);
	decoder_give(p, d);
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/ingest_pack.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/codec.h"
#include "agent/store/pack_format.h"

int
ingest_pack_init(
    struct ingest_pack *p, const struct ingest_how *how, struct err *e)
{
	size_t frame = codec_bound(CHUNK_BYTES) + SEAL_TAG_LEN;
	void *both;
	int rc = mem_try_pages(&both, 2 * frame, e);

	if (rc < 0)
		return rc;
	*p = (struct ingest_pack){
	    .repo = how->repo,
	    .keys = how->keys,
	    .index = how->index,
	    .sealed = both,
	    .again = (uint8_t *)both + frame,
	};
	pthread_mutex_init(&p->lock, NULL);
	return 0;
}

void
ingest_pack_fini(struct ingest_pack *p)
{
	pack_writer_abort(p->writer);
	seal_free(p->seal);
	idset_fini(&p->claimed);
	pthread_mutex_destroy(&p->lock);
	free(p->entry);
	free(p->sealed);
}

bool
ingest_pack_claim(struct ingest_pack *p, const struct chunk_id *id)
{
	bool mine;

	pthread_mutex_lock(&p->lock);
	mine = idset_add(&p->claimed, id);
	pthread_mutex_unlock(&p->lock);
	return mine;
}

void
ingest_pack_release(struct ingest_pack *p, const struct chunk_id *id)
{
	pthread_mutex_lock(&p->lock);
	idset_del(&p->claimed, id);
	pthread_mutex_unlock(&p->lock);
}

static int
begin(struct ingest_pack *p, struct err *e)
{
	int rc = pack_writer_new(&p->writer, p->repo, p->keys, e);

	if (rc < 0)
		return rc;
	p->seal = seal_clone(pack_writer_seal(p->writer));
	p->n = 0;
	return 0;
}

/* Bytes of the pack when `n` chunks end at `end`. */
static uint64_t
whole_len(uint64_t end, size_t n)
{
	return end + 8 + n * PACK_FORMAT_ENTRY_LEN + SEAL_TAG_LEN +
	       PACK_FORMAT_TRAILER_LEN;
}

/* Packs first, then the index that names them (law 4). */
static int
flush(struct ingest_pack *p, struct err *e)
{
	uint64_t written = 0;
	int rc = repo_sync(p->repo, e);

	if (rc == 0)
		rc = index_flush(p->index, &written, e);
	if (rc < 0)
		return rc;
	p->stats.index_bytes += written;
	return 0;
}

/* The pack is whole: its chunks go to the index, their claims end. */
static int
add_to_index(struct ingest_pack *p, const uint8_t pack[16], struct err *e)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct pack_entry *en = &p->entry[i];
		struct chunk_place at = {
		    .off = en->off,
		    .len = en->len,
		    .blocks = en->blocks,
		    .codec = en->codec,
		};
		int rc;

		memcpy(at.pack, pack, sizeof at.pack);
		rc = index_add(p->index, &en->id, &at, e);
		if (rc == -EEXIST) /* stored twice; either place is right */
			rc = err_clear(e);
		if (rc < 0)
			return rc;
		ingest_pack_release(p, &en->id);
	}
	p->n = 0;
	return 0;
}

static int
end_pack(struct ingest_pack *p, struct err *e)
{
	uint64_t len = whole_len(pack_writer_len(p->writer), p->n);
	uint8_t id[16];
	int rc;

	memcpy(id, pack_writer_id(p->writer), sizeof id);
	seal_free(TAKE(p->seal));
	rc = pack_writer_finish(TAKE(p->writer), e);
	if (rc < 0)
		return rc;
	p->stats.packs++;
	p->stats.stored_bytes += len;
	rc = add_to_index(p, id, e);
	if (rc == 0 && index_full(p->index))
		rc = flush(p, e);
	return rc;
}

/* A pack with room for a frame of `len` bytes. */
static int
make_room(struct ingest_pack *p, size_t len, struct err *e)
{
	int rc = 0;

	if (p->writer != NULL && (p->n == PACK_FORMAT_CHUNKS_MAX ||
				     whole_len(pack_writer_len(p->writer) + len,
					 p->n + 1) > PACK_TARGET_BYTES))
		rc = end_pack(p, e);
	if (rc == 0 && p->writer == NULL)
		rc = begin(p, e);
	return rc;
}

/* What is written must be what was given; a bit that fell over here would
 * otherwise show only at the restore. */
static int
seal_and_compare(struct ingest_pack *p, const struct pack_entry *en,
    struct span packed, struct err *e)
{
	struct span id = SPAN(en->id.b, sizeof en->id.b);
	int rc = seal_frame(p->seal, en->off, id, packed, p->sealed, e);

	if (rc < 0)
		return rc;
	rc = seal_open_frame(
	    p->seal, en->off, id, SPAN(p->sealed, en->len), p->again, e);
	if (rc == 0 && memcmp(p->again, packed.data, packed.len) == 0)
		return 0;
	return err_set(e, -EIO,
	    "a chunk just sealed does not open to what was sealed: suspect "
	    "this machine's memory; nothing of it was stored");
}

int
ingest_pack_add(struct ingest_pack *p, struct pack_entry *en,
    struct span packed, struct err *e)
{
	int rc;

	en->len = (uint32_t)(packed.len + SEAL_TAG_LEN);
	rc = make_room(p, en->len, e);
	if (rc < 0)
		return rc;
	en->off = pack_writer_reserve(p->writer, en->len);
	rc = seal_and_compare(p, en, packed, e);
	if (rc == 0)
		rc =
		    pack_writer_put(p->writer, en, SPAN(p->sealed, en->len), e);
	if (rc < 0)
		return rc;
	MEM_ROOM(p->entry, p->n, p->cap);
	p->entry[p->n++] = *en;
	p->stats.new_bytes += en->blocks * (uint64_t)CHUNK_BLOCK_BYTES;
	return 0;
}

int
ingest_pack_finish(struct ingest_pack *p, struct err *e)
{
	int rc = 0;

	if (p->writer != NULL)
		rc = end_pack(p, e);
	if (rc == 0)
		rc = flush(p, e);
	if (rc == 0)
		rc = repo_sync(p->repo, e);
	return rc;
}

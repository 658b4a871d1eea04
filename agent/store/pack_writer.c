/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/pack.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"
#include "agent/store/pack_format.h"

struct pack_writer {
	struct repo *repo;
	const struct keys *keys;
	struct repo_put *put;
	struct seal *seal;
	uint8_t id[16];
	_Atomic uint32_t reserved; /* end of the last frame reserved */
	uint32_t written;          /* end of the last frame put */
	struct pack_entry *entry;
	size_t n, cap;
};

static int
start(struct pack_writer *w, struct err *e)
{
	uint8_t head[PACK_FORMAT_HEADER_LEN], pub[SEAL_PACK_PUBLIC_LEN];
	int rc = clock_random(w->id, sizeof w->id, e);

	if (rc == 0)
		rc = seal_new_pack(&w->seal, w->keys, w->id, pub, e);
	if (rc == 0)
		rc = repo_put_begin(w->repo, &w->put, e);
	if (rc < 0)
		return rc;
	pack_format_header(head, w->keys->encrypted, w->id, pub);
	w->written = sizeof head;
	atomic_init(&w->reserved, (uint32_t)sizeof head);
	return repo_put_write(w->put, SPAN(head, sizeof head), e);
}

int
pack_writer_new(struct pack_writer **out, struct repo *r, const struct keys *k,
    struct err *e)
{
	struct pack_writer *w = mem_new(sizeof *w);

	w->repo = r;
	w->keys = k;
	if (start(w, e) < 0) {
		pack_writer_abort(w);
		return err_wrap(e, "begin a pack");
	}
	*out = w;
	return 0;
}

const uint8_t *
pack_writer_id(const struct pack_writer *w)
{
	return w->id;
}

uint64_t
pack_writer_len(const struct pack_writer *w)
{
	return atomic_load(&w->reserved);
}

const struct seal *
pack_writer_seal(const struct pack_writer *w)
{
	return w->seal;
}

uint32_t
pack_writer_reserve(struct pack_writer *w, uint32_t len)
{
	uint32_t off = atomic_fetch_add(&w->reserved, len);

	assert(len <= PACK_MAX_BYTES && off <= PACK_MAX_BYTES - len);
	return off;
}

int
pack_writer_put(struct pack_writer *w, const struct pack_entry *en,
    struct span sealed, struct err *e)
{
	int rc;

	/* What a reader would refuse is never written. */
	assert(en->off == w->written && en->len == sealed.len);
	assert(w->n < PACK_FORMAT_CHUNKS_MAX);
	rc = pack_format_check_frame(en->len, en->blocks, en->codec, e);
	if (rc == 0)
		rc = repo_put_write(w->put, sealed, e);
	if (rc < 0)
		return err_wrap(e, "write a chunk");
	w->written += en->len;
	MEM_ROOM(w->entry, w->n, w->cap);
	w->entry[w->n++] = *en;
	return 0;
}

/* Seal the directory; open it again and compare, as for every chunk. */
static int
seal_directory(
    struct pack_writer *w, struct span plain, uint8_t *sealed, struct err *e)
{
	SCOPED_FREE uint8_t *again = mem_new(plain.len);
	struct seal *s;
	int rc = seal_new_meta(&s, w->keys, "pack-directory", w->id, e);

	if (rc < 0)
		return rc;
	rc = seal_frame(s, w->written, SPAN(NULL, 0), plain, sealed, e);
	if (rc == 0)
		rc = seal_open_frame(s, w->written, SPAN(NULL, 0),
		    SPAN(sealed, plain.len + SEAL_TAG_LEN), again, e);
	seal_free(s);
	if (rc == 0 && memcmp(again, plain.data, plain.len) != 0)
		return err_set(e, -EIO,
		    "the sealed directory does not open to what was sealed: "
		    "suspect this machine's memory");
	return rc;
}

static int
write_end(struct pack_writer *w, struct err *e)
{
	struct pack_format_tail t = {.dir_off = w->written};
	uint8_t end[PACK_FORMAT_TRAILER_LEN];
	SCOPED_BUF struct buf plain = {0};
	SCOPED_FREE uint8_t *sealed = NULL;
	int rc;

	pack_format_directory(&plain, w->entry, w->n);
	t.dir_len = (uint32_t)(plain.len + SEAL_TAG_LEN);
	t.count = (uint32_t)w->n;
	if (t.dir_off + t.dir_len + sizeof end > PACK_MAX_BYTES)
		return err_set(e, -EFBIG, "larger than a pack may be");
	sealed = mem_new(t.dir_len);
	rc = seal_directory(w, buf_span(&plain), sealed, e);
	if (rc == 0)
		rc = repo_put_write(w->put, SPAN(sealed, t.dir_len), e);
	pack_format_trailer(end, &t);
	if (rc == 0)
		rc = repo_put_write(w->put, SPAN(end, sizeof end), e);
	return rc;
}

int
pack_writer_finish(struct pack_writer *w, struct err *e)
{
	char name[64];
	int rc;

	assert(w->n > 0 && w->written == atomic_load(&w->reserved));
	pack_name(name, w->id);
	rc = write_end(w, e);
	if (rc < 0)
		rc = err_wrap(e, "finish pack %s", name);
	else
		rc = repo_put_commit(TAKE(w->put), name, e);
	pack_writer_abort(w);
	return rc;
}

void
pack_writer_abort(struct pack_writer *w)
{
	if (w == NULL)
		return;
	repo_put_abort(w->put);
	seal_free(w->seal);
	free(w->entry);
	free(w);
}

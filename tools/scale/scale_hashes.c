/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block map. Its object table is changed as a backup would; the hashes of
 * what is new are written straight into their pages, as docs/format.md has
 * them: an update would write them to its redo file first, and the disk would
 * have to hold the largest part of it all twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/track/blockmap_internal.h"
#include "tools/scale/scale.h"

#define BUFFER_PAGES 1024u

typedef uint8_t hash_t[BLOCKMAP_HASH_LEN];

int
scale_prepare(struct scale *s, struct blockmap *b, struct err *e)
{
	char chain[BLOCKMAP_TIME_BYTES], hex[13];
	int rc = blockmap_begin(b, e);

	for (size_t i = 0; rc == 0 && i < blockmap_objects(b); i++) {
		const struct blockmap_object *old = blockmap_at(b, i);
		struct blockmap_object now = *old;

		if (now.object == s->object)
			now.size = s->size;
		blockmap_keep(b, old, &now);
	}
	bytes_hex(hex, s->map.id, 6);
	snprintf(chain, sizeof chain, "%.16s.%s", s->time, hex);
	return rc < 0 ? rc : blockmap_prepare(b, chain, e);
}

struct writing {
	struct blockmap *b;
	const hash_t *seed;
	uint64_t period, blocks, first_page, pages;
	uint8_t *buf;
};

static void
fill_page(const struct writing *w, uint64_t i, uint8_t *to)
{
	uint64_t block = i * BLOCKMAP_PAGE_HASHES, page = w->first_page + i;
	uint8_t *sum = to + BLOCKMAP_PAGE_HASHES * BLOCKMAP_HASH_LEN;
	XXH128_canonical_t c;

	memset(to, 0, BLOCKMAP_PAGE_BYTES);
	for (unsigned j = 0; j < BLOCKMAP_PAGE_HASHES; j++)
		if (block + j < w->blocks)
			memcpy(to + j * BLOCKMAP_HASH_LEN,
			    w->seed[(block + j) % w->period],
			    BLOCKMAP_HASH_LEN);
	bytes_put_le64(sum, page);
	XXH128_canonicalFromHash(
	    &c, XXH3_128bits_withSecret(to, (size_t)(sum - to) + 8,
		    w->b->table.secret, BLOCKMAP_SECRET_BYTES));
	memcpy(sum, c.digest, BLOCKMAP_SUM_BYTES);
}

/* Not to be left in the page cache: the machine has other work. */
static int
write_pages(const struct writing *w, struct err *e)
{
	for (uint64_t i = 0; i < w->pages; i += BUFFER_PAGES) {
		uint64_t off = (w->first_page + i) * BLOCKMAP_PAGE_BYTES;
		uint64_t n = w->pages - i;
		size_t len;
		int rc;

		if (n > BUFFER_PAGES)
			n = BUFFER_PAGES;
		for (uint64_t j = 0; j < n; j++)
			fill_page(w, i + j, w->buf + j * BLOCKMAP_PAGE_BYTES);
		len = n * BLOCKMAP_PAGE_BYTES;
		rc = fs_pwrite(w->b->hashes, w->buf, len, off, e);
		if (rc < 0)
			return rc;
		if (i / BUFFER_PAGES % 64 == 63)
			sync_file_range(w->b->hashes, 0, 0,
			    SYNC_FILE_RANGE_WAIT_BEFORE |
				SYNC_FILE_RANGE_WRITE |
				SYNC_FILE_RANGE_WAIT_AFTER);
		posix_fadvise(w->b->hashes, 0, (off_t)off, POSIX_FADV_DONTNEED);
	}
	return 0;
}

static const struct blockmap_object *
find(const struct blockmap *b, uint64_t object)
{
	for (size_t i = 0; i < blockmap_objects(b); i++)
		if (blockmap_at(b, i)->object == object)
			return blockmap_at(b, i);
	return NULL;
}

int
scale_hashes(struct scale *s, struct blockmap *b, struct err *e)
{
	const struct blockmap_object *o = find(b, s->object);
	uint64_t period = s->seed / BLOCKMAP_BLOCK_BYTES;
	SCOPED_FREE hash_t *seed = mem_array(period, sizeof *seed);
	SCOPED_FREE uint8_t *buf = mem_array(BUFFER_PAGES, BLOCKMAP_PAGE_BYTES);
	struct writing w = {
	    .b = b, .seed = (const hash_t *)seed, .period = period, .buf = buf};
	int rc;

	if (o == NULL || o->size != s->size)
		return err_set(e, -EINVAL, "%s: not in the block map", s->path);
	rc = blockmap_get(b, o, 0, (unsigned)period, seed, e);
	if (rc < 0)
		return rc;
	w.blocks = blockmap_blocks_of(o->size);
	w.first_page = o->run_page;
	w.pages = blockmap_pages_of(o->size);
	s->hash_bytes = w.pages * BLOCKMAP_PAGE_BYTES;
	return write_pages(&w, e);
}

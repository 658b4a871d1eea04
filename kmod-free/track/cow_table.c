/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/cow_table.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/bytes.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/stop.h"

enum {
	AT_MAGIC = 0,
	AT_VALID = 4,
	AT_VERSION = 8,
	AT_CHUNK = 12,
};

#define MAGIC 0x70416e53u /* "SnAp" */
#define VERSION 1u
#define SECTOR 512u
#define HEADER_READ 4096u /* of chunk 0; a whole block for O_DIRECT */
#define CHUNK_MIN 4096u   /* lvcreate's bounds */
#define CHUNK_MAX (512u << 10)
#define PAIR_LEN 16u
#define READS_MAX 16 /* of the last area */

struct table {
	int fd;
	uint64_t store_chunks, origin_bytes;
	uint32_t chunk_bytes, pairs_max; /* in an area */
	uint8_t *area, *again;
	uint64_t chunks;
	struct extents x;
};

static int
bad(const char *what, struct err *e)
{
	err_set(e, -EBADMSG, "the snapshot's exception table: %s", what);
	return err_hint(e, "the snapshot cannot be trusted; remove it");
}

/* ---- header ---- */

static int
check_header(const uint8_t *p, uint32_t *chunk_bytes, struct err *e)
{
	uint32_t sectors = bytes_le32(p + AT_CHUNK);

	if (bytes_le32(p + AT_MAGIC) != MAGIC)
		return bad("it does not begin as one does", e);
	if (bytes_le32(p + AT_VERSION) != VERSION)
		return bad("it is of a version that we do not know", e);
	if (bytes_le32(p + AT_VALID) > 1)
		return bad("it is neither valid nor invalid", e);
	if (sectors < CHUNK_MIN / SECTOR || sectors > CHUNK_MAX / SECTOR ||
	    (sectors & (sectors - 1)) != 0)
		return bad("its chunks cannot be of the size it says", e);
	if (bytes_le32(p + AT_VALID) == 0)
		return err_set(e, -ESTALE,
		    "the snapshot is invalid: its copy-on-write space was "
		    "full or could not be written; everything has to be read");
	*chunk_bytes = sectors * SECTOR;
	return 0;
}

static int
read_header(int fd, uint32_t *chunk_bytes, struct err *e)
{
	SCOPED_FREE void *page = NULL;
	int rc = mem_try_pages(&page, HEADER_READ, e);

	if (rc == 0)
		rc = fs_pread(fd, page, HEADER_READ, 0, e);
	if (rc < 0)
		return err_wrap(e, "the snapshot's exception table");
	return check_header(page, chunk_bytes, e);
}

/* ---- areas ---- */

static uint64_t
old_chunk(const uint8_t *area, uint32_t i)
{
	return bytes_le64(area + (size_t)i * PAIR_LEN);
}

static uint64_t
new_chunk(const uint8_t *area, uint32_t i)
{
	return bytes_le64(area + (size_t)i * PAIR_LEN + 8);
}

/* How many pairs it holds. */
static uint32_t
pairs(const struct table *t, const uint8_t *area)
{
	uint32_t n = 0;

	while (n < t->pairs_max && new_chunk(area, n) != 0)
		n++;
	return n;
}

static uint64_t
area_chunk(const struct table *t, uint64_t k)
{
	return 1 + (t->pairs_max + 1ull) * k;
}

/* -EBADMSG where the store ends first: the kernel clears the next area before
 * it fills one, so a table always has an end. */
static int
read_area(const struct table *t, uint64_t k, uint8_t *area, struct err *e)
{
	uint64_t chunk = area_chunk(t, k);
	int rc = stop_check(e);

	if (rc < 0)
		return rc;
	if (chunk >= t->store_chunks)
		return bad("it has no end", e);
	rc = fs_pread(t->fd, area, t->chunk_bytes, chunk * t->chunk_bytes, e);
	if (rc < 0)
		return err_wrap(e,
		    "area %llu of the snapshot's exception table",
		    (unsigned long long)k);
	return 0;
}

/*
 * The last area may be written while it is read. It only grows, by pairs at
 * its end: read it until it stands still, or has grown READS_MAX times and
 * still begins as it did.
 */
static int
read_last(struct table *t, uint64_t k, struct err *e)
{
	bool grew = true;

	for (int i = 0; i < READS_MAX; i++) {
		uint32_t n = pairs(t, t->area);
		uint8_t *older = t->area;
		int rc = read_area(t, k, t->again, e);

		if (rc < 0)
			return rc;
		t->area = t->again;
		t->again = older;
		grew = memcmp(t->area, older, (size_t)n * PAIR_LEN) == 0;
		if (grew && pairs(t, t->area) == n)
			return 0;
	}
	if (grew)
		return 0;
	return err_set(e, -ESTALE,
	    "the snapshot's exception table does not only grow: is it being "
	    "merged? everything has to be read");
}

static int
check_pair(const struct table *t, uint64_t from, uint64_t to, struct err *e)
{
	uint64_t origin_chunks = t->origin_bytes / t->chunk_bytes +
				 (t->origin_bytes % t->chunk_bytes != 0);

	if (from >= origin_chunks)
		return bad("it names a chunk behind the origin's end", e);
	if (to >= t->store_chunks || to % (t->pairs_max + 1ull) == 1)
		return bad("it puts a chunk where none can be", e);
	return 0;
}

static int
take_area(struct table *t, uint32_t n, struct err *e)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t from = old_chunk(t->area, i), off, len;
		int rc = check_pair(t, from, new_chunk(t->area, i), e);

		if (rc < 0)
			return rc;
		off = from * t->chunk_bytes;
		len = t->origin_bytes - off;
		if (len > t->chunk_bytes)
			len = t->chunk_bytes;
		extents_add(&t->x, 0, off, len);
	}
	t->chunks += n;
	return 0;
}

static int
read_areas(struct table *t, struct err *e)
{
	uint32_t n = t->pairs_max;

	for (uint64_t k = 0; n == t->pairs_max; k++) {
		int rc = read_area(t, k, t->area, e);

		if (rc == 0 && pairs(t, t->area) < t->pairs_max)
			rc = read_last(t, k, e);
		if (rc < 0)
			return rc;
		/* It may have become full just now; then it has a next. */
		n = pairs(t, t->area);
		rc = take_area(t, n, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int
read_table(struct table *t, struct err *e)
{
	SCOPED_FREE void *both = NULL;
	uint32_t chunk_bytes;
	off_t len = lseek(t->fd, 0, SEEK_END);
	int rc;

	if (len < 0)
		return err_sys(e, errno, "size of the snapshot's store");
	rc = read_header(t->fd, &t->chunk_bytes, e);
	if (rc < 0)
		return rc;
	assert(t->chunk_bytes >= CHUNK_MIN);
	rc = mem_try_pages(&both, 2 * (size_t)t->chunk_bytes, e);
	if (rc < 0)
		return rc;
	t->area = both;
	t->again = t->area + t->chunk_bytes;
	t->pairs_max = t->chunk_bytes / PAIR_LEN;
	t->store_chunks = (uint64_t)len / t->chunk_bytes;
	rc = read_areas(t, e);
	/* Did it become invalid meanwhile? */
	if (rc == 0 || rc == -EBADMSG) {
		struct err later = ERR_NONE;
		int now = read_header(t->fd, &chunk_bytes, &later);

		if (now < 0 && (rc == 0 || now == -ESTALE))
			rc = err_copy(e, &later);
		else if (rc == 0 && chunk_bytes != t->chunk_bytes)
			rc = err_set(e, -ESTALE,
			    "the snapshot was made anew while it was read");
	}
	return rc;
}

int
cow_table_read(int fd, uint64_t origin_bytes, struct cow_table_info *info,
    struct extents *out, struct err *e)
{
	struct table t = {
	    .fd = fd,
	    .origin_bytes = origin_bytes,
	    .x = {.max = out->max, .align = out->align},
	};
	int rc;

	assert(out->v == NULL);
	rc = read_table(&t, e);
	if (rc < 0) {
		extents_fini(&t.x);
		return rc;
	}
	extents_settle(&t.x);
	*info = (struct cow_table_info){
	    .chunk_bytes = t.chunk_bytes,
	    .chunks = t.chunks,
	};
	*out = t.x;
	return 0;
}

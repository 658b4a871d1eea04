/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File `hashes`: pages of 255 hashes and a checksum over them and their place.
 * A page of zeros, stored or a hole of the file, is 255 zero hashes: so a
 * sparse object of a terabyte costs nothing. Read with pread, never mapped:
 * a file cut short under a mapping would kill the process.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/io/reader.h"
#include "kmod-free/track/blockmap_internal.h"

/*
 * Each page has one slot that it can be in. Scans and updates go through an
 * object in order, so a place of its own for the last few hundred pages is as
 * good as any cleverer rule. 512 pages: 2 MiB, half a GiB of data. Neighbours
 * are read and written together: of 8000 pages in order that takes the
 * commit from 0.36 s to 0.1 s.
 */
#define SLOTS 512u
#define AHEAD 32u /* pages read at once, when they are wanted in order */
#define AT_SUM (BLOCKMAP_PAGE_HASHES * BLOCKMAP_HASH_LEN)

_Static_assert(AT_SUM + BLOCKMAP_SUM_BYTES == BLOCKMAP_PAGE_BYTES, "a page");

struct blockmap_slot {
	uint8_t *data; /* from its first use on */
	uint64_t page;
	bool used, dirty;
	bool checked; /* its checksum */
};

void
blockmap_pages_init(
    struct blockmap_pages *p, int fd, const char *dir, const uint8_t *secret)
{
	p->fd = fd;
	p->dir = dir;
	p->secret = secret;
	p->last = UINT64_MAX;
	p->slot = mem_array(SLOTS, sizeof *p->slot);
}

void
blockmap_pages_fini(struct blockmap_pages *p)
{
	for (unsigned i = 0; p->slot != NULL && i < SLOTS; i++)
		free(p->slot[i].data);
	free(p->slot);
	*p = (struct blockmap_pages){.fd = -1};
}

void
blockmap_pages_forget(struct blockmap_pages *p)
{
	for (unsigned i = 0; i < SLOTS; i++)
		p->slot[i].used = p->slot[i].dirty = false;
}

/*
 * Over the hashes and the page's number, under the map's secret: a page that
 * was written elsewhere, or by another map, is not taken for this one. The
 * number stands where the sum will be.
 */
static void
sum_page(const struct blockmap_pages *p, uint64_t page, uint8_t *data,
    uint8_t sum[BLOCKMAP_SUM_BYTES])
{
	XXH128_canonical_t c;

	bytes_put_le64(data + AT_SUM, page);
	XXH128_canonicalFromHash(&c, XXH3_128bits_withSecret(data, AT_SUM + 8,
					 p->secret, BLOCKMAP_SECRET_BYTES));
	memcpy(sum, c.digest, BLOCKMAP_SUM_BYTES);
}

/* Once, when it is first used. */
static int
check(struct blockmap_pages *p, struct blockmap_slot *s, struct err *e)
{
	uint8_t want[BLOCKMAP_SUM_BYTES], have[BLOCKMAP_SUM_BYTES];

	if (s->checked)
		return 0;
	memcpy(have, s->data + AT_SUM, sizeof have);
	sum_page(p, s->page, s->data, want);
	if (memcmp(have, want, sizeof have) == 0 ||
	    (bytes_all_zero(have, sizeof have) &&
		bytes_all_zero(s->data, AT_SUM))) {
		s->checked = true;
		return 0;
	}
	s->used = false; /* the sum was overwritten: read it again */
	return err_set(e, -EBADMSG,
	    "block map %s/" BLOCKMAP_HASHES
	    ": page %llu: its checksum is wrong",
	    p->dir, (unsigned long long)s->page);
}

static struct blockmap_slot *
slot_of(struct blockmap_pages *p, uint64_t page)
{
	return &p->slot[page % SLOTS];
}

/* Pages from `page` on that may be read now: its own, and with it those that
 * will be wanted next, into slots that have nothing to lose. */
static unsigned
plan_read(struct blockmap_pages *p, uint64_t page, struct iovec v[AHEAD])
{
	bool in_order = page - p->last <= AHEAD / 4; /* wraps where before */
	unsigned n = 0;

	do {
		struct blockmap_slot *s = slot_of(p, page + n);

		if (n > 0 && (s->dirty || (s->used && s->page == page + n)))
			break;
		if (s->data == NULL)
			s->data = mem_new(BLOCKMAP_PAGE_BYTES);
		s->used = false;
		v[n++] = (struct iovec){s->data, BLOCKMAP_PAGE_BYTES};
	} while (in_order && n < AHEAD);
	return n;
}

/* The slot of `page` holds nothing that is not written. */
static int
load(struct blockmap_pages *p, uint64_t page, struct err *e)
{
	struct iovec v[AHEAD];
	unsigned n = plan_read(p, page, v);
	ssize_t k;
	int rc;

	do
		k = preadv(
		    p->fd, v, (int)n, (off_t)(page * BLOCKMAP_PAGE_BYTES));
	while (k < 0 && errno == EINTR);
	if (k < (ssize_t)BLOCKMAP_PAGE_BYTES) {
		/* Alone, and with its reason. */
		rc = fs_pread(p->fd, v[0].iov_base, BLOCKMAP_PAGE_BYTES,
		    page * BLOCKMAP_PAGE_BYTES, e);
		if (rc < 0)
			return err_wrap(
			    e, "block map %s/" BLOCKMAP_HASHES, p->dir);
		k = BLOCKMAP_PAGE_BYTES;
	}
	n = (unsigned)((size_t)k / BLOCKMAP_PAGE_BYTES);
	for (unsigned i = 0; i < n; i++) {
		struct blockmap_slot *s = slot_of(p, page + i);

		s->page = page + i;
		s->used = true;
		s->checked = false;
	}
	p->last = page + n - 1;
	return 0;
}

static int
punch(struct blockmap_pages *p, uint64_t page, uint64_t pages)
{
	int rc;

	do
		rc =
		    fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(page * BLOCKMAP_PAGE_BYTES),
			(off_t)(pages * BLOCKMAP_PAGE_BYTES));
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* Ready to be written: its sum, or all zeros and a hole if that can be. */
static void
seal(struct blockmap_pages *p, struct blockmap_slot *s)
{
	uint8_t sum[BLOCKMAP_SUM_BYTES] = {0};

	if (!bytes_all_zero(s->data, AT_SUM))
		sum_page(p, s->page, s->data, sum);
	else if (punch(p, s->page, 1) == 0)
		s->dirty = false;
	memcpy(s->data + AT_SUM, sum, sizeof sum);
}

static int
write_run(struct blockmap_pages *p, struct blockmap_slot *s, unsigned n,
    struct err *e)
{
	struct iovec v[SLOTS];
	ssize_t k;

	for (unsigned i = 0; i < n; i++)
		v[i] = (struct iovec){s[i].data, BLOCKMAP_PAGE_BYTES};
	k = n == 1 ? 0
		   : pwritev(p->fd, v, (int)n,
			 (off_t)(s->page * BLOCKMAP_PAGE_BYTES));
	/* One by one what is left, or to get the reason. */
	for (unsigned i = k > 0 ? (unsigned)k / BLOCKMAP_PAGE_BYTES : 0; i < n;
	     i++) {
		int rc = fs_pwrite(p->fd, s[i].data, BLOCKMAP_PAGE_BYTES,
		    s[i].page * BLOCKMAP_PAGE_BYTES, e);

		if (rc < 0)
			return err_wrap(
			    e, "block map %s/" BLOCKMAP_HASHES, p->dir);
	}
	for (unsigned i = 0; i < n; i++)
		s[i].dirty = false;
	return 0;
}

int
blockmap_pages_flush(struct blockmap_pages *p, struct err *e)
{
	unsigned n;

	for (unsigned i = 0; i < SLOTS; i++)
		if (p->slot[i].dirty)
			seal(p, &p->slot[i]);
	for (unsigned i = 0; i < SLOTS; i += n) {
		struct blockmap_slot *s = &p->slot[i];
		int rc;

		for (n = 0;
		     i + n < SLOTS && s[n].dirty && s[n].page == s->page + n;)
			n++;
		rc = n > 0 ? write_run(p, s, n, e) : 0;
		if (rc < 0)
			return rc;
		n = n > 0 ? n : 1;
	}
	return 0;
}

static int
bring(struct blockmap_pages *p, uint64_t page, struct blockmap_slot **out,
    struct err *e)
{
	struct blockmap_slot *s = slot_of(p, page);
	int rc = 0;

	if (!s->used || s->page != page) {
		/* All that is dirty, so that neighbours go together. */
		if (s->dirty)
			rc = blockmap_pages_flush(p, e);
		if (rc == 0)
			rc = load(p, page, e);
	}
	if (rc == 0)
		rc = check(p, s, e);
	if (rc == 0)
		*out = s;
	return rc;
}

int
blockmap_pages_get(
    struct blockmap_pages *p, uint64_t page, const uint8_t **out, struct err *e)
{
	struct blockmap_slot *s = NULL;
	int rc = bring(p, page, &s, e);

	if (rc == 0)
		*out = s->data;
	return rc;
}

int
blockmap_pages_edit(
    struct blockmap_pages *p, uint64_t page, uint8_t **out, struct err *e)
{
	struct blockmap_slot *s = NULL;
	int rc = bring(p, page, &s, e);

	if (rc == 0) {
		s->dirty = true;
		*out = s->data;
	}
	return rc;
}

/* Where holes cannot be punched: zeros over all that is stored there. */
static int
write_zeros(
    struct blockmap_pages *p, uint64_t page, uint64_t pages, struct err *e)
{
	static const uint8_t zeros[BLOCKMAP_PAGE_BYTES];
	uint64_t off = page * BLOCKMAP_PAGE_BYTES;
	uint64_t end = off + pages * BLOCKMAP_PAGE_BYTES, len;
	int rc;

	while ((rc = reader_data_range(p->fd, off, end, &off, &len, e)) == 1) {
		for (; len > 0; off += sizeof zeros, len -= sizeof zeros) {
			rc = fs_pwrite(p->fd, zeros, sizeof zeros, off, e);
			if (rc < 0)
				return rc;
		}
	}
	return rc;
}

int
blockmap_pages_clear(
    struct blockmap_pages *p, uint64_t page, uint64_t pages, struct err *e)
{
	int rc = blockmap_pages_flush(p, e);

	if (rc < 0)
		return rc;
	blockmap_pages_forget(p);
	if (pages == 0 || punch(p, page, pages) == 0)
		return 0;
	rc = write_zeros(p, page, pages, e);
	if (rc < 0)
		return err_wrap(e, "block map %s/" BLOCKMAP_HASHES, p->dir);
	return 0;
}

static int
copy_page(struct blockmap_pages *p, uint64_t from, uint64_t to, struct err *e)
{
	uint8_t hashes[AT_SUM];
	const uint8_t *src = NULL;
	uint8_t *dst = NULL;
	int rc = blockmap_pages_get(p, from, &src, e);

	if (rc != 0)
		return rc;
	/* The target may need the source's slot. */
	memcpy(hashes, src, sizeof hashes);
	if (bytes_all_zero(hashes, sizeof hashes))
		return 0;
	rc = blockmap_pages_edit(p, to, &dst, e);
	if (rc == 0)
		memcpy(dst, hashes, sizeof hashes);
	return rc;
}

int
blockmap_pages_copy(struct blockmap_pages *p, uint64_t from, uint64_t to,
    uint64_t pages, struct err *e)
{
	uint64_t off = from * BLOCKMAP_PAGE_BYTES, len;
	uint64_t end = (from + pages) * BLOCKMAP_PAGE_BYTES;
	int rc;

	while ((rc = reader_data_range(p->fd, off, end, &off, &len, e)) == 1) {
		for (; len > 0;
		     off += BLOCKMAP_PAGE_BYTES, len -= BLOCKMAP_PAGE_BYTES) {
			uint64_t at = off / BLOCKMAP_PAGE_BYTES;

			rc = copy_page(p, at, to + (at - from), e);
			if (rc < 0)
				return rc;
		}
	}
	return rc;
}

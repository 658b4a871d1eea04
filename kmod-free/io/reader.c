/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/io/reader.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "agent/core/mem.h"
#include "kmod-free/io/reader_internal.h"

#define DEFAULT_DEPTH 64u
#define DEFAULT_UNIT 131072u
#define DEPTH_MAX 4096u

/*
 * The pool is a mapping of its own, so that it can be huge pages (fewer pages
 * to pin and to describe to the device) and so that it can be left mapped if
 * the kernel might still write into it.
 */
static int
take_pool(struct reader *r, struct err *e)
{
	void *p;

	p = mmap(NULL, r->pool_len, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_sys(
		    e, errno, "take %zu bytes of read buffers", r->pool_len);
	r->pool = p;
	madvise(p, r->pool_len, MADV_HUGEPAGE); /* a wish */
	return 0;
}

int
reader_new(struct reader **out, const struct reader_how *how, struct err *e)
{
	unsigned depth = how && how->depth ? how->depth : DEFAULT_DEPTH;
	uint32_t unit = how && how->unit ? how->unit : DEFAULT_UNIT;
	uint64_t pool =
	    how && how->pool ? how->pool : (uint64_t)unit * (depth + 2);
	struct reader *r;
	int rc;

	if (depth > DEPTH_MAX || unit % READER_ALIGN != 0 ||
	    pool > READER_POOL_MAX || pool < 3 * (uint64_t)unit)
		return err_set(e, -EINVAL,
		    "read with %u requests of %u bytes in a pool of %llu: not "
		    "possible",
		    depth, unit, (unsigned long long)pool);
	r = mem_new(sizeof *r);
	r->depth = depth;
	r->slots = depth + 1;
	r->unit = unit;
	r->pool_len = (size_t)pool;
	r->buffered = how && how->buffered;
	rc = take_pool(r, e);
	if (rc < 0) {
		free(r);
		return rc;
	}
	r->request = mem_array(r->slots, sizeof *r->request);
	if (how && how->no_uring)
		strcpy(r->notice, "reads with pread, one at a time, as asked");
	else
		reader_ring_init(r);
	*out = r;
	return 0;
}

static void
release_held(struct reader *r)
{
	unsigned slot = (r->head + r->slots - 1) % r->slots;

	if (!r->held)
		return;
	r->held = false;
	reader_file_unuse(r->request[slot].file);
}

static void
drop_requests(struct reader *r)
{
	release_held(r);
	for (; r->count > 0; r->count--) {
		reader_file_unuse(r->request[r->head].file);
		r->head = (r->head + 1) % r->slots;
	}
}

void
reader_stop(struct reader *r)
{
	if (r->pool == NULL)
		return;
	reader_aio_stop(r);
	reader_ring_fini(r);
	drop_requests(r);
	while (r->files != NULL)
		reader_file_detach(r->files);
	/* Never give back memory that the kernel may still write to. */
	if (!r->lost)
		munmap(r->pool, r->pool_len);
	r->pool = NULL;
}

void
reader_free(struct reader *r)
{
	if (r == NULL)
		return;
	reader_stop(r);
	reader_aio_fini(r);
	free(r->request);
	free(r);
}

const char *
reader_notice(const struct reader *r)
{
	return r->notice[0] != '\0' ? r->notice : NULL;
}

/*
 * Buffers are taken and given back in the same order, so the pool is a circle
 * as well: `len` bytes in one piece behind the newest, or else at the front.
 * The caller's own counts. Three units always have room for a second one
 * beside it: what is left is then two units in two pieces.
 */
static bool
find_room(const struct reader *r, uint32_t len, size_t *at)
{
	unsigned first = (r->head + r->slots - (r->held ? 1 : 0)) % r->slots;
	size_t oldest = r->request[first].at;

	*at = 0;
	if (r->count == 0 && !r->held)
		return true;
	if (r->tail > oldest && r->pool_len - r->tail < len)
		return oldest >= len;
	*at = r->tail;
	return r->tail > oldest || oldest - r->tail >= len;
}

bool
reader_full(const struct reader *r)
{
	size_t at;

	return r->count == r->depth || !find_room(r, r->unit, &at);
}

bool
reader_idle(const struct reader *r)
{
	return r->count == 0;
}

void
reader_way(struct reader *r, enum reader_way way)
{
	r->way = way;
}

int
reader_ask(struct reader *r, struct reader_file *f, uint64_t off, uint32_t len,
    void *cookie, struct err *e)
{
	unsigned slot = (r->head + r->count) % r->slots;
	struct reader_request *q = &r->request[slot];
	size_t at;

	assert(!reader_full(r) && f->r == r && !f->closed);
	assert(len > 0 && len <= r->unit);
	assert(off % READER_ALIGN == 0 && len % READER_ALIGN == 0);
	if (off > (uint64_t)INT64_MAX - len)
		return err_set(e, -EINVAL,
		    "read %s at offset %llu: past the largest file", f->label,
		    (unsigned long long)off);
	find_room(r, len, &at);
	*q = (struct reader_request){.file = f,
	    .cookie = cookie,
	    .at = at,
	    .off = off,
	    .len = len,
	    .way = r->way};
	r->tail = at + len;
	r->count++;
	reader_file_use(f);
	if (!r->ring_on || reader_aio_push(r, slot))
		return 0;
	return reader_ring_push(r, slot, e);
}

/* The oldest is done, or the doubt about it is settled. */
static int
complete(struct reader *r, unsigned slot, struct err *e)
{
	struct reader_request *q = &r->request[slot];
	int rc;

	rc = reader_aio_wait(r, slot, e);
	if (rc < 0)
		return rc;
	if (r->ring_on) {
		rc = reader_ring_wait(r, slot, e);
		if (rc < 0)
			return rc;
	} else if (q->state != READER_DONE) {
		reader_plain_fill(r, slot);
	}
	return q->doubt ? reader_plain_blocks(r, slot, e) : 0;
}

int
reader_next(struct reader *r, struct reader_done *out, struct err *e)
{
	unsigned slot = r->head;
	struct reader_request *q = &r->request[slot];
	int rc;

	assert(!reader_idle(r));
	release_held(r);
	rc = complete(r, slot, e);
	if (rc < 0 && q->state != READER_DONE)
		return rc; /* the ring itself failed: nothing was consumed */
	r->head = (r->head + 1) % r->slots;
	r->count--;
	r->held = true;
	if (rc < 0)
		return rc;
	*out = (struct reader_done){.file = q->file,
	    .cookie = q->cookie,
	    .off = q->off,
	    .len = q->len,
	    .data = reader_buffer(r, slot)};
	return 0;
}

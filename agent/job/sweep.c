/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/sweep.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "agent/core/mem.h"
#include "agent/core/stop.h"

/*
 * 512 pieces are up to 64 MiB of file: enough to put scattered pages of one
 * checkpoint into disk order, few enough that gathering keeps its locality.
 */
#define WINDOW 512u
#define RUN_PIECES (SWEEP_REQUEST_BYTES / SWEEP_PIECE_BYTES)
#define DEPTH 128u
#define FILES_MAX 128u /* open for the window */
#define PHYS_BATCH 128u

struct piece {
	const struct tree_file *f;
	struct reader_file *rf;
	uint64_t off, phys;
	uint32_t len;
	enum reader_way way;
};

_Static_assert(WINDOW / RUN_PIECES >= DEPTH, "a window fills the queue");

struct sweep {
	const struct tree *tree;
	struct reader *reader;
	bool physical;
	sweep_fn *fn;
	void *arg;
	sweep_tick_fn *tick; /* NULL: nobody's */
	void *tick_arg;
	uint64_t read_bytes, requests;

	/* Two windows by turns: while the pieces of one are in flight, the
	 * other fills. A window is asked whole before it is used again, and
	 * that is longer than the reader's queue, however few requests it
	 * makes. */
	struct piece window[2][WINDOW];
	unsigned turn, n;
	struct reader_file *done[FILES_MAX]; /* to close behind the window */
	unsigned dones;

	const struct tree_file *f; /* begun */
	struct reader_file *rf;
	bool asked; /* it has pieces */
	struct reader_phys phys[PHYS_BATCH];
	int phys_n;
	uint64_t phys_from;
	bool scattered;
	struct extent placed; /* of `f`: where the tracker says that it lies */
	uint64_t data_from, data_to; /* of `f`: where there is data */
};

int
sweep_new(
    struct sweep **out, const struct tree *t, bool physical, struct err *e)
{
	struct sweep *s = mem_new(sizeof *s);
	struct reader_how how = {.depth = DEPTH,
	    .unit = SWEEP_REQUEST_BYTES,
	    .pool = SWEEP_POOL_BYTES};
	int rc = reader_new(&s->reader, &how, e);

	if (rc < 0) {
		free(s);
		return rc;
	}
	s->tree = t;
	s->physical = physical;
	*out = s;
	return 0;
}

void
sweep_leave(struct sweep *s)
{
	if (s == NULL)
		return;
	if (s->rf != NULL)
		reader_close(s->rf);
	for (unsigned i = 0; i < s->dones; i++)
		reader_close(s->done[i]);
	reader_stop(s->reader);
	s->rf = NULL;
	s->dones = 0;
}

void
sweep_free(struct sweep *s)
{
	sweep_leave(s);
	if (s != NULL)
		reader_free(s->reader);
	free(s);
}

const char *
sweep_notice(const struct sweep *s)
{
	return reader_notice(s->reader);
}

uint64_t
sweep_requests(const struct sweep *s)
{
	return s->requests;
}

uint64_t
sweep_read_bytes(const struct sweep *s)
{
	return s->read_bytes;
}

void
sweep_tick(struct sweep *s, sweep_tick_fn *fn, void *arg)
{
	s->tick = fn;
	s->tick_arg = arg;
}

void
sweep_to(struct sweep *s, sweep_fn *fn, void *arg)
{
	assert(reader_idle(s->reader) && s->n == 0);
	s->fn = fn;
	s->arg = arg;
}

static int
take_one(struct sweep *s, struct err *e)
{
	struct reader_done d;
	const struct piece *p;
	int rc = reader_next(s->reader, &d, e);

	if (rc < 0)
		return rc;
	/* Its pieces lie in the window as they do in the request. */
	p = d.cookie;
	for (uint32_t at = 0; rc == 0 && at < d.len; at += p++->len) {
		s->read_bytes += p->len;
		rc = s->fn(s->arg, p->f, p->off, p->len, d.data + at, e);
	}
	return rc;
}

static int
by_phys(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	if (x->phys != y->phys)
		return x->phys < y->phys ? -1 : 1;
	if (x->f != y->f)
		return x->f < y->f ? -1 : 1;
	return (x->off > y->off) - (x->off < y->off);
}

/*
 * One request for the pieces from w[0] on that follow each other in one file,
 * wherever they lie: gives their number. RUN_PIECES at most, also of small ones.
 */
static int
ask_run(struct sweep *s, struct piece *w, unsigned n, struct err *e)
{
	uint32_t len = w->len;
	unsigned k = 1;
	int rc;

	while (k < n && k < RUN_PIECES && w[k].rf == w->rf &&
	       w[k].off == w->off + len)
		len += w[k++].len;
	reader_way(s->reader, w->way);
	rc = reader_ask(s->reader, w->rf, w->off, len, w, e);
	s->requests++;
	return rc < 0 ? rc : (int)k;
}

/* Ask for the whole window; what completes meanwhile is handed on. */
static int
send_window(struct sweep *s, struct err *e)
{
	struct piece *w = s->window[s->turn];
	int rc = stop_check(e);

	if (rc == 0 && s->tick != NULL)
		rc = s->tick(s->tick_arg, e);
	if (s->physical)
		qsort(w, s->n, sizeof *w, by_phys);
	for (unsigned i = 0; rc == 0 && i < s->n;) {
		int k = 0;

		if (reader_full(s->reader))
			rc = take_one(s, e);
		else
			k = ask_run(s, w + i, s->n - i, e);
		if (k < 0)
			rc = k;
		else
			i += (unsigned)k;
	}
	for (unsigned i = 0; i < s->dones; i++)
		reader_close(s->done[i]);
	s->dones = 0;
	/* A short window may still be in flight when its turn comes again. */
	while (rc == 0 && s->n < WINDOW && !reader_idle(s->reader))
		rc = take_one(s, e);
	s->n = 0;
	s->turn = !s->turn;
	return rc;
}

void
sweep_scattered(struct sweep *s, bool on)
{
	s->scattered = on;
}

int
sweep_begin(struct sweep *s, const struct tree_file *f, struct err *e)
{
	SCOPED_FREE char *label = tree_path(s->tree, f);
	int rc;

	assert(s->f == NULL);
	s->f = f;
	s->asked = false;
	s->phys_n = 0;
	s->phys_from = UINT64_MAX;
	s->data_from = s->data_to = 0;
	s->placed = (struct extent){0};
	if (f->image)
		rc = reader_open_fd(
		    s->reader, s->tree->view[f->volume], label, &s->rf, e);
	else
		rc = reader_open(s->reader, s->tree->view[f->volume], f->rel,
		    label, &s->rf, e);
	if (rc < 0) {
		s->f = NULL;
		s->rf = NULL;
		return e->code;
	}
	return 0;
}

int
sweep_fd(const struct sweep *s)
{
	return reader_file_fd(s->rf);
}

void
sweep_placed(struct sweep *s, const struct extent *x)
{
	s->placed = *x;
}

/* A long range may be of many extents, and the place is that of the first: the
 * file system is asked, which costs little for each byte. */
static bool
is_placed(const struct sweep *s, uint64_t off)
{
	return s->placed.place != 0 && s->placed.len <= SWEEP_PIECE_BYTES &&
	       off >= s->placed.off && off - s->placed.off < s->placed.len;
}

/* Position for ordering; a file system that cannot tell gives the order of
 * the file. */
static uint64_t
phys_of(struct sweep *s, uint64_t off)
{
	struct err ignored = ERR_NONE;

	/* A device is read in its own order. */
	if (!s->physical || s->scattered || s->f->image)
		return 0;
	if (is_placed(s, off))
		return s->placed.place + (off - s->placed.off);
	for (int try = 0; try < 2; try++) {
		for (int i = 0; i < s->phys_n; i++) {
			const struct reader_phys *p = &s->phys[i];

			if (off >= p->off && off - p->off < p->len)
				return p->phys + (off - p->off);
		}
		if (s->phys_from == off)
			break;
		s->phys_from = off;
		s->phys_n = reader_physical(sweep_fd(s), off, UINT64_MAX,
		    s->phys, PHYS_BATCH, &ignored);
		if (s->phys_n < 0)
			s->phys_n = 0;
	}
	return 0;
}

static enum reader_way
way_of(const struct sweep *s, uint64_t off)
{
	if (s->scattered)
		return READER_ALONE;
	return s->physical && is_placed(s, off) ? READER_ORDERED
						: READER_ANYHOW;
}

int
sweep_range(struct sweep *s, uint64_t off, uint64_t len, struct err *e)
{
	assert(off % READER_ALIGN == 0 && len % READER_ALIGN == 0);
	while (len > 0) {
		uint64_t room = SWEEP_PIECE_BYTES - off % SWEEP_PIECE_BYTES;
		uint32_t n = (uint32_t)(len < room ? len : room);

		s->window[s->turn][s->n++] = (struct piece){
		    s->f, s->rf, off, phys_of(s, off), n, way_of(s, off)};
		s->asked = true;
		if (s->n == WINDOW) {
			int rc = send_window(s, e);

			if (rc < 0)
				return rc;
		}
		off += n;
		len -= n;
	}
	return 0;
}

/* Data at or behind `off`, as reader_data_range. What its file system does not
 * use is a hole of an image. */
static int
data_range(struct sweep *s, uint64_t off, uint64_t *start, uint64_t *len,
    struct err *e)
{
	const struct extents *used = tree_used(s->tree, s->f);
	const struct extent *x;
	int rc;

	if (used == NULL && (off < s->data_from || off >= s->data_to)) {
		rc = reader_data_range(
		    sweep_fd(s), off, s->f->size, start, len, e);
		if (rc == 1) {
			s->data_from = *start;
			s->data_to = *start + *len;
		}
		return rc;
	}
	if (used == NULL) {
		*start = off;
		*len = s->data_to - off;
		return 1;
	}
	x = extents_next(used, 0, off);
	if (x == NULL)
		return 0;
	*start = x->off;
	*len = x->len;
	return 1;
}

int
sweep_look(struct sweep *s, uint64_t from, uint64_t to, sweep_hole_fn *hole,
    struct err *e)
{
	uint64_t at = from;

	while (at < to) {
		uint64_t start, len, stop;
		int rc = data_range(s, at * SWEEP_BLOCK_BYTES, &start, &len, e);

		if (rc < 0)
			return rc;
		if (rc == 0)
			return hole(s->arg, s->f, at, to, e);
		stop = sweep_blocks(start + len);
		start /= SWEEP_BLOCK_BYTES;
		if (start >= to)
			return hole(s->arg, s->f, at, to, e);
		if (start < at)
			start = at;
		if (stop > to)
			stop = to;
		rc = start > at ? hole(s->arg, s->f, at, start, e) : 0;
		if (rc == 0)
			rc = sweep_range(s, start * SWEEP_BLOCK_BYTES,
			    (stop - start) * SWEEP_BLOCK_BYTES, e);
		if (rc < 0)
			return rc;
		at = stop;
	}
	return 0;
}

int
sweep_end(struct sweep *s, struct err *e)
{
	struct reader_file *rf = TAKE(s->rf);

	s->f = NULL;
	if (!s->asked) {
		reader_close(rf);
		return 0;
	}
	s->done[s->dones++] = rf;
	return s->dones == FILES_MAX ? send_window(s, e) : 0;
}

int
sweep_drain(struct sweep *s, struct err *e)
{
	int rc = send_window(s, e);

	while (rc == 0 && !reader_idle(s->reader))
		rc = take_one(s, e);
	return rc;
}

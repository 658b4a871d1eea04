/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares where the bytes of files lie on disk in two held snapshots
 * (btrfs_side.h). What differs in place may still be equal, and is named.
 *
 * Read are the tree blocks of the newer snapshot that are younger than the
 * older one, and of that one those with the same keys, so the cost follows the
 * change. Whatever item is in an older block is in the older snapshot, too. What
 * no younger block shows are items that went with their whole block: bytes that
 * are holes now. But then the file holds less, and how much each inode says
 * (nbytes) that it holds: where the items that were seen do not account for the
 * difference, the file's items are compared one by one.
 *
 * Memory: two buffers for each thread.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/core/mem.h"
#include "kmod-free/track/btrfs_pair.h"
#include "kmod-free/track/btrfs_side.h"
#include "kmod-free/track/btrfs_stripes.h"
#include "kmod-free/track/tracker_all.h"

/* They wait for the disk: of 20,000 transactions of pgbench in 4.7 GB, from cold
 * caches, 8 take 200 ms, 16 and 32 take 165 to 180. */
#define THREADS 16u

/* A file of which stripes are at work. */
struct file {
	struct file *next;
	uint64_t ino;
	struct extents found;
	uint64_t more; /* counted bytes: those that came less those that went */
	unsigned at_work;
	bool all_given;
};

struct comparison {
	const struct btrfs_pair *pair;
	atomic_bool stop;

	pthread_mutex_t lock; /* of all below */
	struct btrfs_stripes stripes;
	struct file *file;
	struct extents *out;
	struct err *e; /* of the first failure */
};

static uint64_t
round_up(uint64_t n)
{
	return (n + BTRFS_SIDE_BLOCK - 1) & ~(uint64_t)(BTRFS_SIDE_BLOCK - 1);
}

static uint64_t
min3(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* ---- a part of a file ---- */

/* `len` bytes at `pos`, which `y` holds, may differ. */
static void
add_found(struct file *f, const struct btrfs_search_extent *y, uint64_t pos,
    uint64_t len)
{
	struct extent v = {.object = f->ino, .off = pos, .len = len};

	v.place = btrfs_search_place(y);
	if (v.place != 0)
		v.place += pos - y->start;
	extents_add_placed(&f->found, &v);
}

/* What of the older snapshot lies where `y` is. */
static int
compare_extent(struct btrfs_side *a, const struct btrfs_search_extent *y,
    struct file *f, struct err *e)
{
	uint64_t pos = y->start;
	int rc = btrfs_side_seek(a, pos, e);

	f->more += btrfs_side_counted(y, y->start, y->end);
	while (rc == 0 && pos < y->end) {
		uint64_t end = btrfs_side_end(a, pos);

		if (end > y->end)
			end = y->end;
		assert(end > pos);
		if (!btrfs_side_same(a, y, pos))
			add_found(f, y, pos, end - pos);
		if (a->have_x && a->x.start <= pos)
			f->more -= btrfs_side_counted(&a->x, pos, end);
		pos = end;
		rc = btrfs_side_reach(a, pos, e);
	}
	return rc;
}

static int
compare_stripe(const struct comparison *c, const struct btrfs_stripe *stripe,
    struct file *f, struct err *e)
{
	struct btrfs_side a __attribute__((cleanup(btrfs_side_close)));
	struct btrfs_side b __attribute__((cleanup(btrfs_side_close)));
	int rc = 1;

	btrfs_side_open(&a, c->pair->from, f->ino, 0, UINT64_MAX, 0);
	btrfs_side_open(&b, c->pair->to, f->ino, stripe->from, stripe->last,
	    c->stripes.since);
	while (rc == 1 && !c->stop) {
		rc = btrfs_side_next(&b, e);
		if (rc == 1 && compare_extent(&a, &b.x, f, e) < 0)
			rc = e->code;
	}
	return rc < 0 ? rc : 0;
}

/* ---- a file ---- */

/* 1, 0 where there is none. */
static int
find_inode(int fd, uint64_t ino, struct btrfs_search_inode *out, struct err *e)
{
	struct btrfs_search_item item;
	struct btrfs_search s;
	int rc;

	btrfs_search_init_inode(&s, fd, ino);
	rc = btrfs_search_next(&s, &item, e);
	if (rc == 1 && btrfs_search_inode(&item, out, e) < 0)
		rc = e->code;
	btrfs_search_fini(&s);
	return rc;
}

/* All items of the file on both sides, as far as both sizes go. */
static int
compare_all(
    const struct comparison *c, struct file *f, uint64_t limit, struct err *e)
{
	struct btrfs_side a __attribute__((cleanup(btrfs_side_close)));
	struct btrfs_side b __attribute__((cleanup(btrfs_side_close)));
	uint64_t pos = 0;
	int rc;

	btrfs_side_open(&a, c->pair->from, f->ino, 0, UINT64_MAX, 0);
	btrfs_side_open(&b, c->pair->to, f->ino, 0, UINT64_MAX, 0);
	rc = btrfs_side_next(&a, e);
	if (rc >= 0)
		rc = btrfs_side_next(&b, e);
	while (rc >= 0 && pos < limit) {
		static const struct btrfs_search_extent none = {
		    .data = BTRFS_SEARCH_REGULAR};
		const struct btrfs_search_extent *y;
		uint64_t end;

		rc = btrfs_side_reach(&a, pos, e);
		if (rc >= 0)
			rc = btrfs_side_reach(&b, pos, e);
		if (rc < 0)
			break;
		y = b.have_x && b.x.start <= pos ? &b.x : &none;
		end = min3(
		    btrfs_side_end(&a, pos), btrfs_side_end(&b, pos), limit);
		assert(end > pos);
		if (!btrfs_side_same(&a, y, pos))
			add_found(f, y, pos, end - pos);
		pos = end;
	}
	return rc < 0 ? rc : 0;
}

static void
compare_sizes(struct file *f, uint64_t x, uint64_t y)
{
	uint64_t from = (x < y ? x : y) & ~(uint64_t)(BTRFS_SIDE_BLOCK - 1);

	if (x != y)
		extents_add(&f->found, f->ino, from, (x < y ? y : x) - from);
}

/* Such a file may be in the middle of a truncation of which the inode does not
 * tell yet: in front of other extents, which larger files have, that of a
 * compressed inline one has a transaction of its own, in which others are gone
 * and nbytes is the old one (btrfs_truncate with BTRFS_NEED_TRUNCATE_BLOCK). */
static int
begins_inline(const struct comparison *c, const struct file *f, struct err *e)
{
	struct btrfs_side b __attribute__((cleanup(btrfs_side_close)));
	int rc;

	btrfs_side_open(&b, c->pair->to, f->ino, 0, 0, 0);
	rc = btrfs_side_next(&b, e);
	return rc == 1 ? b.x.data == BTRFS_SEARCH_INLINE : rc;
}

/* All its stripes are compared: is that all of it? Leaves in f->found what
 * counts. */
static int
judge_file(const struct comparison *c, struct file *f, struct err *e)
{
	struct btrfs_search_inode a, b;
	int rc = find_inode(c->pair->to, f->ino, &b, e);

	if (rc == 0)
		return err_set(e, -EBADMSG,
		    "btrfs tree search: items of inode %llu, which is not "
		    "there",
		    (unsigned long long)f->ino);
	if (rc == 1)
		rc = find_inode(c->pair->from, f->ino, &a, e);
	if (rc < 0)
		return rc;
	/* A new file is the caller's to take, and so is one under a number used
	 * again. */
	if (rc == 0 || a.generation != b.generation) {
		extents_fini(&f->found);
		return 0;
	}
	if ((a.mode & S_IFMT) != (b.mode & S_IFMT))
		return err_set(e, -EBADMSG,
		    "btrfs tree search: inode %llu turned from one kind into "
		    "another",
		    (unsigned long long)f->ino);
	if (!S_ISREG(b.mode))
		return 0;
	compare_sizes(f, a.size, b.size);
	rc = b.size > BTRFS_SIDE_BLOCK ? begins_inline(c, f, e) : 0;
	if (rc < 0 || (rc == 0 && a.nbytes + f->more == b.nbytes))
		return rc;
	return compare_all(
	    c, f, round_up(a.size < b.size ? a.size : b.size), e);
}

/* ---- the threads ---- */

/* The next stripe, and its file: 1, 0 behind the last. */
static int
take(struct comparison *c, struct btrfs_stripe *stripe, struct file **out,
    struct err *e)
{
	struct file *f;
	int rc;

	pthread_mutex_lock(&c->lock);
	rc = btrfs_stripes_next(&c->stripes, stripe, e);
	if (rc == 1) {
		for (f = c->file; f != NULL && f->ino != stripe->ino;)
			f = f->next;
		if (f == NULL) {
			f = mem_new(sizeof *f);
			f->ino = stripe->ino;
			f->next = c->file;
			c->file = f;
		}
		f->at_work++;
		f->all_given = stripe->ends;
		*out = f;
	}
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static void
move(struct extents *to, struct extents *from)
{
	for (size_t i = 0; i < from->n; i++)
		extents_add_placed(to, &from->v[i]);
	extents_fini(from);
}

/* Adds what a stripe has found to its file; true: that was the last of it, and
 * the file is the caller's. */
static bool
give_back(struct comparison *c, struct file *f, struct file *part)
{
	bool done;

	pthread_mutex_lock(&c->lock);
	move(&f->found, &part->found);
	f->more += part->more;
	done = --f->at_work == 0 && f->all_given;
	if (done) {
		struct file **p = &c->file;

		while (*p != f)
			p = &(*p)->next;
		*p = f->next;
	}
	pthread_mutex_unlock(&c->lock);
	return done;
}

static int
finish(struct comparison *c, struct file *f, struct err *e)
{
	int rc = judge_file(c, f, e);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&c->lock);
	move(c->out, &f->found);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static void
drop(struct file *f)
{
	extents_fini(&f->found);
	free(f);
}

static int
compare_some(struct comparison *c, struct err *e)
{
	struct btrfs_stripe stripe;
	struct file *f;
	int rc = 0;

	while (rc == 0 && !c->stop && (rc = take(c, &stripe, &f, e)) == 1) {
		struct file part = {.ino = f->ino};

		rc = compare_stripe(c, &stripe, &part, e);
		if (!give_back(c, f, &part))
			continue;
		if (rc == 0)
			rc = finish(c, f, e);
		drop(f);
	}
	return rc;
}

static void *
compare_main(void *arg)
{
	struct comparison *c = arg;
	struct err e = ERR_NONE;

	if (compare_some(c, &e) < 0) {
		pthread_mutex_lock(&c->lock);
		if (c->e->code == 0)
			err_copy(c->e, &e);
		pthread_mutex_unlock(&c->lock);
		c->stop = true;
	}
	return NULL;
}

/* The caller's thread is one of them, and may be the only one. */
static int
compare(const struct btrfs_pair *p, struct extents *out, struct err *e)
{
	struct comparison c = {.pair = p, .out = out, .e = e};
	pthread_t thread[THREADS - 1];
	unsigned n = 0;

	err_clear(e);
	btrfs_stripes_init(&c.stripes, p);
	pthread_mutex_init(&c.lock, NULL);
	while (n < THREADS - 1 &&
	       pthread_create(&thread[n], NULL, compare_main, &c) == 0)
		n++;
	compare_main(&c);
	for (unsigned i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	pthread_mutex_destroy(&c.lock);
	while (c.file != NULL) {
		struct file *f = c.file;

		c.file = f->next;
		drop(f);
	}
	return e->code;
}

static int
extents_changed(
    const struct tracker_pair *p, struct tracker_answer *out, struct err *e)
{
	return btrfs_pair_compare(p, compare, out, e);
}

const struct tracker_ops tracker_btrfs_extents = {
    .name = "btrfs-extents",
    .second = "btrfs-send",
    .summary = "compares where the bytes of two btrfs snapshots lie on disk",
    .compares = true,
    .probe = btrfs_pair_probe,
    .changed = extents_changed,
};

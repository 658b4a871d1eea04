/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads take stripes of files. Of the newer snapshot a search skips all
 * tree blocks that are not younger than the older one, so its cost follows the
 * change; of the older one the blocks that hold the same keys are read, and of
 * the volume's tree of extents those that hold the new extents: the kernel looks
 * for other files that have them.
 */
#include "kmod-free/track/btrfs_warm.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "agent/core/mem.h"
#include "kmod-free/io/btrfs_search.h"

#define THREADS 8u /* 4 to 16 were alike on one virtual disk */
/* Of a file; larger ones where there would be more of them, as each is searched,
 * changed or not: of 10 TB that was half of a backup's processor time. */
#define STRIPE_BYTES (64ull << 20)
#define STRIPES 1024u
/* Replies of about one tree block, so that one of the older snapshot's is asked
 * for while the next of the newer's is read by another thread. */
#define REPLY_BYTES (16u << 10)
/* A tree block of 16 KiB, half full at least, holds some 100 extents: as often
 * one is looked up in the older snapshot. */
#define EACH 96u
/* A tree block of 16 KiB holds at most 16283 / (25 + 24 + 29) = 208 extents: of
 * one block of data each, those of 832 KiB, where no place between them is free. */
#define NEAR_BYTES (512u << 10)

struct stripe {
	uint64_t ino, from, last;
};

struct btrfs_warm {
	int from, to;
	uint64_t since; /* a generation */
	pthread_t thread[THREADS];
	unsigned threads;
	atomic_bool stop;

	pthread_mutex_t lock;   /* of all below */
	uint64_t ino, at, size; /* the file at hand, and what is left of it */
	bool ended;
};

/* On to the next file that has a younger block. */
static bool
next_file(struct btrfs_warm *w)
{
	struct btrfs_search_item item;
	struct btrfs_search_inode inode;
	struct btrfs_search s;
	struct err ignored = ERR_NONE;
	bool found;

	btrfs_search_init(&s, w->to, REPLY_BYTES);
	s.since = w->since;
	if (w->ino != 0)
		s.from = (struct btrfs_search_key){.objectid = w->ino + 1};
	found = btrfs_search_next(&s, &item, &ignored) == 1;
	if (found) {
		w->ino = item.key.objectid;
		w->at = 0;
		w->size = UINT64_MAX; /* its inode is in an older block */
		if (item.key.type == BTRFS_SEARCH_INODE &&
		    btrfs_search_inode(&item, &inode, &ignored) == 0)
			w->size = inode.size;
	}
	btrfs_search_fini(&s);
	return found;
}

static uint64_t
stripe_bytes(uint64_t size)
{
	return size / STRIPES > STRIPE_BYTES ? size / STRIPES : STRIPE_BYTES;
}

static bool
next_stripe(struct btrfs_warm *w, struct stripe *out)
{
	bool found;

	pthread_mutex_lock(&w->lock);
	while (!w->ended && !w->stop && w->at >= w->size)
		w->ended = !next_file(w);
	found = !w->ended && !w->stop;
	if (found) {
		*out = (struct stripe){w->ino, w->at, UINT64_MAX};
		if (w->size != UINT64_MAX)
			out->last = w->at + stripe_bytes(w->size) - 1;
		w->at = out->last == UINT64_MAX ? w->size : out->last + 1;
	}
	pthread_mutex_unlock(&w->lock);
	return found;
}

/* The block of a tree in which `s` finds its first item, or would. */
static void
touch(struct btrfs_search *s)
{
	struct btrfs_search_item item;
	struct err ignored = ERR_NONE;

	s->at_most = 1;
	btrfs_search_next(s, &item, &ignored);
	btrfs_search_fini(s);
}

static void
touch_older(struct btrfs_warm *w, const struct btrfs_search_key *key)
{
	struct btrfs_search s;

	btrfs_search_init_file(
	    &s, w->from, REPLY_BYTES, key->objectid, key->offset);
	touch(&s);
}

/* What lies near *last is in a block that was read for that. */
static void
touch_volume(
    struct btrfs_warm *w, const struct btrfs_search_item *item, uint64_t *last)
{
	struct btrfs_search_extent x;
	struct btrfs_search s;
	struct err ignored = ERR_NONE;

	if (btrfs_search_extent(item, &x, &ignored) < 0 ||
	    x.data == BTRFS_SEARCH_INLINE || x.disk_bytenr == 0 ||
	    x.generation < w->since || x.disk_bytenr - *last < NEAR_BYTES)
		return;
	*last = x.disk_bytenr;
	btrfs_search_init_volume(&s, w->to, REPLY_BYTES, x.disk_bytenr);
	touch(&s);
}

static void
read_stripe(struct btrfs_warm *w, const struct stripe *stripe)
{
	struct btrfs_search_item item;
	struct btrfs_search s;
	struct err ignored = ERR_NONE;
	uint64_t last = 0;

	btrfs_search_init_file(
	    &s, w->to, REPLY_BYTES, stripe->ino, stripe->from);
	s.since = w->since;
	s.to.offset = stripe->last;
	for (unsigned n = 0;
	     !w->stop && btrfs_search_next(&s, &item, &ignored) == 1; n++) {
		if (n % EACH == 0)
			touch_older(w, &item.key);
		touch_volume(w, &item, &last);
	}
	btrfs_search_fini(&s);
}

static void *
warm_main(void *arg)
{
	struct btrfs_warm *w = arg;
	struct stripe stripe;

	while (next_stripe(w, &stripe))
		read_stripe(w, &stripe);
	return NULL;
}

struct btrfs_warm *
btrfs_warm_start(const struct btrfs_pair *p)
{
	struct btrfs_warm *w = mem_new(sizeof *w);

	w->from = p->from;
	w->to = p->to;
	/* A snapshot is made at the end of its transaction. */
	w->since = p->a.otransid + 1;
	pthread_mutex_init(&w->lock, NULL);
	while (w->threads < THREADS &&
	       pthread_create(&w->thread[w->threads], NULL, warm_main, w) == 0)
		w->threads++;
	return w;
}

void
btrfs_warm_wait(struct btrfs_warm *w)
{
	for (unsigned i = 0; i < w->threads; i++)
		pthread_join(w->thread[i], NULL);
	w->threads = 0;
}

void
btrfs_warm_end(struct btrfs_warm *w)
{
	w->stop = true;
	btrfs_warm_wait(w);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

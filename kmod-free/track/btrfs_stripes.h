/*
 * The files of a btrfs snapshot that have a tree block younger than a given
 * generation, cut into stripes for threads that share the work. Internal to
 * kmod-free/track. Not locked: the threads take turns.
 */
#ifndef NEAP_TRACK_BTRFS_STRIPES_H
#define NEAP_TRACK_BTRFS_STRIPES_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/err.h"
#include "kmod-free/track/btrfs_pair.h"

struct btrfs_stripe {
	uint64_t ino, from, last; /* bytes of the file; both are in it */
	bool ends;                /* the file's last */
};

struct btrfs_stripes {
	int fd; /* of the newer snapshot; borrowed */
	uint64_t since;
	uint64_t ino, size; /* the file at hand */
	uint64_t at;        /* its next stripe, where `more` */
	bool more, ended;
};

/* Files that the newer snapshot of `p` changed, or new ones of it. */
void btrfs_stripes_init(struct btrfs_stripes *s, const struct btrfs_pair *p);
/* 1; 0 behind the last. Stripes of a file come in a row, from 0 on; an empty one
 * has one, too. */
int btrfs_stripes_next(
    struct btrfs_stripes *s, struct btrfs_stripe *out, struct err *e);

#endif

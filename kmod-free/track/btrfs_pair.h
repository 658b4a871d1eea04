/*
 * Two held snapshots of one btrfs subvolume, and the proof that neither moved
 * while they were compared. Internal to kmod-free/track.
 */
#ifndef NEAP_TRACK_BTRFS_PAIR_H
#define NEAP_TRACK_BTRFS_PAIR_H

#include <btrfsutil.h>

#include "kmod-free/track/tracker.h"

struct btrfs_pair {
	int from, to;                          /* the roots of the views */
	struct btrfs_util_subvolume_info a, b; /* of from and to */
};

/* Adds what may differ. -EBADMSG where the kernel's answer makes no sense. */
typedef int btrfs_pair_fn(
    const struct btrfs_pair *p, struct extents *out, struct err *e);

/*
 * Run `fn` over the pair. Its answer counts only where both snapshots are
 * read-only ones of the same subvolume, and no balance, device operation or
 * anything else touched either root from before until after; a second try is
 * made. Else -ESTALE.
 */
int btrfs_pair_compare(const struct tracker_pair *p, btrfs_pair_fn *fn,
    struct tracker_answer *out, struct err *e);
/* Common probe of the btrfs trackers. */
int btrfs_pair_probe(struct snap_volume *v, struct err *e);

#endif

/*
 * Bring the tree blocks that the kernel reads when it compares two held btrfs
 * snapshots into its cache, by many threads. Internal to kmod-free/track.
 *
 * The kernel compares two trees block by block and waits for each. With cold
 * caches that wait is most of the comparison: of 20,000 transactions of pgbench
 * in 4.7 GB it was 0.8 of 1.1 s. Nothing but speed hangs on it, so nothing that
 * fails here is said.
 */
#ifndef NEAP_TRACK_BTRFS_WARM_H
#define NEAP_TRACK_BTRFS_WARM_H

#include "kmod-free/track/btrfs_pair.h"

struct btrfs_warm;

/* The descriptors of `p` are used until btrfs_warm_end. */
struct btrfs_warm *btrfs_warm_start(const struct btrfs_pair *p);
void btrfs_warm_wait(struct btrfs_warm *w); /* until all is read */
void btrfs_warm_end(struct btrfs_warm *w);  /* stops what still reads */

#endif

/*
 * The metadata of a thin pool, held still for as long as it is read. A pool has
 * one such reservation; while it is held, every change of the pool's metadata
 * takes new blocks, so it is held for as short as can be, and a process that dies with it
 * leaves it to the next one, which knows it by a note in /var/lib/neap/pools. One that is not
 * noted there is somebody else's and is not touched.
 */
#ifndef NEAP_SNAP_LVM_POOL_H
#define NEAP_SNAP_LVM_POOL_H

#include "kmod-free/snap/lvm_volume.h"

struct lvm_pool; /* held */

/* No longer than this. 10 million mappings that share nothing were compared in
 * 13 s (docs/benchmarks.md); real snapshots share most. */
#define LVM_POOL_HOLD_MAX_MS 300000

/*
 * Of the pool that the volume lies in. -EBUSY: another process of ours holds
 * it; -ESTALE: it cannot be had now, and why (held by somebody else, pool in
 * trouble, metadata nearly full).
 */
int lvm_pool_hold(
    struct lvm_pool **out, const struct lvm_volume *v, struct err *e);
/* The device with the metadata, open for direct reads; lent. */
int lvm_pool_metadata(const struct lvm_pool *p);
/* Lets it go; NULL is fine. An error means that it is still held. */
int lvm_pool_release(struct lvm_pool *p, struct err *e);

#endif

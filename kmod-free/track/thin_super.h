/*
 * The superblock of a dm-thin pool's metadata: block 0, and its copy where a
 * metadata snapshot is held. Internal to kmod-free/track.
 *
 * Source: Linux drivers/md/dm-thin-metadata.c, struct thin_disk_superblock.
 */
#ifndef NEAP_TRACK_THIN_SUPER_H
#define NEAP_TRACK_THIN_SUPER_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/err.h"
#include "kmod-free/track/thin_btree.h"

struct thin_super {
	bool needs_check;
	uint64_t transaction;
	uint64_t held;         /* block of the held copy, 0: none */
	uint64_t mapping_root; /* device -> root of its own tree */
	uint64_t details_root; /* device -> details */
	uint32_t block_bytes;  /* of data */
};

/*
 * Read it from `block` into `page` and check it. -EBADMSG; -EOPNOTSUPP: a
 * version or a feature that we do not know. The kernel may be writing block 0
 * at this moment: it is damaged only when it reads the same twice.
 */
int thin_super_read(struct thin_disk *d, uint64_t block, uint8_t *page,
    struct thin_super *out, struct err *e);

#endif

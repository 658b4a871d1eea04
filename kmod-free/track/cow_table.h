/*
 * The exception store of a thick LVM (dm-snapshot, persistent) snapshot: the
 * chunks of the origin that were written since it was taken. Read from its
 * copy-on-write device, opened with O_DIRECT, while it is in use. One thread's.
 *
 * The layout (little-endian, in chunks of one size): chunk 0 is a header, u32
 * "SnAp", u32 valid, u32 version 1, u32 sectors of a chunk. Chunk 1 is the
 * first area: pairs {u64 chunk of the origin, u64 chunk of the store} as many
 * as fit; an area is followed by as many chunks of data, then by the next
 * area. A pair whose second half is 0 ends the table.
 *
 * The kernel writes an area before it lets the write to the origin go, so a
 * write that had completed when the reading began is in the table. Take the
 * newer snapshot first, then read the older one's table: it holds all that
 * changed between the two, and maybe more. Only the kernel's status can tell
 * that a snapshot is invalid whose header could not be written: ask for it
 * afterwards. Not while it is merged: merging takes pairs away.
 *
 * Source: Linux drivers/md/dm-snap-persistent.c.
 */
#ifndef NEAP_TRACK_COW_TABLE_H
#define NEAP_TRACK_COW_TABLE_H

#include <stdint.h>

#include "agent/core/err.h"
#include "kmod-free/io/extents.h"

struct cow_table_info {
	uint32_t chunk_bytes;
	uint64_t chunks; /* of the origin, in the table */
};

/*
 * Gives *out (empty before but for its `max` and `align`; extents_fini), the
 * ranges settled, of object 0, clipped to the origin's size. -ESTALE: the
 * snapshot is invalid, or its table changes in ways that a growing one does
 * not; everything has to be read. -EBADMSG: damaged, or no such store.
 */
int cow_table_read(int fd, uint64_t origin_bytes, struct cow_table_info *info,
    struct extents *out, struct err *e);

#endif

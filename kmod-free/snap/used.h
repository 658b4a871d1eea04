/*
 * What of a device the file system on it uses; the rest holds nothing, whatever
 * bytes are there. For XFS and ext4, which say so (FS_IOC_GETFSMAP) of a mounted
 * file system: it is mounted read-only, without its journal, and detached.
 *
 * Only of a device that was frozen when it became what it is, and does not
 * change: then all that the journal holds has been written to its place as well.
 * Internal to kmod-free/snap; root only.
 */
#ifndef NEAP_SNAP_USED_H
#define NEAP_SNAP_USED_H

#include "agent/core/err.h"
#include "kmod-free/io/extents.h"

/*
 * Of the open device `fd` of `size` bytes, with a file system of this type
 * ("xfs"), as libblkid calls it: ranges of object 0, of whole blocks of 4096
 * bytes, settled. -EOPNOTSUPP: such a one cannot tell; -ESTALE: this one cannot
 * be believed, and why.
 */
int used_find(int fd, uint64_t size, const char *fs_type, struct extents *out,
    struct err *e);

#endif

/*
 * Where things lie on a btrfs: file system, subvolume, path inside it, and
 * what is nested below. Internal to kmod-free/snap.
 */
#ifndef NEAP_SNAP_BTRFS_PLACE_H
#define NEAP_SNAP_BTRFS_PLACE_H

#include <stdint.h>

#include <btrfsutil.h>

#include "kmod-free/snap/snap.h"

#define BTRFS_PLACE_ROOT_INO 256u           /* BTRFS_FIRST_FREE_OBJECTID */
#define BTRFS_PLACE_TOP_LEVEL 5u            /* BTRFS_FS_TREE_OBJECTID */
#define BTRFS_PLACE_FOLDER "neap-snapshots" /* in the top level; ours */
#define BTRFS_PLACE_UUID_TEXT 37

void btrfs_place_uuid_text(
    char out[BTRFS_PLACE_UUID_TEXT], const uint8_t uuid[16]);
/* The text for a failure of libbtrfsutil, which leaves errno; its code. */
int btrfs_place_util(
    struct err *e, enum btrfs_util_error code, const char *what);
/* The file system's UUID of any descriptor on it. -ENOTTY: not btrfs. */
int btrfs_place_fsid(int fd, uint8_t fsid[16], struct err *e);
/* Path of an open folder inside its subvolume ("": its root; gives), and the
 * subvolume's id. */
int btrfs_place_inside(
    int dirfd, char **rel, uint64_t *subvolume, struct err *e);
/*
 * Calls fn with the path on this host of each nested subvolume and each mount
 * point below `rel` of the subvolume that `dirfd` lies in; `host` is a path by
 * which that subvolume can be reached.
 */
int btrfs_place_gaps(int dirfd, const char *rel, const char *host,
    snap_list_fn *fn, void *arg, struct err *e);

#endif

/*
 * One btrfs subvolume, reached by a mount that only this process has, whatever
 * part of the file system users have mounted where. Internal to kmod-free/snap.
 */
#ifndef NEAP_SNAP_BTRFS_VOLUME_H
#define NEAP_SNAP_BTRFS_VOLUME_H

#include <stdbool.h>
#include <stdint.h>

#include "kmod-free/snap/snap.h"

struct btrfs_volume {
	struct snap_volume base;
	uint8_t fsid[16], uuid[16];
	int mount; /* the private mount: an O_PATH descriptor that keeps it */
	int top;   /* the top level on it */
	int live;  /* the subvolume's root, on the private mount */
	bool read_only;
};

/* Of an absolute, resolved path; all but base.ops is filled in. -EOPNOTSUPP:
 * not on btrfs, or no private mount here; -EPERM: not root. */
int btrfs_volume_open(
    struct btrfs_volume **out, const char *path, struct err *e);
void btrfs_volume_close(struct btrfs_volume *v);

#endif

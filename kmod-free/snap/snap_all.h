/* The drivers by name; internal to kmod-free/snap. */
#ifndef NEAP_SNAP_SNAP_ALL_H
#define NEAP_SNAP_SNAP_ALL_H

#include "kmod-free/snap/snap.h"

extern const struct snap_ops snap_btrfs;
extern const struct snap_ops snap_device;
extern const struct snap_ops snap_lvm_thin;
extern const struct snap_ops snap_lvm_thick;
extern const struct snap_ops snap_none;

#endif

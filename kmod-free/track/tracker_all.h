/* The trackers by name; internal to kmod-free/track. */
#ifndef NEAP_TRACK_TRACKER_ALL_H
#define NEAP_TRACK_TRACKER_ALL_H

#include "kmod-free/track/tracker.h"

extern const struct tracker_ops tracker_scan;
extern const struct tracker_ops tracker_btrfs_send;
extern const struct tracker_ops tracker_btrfs_extents;
extern const struct tracker_ops tracker_lvm_thin;
extern const struct tracker_ops tracker_lvm_exceptions;

#endif

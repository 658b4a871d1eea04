/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/tracker_all.h"

#include <stddef.h>

const struct tracker_ops *const tracker_all[] = {
    &tracker_scan,
    &tracker_btrfs_send,
    &tracker_btrfs_extents,
    &tracker_lvm_thin,
    &tracker_lvm_exceptions,
    NULL,
};

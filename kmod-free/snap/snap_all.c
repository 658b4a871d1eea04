/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/snap_all.h"

#include <stddef.h>

/* In the order in which "auto" tries them. */
const struct snap_ops *const snap_all[] = {
    &snap_btrfs,
    &snap_lvm_thin,
    &snap_lvm_thick,
    &snap_device,
    &snap_none,
    NULL,
};

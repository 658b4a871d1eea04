/*
 * The file systems within a mounted backup's images: each gets a loop device
 * on its file in the FUSE mount and is mounted over the empty folder that the
 * backup has for it. Root only.
 *
 * The loop devices go by themselves when nothing uses them any more
 * (LO_FLAGS_AUTOCLEAR), so whoever is killed in whatever state leaves at most
 * mounts, and mount_undo takes those apart. A server must not unmount them while
 * it is no longer answering: their last writes would wait for it.
 */
#ifndef NEAP_TOOLS_MOUNT_IMAGE_H
#define NEAP_TOOLS_MOUNT_IMAGE_H

#include <stdbool.h>

#include "tools/images.h"

/*
 * Mount those of `l` below `dir`, where the backup is mounted already. What
 * this kernel has no driver for stays a file, with a warning. On failure none
 * is left. Gives the number of mounts.
 */
int mount_image_all(
    const struct images *l, const char *dir, bool writable, struct err *e);

/* Does any mount hang on the backup that is mounted at `dir` (real path)? */
bool mount_image_there(const char *dir);

/*
 * Unmount all that hangs on it, innermost first; -EBUSY
 * with *where (gives) at the first that is in use, unless `lazy`: then it is
 * taken out of sight and ends with its last user.
 */
int mount_image_end(const char *dir, bool lazy, char **where, struct err *e);

#endif

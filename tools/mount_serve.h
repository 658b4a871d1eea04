/*
 * The serving side of a mount: store, view, overlay and FUSE session of one
 * process.
 */
#ifndef NEAP_TOOLS_MOUNT_SERVE_H
#define NEAP_TOOLS_MOUNT_SERVE_H

#include "tools/mount.h"

/* Sent on the control socket: from now on, live without it. */
#define MOUNT_SERVE_DETACH 'd'

struct mount_serve;

/* Opens all and mounts. The kernel's requests wait until mount_serve_run. */
int mount_serve_open(
    struct mount_serve **out, const struct mount_how *how, struct err *e);
/*
 * Answer until it is unmounted, SIGTERM comes, or `control` (-1: none) closes
 * without MOUNT_SERVE_DETACH before.
 */
int mount_serve_run(struct mount_serve *s, int control, struct err *e);
/* Unmounts if need be, frees all. `stats` may be NULL. */
void mount_serve_close(struct mount_serve *s, struct mount_stats *stats);

#endif

/*
 * The kernel's requests, answered from an overlay. The session's user data is
 * a struct mount_view.
 */
#ifndef NEAP_TOOLS_MOUNT_OPS_H
#define NEAP_TOOLS_MOUNT_OPS_H

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "tools/overlay.h"

struct mount_view {
	struct overlay *overlay;
	uint64_t logical_bytes; /* for statfs */
};

/*
 * Nothing changes behind the kernel's back: what it asked once it may keep.
 * A day, because a number too large overflows in old kernels.
 */
#define MOUNT_TIMEOUT_S 86400.0

extern const struct fuse_lowlevel_ops mount_ops;

/* Shared by mount_ops.c, mount_dir.c and mount_change.c. */
struct overlay *mount_overlay(fuse_req_t req);
void mount_reply_entry(fuse_req_t req, int rc, const struct stat *st);

void mount_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mount_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
    struct fuse_file_info *fi);
void mount_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
    struct fuse_file_info *fi);
void mount_releasedir(
    fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

void mount_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
    mode_t mode, dev_t rdev);
void mount_mkdir(
    fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void mount_symlink(
    fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void mount_link(
    fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void mount_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void mount_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void mount_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
    fuse_ino_t to_parent, const char *to_name, unsigned flags);
void mount_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr,
    int to_set, struct fuse_file_info *fi);
void mount_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
    const char *value, size_t size, int flags);
void mount_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void mount_create(fuse_req_t req, fuse_ino_t parent, const char *name,
    mode_t mode, struct fuse_file_info *fi);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <time.h>

#include "tools/mount_ops.h"

static void
make(fuse_req_t req, fuse_ino_t parent, const char *name,
    struct overlay_make *how)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct stat st;
	int rc;

	how->uid = ctx->uid;
	how->gid = ctx->gid;
	rc = overlay_make(mount_overlay(req), parent, name, how, &st);
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		mount_reply_entry(req, rc, &st);
}

void
mount_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
    dev_t rdev)
{
	struct overlay_make how = {.mode = mode, .rdev = rdev};

	make(req, parent, name, &how);
}

void
mount_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct overlay_make how = {.mode = (mode & 07777) | S_IFDIR};

	make(req, parent, name, &how);
}

void
mount_symlink(
    fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct overlay_make how = {.mode = S_IFLNK | 0777, .target = target};

	make(req, parent, name, &how);
}

void
mount_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct stat st;
	int rc = overlay_link(mount_overlay(req), ino, parent, name, &st);

	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		mount_reply_entry(req, rc, &st);
}

void
mount_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, -overlay_unlink(mount_overlay(req), parent, name));
}

void
mount_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, -overlay_rmdir(mount_overlay(req), parent, name));
}

void
mount_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
    fuse_ino_t to_parent, const char *to_name, unsigned flags)
{
	fuse_reply_err(req, -overlay_rename(mount_overlay(req), parent, name,
				to_parent, to_name, flags));
}

static unsigned
fields_of(int to_set, struct stat *st)
{
	static const struct {
		int fuse;
		unsigned field;
	} map[] = {
	    {FUSE_SET_ATTR_MODE, OVERLAY_MODE},
	    {FUSE_SET_ATTR_UID, OVERLAY_UID},
	    {FUSE_SET_ATTR_GID, OVERLAY_GID},
	    {FUSE_SET_ATTR_SIZE, OVERLAY_SIZE},
	    {FUSE_SET_ATTR_ATIME, OVERLAY_ATIME},
	    {FUSE_SET_ATTR_MTIME, OVERLAY_MTIME},
	    {FUSE_SET_ATTR_ATIME_NOW, OVERLAY_ATIME},
	    {FUSE_SET_ATTR_MTIME_NOW, OVERLAY_MTIME},
	    {FUSE_SET_ATTR_CTIME, OVERLAY_CTIME},
	};
	unsigned fields = 0;

	for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
		if ((to_set & map[i].fuse) != 0)
			fields |= map[i].field;
	if ((to_set & FUSE_SET_ATTR_ATIME_NOW) != 0)
		clock_gettime(CLOCK_REALTIME, &st->st_atim);
	if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0)
		clock_gettime(CLOCK_REALTIME, &st->st_mtim);
	return fields;
}

void
mount_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
    struct fuse_file_info *fi)
{
	struct overlay *ov = mount_overlay(req);
	struct stat st;
	int rc;

	(void)fi;
	rc = overlay_set(ov, ino, fields_of(to_set, attr), attr);
	if (rc == 0)
		rc = overlay_stat(ov, ino, &st);
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_attr(req, &st, MOUNT_TIMEOUT_S);
}

void
mount_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
    const char *value, size_t size, int flags)
{
	fuse_reply_err(req, -overlay_setxattr(mount_overlay(req), ino, name,
				SPAN(value, size), flags));
}

void
mount_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	fuse_reply_err(
	    req, -overlay_removexattr(mount_overlay(req), ino, name));
}

void
mount_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
    struct fuse_file_info *fi)
{
	struct overlay *ov = mount_overlay(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct overlay_make how = {
	    .mode = (mode & 07777) | S_IFREG, .uid = ctx->uid, .gid = ctx->gid};
	struct fuse_entry_param p = {
	    .attr_timeout = MOUNT_TIMEOUT_S, .entry_timeout = MOUNT_TIMEOUT_S};
	struct overlay_file *f = NULL;
	int rc;

	rc = overlay_make(ov, parent, name, &how, &p.attr);
	if (rc == 0)
		rc = overlay_open(ov, p.attr.st_ino, true, &f);
	if (rc < 0) {
		fuse_reply_err(req, -rc);
		return;
	}
	p.ino = p.attr.st_ino;
	fi->fh = (uint64_t)(uintptr_t)f;
	fi->keep_cache = 1;
	if (fuse_reply_create(req, &p, fi) == -ENOENT)
		overlay_close(ov, f);
}

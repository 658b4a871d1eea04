/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mount_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "agent/core/mem.h"

struct overlay *
mount_overlay(fuse_req_t req)
{
	const struct mount_view *v = fuse_req_userdata(req);

	return v->overlay;
}

void
mount_reply_entry(fuse_req_t req, int rc, const struct stat *st)
{
	struct fuse_entry_param p = {
	    .attr_timeout = MOUNT_TIMEOUT_S, .entry_timeout = MOUNT_TIMEOUT_S};

	if (rc == -ENOENT) {
		fuse_reply_entry(req, &p); /* inode 0: remember that it lacks */
	} else if (rc < 0) {
		fuse_reply_err(req, -rc);
	} else {
		p.ino = st->st_ino;
		p.attr = *st;
		fuse_reply_entry(req, &p);
	}
}

static void
op_init(void *data, struct fuse_conn_info *conn)
{
	const struct mount_view *v = data;

	if (overlay_writable(v->overlay) &&
	    (conn->capable & FUSE_CAP_WRITEBACK_CACHE) != 0)
		conn->want |= FUSE_CAP_WRITEBACK_CACHE;
	if ((conn->capable & FUSE_CAP_POSIX_ACL) != 0)
		conn->want |= FUSE_CAP_POSIX_ACL;
	conn->max_write = 1u << 20;
	conn->max_background = 64;
	conn->time_gran = 1;
}

static void
op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct stat st;
	int rc = overlay_lookup(mount_overlay(req), parent, name, &st);

	mount_reply_entry(req, rc, &st);
}

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	int rc = overlay_stat(mount_overlay(req), ino, &st);

	(void)fi;
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_attr(req, &st, MOUNT_TIMEOUT_S);
}

static void
op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	SCOPED_FREE char *target = NULL;
	int rc = overlay_readlink(mount_overlay(req), ino, &target);

	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_readlink(req, target);
}

/* size 0 asks for the length only. */
static void
reply_bytes(fuse_req_t req, int rc, const struct buf *b, size_t size)
{
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else if (size == 0)
		fuse_reply_xattr(req, b->len);
	else if (b->len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, (const char *)b->data, b->len);
}

static void
op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	SCOPED_BUF struct buf b = {0};
	int rc = overlay_getxattr(mount_overlay(req), ino, name, &b);

	reply_bytes(req, rc, &b, size);
}

static void
op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	SCOPED_BUF struct buf b = {0};
	int rc = overlay_listxattr(mount_overlay(req), ino, &b);

	reply_bytes(req, rc, &b, size);
}

static void
op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct overlay *ov = mount_overlay(req);
	struct overlay_file *f = NULL;
	struct stat st = {.st_size = 0};
	int rc = 0;

	if (!overlay_writable(ov) && (fi->flags & O_ACCMODE) != O_RDONLY)
		rc = -EROFS;
	if (rc == 0)
		rc = overlay_open(
		    ov, ino, (fi->flags & O_ACCMODE) != O_RDONLY, &f);
	if (rc == 0 && (fi->flags & O_TRUNC) != 0 && overlay_writable(ov))
		rc = overlay_set(ov, ino, OVERLAY_SIZE, &st);
	if (rc < 0) {
		if (f != NULL)
			overlay_close(ov, f);
		fuse_reply_err(req, -rc);
		return;
	}
	fi->fh = (uint64_t)(uintptr_t)f;
	fi->keep_cache = 1;
	/* The opener was interrupted: nobody will release it. */
	if (fuse_reply_open(req, fi) == -ENOENT)
		overlay_close(ov, f);
}

static struct overlay_file *
file_of(const struct fuse_file_info *fi)
{
	return (struct overlay_file *)(uintptr_t)fi->fh;
}

static void
op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	overlay_close(mount_overlay(req), file_of(fi));
	fuse_reply_err(req, 0);
}

static void
op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
    struct fuse_file_info *fi)
{
	SCOPED_FREE char *to = malloc(size > 0 ? size : 1);
	ssize_t n;

	(void)ino;
	if (to == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	n = overlay_read(
	    mount_overlay(req), file_of(fi), (uint64_t)off, to, size);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, to, (size_t)n);
}

static void
op_write(fuse_req_t req, fuse_ino_t ino, const char *from, size_t size,
    off_t off, struct fuse_file_info *fi)
{
	int rc = overlay_write(
	    mount_overlay(req), file_of(fi), (uint64_t)off, from, size);

	(void)ino;
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_write(req, size);
}

/* The kernel asks for SEEK_DATA and SEEK_HOLE only. */
static void
op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
    struct fuse_file_info *fi)
{
	uint64_t at = 0;
	int rc = off < 0 ? -ENXIO
			 : overlay_seek(mount_overlay(req), file_of(fi),
			       (uint64_t)off, whence, &at);

	(void)ino;
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_lseek(req, (off_t)at);
}

static void
op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
    struct fuse_file_info *fi)
{
	int rc = -EINVAL;

	(void)ino;
	if (off >= 0 && len > 0)
		rc = overlay_fallocate(mount_overlay(req), file_of(fi), mode,
		    (uint64_t)off, (uint64_t)len);
	fuse_reply_err(req, -rc);
}

/* The scratch is thrown away: there is nothing to make durable. */
static void
op_fsync(
    fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, 0);
}

static void
op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	const struct mount_view *v = fuse_req_userdata(req);
	struct statvfs s = {.f_bsize = CHUNK_BLOCK_BYTES,
	    .f_frsize = CHUNK_BLOCK_BYTES,
	    .f_namemax = 255};
	int rc;

	(void)ino;
	rc = overlay_statvfs(v->overlay, &s);
	s.f_blocks = v->logical_bytes / CHUNK_BLOCK_BYTES + s.f_bfree;
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_statfs(req, &s);
}

const struct fuse_lowlevel_ops mount_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .getattr = op_getattr,
    .readlink = op_readlink,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .open = op_open,
    .release = op_release,
    .read = op_read,
    .write = op_write,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .fsync = op_fsync,
    .fsyncdir = op_fsync,
    .statfs = op_statfs,
    .opendir = mount_opendir,
    .readdir = mount_readdir,
    .readdirplus = mount_readdirplus,
    .releasedir = mount_releasedir,
    .mknod = mount_mknod,
    .mkdir = mount_mkdir,
    .symlink = mount_symlink,
    .link = mount_link,
    .unlink = mount_unlink,
    .rmdir = mount_rmdir,
    .rename = mount_rename,
    .setattr = mount_setattr,
    .setxattr = mount_setxattr,
    .removexattr = mount_removexattr,
    .create = mount_create,
};

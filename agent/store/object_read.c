/* SPDX-License-Identifier: Apache-2.0 */
/* Reading all of an object that is not its content or its names. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/store/object_sys.h"

#define XATTR_READ_TRIES 8

static int
read_stat(struct object *o, int fd, struct err *e)
{
	struct stat st;

	if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
		return err_sys(e, errno, "stat");
	if (object_sys_type(st.st_mode, &o->type) < 0)
		return err_set(
		    e, -EINVAL, "unknown file type %o", (unsigned)st.st_mode);
	o->mode = st.st_mode & 07777;
	o->uid = st.st_uid;
	o->gid = st.st_gid;
	o->nlink = (uint32_t)st.st_nlink;
	o->size = o->type == OBJECT_FILE ? (uint64_t)st.st_size : 0;
	o->mtime_s = st.st_mtim.tv_sec;
	o->mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
	o->atime_s = st.st_atim.tv_sec;
	o->atime_ns = (uint32_t)st.st_atim.tv_nsec;
	if (o->type == OBJECT_CHAR || o->type == OBJECT_BLOCK) {
		o->rdev_major = major(st.st_rdev);
		o->rdev_minor = minor(st.st_rdev);
	}
	return 0;
}

static int
read_target(struct object *o, int fd, struct err *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof target);

	if (n < 0)
		return err_sys(e, errno, "read the link");
	if (n == 0 || n == sizeof target)
		return err_set(
		    e, -EINVAL, "a link with a target of %zd bytes", n);
	o->target = mem_strn(target, (size_t)n);
	return 0;
}

static int
read_flags(struct object *o, int fd, struct err *e)
{
	SCOPED_FD int real = object_sys_open(fd);
	uint32_t flags = 0;
	int rc;

	if (real < 0)
		return err_sys(e, -real, "open to read its flags");
	rc = object_sys_get_flags(real, &flags);
	/* A file system without flags answers one of these. */
	if (rc == -ENOTTY || rc == -EOPNOTSUPP || rc == -EINVAL ||
	    rc == -ENOSYS)
		return 0;
	if (rc < 0)
		return err_sys(e, -rc, "read flags");
	o->flags = flags & object_sys_settable();
	return 0;
}

/* 1 with the value, 0 where the attribute has gone. */
static int
xattr_value(const char *path, struct object_xattr *x, struct err *e)
{
	for (int i = 0; i < XATTR_READ_TRIES; i++) {
		ssize_t n = getxattr(path, x->name, NULL, 0), got;
		SCOPED_FREE void *value = NULL;

		if (n < 0 && errno == ENODATA)
			return 0;
		if (n < 0)
			return err_sys(
			    e, errno, "read extended attribute %s", x->name);
		value = mem_new((size_t)n);
		got = n ? getxattr(path, x->name, value, (size_t)n) : 0;
		if (got >= 0) {
			x->value = TAKE(value);
			x->value_len = (size_t)got;
			return 1;
		}
		if (errno != ERANGE && errno != ENODATA)
			return err_sys(
			    e, errno, "read extended attribute %s", x->name);
	}
	return err_set(
	    e, -EBUSY, "extended attribute %s keeps changing", x->name);
}

static int
read_xattrs(struct object *o, int fd, struct err *e)
{
	SCOPED_BUF struct buf names = {0};
	char path[OBJECT_SYS_PATH_LEN];
	size_t cap = 0;
	int rc;

	object_sys_path(path, fd);
	rc = object_sys_xattrs(path, &names, e);
	for (size_t at = 0; rc >= 0 && at < names.len;) {
		const char *name = (const char *)names.data + at;
		size_t n = strnlen(name, names.len - at);
		struct object_xattr *x;

		at += n + 1;
		MEM_ROOM(o->xattr, o->xattrs, cap);
		x = &o->xattr[o->xattrs];
		*x = (struct object_xattr){.name = mem_strn(name, n)};
		rc = xattr_value(path, x, e);
		if (rc == 1)
			o->xattrs++;
		else
			free(x->name);
	}
	if (rc < 0)
		return rc;
	if (o->xattrs > 1)
		qsort(o->xattr, o->xattrs, sizeof *o->xattr,
		    object_sys_xattr_order);
	return 0;
}

static int
read_all(struct object *o, int fd, struct err *e)
{
	int rc = read_stat(o, fd, e);

	if (rc == 0 && o->type == OBJECT_SYMLINK)
		rc = read_target(o, fd, e);
	if (rc == 0)
		rc = read_xattrs(o, fd, e);
	if (rc == 0 && (o->type == OBJECT_FILE || o->type == OBJECT_DIR))
		rc = read_flags(o, fd, e);
	return rc;
}

int
object_read(struct object *o, int dirfd, const char *name, struct err *e)
{
	SCOPED_OBJECT struct object got = {0};
	SCOPED_FD int fd = object_sys_open_path(dirfd, name, e);
	int rc = fd < 0 ? fd : read_all(&got, fd, e);

	if (rc < 0)
		return err_wrap(e, "%s", name);
	*o = got;
	got = (struct object){0};
	return 0;
}

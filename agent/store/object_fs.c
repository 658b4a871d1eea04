/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects on a file system. Every call goes to one O_PATH descriptor, either
 * with AT_EMPTY_PATH or through its link under /proc/self/fd, so that a name
 * that changes meanwhile, or a symlink in its place, is never followed.
 */
#include "agent/store/object.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

#define XATTR_LIST_TRIES 8
#define FD_PATH_LEN 32

/* Flags that a user can set and that the content does not already imply. */
static const struct flag_word {
	uint32_t bit;
	const char *word; /* chattr(1)'s letter */
} flag_words[] = {
    {FS_NOCOW_FL, "flag C, no copy-on-write"},
    {FS_COMPR_FL, "flag c, compression"},
    {FS_NOCOMP_FL, "flag m, no compression"},
    {FS_NODUMP_FL, "flag d, no dump"},
    {FS_NOATIME_FL, "flag A, no access times"},
    {FS_SYNC_FL, "flag S, synchronous"},
    {FS_DIRSYNC_FL, "flag D, synchronous folder"},
    {FS_APPEND_FL, "flag a, append only"},
    {FS_IMMUTABLE_FL, "flag i, immutable"},
};

#define FLAGS_EARLY (FS_NOCOW_FL | FS_COMPR_FL | FS_NOCOMP_FL)
#define FLAGS_LAST (FS_APPEND_FL | FS_IMMUTABLE_FL)

static uint32_t
flags_settable(void)
{
	uint32_t all = 0;

	for (size_t i = 0; i < MEM_COUNT(flag_words); i++)
		all |= flag_words[i].bit;
	return all;
}

static void
fd_path(char out[FD_PATH_LEN], int fd)
{
	snprintf(out, FD_PATH_LEN, "/proc/self/fd/%d", fd);
}

static int
open_path(int dirfd, const char *name, struct err *e)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? err_sys(e, errno, "open") : fd;
}

/* A descriptor for ioctls; it never waits and leaves the access time alone. */
static int
open_real(int path_fd)
{
	char path[FD_PATH_LEN];
	int how = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
	int fd;

	fd_path(path, path_fd);
	fd = open(path, how | O_NOATIME);
	if (fd < 0 && errno == EPERM) /* O_NOATIME is the owner's and root's */
		fd = open(path, how);
	return fd < 0 ? -errno : fd;
}

/* The ioctls are declared with long but move an int; some FUSE servers do
 * write a long, so the memory behind it is ours. */
static int
flags_get(int fd, uint32_t *flags)
{
	union {
		long room;
		uint32_t v;
	} u = {0};

	if (ioctl(fd, FS_IOC_GETFLAGS, &u) < 0)
		return -errno;
	*flags = u.v;
	return 0;
}

static int
flags_set(int fd, uint32_t flags)
{
	union {
		long room;
		uint32_t v;
	} u = {0};

	u.v = flags;
	return ioctl(fd, FS_IOC_SETFLAGS, &u) < 0 ? -errno : 0;
}

/* ---- reading --------------------------------------------------------- */

static int
type_of(mode_t mode, enum object_type *type)
{
	static const struct {
		mode_t ifmt;
		enum object_type type;
	} types[] = {{S_IFREG, OBJECT_FILE}, {S_IFDIR, OBJECT_DIR},
	    {S_IFLNK, OBJECT_SYMLINK}, {S_IFIFO, OBJECT_FIFO},
	    {S_IFSOCK, OBJECT_SOCKET}, {S_IFCHR, OBJECT_CHAR},
	    {S_IFBLK, OBJECT_BLOCK}};

	for (size_t i = 0; i < MEM_COUNT(types); i++) {
		if ((mode & S_IFMT) != types[i].ifmt)
			continue;
		*type = types[i].type;
		return 0;
	}
	return -EINVAL;
}

static int
read_stat(struct object *o, int fd, struct err *e)
{
	struct stat st;

	if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
		return err_sys(e, errno, "stat");
	if (type_of(st.st_mode, &o->type) < 0)
		return err_set(e, -EINVAL, "unknown file type %o",
		    (unsigned)st.st_mode);
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
		return err_set(e, -EINVAL, "a link with a target of %zd bytes",
		    n);
	o->target = mem_strn(target, (size_t)n);
	return 0;
}

static int
read_flags(struct object *o, int fd, struct err *e)
{
	SCOPED_FD int real = open_real(fd);
	uint32_t flags = 0;
	int rc;

	if (real < 0)
		return err_sys(e, -real, "open to read its flags");
	rc = flags_get(real, &flags);
	/* A file system without flags answers one of these. */
	if (rc == -ENOTTY || rc == -EOPNOTSUPP || rc == -EINVAL ||
	    rc == -ENOSYS)
		return 0;
	if (rc < 0)
		return err_sys(e, -rc, "read flags");
	o->flags = flags & flags_settable();
	return 0;
}

/* The names of the extended attributes, each with its NUL, into `out`. */
static int
xattr_names(const char *path, struct buf *out, struct err *e)
{
	for (int i = 0; i < XATTR_LIST_TRIES; i++) {
		ssize_t n = listxattr(path, NULL, 0), got;

		if (n < 0 && errno == EOPNOTSUPP)
			return 0;
		if (n < 0)
			return err_sys(e, errno, "list extended attributes");
		if (n == 0)
			return 0;
		got = listxattr(path, (char *)buf_room(out, (size_t)n),
		    (size_t)n);
		if (got >= 0) {
			out->len = (size_t)got;
			return 0;
		}
		if (errno != ERANGE)
			return err_sys(e, errno, "list extended attributes");
	}
	return err_set(e, -EBUSY, "its extended attributes keep changing");
}

/* 1 with the value, 0 where the attribute has gone. */
static int
xattr_value(const char *path, struct object_xattr *x, struct err *e)
{
	for (int i = 0; i < XATTR_LIST_TRIES; i++) {
		ssize_t n = getxattr(path, x->name, NULL, 0), got;
		SCOPED_FREE void *value = NULL;

		if (n < 0 && errno == ENODATA)
			return 0;
		if (n < 0)
			return err_sys(e, errno, "read extended attribute %s",
			    x->name);
		value = mem_new((size_t)n);
		got = n ? getxattr(path, x->name, value, (size_t)n) : 0;
		if (got >= 0) {
			x->value = TAKE(value);
			x->value_len = (size_t)got;
			return 1;
		}
		if (errno != ERANGE && errno != ENODATA)
			return err_sys(e, errno, "read extended attribute %s",
			    x->name);
	}
	return err_set(e, -EBUSY, "extended attribute %s keeps changing",
	    x->name);
}

static int
xattr_order(const void *a, const void *b)
{
	const struct object_xattr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int
read_xattrs(struct object *o, int fd, struct err *e)
{
	SCOPED_BUF struct buf names = {0};
	char path[FD_PATH_LEN];
	size_t cap = 0;
	int rc;

	fd_path(path, fd);
	rc = xattr_names(path, &names, e);
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
		qsort(o->xattr, o->xattrs, sizeof *o->xattr, xattr_order);
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
	SCOPED_FD int fd = open_path(dirfd, name, e);
	int rc = fd < 0 ? fd : read_all(&got, fd, e);

	if (rc < 0)
		return err_wrap(e, "%s", name);
	*o = got;
	got = (struct object){0};
	return 0;
}

/* ---- applying -------------------------------------------------------- */

/* An apply under way: the open object, and what could not be set. */
struct apply {
	const struct object *o;
	int fd;
	char path[FD_PATH_LEN];
	struct buf missing;
};

static void
missed(struct apply *a, const char *what, int errnum)
{
	if (a->missing.len > 0)
		buf_put(&a->missing, ", ", 2);
	buf_put(&a->missing, what, strlen(what));
	if (errnum != EOPNOTSUPP) {
		const char *why = strerrordesc_np(errnum);

		buf_put(&a->missing, " (", 2);
		buf_put(&a->missing, why, strlen(why));
		buf_put(&a->missing, ")", 1);
	}
}

/*
 * Errors that mean "not here, or not you", as against a failing disk. ENOSPC,
 * E2BIG and ERANGE are ext4's and XFS's words for attributes that do not fit.
 */
static bool
tolerable(int errnum)
{
	static const int words[] = {EOPNOTSUPP, EPERM, EACCES, EINVAL, ENOTTY,
	    ENOSYS, ENOSPC, E2BIG, ERANGE, EXDEV};

	for (size_t i = 0; i < MEM_COUNT(words); i++) {
		if (errnum == words[i])
			return true;
	}
	return false;
}

static int
set_owner_and_mode(struct apply *a, const struct stat *st, struct err *e)
{
	const struct object *o = a->o;
	mode_t mode = o->mode;

	if ((st->st_uid != o->uid || st->st_gid != o->gid) &&
	    fchownat(a->fd, "", o->uid, o->gid, AT_EMPTY_PATH) < 0) {
		char what[64];

		if (!tolerable(errno))
			return err_sys(e, errno, "set the owner");
		snprintf(what, sizeof what, "owner %u:%u", o->uid, o->gid);
		missed(a, what, errno);
		/* set-id rights of another owner must not become ours */
		mode &= ~(mode_t)(S_ISUID | S_ISGID);
	}
	if (o->type == OBJECT_SYMLINK)
		return 0;
	if (chmod(a->path, mode) < 0) {
		if (!tolerable(errno))
			return err_sys(e, errno, "set the mode");
		missed(a, "mode", errno);
	}
	return 0;
}

static bool
has_xattr(const struct object *o, const char *name)
{
	struct object_xattr key = {.name = (char *)name};

	return o->xattrs > 0 &&
	    bsearch(&key, o->xattr, o->xattrs, sizeof key, xattr_order) != NULL;
}

/*
 * What the parent folder (a default ACL) or an older version left. Labels of
 * security modules are not ours to take away, capabilities are.
 */
static int
remove_other_xattrs(struct apply *a, struct err *e)
{
	SCOPED_BUF struct buf names = {0};
	int rc = xattr_names(a->path, &names, e);

	if (rc < 0)
		return rc;
	for (size_t at = 0; at < names.len;) {
		const char *name = (const char *)names.data + at;

		at += strnlen(name, names.len - at) + 1;
		if (has_xattr(a->o, name))
			continue;
		if (strncmp(name, "security.", 9) == 0 &&
		    strcmp(name, "security.capability") != 0)
			continue;
		if (removexattr(a->path, name) < 0 && errno != ENODATA &&
		    !tolerable(errno))
			return err_sys(e, errno,
			    "remove extended attribute %s", name);
	}
	return 0;
}

static int
set_xattrs(struct apply *a, struct err *e)
{
	int rc = remove_other_xattrs(a, e);

	for (size_t i = 0; rc == 0 && i < a->o->xattrs; i++) {
		const struct object_xattr *x = &a->o->xattr[i];
		char what[320];

		if (setxattr(a->path, x->name, x->value, x->value_len, 0) == 0)
			continue;
		if (!tolerable(errno))
			return err_sys(e, errno, "set extended attribute %s",
			    x->name);
		snprintf(what, sizeof what, "extended attribute %s", x->name);
		missed(a, what, errno);
	}
	return rc;
}

/*
 * One flag after the other, because one that the target refuses would take the
 * others with it. What counts is what it says afterwards: btrfs takes no
 * copy-on-write for a file with content without a word.
 */
static int
flags_apply(struct apply *a, int real, uint32_t want, uint32_t mask)
{
	uint32_t now = 0;
	int rc = flags_get(real, &now);

	for (size_t i = 0; i < MEM_COUNT(flag_words); i++) {
		uint32_t bit = flag_words[i].bit;
		int set = rc;

		if ((bit & mask) == 0 || ((now ^ want) & bit) == 0)
			continue;
		if (rc == 0)
			set = flags_set(real, now ^ bit);
		if (rc == 0)
			rc = flags_get(real, &now);
		if ((want & bit) != 0 && (now & bit) == 0)
			missed(a, flag_words[i].word,
			    set < 0 ? -set : EOPNOTSUPP);
	}
	return rc;
}

static int
set_flags(struct apply *a, uint32_t mask, struct err *e)
{
	SCOPED_FD int real = -1;
	int rc;

	if (a->o->type != OBJECT_FILE && a->o->type != OBJECT_DIR)
		return 0;
	real = open_real(a->fd);
	if (real < 0 && !tolerable(-real))
		return err_sys(e, -real, "open to set its flags");
	if (real < 0) {
		if ((a->o->flags & mask) != 0)
			missed(a, "flags", -real);
		return 0;
	}
	rc = flags_apply(a, real, a->o->flags, mask);
	return rc < 0 && !tolerable(-rc) ? err_sys(e, -rc, "set flags") : 0;
}

/* An immutable older version would refuse all that follows. */
static int
clear_last_flags(struct apply *a, struct err *e)
{
	SCOPED_FD int real = -1;
	struct statx sx;
	uint32_t now = 0;

	if (statx(a->fd, "", AT_EMPTY_PATH, STATX_TYPE, &sx) < 0)
		return err_sys(e, errno, "stat");
	if ((sx.stx_attributes &
		(STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) == 0)
		return 0;
	real = open_real(a->fd);
	if (real >= 0 && flags_get(real, &now) == 0)
		flags_set(real, now & ~(uint32_t)FLAGS_LAST);
	return 0;
}

static int
set_times(struct apply *a, struct err *e)
{
	struct timespec ts[2] = {
	    {.tv_sec = a->o->atime_s, .tv_nsec = a->o->atime_ns},
	    {.tv_sec = a->o->mtime_s, .tv_nsec = a->o->mtime_ns},
	};

	if (utimensat(AT_FDCWD, a->path, ts, 0) == 0)
		return 0;
	if (!tolerable(errno))
		return err_sys(e, errno, "set the times");
	missed(a, "times", errno);
	return 0;
}

static int
apply_all(struct apply *a, struct err *e)
{
	enum object_type type;
	struct stat st;
	int rc;

	if (fstatat(a->fd, "", &st, AT_EMPTY_PATH) < 0)
		return err_sys(e, errno, "stat");
	if (type_of(st.st_mode, &type) < 0 || type != a->o->type)
		return err_set(e, -EINVAL,
		    "it is not of the type that the backup has");
	rc = clear_last_flags(a, e);
	if (rc == 0)
		rc = set_owner_and_mode(a, &st, e);
	if (rc == 0) /* after chown, which takes security.capability away */
		rc = set_xattrs(a, e);
	if (rc == 0)
		rc = set_flags(a, flags_settable() & ~(uint32_t)FLAGS_LAST, e);
	if (rc == 0)
		rc = set_times(a, e);
	if (rc == 0 && (a->o->flags & FLAGS_LAST) != 0)
		rc = set_flags(a, FLAGS_LAST, e);
	if (rc == 0 && a->missing.len > 0)
		rc = err_set(e, -EOPNOTSUPP,
		    "the target cannot hold, or we may not set: %.*s",
		    (int)a->missing.len, (const char *)a->missing.data);
	return rc;
}

int
object_apply(const struct object *o, int dirfd, const char *name,
    struct err *e)
{
	SCOPED_FD int fd = open_path(dirfd, name, e);
	struct apply a = {.o = o, .fd = fd};
	int rc = fd;

	if (fd >= 0) {
		fd_path(a.path, fd);
		rc = apply_all(&a, e);
	}
	buf_free(&a.missing);
	return rc < 0 ? err_wrap(e, "%s", name) : 0;
}

void
object_apply_early(const struct object *o, int fd)
{
	uint32_t want = o->flags & FLAGS_EARLY, now = 0;

	if (want != 0 && flags_get(fd, &now) == 0 && (now & want) != want)
		flags_set(fd, now | want);
}

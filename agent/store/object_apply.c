/* SPDX-License-Identifier: Apache-2.0 */
/* Putting all of an object but its content on a file that is there. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/store/object_sys.h"

#define FLAGS_EARLY (FS_NOCOW_FL | FS_COMPR_FL | FS_NOCOMP_FL)
#define FLAGS_LAST (FS_APPEND_FL | FS_IMMUTABLE_FL)

/* An apply under way: the open object, and what could not be set. */
struct apply {
	const struct object *o;
	int fd;
	char path[OBJECT_SYS_PATH_LEN];
	struct buf missing;
};

static void
missed(struct apply *a, const char *what, int errnum)
{
	if (a->missing.len > 0)
		buf_put(&a->missing, ", ", 2);
	buf_put(&a->missing, what, strlen(what));
	if (errnum != EOPNOTSUPP && errnum != ENOTTY) {
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

	return o->xattrs > 0 && bsearch(&key, o->xattr, o->xattrs, sizeof key,
				    object_sys_xattr_order) != NULL;
}

/*
 * What the parent folder (a default ACL) or an older version left. Labels of
 * security modules are not ours to take away, capabilities are.
 */
static int
remove_other_xattrs(struct apply *a, struct err *e)
{
	SCOPED_BUF struct buf names = {0};
	int rc = object_sys_xattrs(a->path, &names, e);

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
			return err_sys(
			    e, errno, "remove extended attribute %s", name);
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
			return err_sys(
			    e, errno, "set extended attribute %s", x->name);
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
	int rc = object_sys_get_flags(real, &now);

	for (size_t i = 0; object_sys_flags[i].bit != 0; i++) {
		uint32_t bit = object_sys_flags[i].bit;
		int set = rc;

		if ((bit & mask) == 0 || ((now ^ want) & bit) == 0)
			continue;
		if (rc == 0)
			set = object_sys_set_flags(real, now ^ bit);
		if (rc == 0)
			rc = object_sys_get_flags(real, &now);
		if ((want & bit) != 0 && (now & bit) == 0)
			missed(a, object_sys_flags[i].word,
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
	real = object_sys_open(a->fd);
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
	if ((sx.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) ==
	    0)
		return 0;
	real = object_sys_open(a->fd);
	if (real >= 0 && object_sys_get_flags(real, &now) == 0)
		object_sys_set_flags(real, now & ~(uint32_t)FLAGS_LAST);
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
	if (object_sys_type(st.st_mode, &type) < 0 ||
	    type != (a->o->type == OBJECT_IMAGE ? OBJECT_FILE : a->o->type))
		return err_set(
		    e, -EINVAL, "it is not of the type that the backup has");
	rc = clear_last_flags(a, e);
	if (rc == 0)
		rc = set_owner_and_mode(a, &st, e);
	if (rc == 0) /* after chown, which takes security.capability away */
		rc = set_xattrs(a, e);
	if (rc == 0)
		rc = set_flags(
		    a, object_sys_settable() & ~(uint32_t)FLAGS_LAST, e);
	if (rc == 0 && a->o->type != OBJECT_IMAGE)
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
object_apply(const struct object *o, int dirfd, const char *name, struct err *e)
{
	SCOPED_FD int fd = object_sys_open_path(dirfd, name, e);
	struct apply a = {.o = o, .fd = fd};
	int rc = fd;

	if (fd >= 0) {
		object_sys_path(a.path, fd);
		rc = apply_all(&a, e);
	}
	buf_free(&a.missing);
	return rc < 0 ? err_wrap(e, "%s", name) : 0;
}

void
object_apply_early(const struct object *o, int fd)
{
	uint32_t want = o->flags & FLAGS_EARLY, now = 0, less;

	if (object_sys_get_flags(fd, &now) < 0)
		return;
	/* btrfs refuses to go from one to the other in one step. */
	less = now & (want | ~(uint32_t)FLAGS_EARLY);
	if (less != now)
		object_sys_set_flags(fd, less);
	if ((less | want) != less)
		object_sys_set_flags(fd, less | want);
}

bool
object_can_become(const struct object *o, int fd)
{
	struct statfs fs;
	uint32_t now = 0;

	return fstatfs(fd, &fs) < 0 || fs.f_type != BTRFS_SUPER_MAGIC ||
	       object_sys_get_flags(fd, &now) < 0 ||
	       ((now ^ o->flags) & FS_NOCOW_FL) == 0;
}

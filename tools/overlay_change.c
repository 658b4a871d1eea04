/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "agent/core/mem.h"
#include "tools/overlay_parts.h"

#define LINKS_MAX 65000

/* ---- small words; write lock held -------------------------------------- */

static void
touch(struct overlay_node *n, bool content)
{
	overlay_now(&n->ctime);
	n->changed = true;
	if (content) {
		n->o.mtime_s = n->ctime.tv_sec;
		n->o.mtime_ns = (uint32_t)n->ctime.tv_nsec;
	}
}

static int
folder_node(struct overlay *ov, uint64_t ino, struct overlay_node **out)
{
	int rc = overlay_node(ov, ino, out);

	if (rc < 0)
		return rc;
	/* A folder that was removed while it was somebody's current one. */
	if ((*out)->o.type != OBJECT_DIR || (*out)->o.nlink == 0)
		return (*out)->o.type != OBJECT_DIR ? -ENOTDIR : -ENOENT;
	return 0;
}

/* The name leads nowhere from now on. */
static void
take_name(struct overlay *ov, struct overlay_node *folder, const char *name)
{
	struct err e = ERR_NONE;
	uint64_t base;

	/* In doubt it stays as a mark: it costs memory, not correctness. */
	if (!folder->in_backup ||
	    map_view_lookup(ov->how.view, folder->ino, name, &base, &e) == 0)
		names_remove(&folder->names, name);
	else
		names_set(&folder->names, name, 0);
	touch(folder, true);
}

static void
put_name(struct overlay_node *folder, const char *name, uint64_t ino)
{
	names_set(&folder->names, name, ino);
	touch(folder, true);
}

static void
lose_link(struct overlay *ov, struct overlay_node *n)
{
	touch(n, false);
	if (n->o.type == OBJECT_DIR)
		n->o.nlink = 0;
	else if (n->o.nlink > 0)
		n->o.nlink--;
	overlay_settle(ov, n);
}

static int
child_node(struct overlay *ov, uint64_t folder, const char *name,
    struct overlay_node **out)
{
	uint64_t ino = 0;
	int rc = overlay_child(ov, folder, name, &ino);

	if (rc < 0)
		return rc;
	return rc == 0 ? -ENOENT : overlay_node(ov, ino, out);
}

/* Changed names first: they say so without a look at the maps. */
struct emptiness {
	const struct names *names;
	bool found;
};

static int
on_name(void *arg, const char *name, uint64_t object)
{
	struct emptiness *m = arg;
	const struct names_entry *x = names_find(m->names, name);

	(void)object;
	m->found = x == NULL || x->ino != 0;
	return m->found;
}

static int
check_empty(struct overlay *ov, struct overlay_node *n)
{
	struct emptiness m = {.names = &n->names};
	const struct names_entry *x = names_next(&n->names, NULL);
	struct err e = ERR_NONE;

	for (; x != NULL; x = names_next(&n->names, x->name))
		if (x->ino != 0)
			return -ENOTEMPTY;
	if (n->in_backup &&
	    map_view_names(ov->how.view, n->ino, NULL, on_name, &m, &e) < 0)
		return overlay_fail(ov, n->ino, 0, &e);
	return m.found ? -ENOTEMPTY : 0;
}

/* ---- names ------------------------------------------------------------- */

static enum object_type
type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return OBJECT_DIR;
	case S_IFLNK:
		return OBJECT_SYMLINK;
	case S_IFIFO:
		return OBJECT_FIFO;
	case S_IFSOCK:
		return OBJECT_SOCKET;
	case S_IFCHR:
		return OBJECT_CHAR;
	case S_IFBLK:
		return OBJECT_BLOCK;
	default:
		return OBJECT_FILE;
	}
}

static void
fill_new(struct overlay_node *n, const struct overlay_node *folder,
    const struct overlay_make *how)
{
	n->o.type = type_of(how->mode);
	n->o.mode = how->mode & 07777;
	n->o.uid = how->uid;
	n->o.gid = how->gid;
	n->o.nlink = 1;
	n->o.rdev_major = major(how->rdev);
	n->o.rdev_minor = minor(how->rdev);
	if (how->target != NULL)
		n->o.target = mem_str(how->target);
	/* A folder with the set-group-id bit hands its group down. */
	if ((folder->o.mode & S_ISGID) != 0) {
		n->o.gid = folder->o.gid;
		if (n->o.type == OBJECT_DIR)
			n->o.mode |= S_ISGID;
	}
	touch(n, true);
	n->o.atime_s = n->o.mtime_s;
	n->o.atime_ns = n->o.mtime_ns;
}

static int
make_locked(struct overlay *ov, uint64_t folder, const char *name,
    const struct overlay_make *how, struct stat *st)
{
	struct overlay_node *d, *n;
	uint64_t ino;
	int rc;

	rc = folder_node(ov, folder, &d);
	if (rc == 0)
		rc = overlay_child(ov, folder, name, &ino);
	if (rc != 0)
		return rc < 0 ? rc : -EEXIST;
	n = overlay_add(ov, ov->next_ino++);
	fill_new(n, d, how);
	put_name(d, name, n->ino);
	if (n->o.type == OBJECT_FILE)
		overlay_cow(ov, n);
	overlay_fill(n, st);
	return 0;
}

static int
begin(struct overlay *ov, const char *name)
{
	if (!overlay_writable(ov))
		return -EROFS;
	if (name != NULL && strlen(name) > 255)
		return -ENAMETOOLONG;
	pthread_rwlock_wrlock(&ov->lock);
	return 0;
}

static int
end(struct overlay *ov, int rc)
{
	pthread_rwlock_unlock(&ov->lock);
	return rc;
}

int
overlay_make(struct overlay *ov, uint64_t folder, const char *name,
    const struct overlay_make *how, struct stat *st)
{
	int rc = begin(ov, name);

	if (rc < 0)
		return rc;
	return end(ov, make_locked(ov, folder, name, how, st));
}

static int
link_locked(struct overlay *ov, uint64_t ino, uint64_t folder, const char *name,
    struct stat *st)
{
	struct overlay_node *d, *n;
	uint64_t there;
	int rc;

	rc = folder_node(ov, folder, &d);
	if (rc == 0)
		rc = overlay_child(ov, folder, name, &there);
	if (rc != 0)
		return rc < 0 ? rc : -EEXIST;
	rc = overlay_node(ov, ino, &n);
	if (rc < 0)
		return rc;
	if (n->o.type == OBJECT_DIR)
		return -EPERM;
	if (n->o.nlink >= LINKS_MAX)
		return -EMLINK;
	n->o.nlink++;
	touch(n, false);
	put_name(d, name, ino);
	overlay_fill(n, st);
	return 0;
}

int
overlay_link(struct overlay *ov, uint64_t ino, uint64_t folder,
    const char *name, struct stat *st)
{
	int rc = begin(ov, name);

	if (rc < 0)
		return rc;
	return end(ov, link_locked(ov, ino, folder, name, st));
}

static int
unlink_locked(
    struct overlay *ov, uint64_t folder, const char *name, bool is_folder)
{
	struct overlay_node *d, *n;
	int rc;

	rc = folder_node(ov, folder, &d);
	if (rc == 0)
		rc = child_node(ov, folder, name, &n);
	if (rc < 0)
		return rc;
	if (is_folder && n->o.type != OBJECT_DIR)
		return -ENOTDIR;
	if (!is_folder && n->o.type == OBJECT_DIR)
		return -EISDIR;
	if (is_folder) {
		rc = check_empty(ov, n);
		if (rc < 0)
			return rc;
	}
	take_name(ov, d, name);
	lose_link(ov, n);
	return 0;
}

int
overlay_unlink(struct overlay *ov, uint64_t folder, const char *name)
{
	int rc = begin(ov, name);

	if (rc < 0)
		return rc;
	return end(ov, unlink_locked(ov, folder, name, false));
}

int
overlay_rmdir(struct overlay *ov, uint64_t folder, const char *name)
{
	int rc = begin(ov, name);

	if (rc < 0)
		return rc;
	return end(ov, unlink_locked(ov, folder, name, true));
}

/* May `n` take the place of `old`? */
static int
check_replace(
    struct overlay *ov, const struct overlay_node *n, struct overlay_node *old)
{
	if (old->o.type == OBJECT_DIR && n->o.type != OBJECT_DIR)
		return -EISDIR;
	if (old->o.type != OBJECT_DIR && n->o.type == OBJECT_DIR)
		return -ENOTDIR;
	return old->o.type == OBJECT_DIR ? check_empty(ov, old) : 0;
}

static int
rename_locked(struct overlay *ov, uint64_t folder, const char *name,
    uint64_t to_folder, const char *to_name, unsigned flags)
{
	struct overlay_node *d, *to, *n, *old = NULL;
	int rc;

	rc = folder_node(ov, folder, &d);
	if (rc == 0)
		rc = folder_node(ov, to_folder, &to);
	if (rc == 0)
		rc = child_node(ov, folder, name, &n);
	if (rc < 0)
		return rc;
	rc = child_node(ov, to_folder, to_name, &old);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (flags == RENAME_EXCHANGE) {
		if (old == NULL)
			return -ENOENT;
		put_name(d, name, old->ino);
		put_name(to, to_name, n->ino);
		touch(old, false);
		touch(n, false);
		return 0;
	}
	if (old != NULL && flags == RENAME_NOREPLACE)
		return -EEXIST;
	if (old == n)
		return 0; /* two names of one file: POSIX says do nothing */
	rc = old != NULL ? check_replace(ov, n, old) : 0;
	if (rc < 0)
		return rc;
	take_name(ov, d, name);
	put_name(to, to_name, n->ino);
	touch(n, false);
	if (old != NULL)
		lose_link(ov, old);
	return 0;
}

int
overlay_rename(struct overlay *ov, uint64_t folder, const char *name,
    uint64_t to_folder, const char *to_name, unsigned flags)
{
	int rc;

	if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE)
		return -EINVAL;
	rc = begin(ov, to_name);
	if (rc < 0)
		return rc;
	return end(
	    ov, rename_locked(ov, folder, name, to_folder, to_name, flags));
}

/* ---- attributes --------------------------------------------------------- */

static int
set_locked(
    struct overlay *ov, uint64_t ino, unsigned fields, const struct stat *st)
{
	struct overlay_node *n;
	struct err e = ERR_NONE;
	int rc = overlay_node(ov, ino, &n);

	if (rc < 0)
		return rc;
	if ((fields & OVERLAY_SIZE) != 0) {
		if (n->o.type != OBJECT_FILE)
			return n->o.type == OBJECT_DIR ? -EISDIR : -EINVAL;
		if (cow_truncate(
			overlay_cow(ov, n), (uint64_t)st->st_size, &e) < 0)
			return overlay_fail(ov, ino, 0, &e);
	}
	touch(n, (fields & OVERLAY_SIZE) != 0);
	if ((fields & OVERLAY_MODE) != 0)
		n->o.mode = st->st_mode & 07777;
	if ((fields & OVERLAY_UID) != 0)
		n->o.uid = st->st_uid;
	if ((fields & OVERLAY_GID) != 0)
		n->o.gid = st->st_gid;
	if ((fields & OVERLAY_ATIME) != 0) {
		n->o.atime_s = st->st_atim.tv_sec;
		n->o.atime_ns = (uint32_t)st->st_atim.tv_nsec;
	}
	if ((fields & OVERLAY_MTIME) != 0) {
		n->o.mtime_s = st->st_mtim.tv_sec;
		n->o.mtime_ns = (uint32_t)st->st_mtim.tv_nsec;
	}
	if ((fields & OVERLAY_CTIME) != 0)
		n->ctime = st->st_ctim;
	return 0;
}

int
overlay_set(
    struct overlay *ov, uint64_t ino, unsigned fields, const struct stat *st)
{
	int rc = begin(ov, NULL);

	if (rc < 0)
		return rc;
	return end(ov, set_locked(ov, ino, fields, st));
}

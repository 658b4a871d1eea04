/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-only snapshots of a btrfs subvolume. They lie outside of what users
 * mount: in neap-snapshots/SUBVOLUUID of the file system's top level, mode
 * 0700 (a snapshot shows what was deleted since, to whom it was readable),
 * reached by a mount that only this process has. So the data stays as it is,
 * a snapshot never ends up inside the next one, and it does not matter which
 * part of the file system is mounted where.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/mounts.h"
#include "kmod-free/snap/btrfs_place.h"
#include "kmod-free/snap/btrfs_volume.h"
#include "kmod-free/snap/snap_all.h"

#define ROOT_READ_ONLY 1u /* BTRFS_ROOT_SUBVOL_RDONLY of the root item */

static int
btrfs_open(struct snap_volume **out, const char *path, struct err *e)
{
	struct btrfs_volume *v;
	int rc = btrfs_volume_open(&v, path, e);

	if (rc < 0)
		return rc;
	v->base.ops = &snap_btrfs;
	*out = &v->base;
	return 0;
}

static void
btrfs_close(struct snap_volume *base)
{
	btrfs_volume_close((struct btrfs_volume *)base);
}

/* ---- the folder of this volume's snapshots ---- */

/* Others must neither read what it shows nor put things in its place. */
static int
check_private(int fd, const char *name, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "look at %s", name);
	if (st.st_uid == 0 && (st.st_mode & 077) == 0)
		return 0;
	err_set(e, -EPERM,
	    "folder %s in the top level of the file system is open to others",
	    name);
	return err_hint(e, "mount it with -o subvolid=5 and give that folder "
			   "to root with mode 700");
}

static int
enter(int at, const char *name, bool make, struct err *e)
{
	SCOPED_FD int fd = -1;
	int rc;

	if (make && mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make folder %s", name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open folder %s", name);
	rc = check_private(fd, name, e);
	if (rc < 0)
		return rc;
	rc = fd;
	fd = -1;
	return rc;
}

/* Gives its descriptor. -ENOENT: no snapshot was ever taken. */
static int
folder(struct btrfs_volume *v, bool make, struct err *e)
{
	char uuid[BTRFS_PLACE_UUID_TEXT];
	SCOPED_FD int all = enter(v->top, BTRFS_PLACE_FOLDER, make, e);

	if (all < 0)
		return all;
	btrfs_place_uuid_text(uuid, v->uuid);
	return enter(all, uuid, make, e);
}

/* ---- snapshots ---- */

/*
 * That it is a snapshot of this volume, is read-only, and has always been:
 * btrfs moves ctransid when an inode of the subvolume changes, and it stays at
 * or before otransid, the snapshot's own transaction, when none ever did.
 */
static int
check_view(struct btrfs_volume *v, int fd, struct err *e)
{
	struct btrfs_util_subvolume_info info;
	enum btrfs_util_error u = btrfs_util_is_subvolume_fd(fd);

	if (u != BTRFS_UTIL_OK)
		return err_set(e, -EPERM, "it is not a btrfs snapshot");
	u = btrfs_util_subvolume_info_fd(fd, 0, &info);
	if (u != BTRFS_UTIL_OK)
		return btrfs_place_util(e, u, "look at the snapshot");
	if (memcmp(info.parent_uuid, v->uuid, 16) != 0)
		return err_set(
		    e, -EPERM, "it is not a snapshot of %s", v->base.root);
	if ((info.flags & ROOT_READ_ONLY) == 0 || info.ctransid > info.otransid)
		return err_set(e, -ESTALE,
		    "somebody made it writable; what it shows may have "
		    "changed");
	return 0;
}

static int
open_view(struct btrfs_volume *v, int dir, const char *name, struct err *e)
{
	SCOPED_FD int fd =
	    openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int rc;

	if (fd < 0 && errno == ENOENT)
		return err_set(e, -ENOENT, "there is no such snapshot");
	if (fd < 0)
		return err_sys(e, errno, "open");
	rc = check_view(v, fd, e);
	if (rc < 0)
		return rc;
	rc = fd;
	fd = -1;
	return rc;
}

/* The kernel's call commits the transaction before it returns (fs/btrfs/
 * ioctl.c create_snapshot), so nothing else need be synced. */
static int
btrfs_create(struct snap_volume *base, const char *name, struct err *e)
{
	struct btrfs_volume *v = (struct btrfs_volume *)base;
	SCOPED_FD int dir = -1, fd = -1;
	enum btrfs_util_error u;
	struct stat st;

	if (v->read_only)
		return err_set(
		    e, -EROFS, "the file system is mounted read-only");
	dir = folder(v, true, e);
	if (dir < 0)
		return dir;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EEXIST, "it exists already");
	u = btrfs_util_create_snapshot_fd2(v->live, dir, name,
	    BTRFS_UTIL_CREATE_SNAPSHOT_READ_ONLY, NULL, NULL);
	if (u != BTRFS_UTIL_OK && errno == ETXTBSY)
		return err_set(e, -ETXTBSY,
		    "the subvolume holds an active swap file; move that into "
		    "a subvolume of its own");
	if (u != BTRFS_UTIL_OK)
		return btrfs_place_util(e, u, "ask btrfs");
	fd = open_view(v, dir, name, e);
	if (fd < 0) {
		btrfs_util_delete_subvolume_fd(dir, name, 0);
		return err_wrap(e, "the new snapshot is not as asked for");
	}
	return 0;
}

static int
btrfs_view(struct snap_volume *base, const char *name, struct err *e)
{
	struct btrfs_volume *v = (struct btrfs_volume *)base;
	SCOPED_FD int dir = folder(v, false, e);

	return dir < 0 ? dir : open_view(v, dir, name, e);
}

static int
btrfs_remove(struct snap_volume *base, const char *name, struct err *e)
{
	struct btrfs_volume *v = (struct btrfs_volume *)base;
	SCOPED_FD int dir = folder(v, false, e);
	enum btrfs_util_error u;
	int fd;

	if (dir == -ENOENT)
		return err_clear(e);
	if (dir < 0)
		return dir;
	fd = open_view(v, dir, name, e);
	if (fd == -ENOENT)
		return err_clear(e);
	/* One that was made writable is still ours to remove. */
	if (fd < 0 && fd != -ESTALE)
		return fd;
	if (fd >= 0)
		close(fd);
	err_clear(e);
	u = btrfs_util_delete_subvolume_fd(dir, name, 0);
	if (u == BTRFS_UTIL_OK || errno == ENOENT)
		return 0;
	return btrfs_place_util(e, u, "ask btrfs");
}

struct names {
	char **v;
	size_t n, cap;
};

static void
names_fini(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

static int
read_names(int dir, struct names *l, struct err *e)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	int errnum;

	if (d == NULL) {
		errnum = errno;
		if (fd >= 0)
			close(fd);
		return err_sys(e, errnum, "open the folder of snapshots");
	}
	while (errno = 0, (de = readdir(d)) != NULL) {
		struct stat st;

		if (strncmp(de->d_name, SNAP_PREFIX, strlen(SNAP_PREFIX)) !=
			0 ||
		    fstatat(dir, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISDIR(st.st_mode) || st.st_ino != BTRFS_PLACE_ROOT_INO)
			continue;
		MEM_ROOM(l->v, l->n, l->cap);
		l->v[l->n++] = mem_str(de->d_name);
	}
	errnum = errno;
	closedir(d);
	if (errnum != 0)
		return err_sys(e, errnum, "read the folder of snapshots");
	return 0;
}

/* Names first, calls then: the callback may remove what it is called with. */
static int
btrfs_list(struct snap_volume *base, snap_list_fn *fn, void *arg, struct err *e)
{
	struct btrfs_volume *v = (struct btrfs_volume *)base;
	struct names l __attribute__((cleanup(names_fini))) = {0};
	SCOPED_FD int dir = folder(v, false, e);
	int rc;

	if (dir == -ENOENT)
		return err_clear(e);
	if (dir < 0)
		return dir;
	rc = read_names(dir, &l, e);
	for (size_t i = 0; rc == 0 && i < l.n; i++)
		rc = fn(arg, l.v[i]);
	return rc;
}

/* ---- paths ---- */

static int
elsewhere(struct btrfs_volume *v, const char *path, struct err *e)
{
	SCOPED_FREE char *what = mounts_describe(path);

	return err_set(e, -EXDEV,
	    "%s lies on %s, not in the subvolume at %s (id %llu)", path, what,
	    v->base.root, (unsigned long long)v->base.subvolume);
}

static int
btrfs_locate(
    struct snap_volume *base, const char *path, char **rel, struct err *e)
{
	struct btrfs_volume *v = (struct btrfs_volume *)base;
	SCOPED_FREE char *dir = NULL, *inside = NULL;
	SCOPED_FD int fd = -1;
	struct mounts_place p;
	uint8_t fsid[16];
	uint64_t id;
	int rc;

	rc = mounts_folder(path, &dir, &p, e);
	if (rc < 0)
		return rc;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open %s", dir);
	rc = btrfs_place_fsid(fd, fsid, e);
	if (rc == -ENOTTY || (rc == 0 && memcmp(fsid, v->fsid, 16) != 0))
		return elsewhere(v, path, e);
	if (rc < 0)
		return rc;
	rc = btrfs_place_inside(fd, &inside, &id, e);
	if (rc < 0)
		return err_wrap(e, "find %s in its subvolume", path);
	if (id != base->subvolume)
		return err_set(e, -EXDEV,
		    "%s lies in the subvolume with id %llu, not in that at %s "
		    "(id %llu)",
		    path, (unsigned long long)id, base->root,
		    (unsigned long long)base->subvolume);
	if (strcmp(dir, path) == 0)
		*rel = TAKE(inside);
	else if (inside[0] == '\0')
		*rel = mem_str(strrchr(path, '/') + 1);
	else
		*rel = fs_join(inside, strrchr(path, '/') + 1);
	return 0;
}

static int
btrfs_gaps(struct snap_volume *base, const char *rel, snap_list_fn *fn,
    void *arg, struct err *e)
{
	struct btrfs_volume *v = (struct btrfs_volume *)base;

	return btrfs_place_gaps(v->live, rel, base->root, fn, arg, e);
}

const struct snap_ops snap_btrfs = {
    .name = "btrfs",
    .summary = "read-only snapshots of a btrfs subvolume",
    .caps = SNAP_ATOMIC | SNAP_FILES,
    .open = btrfs_open,
    .close = btrfs_close,
    .create = btrfs_create,
    .view = btrfs_view,
    .list = btrfs_list,
    .remove = btrfs_remove,
    .locate = btrfs_locate,
    .gaps = btrfs_gaps,
};

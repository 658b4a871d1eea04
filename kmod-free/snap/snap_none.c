/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No snapshot: the live files. Complete for a stopped database, and the plain
 * member of the family for tests; its view is not one instant.
 */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/mounts.h"
#include "kmod-free/snap/btrfs_place.h"
#include "kmod-free/snap/snap_all.h"

static void
none_close(struct snap_volume *v)
{
	free(v->id);
	free(v->fs_uuid);
	free(v->fs_type);
	free(v->root);
	free(v);
}

/* The file system's UUID; "" where it has none that can be told. */
static char *
uuid_of(const char *source)
{
	SCOPED_FREE char *uuid = NULL;

	if (source[0] == '/')
		uuid = blkid_get_tag_value(NULL, "UUID", source);
	return mem_str(uuid != NULL ? uuid : "");
}

static int
none_open(struct snap_volume **out, const char *path, struct err *e)
{
	SCOPED_MOUNTS struct mounts m = {0};
	SCOPED_FREE char *dir = NULL, *root = NULL;
	const struct mounts_row *r;
	struct mounts_place p;
	struct snap_volume *v;
	int rc;

	rc = mounts_folder(path, &dir, &p, e);
	if (rc < 0)
		return rc;
	rc = mounts_top(dir, &root, e);
	if (rc < 0)
		return rc;
	rc = mounts_load(&m, e);
	if (rc < 0)
		return rc;
	r = mounts_by_id(&m, p.mount);
	v = mem_new(sizeof *v);
	v->ops = &snap_none;
	v->fs_uuid = uuid_of(r != NULL ? r->source : "");
	v->fs_type = mem_str(r != NULL ? r->type : "unknown");
	/* The root too: one file system may hold several (btrfs). */
	v->id = mem_printf(
	    "none:%s:%s", v->fs_uuid[0] ? v->fs_uuid : v->fs_type, root);
	v->root = TAKE(root);
	*out = v;
	return 0;
}

static int
none_nothing(struct snap_volume *v, const char *name, struct err *e)
{
	(void)v;
	(void)name;
	(void)e;
	return 0;
}

static int
none_view(struct snap_volume *v, const char *name, struct err *e)
{
	int fd = open(v->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)name;
	if (fd < 0)
		return err_sys(e, errno, "open %s", v->root);
	return fd;
}

static int
none_list(struct snap_volume *v, snap_list_fn *fn, void *arg, struct err *e)
{
	(void)v;
	(void)fn;
	(void)arg;
	(void)e;
	return 0;
}

static int
none_locate(struct snap_volume *v, const char *path, char **rel, struct err *e)
{
	return mounts_locate(v->root, path, rel, e);
}

/* Nested subvolumes number their inodes from 256 again: not the same volume. */
static int
btrfs_subvolumes(struct snap_volume *v, const char *rel, snap_list_fn *fn,
    void *arg, struct err *e)
{
	SCOPED_FD int fd = none_view(v, NULL, e);
	SCOPED_FREE char *inside = NULL, *at = NULL;
	uint64_t id;
	int rc;

	if (fd < 0)
		return fd;
	rc = btrfs_place_inside(fd, &inside, &id, e);
	if (rc < 0)
		return rc;
	at = inside[0] && rel[0] ? fs_join(inside, rel)
				 : mem_str(rel[0] ? rel : inside);
	return btrfs_place_gaps(fd, at, v->root, fn, arg, e);
}

static int
none_gaps(struct snap_volume *v, const char *rel, snap_list_fn *fn, void *arg,
    struct err *e)
{
	SCOPED_FREE char *top = NULL;

	/* Only root may ask btrfs for its subvolumes; it names mounts too. */
	if (strcmp(v->fs_type, "btrfs") == 0 && geteuid() == 0)
		return btrfs_subvolumes(v, rel, fn, arg, e);
	top = rel[0] == '\0' ? mem_str(v->root) : fs_join(v->root, rel);
	return mounts_below(top, fn, arg, e);
}

const struct snap_ops snap_none = {
    .name = "none",
    .summary = "the live files, for a stopped database; not one instant",
    .caps = SNAP_FILES,
    .open = none_open,
    .close = none_close,
    .create = none_nothing,
    .view = none_view,
    .list = none_list,
    .remove = none_nothing,
    .locate = none_locate,
    .gaps = none_gaps,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/btrfs_place.h"

#include <errno.h>
#include <linux/btrfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "agent/core/bytes.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/mounts.h"

void
btrfs_place_uuid_text(char out[BTRFS_PLACE_UUID_TEXT], const uint8_t uuid[16])
{
	char hex[33];

	bytes_hex(hex, uuid, 16);
	snprintf(out, BTRFS_PLACE_UUID_TEXT, "%.8s-%.4s-%.4s-%.4s-%.12s", hex,
	    hex + 8, hex + 12, hex + 16, hex + 20);
}

int
btrfs_place_util(struct err *e, enum btrfs_util_error code, const char *what)
{
	int errnum = errno > 0 ? errno : EIO;

	switch (code) {
	case BTRFS_UTIL_ERROR_NOT_BTRFS:
	case BTRFS_UTIL_ERROR_NOT_SUBVOLUME:
	case BTRFS_UTIL_ERROR_SUBVOLUME_NOT_FOUND:
		/* Found by the library, not by the kernel: errno is old. */
		return err_set(
		    e, -ENOENT, "%s: %s", what, btrfs_util_strerror(code));
	case BTRFS_UTIL_ERROR_NO_MEMORY:
		return err_sys(e, ENOMEM, "%s", what);
	default:
		return err_sys(
		    e, errnum, "%s: %s", what, btrfs_util_strerror(code));
	}
}

int
btrfs_place_fsid(int fd, uint8_t fsid[16], struct err *e)
{
	struct btrfs_ioctl_fs_info_args info = {0};

	if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
		return err_sys(e, errno, "ask btrfs for its UUID");
	memcpy(fsid, info.fsid, 16);
	return 0;
}

int
btrfs_place_inside(int dirfd, char **rel, uint64_t *subvolume, struct err *e)
{
	struct btrfs_ioctl_ino_lookup_args q = {0};
	struct stat st;
	size_t n;

	if (fstat(dirfd, &st) < 0)
		return err_sys(e, errno, "look up a folder");
	q.objectid = st.st_ino; /* treeid 0: the tree of the descriptor */
	if (ioctl(dirfd, BTRFS_IOC_INO_LOOKUP, &q) < 0)
		return err_sys(e, errno,
		    "ask btrfs for the path of inode %llu in its subvolume",
		    (unsigned long long)st.st_ino);
	n = strnlen(q.name, sizeof q.name);
	if (n == sizeof q.name)
		return err_set(e, -EBADMSG,
		    "btrfs gave a path without an end for inode %llu",
		    (unsigned long long)st.st_ino);
	while (n > 0 && q.name[n - 1] == '/')
		n--;
	*rel = mem_strn(q.name, n);
	*subvolume = q.treeid;
	return 0;
}

/* What btrfs_place_gaps gathers. */
struct gaps {
	struct mounts mounts;
	const char *dev; /* of the file system, as the table names it */
	char *top;       /* of the subvolume, from the top level: "/db" */
	char *below;     /* top and rel */
	char **seen;     /* called already */
	size_t n, cap;
	snap_list_fn *fn;
	void *arg;
};

static void
gaps_fini(struct gaps *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->seen[i]);
	free(g->seen);
	free(g->top);
	free(g->below);
	mounts_fini(&g->mounts);
}

/* One gap, once, and nothing below one that was named already. */
static int
name_gap(struct gaps *g, const char *path)
{
	for (size_t i = 0; i < g->n; i++)
		if (fs_below(path, g->seen[i]))
			return 0;
	MEM_ROOM(g->seen, g->n, g->cap);
	g->seen[g->n++] = mem_str(path);
	return g->fn(g->arg, path);
}

static char *
join(const char *a, const char *b)
{
	return b[0] == '\0' ? mem_str(a) : fs_join(a, b);
}

/* Where a path from the top level shows through one mount; gives or NULL. */
static char *
through(const struct gaps *g, const struct mounts_row *r, const char *full)
{
	size_t n = strlen(r->root);

	if (strcmp(r->dev, g->dev) != 0 || !fs_below(full, r->root))
		return NULL;
	if (strcmp(r->root, "/") == 0)
		n = 0;
	while (full[n] == '/')
		n++;
	return join(r->point, full + n);
}

/* A nested subvolume by the path under which it can be seen; one that no mount
 * shows by its path from the top level. */
static int
name_subvolume(struct gaps *g, const char *full)
{
	SCOPED_FREE char *some = NULL;

	for (size_t i = 0; i < g->mounts.n; i++) {
		SCOPED_FREE char *p = through(g, &g->mounts.v[i], full);
		struct stat st;

		if (p == NULL)
			continue;
		if (lstat(p, &st) == 0 && st.st_ino == BTRFS_PLACE_ROOT_INO)
			return name_gap(g, p);
		if (some == NULL)
			some = TAKE(p);
	}
	return name_gap(g, some != NULL ? some : full);
}

static void
free_iterator(struct btrfs_util_subvolume_iterator **it)
{
	if (*it != NULL)
		btrfs_util_destroy_subvolume_iterator(*it);
}

/* The file system keeps a list of its subvolumes: no walk over the files. */
static int
name_subvolumes(struct gaps *g, int dirfd, uint64_t subvolume, struct err *e)
{
	struct btrfs_util_subvolume_iterator *it
	    __attribute__((cleanup(free_iterator))) = NULL;
	enum btrfs_util_error u;

	u = btrfs_util_create_subvolume_iterator_fd(dirfd, subvolume, 0, &it);
	if (u != BTRFS_UTIL_OK)
		return btrfs_place_util(e, u, "list nested subvolumes");
	for (;;) {
		SCOPED_FREE char *path = NULL, *full = NULL;
		int rc;

		u = btrfs_util_subvolume_iterator_next(it, &path, NULL);
		if (u == BTRFS_UTIL_ERROR_STOP_ITERATION)
			return 0;
		if (u != BTRFS_UTIL_OK)
			return btrfs_place_util(e, u, "list nested subvolumes");
		full = join(g->top, path);
		if (!fs_below(full, g->below) ||
		    fs_below(full, "/" BTRFS_PLACE_FOLDER))
			continue;
		rc = name_subvolume(g, full);
		if (rc != 0)
			return rc;
	}
}

/* Mount points below any path under which `below` can be seen. */
static int
name_mounts(struct gaps *g)
{
	for (size_t i = 0; i < g->mounts.n; i++) {
		SCOPED_FREE char *at = through(g, &g->mounts.v[i], g->below);

		if (at == NULL)
			continue;
		for (size_t k = 0; k < g->mounts.n; k++) {
			const char *point = g->mounts.v[k].point;
			int rc;

			if (!fs_below(point, at) || strcmp(point, at) == 0)
				continue;
			rc = name_gap(g, point);
			if (rc != 0)
				return rc;
		}
	}
	return 0;
}

int
btrfs_place_gaps(int dirfd, const char *rel, const char *host, snap_list_fn *fn,
    void *arg, struct err *e)
{
	struct gaps g
	    __attribute__((cleanup(gaps_fini))) = {.fn = fn, .arg = arg};
	SCOPED_FREE char *path = NULL;
	const struct mounts_row *r;
	struct mounts_place p;
	enum btrfs_util_error u;
	uint64_t id;
	int rc;

	rc = mounts_place(host, &p, e);
	if (rc < 0)
		return rc;
	rc = mounts_load(&g.mounts, e);
	if (rc < 0)
		return rc;
	r = mounts_by_id(&g.mounts, p.mount);
	if (r == NULL)
		return err_set(e, -ENOENT,
		    "%s is on a mount that the mount table does not show",
		    host);
	g.dev = r->dev;
	u = btrfs_util_subvolume_id_fd(dirfd, &id);
	if (u != BTRFS_UTIL_OK)
		return btrfs_place_util(e, u, "tell the subvolume's id");
	u = btrfs_util_subvolume_path_fd(dirfd, id, &path);
	if (u != BTRFS_UTIL_OK)
		return btrfs_place_util(e, u, "tell the subvolume's path");
	g.top = join("/", path);
	g.below = join(g.top, rel);
	rc = name_subvolumes(&g, dirfd, id, e);
	return rc != 0 ? rc : name_mounts(&g);
}

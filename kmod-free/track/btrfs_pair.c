/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/btrfs_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/bytes.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"

#define TRIES 2
#define ROOT_READ_ONLY 1u /* BTRFS_ROOT_SUBVOL_RDONLY of the root item */

static void
pair_close(struct btrfs_pair *p)
{
	fs_close_scope(&p->from);
	fs_close_scope(&p->to);
}

static int
learn(int fd, const char *name, struct btrfs_util_subvolume_info *out,
    struct err *e)
{
	enum btrfs_util_error u = btrfs_util_subvolume_info_fd(fd, 0, out);

	if (u != BTRFS_UTIL_OK)
		return err_set(e, -ESTALE, "look at snapshot %s: %s", name,
		    btrfs_util_strerror(u));
	if ((out->flags & ROOT_READ_ONLY) == 0)
		return err_set(e, -ESTALE, "snapshot %s is writable", name);
	return 0;
}

/* Only what began as the same subvolume shares trees and inode numbers. */
static int
check_kin(const struct btrfs_pair *p, struct err *e)
{
	if (bytes_all_zero(p->a.parent_uuid, 16) ||
	    memcmp(p->a.parent_uuid, p->b.parent_uuid, 16) != 0)
		return err_set(
		    e, -ESTALE, "they are not snapshots of the same subvolume");
	if (p->a.id == p->b.id || p->a.otransid > p->b.otransid)
		return err_set(
		    e, -ESTALE, "the first is not older than the second");
	return 0;
}

static int
pair_open(struct btrfs_pair *p, const struct tracker_pair *names, struct err *e)
{
	int rc;

	p->from = snap_view(names->volume, names->from, e);
	if (p->from < 0)
		return p->from;
	p->to = snap_view(names->volume, names->to, e);
	if (p->to < 0)
		return p->to;
	rc = learn(p->from, names->from, &p->a, e);
	if (rc < 0)
		return rc;
	rc = learn(p->to, names->to, &p->b, e);
	if (rc < 0)
		return rc;
	return check_kin(p, e);
}

/* Balance, device add, remove, replace, resize: what moves extents about.
 * Linux >= 5.10. */
static int
check_quiet(const struct snap_volume *v, struct err *e)
{
	SCOPED_FREE char *path =
	    mem_printf("/sys/fs/btrfs/%s/exclusive_operation", v->fs_uuid);
	SCOPED_BUF struct buf text = {0};
	int rc = fs_read_at(AT_FDCWD, path, 4096, &text, e);

	if (rc < 0)
		return err_wrap(e, "see whether a balance runs");
	buf_put_u8(&text, 0);
	text.data[strcspn((char *)text.data, "\n")] = '\0';
	if (strcmp((char *)text.data, "none") != 0)
		return err_set(e, -ESTALE,
		    "the file system is busy with \"%.40s\", which moves "
		    "extents",
		    (char *)text.data);
	return 0;
}

static bool
same_root(const struct btrfs_util_subvolume_info *x,
    const struct btrfs_util_subvolume_info *y)
{
	return x->id == y->id && x->flags == y->flags &&
	       x->generation == y->generation && x->ctransid == y->ctransid &&
	       x->otransid == y->otransid &&
	       memcmp(x->uuid, y->uuid, 16) == 0 &&
	       memcmp(x->parent_uuid, y->parent_uuid, 16) == 0;
}

static int
check_still(
    const struct btrfs_pair *p, const struct tracker_pair *names, struct err *e)
{
	struct btrfs_util_subvolume_info a, b;
	int rc = check_quiet(names->volume, e);

	if (rc < 0)
		return rc;
	rc = learn(p->from, names->from, &a, e);
	if (rc < 0)
		return rc;
	rc = learn(p->to, names->to, &b, e);
	if (rc < 0)
		return rc;
	if (!same_root(&a, &p->a) || !same_root(&b, &p->b))
		return err_set(
		    e, -ESTALE, "btrfs rewrote one of the snapshots meanwhile");
	return 0;
}

/* One try. *moved: it failed for something that may be over by now. */
static int
compare_once(const struct tracker_pair *names, btrfs_pair_fn *fn,
    struct extents *out, bool *moved, struct err *e)
{
	struct btrfs_pair p
	    __attribute__((cleanup(pair_close))) = {.from = -1, .to = -1};
	struct err still = ERR_NONE;
	int rc;

	*moved = false;
	rc = pair_open(&p, names, e);
	if (rc < 0)
		return rc;
	rc = check_quiet(names->volume, e);
	*moved = rc < 0;
	if (rc < 0)
		return rc;
	rc = fn(&p, out, e);
	/* What moved explains a failure better than the failure does. */
	if (rc != -ECANCELED && check_still(&p, names, &still) < 0) {
		*moved = true;
		return err_copy(e, &still);
	}
	if (rc == -EBADMSG)
		rc = e->code = -ESTALE; /* the text stays */
	return rc;
}

int
btrfs_pair_compare(const struct tracker_pair *p, btrfs_pair_fn *fn,
    struct tracker_answer *out, struct err *e)
{
	int rc = -ESTALE;
	bool moved = true;

	for (int i = 0; i < TRIES && moved; i++) {
		extents_fini(&out->ranges);
		rc = compare_once(p, fn, &out->ranges, &moved, e);
		if (rc >= 0)
			return err_clear(e);
	}
	extents_fini(&out->ranges);
	return rc;
}

int
btrfs_pair_probe(struct snap_volume *v, struct err *e)
{
	SCOPED_FREE char *path = NULL;

	if (strcmp(v->ops->name, "btrfs") != 0)
		return err_set(e, -EOPNOTSUPP,
		    "it compares btrfs snapshots, and this volume's provider "
		    "is %s",
		    v->ops->name);
	path = mem_printf("/sys/fs/btrfs/%s/exclusive_operation", v->fs_uuid);
	if (access(path, R_OK) < 0)
		return err_set(e, -EOPNOTSUPP,
		    "%s cannot be read, so a balance would go unseen (Linux "
		    "5.10 has it, in a mounted /sys)",
		    path);
	return 0;
}

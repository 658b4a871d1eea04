/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/lvm_volume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/mounts.h"
#include "kmod-free/snap/dm.h"
#include "kmod-free/snap/image.h"

#define NAME_MAX_LVM 127u /* NAME_LEN of lvm2, with its end */
#define MARK 6u           /* characters of the origin's UUID: before its dash */

/* ---- the volume --------------------------------------------------------------- */

void
lvm_volume_close(struct lvm_volume *v)
{
	free(v->base.id);
	free(v->base.fs_uuid);
	free(v->base.fs_type);
	free(v->base.root);
	image_fini(&v->base.image);
	lvm_lv_fini(&v->lv);
	free(v->inside);
	free(v->tpool);
	lvm_lv_fini(&v->watched);
	free(v->watched_name);
	free(v);
}

/* "253:4" of the mount table. */
static int
parse_dev(const char *text, dev_t *out, struct err *e)
{
	char *end;
	unsigned long ma = strtoul(text, &end, 10), mi = 0;

	if (*end == ':')
		mi = strtoul(end + 1, &end, 10);
	if (*end != '\0' || ma > UINT_MAX || mi > UINT_MAX)
		return err_set(
		    e, -EBADMSG, "the mount table says device \"%s\"", text);
	*out = makedev((unsigned)ma, (unsigned)mi);
	return 0;
}

static int
find_volume(struct lvm_volume *v, const char *path,
    const struct mounts_place *at, struct err *e)
{
	SCOPED_MOUNTS struct mounts m = {0};
	const struct mounts_row *r;
	dev_t dev = 0;
	int rc = mounts_load(&m, e);

	if (rc < 0)
		return rc;
	r = mounts_by_id(&m, at->mount);
	if (r == NULL)
		return err_set(
		    e, -EOPNOTSUPP, "%s is on no mount that can be seen", path);
	rc = parse_dev(r->dev, &dev, e);
	if (rc == 0)
		rc = lvm_of_device(dev, &v->lv, e);
	if (rc == -EOPNOTSUPP) {
		SCOPED_FREE char *what = mounts_describe(path);

		return err_wrap(e, "%s lies on %s", path, what);
	}
	if (rc < 0)
		return rc;
	v->inside = mem_str(r->root + strspn(r->root, "/"));
	v->base.image.frozen = !mounts_row_read_only(r);
	for (size_t i = 0; i < m.n && v->base.image.mounted_at == NULL; i++)
		if (strcmp(m.v[i].dev, r->dev) == 0 &&
		    strcmp(m.v[i].root, "/") == 0)
			v->base.image.mounted_at = mem_str(m.v[i].point);
	return 0;
}

static int
describe(struct lvm_volume *v, struct err *e)
{
	SCOPED_FD int fd = dm_open(v->lv.dev, 0, e);

	if (fd < 0)
		return fd;
	v->base.id = mem_printf("lvm:%s:%s", v->lv.vg_uuid, v->lv.uuid);
	v->base.image.name = mem_printf("%s/%s", v->lv.vg, v->lv.name);
	return image_probe(&v->base, fd, e);
}

int
lvm_volume_open(struct lvm_volume **out, const char *path, struct err *e)
{
	SCOPED_FREE char *dir = NULL;
	struct mounts_place at;
	struct lvm_volume *v;
	int rc = mounts_folder(path, &dir, &at, e);

	if (rc < 0)
		return rc;
	v = mem_new(sizeof *v);
	rc = mounts_top(dir, &v->base.root, e);
	if (rc == 0)
		rc = find_volume(v, path, &at, e);
	if (rc == 0 && geteuid() != 0)
		rc = err_set(e, -EPERM,
		    "%s is on a logical volume, but taking a snapshot of it "
		    "needs root",
		    path);
	if (rc == 0)
		rc = describe(v, e);
	if (rc < 0) {
		lvm_volume_close(v);
		return rc;
	}
	*out = v;
	return 0;
}

int
lvm_volume_pool(const struct lvm_volume *v, struct lvm_lv *out, struct err *e)
{
	if (lvm_by_name(v->lv.vg_uuid, v->lv.pool, out, e) < 0)
		return err_wrap(e, "pool %s/%s", v->lv.vg, v->lv.pool);
	return 0;
}

/* ---- its snapshots ------------------------------------------------------------- */

/* lvm's alphabet; a job's name has no other characters. */
static bool
is_allowed(const char *name)
{
	return name[strspn(name,
		   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		   "0123456789+_.-")] == '\0';
}

static char *
lvm_name(const struct lvm_volume *v, const char *snapshot)
{
	return mem_printf("%s.%.*s", snapshot, (int)MARK, v->lv.uuid);
}

int
lvm_volume_name(
    const struct lvm_volume *v, const char *snapshot, char **out, struct err *e)
{
	SCOPED_FREE char *name = lvm_name(v, snapshot);

	if (!is_allowed(name) ||
	    strlen(name) + strlen(v->lv.vg) + 1 >= NAME_MAX_LVM)
		return err_set(e, -EINVAL,
		    "lvm takes no volume name \"%s\" in group %s (letters, "
		    "digits, +_.- and %u characters with the group's name)",
		    name, v->lv.vg, NAME_MAX_LVM - 1);
	*out = mem_printf("%s/%s", v->lv.vg, name);
	return 0;
}

int
lvm_volume_snapshot(const struct lvm_volume *v, const char *snapshot,
    struct lvm_lv *out, struct err *e)
{
	SCOPED_FREE char *name = lvm_name(v, snapshot);
	struct lvm_lv l = {0};
	int rc = lvm_by_name(v->lv.vg_uuid, name, &l, e);

	if (rc == -ENOENT)
		return err_set(e, rc, "there is no such snapshot");
	if (rc < 0)
		return rc;
	if (strcmp(l.origin_uuid, v->lv.uuid) != 0) {
		err_set(e, -EPERM, "volume %s/%s is not a snapshot of %s/%s",
		    l.vg, l.name, v->lv.vg, v->lv.name);
		lvm_lv_fini(&l);
		return e->code;
	}
	*out = l;
	return 0;
}

static int
one_of_pair(const struct lvm_volume *v, const char *name, struct lvm_lv *out,
    struct err *e)
{
	int rc = lvm_volume_snapshot(v, name, out, e);

	if (rc < 0)
		return rc;
	if (out->attr[0] != '\0' && out->attr[1] != 'w')
		return 0;
	return err_set(e, -ESTALE,
	    "snapshot %s/%s is writable: what it shows "
	    "may have changed",
	    out->vg, out->name);
}

int
lvm_volume_pair(const struct lvm_volume *v, const char *from, const char *to,
    struct lvm_lv *a, struct lvm_lv *b, struct err *e)
{
	int rc = one_of_pair(v, from, a, e);

	return rc < 0 ? rc : one_of_pair(v, to, b, e);
}

static int
open_view(dev_t dev, struct err *e)
{
	int fd = dm_open(dev, 0, e), read_only = 0;

	if (fd < 0 || (ioctl(fd, BLKROGET, &read_only) == 0 && read_only))
		return fd;
	close(fd);
	return err_set(e, -ESTALE,
	    "somebody made it writable; what it shows may have changed");
}

static int
activate(const struct lvm_lv *l, struct err *e)
{
	SCOPED_FREE char *name = mem_printf("%s/%s", l->vg, l->name);
	const char *const args[] = {"--quiet", "--yes", "--activate", "y",
	    "--ignoreactivationskip", "--permission", "r", name, NULL};
	const char *const plain[] = {"--quiet", "--yes", "--activate", "y",
	    "--ignoreactivationskip", name, NULL};

	return lvm_run("lvchange", l->attr[1] == 'w' ? args : plain, e);
}

int
lvm_volume_view(
    const struct lvm_volume *v, const struct lvm_lv *snapshot, struct err *e)
{
	SCOPED_LVM_LV struct lvm_lv now = {0};
	int rc;

	if (snapshot->dev != 0)
		return open_view(snapshot->dev, e);
	rc = activate(snapshot, e);
	if (rc == 0)
		rc = lvm_by_uuid(v->lv.vg_uuid, snapshot->uuid, &now, e);
	if (rc < 0)
		return rc;
	if (now.dev == 0)
		return err_set(e, -EIO, "lvm did not make it active");
	return open_view(now.dev, e);
}

char *
lvm_volume_freezes(const struct snap_volume *base)
{
	return lvm_dm_uuid(&((const struct lvm_volume *)base)->lv, NULL);
}

struct listing {
	const struct lvm_volume *volume;
	snap_list_fn *fn;
	void *arg;
	char last[NAME_MAX_LVM]; /* snapshot */
};

static int
on_volume(void *arg, const struct lvm_lv *l, struct err *e)
{
	struct listing *all = arg;
	size_t n = strlen(l->name);
	char name[NAME_MAX_LVM];

	(void)e;
	if (strncmp(l->name, SNAP_PREFIX, strlen(SNAP_PREFIX)) != 0)
		return 0;
	if (n <= MARK + 1 || n >= sizeof name || l->name[n - MARK - 1] != '.' ||
	    strncmp(l->name + n - MARK, all->volume->lv.uuid, MARK) != 0)
		return 0;
	snprintf(name, sizeof name, "%.*s", (int)(n - MARK - 1), l->name);
	/* A snapshot in several segments comes several times. */
	if (strcmp(name, all->last) == 0)
		return 0;
	memcpy(all->last, name, sizeof name);
	return all->fn(all->arg, name);
}

/* The report is whole before the first call, which may remove what it is
 * called with. */
int
lvm_volume_list(
    struct snap_volume *base, snap_list_fn *fn, void *arg, struct err *e)
{
	struct lvm_volume *v = (struct lvm_volume *)base;
	struct listing all = {.volume = v, .fn = fn, .arg = arg};

	return lvm_each_of(&v->lv, on_volume, &all, e);
}

int
lvm_volume_remove(struct snap_volume *base, const char *name, struct err *e)
{
	struct lvm_volume *v = (struct lvm_volume *)base;
	SCOPED_LVM_LV struct lvm_lv l = {0};
	SCOPED_FREE char *full = NULL;
	int rc = lvm_volume_snapshot(v, name, &l, e);

	if (rc == -ENOENT)
		return err_clear(e);
	if (rc < 0)
		return rc;
	full = mem_printf("%s/%s", l.vg, l.name);
	{
		const char *const args[] = {
		    "--quiet", "--yes", "--force", full, NULL};

		return lvm_run("lvremove", args, e);
	}
}

/* ---- paths ---------------------------------------------------------------------- */

int
lvm_volume_locate(
    struct snap_volume *base, const char *path, char **rel, struct err *e)
{
	const struct lvm_volume *v = (const struct lvm_volume *)base;
	SCOPED_FREE char *at = NULL;
	int rc = mounts_locate(base->root, path, &at, e);

	if (rc < 0)
		return rc;
	if (v->inside[0] == '\0')
		*rel = TAKE(at);
	else if (at[0] == '\0')
		*rel = mem_str(v->inside);
	else
		*rel = fs_join(v->inside, at);
	return 0;
}

int
lvm_volume_gaps(struct snap_volume *v, const char *rel, snap_list_fn *fn,
    void *arg, struct err *e)
{
	SCOPED_FREE char *top =
	    rel[0] == '\0' ? mem_str(v->root) : fs_join(v->root, rel);

	return mounts_below(top, fn, arg, e);
}

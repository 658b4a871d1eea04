/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a thin volume. They share the pool's blocks with it and cost
 * the writer nothing while nothing is overwritten, so one is held from backup
 * to backup; but a pool that is full stops every volume in it, and one whose
 * metadata is full has lost data. So none is taken of a pool near its end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "kmod-free/snap/dm.h"
#include "kmod-free/snap/lvm_volume.h"
#include "kmod-free/snap/snap_all.h"

#define DATA_FULL_PERCENT 90

static int
thin_open(struct snap_volume **out, const char *path, struct err *e)
{
	struct lvm_volume *v;
	int rc = lvm_volume_open(&v, path, e);

	if (rc < 0)
		return rc;
	if (strcmp(v->lv.segtype, "thin") != 0) {
		err_set(e, -EOPNOTSUPP,
		    "%s is on volume %s/%s, which is not thin but %s", path,
		    v->lv.vg, v->lv.name, v->lv.segtype);
		lvm_volume_close(v);
		return e->code;
	}
	v->base.ops = &snap_lvm_thin;
	*out = &v->base;
	return 0;
}

static void
thin_close(struct snap_volume *v)
{
	lvm_volume_close((struct lvm_volume *)v);
}

static int
check_pool(const struct lvm_lv *pool, struct err *e)
{
	if (pool->health[0] != '\0')
		return err_set(e, -EPERM, "pool %s/%s is in trouble: %s",
		    pool->vg, pool->name, pool->health);
	if (pool->data_percent < 0 || pool->metadata_percent < 0)
		return err_set(e, -EPERM,
		    "pool %s/%s does not say how full it is", pool->vg,
		    pool->name);
	if (pool->data_percent < DATA_FULL_PERCENT &&
	    pool->metadata_percent < LVM_METADATA_FULL_PERCENT)
		return 0;
	err_set(e, -EPERM,
	    "pool %s/%s is nearly full: data %.1f %% (limit %d), metadata "
	    "%.1f %% (limit %d); a snapshot would bring its end nearer",
	    pool->vg, pool->name, pool->data_percent, DATA_FULL_PERCENT,
	    pool->metadata_percent, LVM_METADATA_FULL_PERCENT);
	return err_hint(e, "lvextend %s/%s, or --poolmetadatasize for metadata",
	    pool->vg, pool->name);
}

static int
make(const struct lvm_volume *v, const char *name, const char *active,
    struct err *e)
{
	SCOPED_FREE char *full = NULL;
	SCOPED_FREE char *origin = mem_printf("%s/%s", v->lv.vg, v->lv.name);
	int rc = lvm_volume_name(v, name, &full, e);

	if (rc < 0)
		return rc;
	{
		/* Skipped when all of a group is made active: after a restart
		 * only who needs its content makes it active. */
		const char *const args[] = {"--quiet", "--yes", "--snapshot",
		    "--permission", "r", "--setactivationskip", "y",
		    "--ignoreactivationskip", "--activate", active, "--addtag",
		    "neap", "--name", strchr(full, '/') + 1, origin, NULL};

		return lvm_run("lvcreate", args, e);
	}
}

/*
 * Where the origin is suspended, lvcreate 2.03.16 never tells the pool to make
 * the snapshot. So it is made before, inactive, and made anew when all stand:
 * to lvm it is the same volume, of the same device id.
 */
static int
make_early(struct lvm_volume *v, const struct lvm_lv *pool, const char *name,
    struct err *e)
{
	SCOPED_LVM_LV struct lvm_lv l = {0};
	int rc = make(v, name, "n", e);

	if (rc == 0)
		rc = lvm_volume_snapshot(v, name, &l, e);
	if (rc < 0)
		return rc;
	if (l.thin_id < 0 || v->lv.thin_id < 0)
		return err_set(e, -EIO, "lvm says no device ids of %s and %s",
		    l.name, v->lv.name);
	v->early = l.thin_id;
	v->tpool = lvm_dm_uuid(pool, "tpool");
	return 0;
}

static int
make_anew(struct lvm_volume *v, struct err *e)
{
	SCOPED_FREE char *tpool = TAKE(v->tpool);
	SCOPED_FREE char *away = mem_printf("delete %lld", (long long)v->early);
	SCOPED_FREE char *again = mem_printf("create_snap %lld %lld",
	    (long long)v->early, (long long)v->lv.thin_id);
	int rc = dm_message(tpool, away, e);

	return rc < 0 ? rc : dm_message(tpool, again, e);
}

static int
thin_ready(
    struct snap_volume *base, const char *name, bool frozen, struct err *e)
{
	struct lvm_volume *v = (struct lvm_volume *)base;
	SCOPED_LVM_LV struct lvm_lv pool = {0};
	int rc = lvm_volume_pool(v, &pool, e);

	if (rc == 0)
		rc = check_pool(&pool, e);
	return rc == 0 && frozen ? make_early(v, &pool, name, e) : rc;
}

static int
thin_create(struct snap_volume *base, const char *name, struct err *e)
{
	struct lvm_volume *v = (struct lvm_volume *)base;

	return v->tpool != NULL ? make_anew(v, e) : make(v, name, "y", e);
}

static int
thin_view(struct snap_volume *base, const char *name, struct err *e)
{
	struct lvm_volume *v = (struct lvm_volume *)base;
	SCOPED_LVM_LV struct lvm_lv l = {0};
	int rc = lvm_volume_snapshot(v, name, &l, e);

	return rc < 0 ? rc : lvm_volume_view(v, &l, e);
}

const struct snap_ops snap_lvm_thin = {
    .name = "lvm_thin",
    .summary = "snapshots of a thin logical volume, as an image",
    .caps = SNAP_ATOMIC | SNAP_IMAGE,
    .open = thin_open,
    .close = thin_close,
    .create = thin_create,
    .view = thin_view,
    .list = lvm_volume_list,
    .remove = lvm_volume_remove,
    .locate = lvm_volume_locate,
    .gaps = lvm_volume_gaps,
    .ready = thin_ready,
    .freezes = lvm_volume_freezes,
};

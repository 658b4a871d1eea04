/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a thick volume. What the writer overwrites is copied out first,
 * into space that is set aside when the snapshot is made: each write costs
 * several while it stands, and when the space is full the snapshot is gone. So
 * it is removed as soon as it has been read, unless the job asked for the
 * tracker that needs it, lvm-exceptions.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/dm.h"
#include "kmod-free/snap/lvm_volume.h"
#include "kmod-free/snap/snap_all.h"

/* A fifth of the volume may change while it is read; and not the last of the
 * group's room, which its volumes may need to grow. */
#define SPACE_PERCENT 20
#define GROUP_PERCENT 80
/* More is given when so much of it is full: by what it had, which leaves time
 * for lvextend while writers fill the rest. */
#define EXTEND_PERCENT 60
#define SPACE_MIN (64u << 20)
#define SPACE_UNIT (1u << 20)

static int
thick_open(struct snap_volume **out, const char *path, struct err *e)
{
	struct lvm_volume *v;
	int rc = lvm_volume_open(&v, path, e);

	if (rc < 0)
		return rc;
	if (strcmp(v->lv.segtype, "thin") == 0) {
		err_set(e, -EOPNOTSUPP, "%s is on a thin volume, %s/%s", path,
		    v->lv.vg, v->lv.name);
		lvm_volume_close(v);
		return e->code;
	}
	v->base.ops = &snap_lvm_thick;
	*out = &v->base;
	return 0;
}

static void
thick_close(struct snap_volume *v)
{
	lvm_volume_close((struct lvm_volume *)v);
}

/* With its table, all of a volume is a little more than the volume. */
static uint64_t
most_space(const struct lvm_volume *v)
{
	return v->lv.size + v->lv.size / 100;
}

/* How much to set aside. */
static int
choose_space(const struct lvm_volume *v, uint64_t *bytes, struct err *e)
{
	uint64_t room, want = v->lv.size / 100 * SPACE_PERCENT;
	char has[32], needs[32];
	int rc = lvm_vg_free(v->lv.vg_uuid, &room, e);

	if (rc < 0)
		return rc;
	room = room / 100 * GROUP_PERCENT;
	if (want < SPACE_MIN)
		want = most_space(v) < SPACE_MIN ? most_space(v) : SPACE_MIN;
	*bytes = want < room ? want : room;
	if (*bytes >= SPACE_MIN || *bytes >= want) {
		/* lvm takes whole sectors only, and rounds up to extents. */
		*bytes = (*bytes + SPACE_UNIT - 1) / SPACE_UNIT * SPACE_UNIT;
		return 0;
	}
	err_set(e, -EPERM,
	    "volume group %s has room for %s of what is overwritten while the "
	    "snapshot of %s stands; at least %s are wanted",
	    v->lv.vg, fs_size_text(has, room), v->lv.name,
	    fs_size_text(needs, want < SPACE_MIN ? want : SPACE_MIN));
	return err_hint(e, "vgextend %s, or make the volume thin", v->lv.vg);
}

static int
thick_ready(
    struct snap_volume *base, const char *name, bool frozen, struct err *e)
{
	struct lvm_volume *v = (struct lvm_volume *)base;

	(void)name, (void)frozen;
	return choose_space(v, &v->space, e);
}

static int
thick_create(struct snap_volume *base, const char *name, struct err *e)
{
	struct lvm_volume *v = (struct lvm_volume *)base;
	SCOPED_FREE char *origin = mem_printf("%s/%s", v->lv.vg, v->lv.name);
	SCOPED_FREE char *full = NULL, *size = NULL;
	int rc = lvm_volume_name(v, name, &full, e);

	assert(v->space > 0);
	if (rc < 0)
		return rc;
	size = mem_printf("%llub", (unsigned long long)v->space);
	{
		const char *const args[] = {"--quiet", "--yes", "--snapshot",
		    "--permission", "r", "--size", size, "--addtag", "neap",
		    "--name", strchr(full, '/') + 1, origin, NULL};

		return lvm_run("lvcreate", args, e);
	}
}

static int
lost(const struct lvm_lv *l, struct err *e)
{
	err_set(e, -EIO,
	    "snapshot %s/%s was lost: more was overwritten in its origin than "
	    "it had room for (or its device failed)",
	    l->vg, l->name);
	return err_hint(e,
	    "give volume group %s more room, or back up when "
	    "less is written",
	    l->vg);
}

/* lv_attr's fifth character (lvs(8)): I, an invalid snapshot. */
static int
check_whole(const struct lvm_lv *l, struct err *e)
{
	if (strlen(l->attr) < 5 || (l->attr[4] != 'I' && l->attr[4] != 'S'))
		return 0;
	return lost(l, e);
}

static int
thick_view(struct snap_volume *base, const char *name, struct err *e)
{
	struct lvm_volume *v = (struct lvm_volume *)base;
	SCOPED_LVM_LV struct lvm_lv l = {0};
	int rc = lvm_volume_snapshot(v, name, &l, e);

	if (rc == 0)
		rc = check_whole(&l, e);
	return rc < 0 ? rc : lvm_volume_view(v, &l, e);
}

/* What it had once more, as far as the group's room goes. Failing is for people
 * to know, not the end: perhaps what it has is enough. */
static char *
extend(struct lvm_volume *v)
{
	const struct lvm_lv *l = &v->watched;
	SCOPED_FREE char *full = mem_printf("%s/%s", l->vg, l->name);
	uint64_t room, more = l->size;
	struct err e = ERR_NONE;
	char text[32];
	int rc;

	lvm_forget();
	rc = lvm_vg_free(l->vg_uuid, &room, &e);
	if (rc == 0 && more > room / 100 * GROUP_PERCENT)
		more = room / 100 * GROUP_PERCENT;
	more = more / SPACE_UNIT * SPACE_UNIT;
	if (rc == 0 && more == 0)
		rc = err_set(&e, -ENOSPC, "group %s has no more", l->vg);
	if (rc == 0) {
		SCOPED_FREE char *size =
		    mem_printf("+%llub", (unsigned long long)more);
		const char *const args[] = {
		    "--quiet", "--yes", "--size", size, full, NULL};

		rc = lvm_run("lvextend", args, &e);
	}
	v->no_more = rc < 0;
	if (rc < 0)
		return mem_printf("the room of snapshot %s, for what is "
				  "overwritten meanwhile, is %d %% full and "
				  "cannot be extended: %s",
		    full, EXTEND_PERCENT, e.text);
	v->watched.size += more;
	return mem_printf("the room of snapshot %s was %d %% full: extended "
			  "by %s",
	    full, EXTEND_PERCENT, fs_size_text(text, more));
}

/* lvm is asked once for each snapshot. */
static int
watch_it(struct lvm_volume *v, const char *name, struct err *e)
{
	struct lvm_lv l = {0};
	int rc;

	if (v->watched_name != NULL && strcmp(v->watched_name, name) == 0)
		return 0;
	rc = lvm_volume_snapshot(v, name, &l, e);
	if (rc < 0)
		return rc;
	lvm_lv_fini(&v->watched);
	free(v->watched_name);
	v->watched = l;
	v->watched_name = mem_str(name);
	v->no_more = false;
	return 0;
}

/* The status of the target "snapshot": "USED/ALL TABLE" in sectors, or a word
 * ("Invalid", "Overflow"; Documentation/admin-guide/device-mapper/snapshot.rst).
 * -EIO: the snapshot is lost. */
static int
status_of(struct lvm_volume *v, const char *name, uint64_t *used, uint64_t *all,
    struct err *e)
{
	SCOPED_FREE char *type = NULL, *words = NULL, *uuid = NULL;
	const char *s;
	int rc = watch_it(v, name, e);

	if (rc < 0)
		return rc;
	uuid = lvm_dm_uuid(&v->watched, NULL);
	rc = dm_status(uuid, &type, &words, e);
	if (rc < 0)
		return rc;
	s = words;
	if (strcmp(type, "snapshot") != 0 || !dm_take_number(&s, '/', used) ||
	    !dm_take_number(&s, ' ', all))
		return lost(&v->watched, e);
	return 0;
}

static int
thick_watch(
    struct snap_volume *base, const char *name, char **said, struct err *e)
{
	struct lvm_volume *v = (struct lvm_volume *)base;
	uint64_t used, all;
	int rc = status_of(v, name, &used, &all, e);

	if (rc == 0 && !v->no_more && used > all / 100 * EXTEND_PERCENT &&
	    v->watched.size < most_space(v))
		*said = extend(v);
	return rc;
}

static int
thick_intact(struct snap_volume *base, const char *name, struct err *e)
{
	uint64_t used, all;

	return status_of((struct lvm_volume *)base, name, &used, &all, e);
}

const struct snap_ops snap_lvm_thick = {
    .name = "lvm_thick",
    .summary = "snapshots of a thick logical volume, as an image",
    .caps = SNAP_ATOMIC | SNAP_IMAGE | SNAP_COSTLY,
    .open = thick_open,
    .close = thick_close,
    .create = thick_create,
    .view = thick_view,
    .intact = thick_intact,
    .watch = thick_watch,
    .list = lvm_volume_list,
    .remove = lvm_volume_remove,
    .locate = lvm_volume_locate,
    .gaps = lvm_volume_gaps,
    .ready = thick_ready,
    .freezes = lvm_volume_freezes,
};

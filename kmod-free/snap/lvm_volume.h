/*
 * A mounted logical volume and its snapshots: what thin and thick ones have in
 * common. For the providers and the trackers of lvm.
 *
 * In lvm a snapshot is named "NAME.abcdef": names are per volume group, so that
 * of two volumes of one group each needs its own; the six characters begin the
 * origin's UUID.
 */
#ifndef NEAP_SNAP_LVM_VOLUME_H
#define NEAP_SNAP_LVM_VOLUME_H

#include "kmod-free/snap/lvm.h"
#include "kmod-free/snap/snap.h"

struct lvm_volume {
	struct snap_volume base;
	struct lvm_lv lv;
	char *inside; /* where in the file system base.root is: "" or "srv" */
	/* From ready to create. */
	uint64_t space; /* thick: bytes to set aside */
	char *tpool;    /* thin: what takes the messages of its pool, if */
	int64_t early;  /* ready has made the snapshot, of this device id */
	/* thick: the snapshot that is watched */
	struct lvm_lv watched;
	char *watched_name;
	bool no_more; /* room to give it; said already */
};

/* Of an absolute, resolved path; all but base.ops is filled in. -EOPNOTSUPP:
 * not on a logical volume; -EPERM: not root. */
int lvm_volume_open(struct lvm_volume **out, const char *path, struct err *e);
void lvm_volume_close(struct lvm_volume *v);

/* thin: the pool that it lies in. */
int lvm_volume_pool(
    const struct lvm_volume *v, struct lvm_lv *out, struct err *e);

/* "VG/NAME.abcdef" of a snapshot; gives. -EINVAL: lvm takes no such name. */
int lvm_volume_name(const struct lvm_volume *v, const char *snapshot,
    char **out, struct err *e);
/* What lvm says of a snapshot of this volume. -ENOENT; -EPERM: something else
 * has that name. */
int lvm_volume_snapshot(const struct lvm_volume *v, const char *snapshot,
    struct lvm_lv *out, struct err *e);
/*
 * Two snapshots that a tracker is to compare: both are of this volume, of this
 * segment type, and nobody may write to them. -ESTALE.
 */
int lvm_volume_pair(const struct lvm_volume *v, const char *from,
    const char *to, struct lvm_lv *a, struct lvm_lv *b, struct err *e);
/* Opens its device read-only, and makes it active first where it is not. */
int lvm_volume_view(
    const struct lvm_volume *v, const struct lvm_lv *snapshot, struct err *e);

/* Of snap_ops. */
char *lvm_volume_freezes(const struct snap_volume *base);
int lvm_volume_list(
    struct snap_volume *base, snap_list_fn *fn, void *arg, struct err *e);
int lvm_volume_remove(
    struct snap_volume *base, const char *name, struct err *e);
int lvm_volume_locate(
    struct snap_volume *base, const char *path, char **rel, struct err *e);
int lvm_volume_gaps(struct snap_volume *v, const char *rel, snap_list_fn *fn,
    void *arg, struct err *e);

#endif

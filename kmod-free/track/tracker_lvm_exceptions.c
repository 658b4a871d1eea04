/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was overwritten in a thick volume since the older of two held snapshots
 * was taken, from that snapshot's own table of exceptions. The newer one stands
 * already, so the table holds all that changed between the two, and what was
 * written since, too.
 */
#include <errno.h>
#include <fcntl.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/dm.h"
#include "kmod-free/snap/lvm_volume.h"
#include "kmod-free/snap/snap_all.h"
#include "kmod-free/track/cow_table.h"
#include "kmod-free/track/tracker_all.h"

static int
exceptions_probe(struct snap_volume *v, struct err *e)
{
	if (v->ops == &snap_lvm_thick)
		return 0;
	return err_set(e, -EOPNOTSUPP,
	    "it reads the tables of thick snapshots (snapshot: lvm_thick), and "
	    "%s has those of %s",
	    v->id, v->ops->name);
}

/* The device with the table is a layer of its own. Direct: what the kernel has
 * written itself is not in the cache. */
static int
open_store(const struct lvm_lv *snapshot, struct err *e)
{
	SCOPED_FREE char *uuid = lvm_dm_uuid(snapshot, "cow");
	dev_t dev;
	int rc = dm_device(uuid, &dev, e);

	return rc < 0 ? rc : dm_open(dev, O_DIRECT, e);
}

static int
exceptions_changed(
    const struct tracker_pair *p, struct tracker_answer *out, struct err *e)
{
	const struct lvm_volume *v = (const struct lvm_volume *)p->volume;
	SCOPED_LVM_LV struct lvm_lv a = {0}, b = {0};
	struct cow_table_info info;
	SCOPED_FD int fd = -1;
	int rc = lvm_volume_pair(v, p->from, p->to, &a, &b, e);

	/* lvm's size of a thick snapshot is that of its space, and the kernel's
	 * is that of the origin now: neither is what it was. */
	if (rc == 0 && p->from_bytes != v->base.image.size)
		rc = err_set(e, -ESTALE,
		    "the volume was resized from %llu to %llu bytes",
		    (unsigned long long)p->from_bytes,
		    (unsigned long long)v->base.image.size);
	if (rc < 0)
		return rc;
	fd = open_store(&a, e);
	if (fd < 0)
		return fd;
	rc = cow_table_read(fd, p->from_bytes, &info, &out->ranges, e);
	/* Only the kernel knows of an overflow that it could not write down,
	 * so it is asked afterwards. */
	return rc < 0 ? rc : snap_intact(p->volume, p->from, e);
}

const struct tracker_ops tracker_lvm_exceptions = {
    .name = "lvm-exceptions",
    .summary = "reads what a kept thick snapshot had to copy out",
    .compares = true,
    .probe = exceptions_probe,
    .changed = exceptions_changed,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the file system in an image does not use is not read, and is zeros in the
 * backup; of a thin volume whose file system cannot tell, what is not mapped. A
 * tracker cannot know of it: a block that comes into use need not be written
 * (fallocate), nor one that goes out of use. So what is in use in one of the two
 * snapshots only is looked at, whatever the tracker names.
 */
#include <errno.h>

#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/job/run.h"
#include "agent/job/tree_image.h"

/* Many file systems cannot tell, and that is nobody's concern. */
static void
say_why(const struct run *r, const struct snap_volume *v, int rc,
    const struct err *e)
{
	if (rc == -EOPNOTSUPP)
		log_debug("job %s: all of %s is read: %s", r->job->name,
		    v->image.name, e->text);
	else
		log_notice("job %s: all of %s is read, free space too: %s",
		    r->job->name, v->image.name, e->text);
}

static int
used_of(struct snap_volume *v, const char *snapshot, struct extents *out,
    struct err *e)
{
	int rc = snap_used(v, snapshot, out, e);

	if (rc != -EOPNOTSUPP)
		return rc;
	log_debug("volume %s: %s", v->image.name, e->text);
	err_clear(e);
	return tracker_mapped(v, snapshot, out, e);
}

int
unused_find(struct run *r, struct err *e)
{
	r->tree.used = mem_array(r->plan.volumes, sizeof *r->tree.used);
	for (size_t i = 0; i < r->plan.volumes; i++) {
		struct plan_volume *pv = &r->plan.volume[i];
		struct extents *used = &r->tree.used[i];
		uint64_t bytes;
		int rc;

		if (!tree_image_is(pv->v))
			continue;
		rc = used_of(pv->v, r->snapshot, used, e);
		if (rc == -ECANCELED)
			return rc;
		if (rc < 0) {
			say_why(r, pv->v, rc, e);
			err_clear(e);
			continue;
		}
		bytes = extents_bytes(used);
		pv->unused =
		    bytes < pv->v->image.size ? pv->v->image.size - bytes : 0;
	}
	return 0;
}

uint64_t
unused_bytes(const struct run *r)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < r->plan.volumes; i++)
		sum += r->plan.volume[i].unused;
	return sum;
}

/* All of a volume that was not asked, or could not tell. */
static void
all(struct extents *x, uint64_t size)
{
	extents_add(x, 0, 0, size);
	extents_settle(x);
}

int
unused_compare(struct run *r, size_t volume, const char *anchor,
    const struct unused_image *old, struct err *e)
{
	const struct plan_volume *pv = &r->plan.volume[volume];
	SCOPED_EXTENTS struct extents then = {0}, whole = {0};
	const struct extents *now = &r->tree.used[volume];
	struct extents *named = &r->named[volume].ranges;
	int rc = 0;

	if (pv->unused == 0 && old->unused == 0)
		return 0;
	if (old->unused > 0)
		rc = used_of(pv->v, anchor, &then, e);
	else
		all(&then, old->size);
	/* As another kernel might tell. */
	if (rc == 0 && old->unused > 0 &&
	    old->size != extents_bytes(&then) + old->unused)
		rc = err_set(e, -ESTALE,
		    "%s no longer says of its last snapshot what it said then",
		    pv->v->image.name);
	if (rc < 0)
		return rc;
	if (pv->unused == 0) {
		all(&whole, pv->v->image.size);
		now = &whole;
	}
	extents_differing(&then, now, 0, named);
	extents_settle(named);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares in which blocks of the pool the blocks of two held snapshots of a
 * thin volume lie. The pool never writes a block that two devices share, and
 * both snapshots are read-only: the same block means the same bytes. Read from
 * the pool's own metadata, held still meanwhile; what both trees share is not
 * read, so the cost follows the change.
 *
 * Blocks that only the older one maps were discarded: they read as zeros now,
 * and are named.
 */
#include <errno.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/lvm_pool.h"
#include "kmod-free/snap/snap_all.h"
#include "kmod-free/track/thin_meta.h"
#include "kmod-free/track/tracker_all.h"

static int
thin_probe(struct snap_volume *v, struct err *e)
{
	if (v->ops == &snap_lvm_thin)
		return 0;
	return err_set(e, -EOPNOTSUPP,
	    "it compares snapshots of thin volumes (snapshot: lvm_thin), and "
	    "%s has those of %s",
	    v->id, v->ops->name);
}

/*
 * A volume above an external origin shows that where it has no block of its
 * own, so what is unmapped is not zeros. lvm names that origin as it names the
 * origin of a thin snapshot.
 */
static int
check_origin(const struct lvm_volume *v, struct err *e)
{
	SCOPED_LVM_LV struct lvm_lv origin = {0};
	int rc;

	if (v->lv.origin_uuid[0] == '\0')
		return 0;
	rc = lvm_by_uuid(v->lv.vg_uuid, v->lv.origin_uuid, &origin, e);
	if (rc < 0)
		return rc;
	if (strcmp(origin.segtype, "thin") == 0)
		return 0;
	return err_set(e, -ESTALE,
	    "%s/%s lies above an external origin, %s, which the pool knows "
	    "nothing of",
	    v->lv.vg, v->lv.name, origin.name);
}

static int
check_pair(const struct lvm_volume *v, const struct lvm_lv *a,
    const struct lvm_lv *b, struct err *e)
{
	const struct lvm_lv *both[] = {a, b};

	for (size_t i = 0; i < 2; i++)
		if (strcmp(both[i]->segtype, "thin") != 0 ||
		    strcmp(both[i]->pool, v->lv.pool) != 0 ||
		    both[i]->thin_id < 0 ||
		    both[i]->thin_id > THIN_META_DEVICE_MAX)
			return err_set(e, -ESTALE,
			    "snapshot %s/%s is not in pool %s", both[i]->vg,
			    both[i]->name, v->lv.pool);
	return check_origin(v, e);
}

struct answer {
	struct extents *out;
	uint64_t block_bytes, size; /* of the snapshot; of two, the newer */
};

/* What lies behind its end is not in the image. */
static void
add_blocks(struct answer *a, uint64_t first, uint64_t count)
{
	uint64_t blocks =
	    a->size / a->block_bytes + (a->size % a->block_bytes != 0);
	uint64_t from, end;

	if (first >= blocks)
		return;
	if (count > blocks - first)
		count = blocks - first;
	from = first * a->block_bytes;
	end = from + count * a->block_bytes;
	extents_add(a->out, 0, from, (end < a->size ? end : a->size) - from);
}

static int
on_differ(void *arg, enum thin_meta_side side, uint64_t first, uint64_t count,
    struct err *e)
{
	(void)side;
	(void)e;
	add_blocks(arg, first, count);
	return 0;
}

static int
on_mapped(
    void *arg, uint64_t first, uint64_t data, uint64_t count, struct err *e)
{
	(void)data;
	(void)e;
	add_blocks(arg, first, count);
	return 0;
}

/* What a volume grew by. Where it had been cut off before, it keeps its old
 * blocks, mapped alike in both, and shows them again. */
static void
compare_sizes(struct extents *out, uint64_t from, uint64_t to)
{
	if (to > from)
		extents_add(out, 0, from, to - from);
}

/* What is asked of the metadata that is held, until it is let go. */
typedef int ask_fn(struct thin_meta *m, const struct lvm_lv *a,
    const struct lvm_lv *b, struct answer *answer, struct err *e);

static int
compare(struct thin_meta *m, const struct lvm_lv *a, const struct lvm_lv *b,
    struct answer *answer, struct err *e)
{
	struct thin_meta_details from, to;
	int rc = thin_meta_device(m, (uint32_t)a->thin_id, &from, e);

	if (rc == 0)
		rc = thin_meta_device(m, (uint32_t)b->thin_id, &to, e);
	if (rc == 0 && (a->thin_id == b->thin_id || from.created > to.created))
		rc = err_set(
		    e, -ESTALE, "the first is not older than the second");
	if (rc == 0)
		rc = thin_meta_compare(m, (uint32_t)a->thin_id,
		    (uint32_t)b->thin_id, on_differ, answer, e);
	return rc;
}

static int
walk(struct thin_meta *m, const struct lvm_lv *a, const struct lvm_lv *b,
    struct answer *answer, struct err *e)
{
	(void)a;
	return thin_meta_walk(m, (uint32_t)b->thin_id, on_mapped, answer, e);
}

static int
ask_held(struct lvm_pool *pool, ask_fn *ask, const struct lvm_lv *a,
    const struct lvm_lv *b, struct extents *out, struct err *e)
{
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct thin_meta_info info;
	struct answer answer = {.out = out, .size = b->size};
	int rc = thin_meta_open(&m, lvm_pool_metadata(pool), true, e);

	if (rc < 0)
		return rc;
	thin_meta_limit(m, clock_mono_ms() + LVM_POOL_HOLD_MAX_MS);
	thin_meta_info(m, &info);
	answer.block_bytes = info.block_bytes;
	if (info.needs_check)
		return err_set(e, -ESTALE,
		    "the pool's metadata needs a check (lvconvert --repair)");
	rc = ask(m, a, b, &answer, e);
	return rc < 0 ? rc : thin_meta_check_held(m, e);
}

static int
ask_pool(const struct lvm_volume *v, ask_fn *ask, const struct lvm_lv *a,
    const struct lvm_lv *b, struct extents *out, struct err *e)
{
	struct lvm_pool *pool = NULL;
	struct err later = ERR_NONE;
	int rc = check_pair(v, a, b, e);

	if (rc == 0)
		rc = lvm_pool_hold(&pool, v, e);
	if (rc < 0)
		return rc;
	rc = ask_held(pool, ask, a, b, out, e);
	if (lvm_pool_release(pool, &later) < 0) {
		err_copy(e, &later);
		rc = err_wrap(e, "the pool's metadata is still held");
	}
	return rc;
}

static int
thin_changed(
    const struct tracker_pair *p, struct tracker_answer *out, struct err *e)
{
	const struct lvm_volume *v = (const struct lvm_volume *)p->volume;
	SCOPED_LVM_LV struct lvm_lv a = {0}, b = {0};
	int rc = lvm_volume_pair(v, p->from, p->to, &a, &b, e);

	if (rc == 0)
		rc = ask_pool(v, compare, &a, &b, &out->ranges, e);
	if (rc == 0)
		compare_sizes(&out->ranges, a.size, b.size);
	return rc;
}

static int
thin_mapped(struct snap_volume *base, const char *name, struct extents *out,
    struct err *e)
{
	const struct lvm_volume *v = (const struct lvm_volume *)base;
	SCOPED_LVM_LV struct lvm_lv a = {0}, b = {0};
	int rc = lvm_volume_pair(v, name, name, &a, &b, e);

	return rc < 0 ? rc : ask_pool(v, walk, &a, &b, out, e);
}

const struct tracker_ops tracker_lvm_thin = {
    .name = "lvm-thin",
    .summary =
	"compares where the blocks of two thin snapshots lie in the pool",
    .compares = true,
    .probe = thin_probe,
    .changed = thin_changed,
    .mapped = thin_mapped,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/thin_meta.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/bytes.h"
#include "agent/core/mem.h"
#include "kmod-free/track/thin_btree.h"
#include "kmod-free/track/thin_super.h"

#define DETAILS_LEN 24u
#define ROOT_LEN 8u
#define MAPPING_LEN 8u /* block of data << 24 | time */
#define MAPPING_TIME_BITS 24
#define DEVICE_BYTES_MAX (1ull << 63)

struct thin_meta {
	struct thin_disk disk;
	bool held;
	uint64_t block; /* where the superblock in use is */
	struct thin_super super;
	bool needs_check;
	uint8_t *pages; /* the superblock in use as it was read; one to read */
};

static uint8_t *
spare_page(const struct thin_meta *m)
{
	return m->pages + THIN_BLOCK_LEN;
}

/* ---- opening ---- */

/* From block 0 to the copy that is held. */
static int
open_held(struct thin_meta *m, struct err *e)
{
	if (m->super.held == 0)
		return err_set(
		    e, -ENOENT, "the thin pool holds no metadata snapshot");
	m->block = m->super.held;
	return thin_super_read(&m->disk, m->block, m->pages, &m->super, e);
}

static int
open_super(struct thin_meta *m, struct err *e)
{
	off_t len = lseek(m->disk.fd, 0, SEEK_END); /* also of a device */
	void *pages;
	int rc;

	if (len < 0)
		return err_sys(e, errno, "size of the thin pool's metadata");
	m->disk.blocks = (uint64_t)len / THIN_BLOCK_LEN;
	if (m->disk.blocks == 0)
		return thin_disk_bad(0, "it is not there", e);
	rc = mem_try_pages(&pages, 2 * THIN_BLOCK_LEN, e);
	if (rc < 0)
		return rc;
	m->pages = pages;
	rc = thin_super_read(&m->disk, 0, m->pages, &m->super, e);
	if (rc < 0)
		return rc;
	m->needs_check = m->super.needs_check;
	if (m->held)
		rc = open_held(m, e);
	m->needs_check |= m->super.needs_check;
	return rc;
}

int
thin_meta_open(struct thin_meta **out, int fd, bool held, struct err *e)
{
	SCOPED_THIN_META struct thin_meta *m = mem_new(sizeof *m);
	int rc;

	m->disk.fd = fd;
	m->held = held;
	rc = open_super(m, e);
	if (rc == 0)
		*out = TAKE(m);
	return rc;
}

void
thin_meta_close(struct thin_meta *m)
{
	if (m == NULL)
		return;
	free(m->pages);
	free(m);
}

void
thin_meta_close_scope(struct thin_meta **m)
{
	thin_meta_close(*m);
}

void
thin_meta_info(const struct thin_meta *m, struct thin_meta_info *out)
{
	*out = (struct thin_meta_info){
	    .block_bytes = m->super.block_bytes,
	    .transaction = m->super.transaction,
	    .needs_check = m->needs_check,
	    .reads = m->disk.reads,
	};
}

/*
 * Releasing is one transaction, and what it frees is written no earlier than
 * in the next: block 0 shows the release before anything of ours is gone.
 */
void
thin_meta_limit(struct thin_meta *m, int64_t until_ms)
{
	m->disk.until_ms = until_ms;
}

int
thin_meta_check_held(struct thin_meta *m, struct err *e)
{
	struct thin_super now;
	int rc = thin_super_read(&m->disk, 0, spare_page(m), &now, e);

	if (rc == 0 && m->held && now.held == m->block)
		rc =
		    thin_super_read(&m->disk, m->block, spare_page(m), &now, e);
	if (rc < 0)
		return rc;
	if (memcmp(spare_page(m), m->pages, THIN_BLOCK_LEN) == 0)
		return 0;
	if (!m->held)
		return err_set(e, -ESTALE,
		    "the thin pool's metadata changed while it was read");
	return err_set(e, -ESTALE,
	    "the thin pool's metadata snapshot was released by somebody else "
	    "while it was read");
}

/* ---- devices ---- */

/* What one of the trees of devices says of one; -ENOENT. */
static int
find_device(struct thin_meta *m, uint64_t root, uint32_t value_size,
    uint32_t device, void *value, struct err *e)
{
	struct thin_tree tree = {
	    .root = root,
	    .value_size = value_size,
	    .key_end = THIN_META_DEVICE_MAX + 1,
	};
	int rc = thin_tree_find(&m->disk, &tree, device, value, e);

	if (rc < 0)
		return err_wrap(e, "thin device %u", device);
	if (rc == 0)
		return err_set(
		    e, -ENOENT, "the thin pool has no device %u", device);
	return 0;
}

int
thin_meta_device(struct thin_meta *m, uint32_t device,
    struct thin_meta_details *out, struct err *e)
{
	uint8_t v[DETAILS_LEN];
	int rc =
	    find_device(m, m->super.details_root, DETAILS_LEN, device, v, e);

	if (rc < 0)
		return rc;
	*out = (struct thin_meta_details){
	    .mapped = bytes_le64(v),
	    .transaction = bytes_le64(v + 8),
	    .created = bytes_le32(v + 16),
	    .snapshotted = bytes_le32(v + 20),
	};
	return 0;
}

/* The tree of a device's mappings. */
static int
find_tree(
    struct thin_meta *m, uint32_t device, struct thin_tree *out, struct err *e)
{
	uint8_t v[ROOT_LEN];
	int rc = find_device(m, m->super.mapping_root, ROOT_LEN, device, v, e);

	if (rc < 0)
		return rc;
	*out = (struct thin_tree){
	    .root = bytes_le64(v),
	    .value_size = MAPPING_LEN,
	    .key_end = DEVICE_BYTES_MAX / m->super.block_bytes,
	};
	if (out->root == 0 || out->root >= m->disk.blocks)
		return err_set(e, -EBADMSG,
		    "thin device %u: its mappings lie at block %llu, outside "
		    "the metadata device",
		    device, (unsigned long long)out->root);
	return 0;
}

/* The time does not count: it only says when a block came to be. */
static uint64_t
data_block(const struct thin_cursor *c)
{
	return bytes_le64(c->value) >> MAPPING_TIME_BITS;
}

/* ---- the mappings of one device ---- */

struct run {
	uint64_t first, data, count;
};

static int
give_run(struct run *r, thin_meta_range_fn *fn, void *arg, struct err *e)
{
	uint64_t n = r->count;

	r->count = 0;
	return n > 0 ? fn(arg, r->first, r->data, n, e) : 0;
}

static int
walk(struct thin_cursor *c, thin_meta_range_fn *fn, void *arg, struct err *e)
{
	struct run r = {0};
	int rc = 0;

	while (rc == 0 && c->front != THIN_END) {
		if (c->front == THIN_SUBTREE) {
			rc = thin_cursor_enter(c, e);
			continue;
		}
		if (r.count == 0 || c->key != r.first + r.count ||
		    data_block(c) != r.data + r.count) {
			rc = give_run(&r, fn, arg, e);
			r.first = c->key;
			r.data = data_block(c);
		}
		r.count++;
		thin_cursor_skip(c);
	}
	return rc < 0 ? rc : give_run(&r, fn, arg, e);
}

int
thin_meta_walk(struct thin_meta *m, uint32_t device, thin_meta_range_fn *fn,
    void *arg, struct err *e)
{
	SCOPED_THIN_CURSOR struct thin_cursor c = {0};
	struct thin_tree tree;
	int rc = find_tree(m, device, &tree, e);

	if (rc < 0)
		return rc;
	rc = thin_cursor_init(&c, &m->disk, &tree, e);
	if (rc == 0)
		rc = walk(&c, fn, arg, e);
	return rc < 0 ? err_wrap(e, "thin device %u", device) : 0;
}

/* ---- two devices side by side ---- */

struct side {
	struct thin_cursor c;
	unsigned height;
};

struct compare {
	struct side from, to;
	thin_meta_differ_fn *fn;
	void *arg;
	enum thin_meta_side kind; /* of what is not given yet */
	uint64_t first, count;
};

/* Levels under the subtree in front. It only decides what is read first, so it
 * need not be right where a tree is uneven. */
static unsigned
height(const struct side *s)
{
	return s->c.depth < s->height ? s->height - s->c.depth : 0;
}

/*
 * The side whose subtree has to be read before it is known what comes next:
 * the one that may have the lower key; with equal ones the taller, so that
 * both sides are on the same level when they come to a node that they share.
 * NULL: an entry comes next, or nothing.
 */
static struct side *
to_enter(struct side *a, struct side *b)
{
	if (a->c.front != THIN_SUBTREE) {
		struct side *t = a;

		a = b;
		b = t;
	}
	if (a->c.front != THIN_SUBTREE)
		return NULL;
	if (b->c.front == THIN_END || a->c.key < b->c.key)
		return a;
	if (b->c.front == THIN_ENTRY)
		return a->c.key == b->c.key ? a : NULL;
	if (b->c.key < a->c.key)
		return b;
	return height(a) >= height(b) ? a : b;
}

static int
give(struct compare *c, struct err *e)
{
	uint64_t n = c->count;

	c->count = 0;
	return n > 0 ? c->fn(c->arg, c->kind, c->first, n, e) : 0;
}

static int
differs(
    struct compare *c, enum thin_meta_side kind, uint64_t key, struct err *e)
{
	int rc = 0;

	if (c->count == 0 || kind != c->kind || key != c->first + c->count) {
		rc = give(c, e);
		c->kind = kind;
		c->first = key;
	}
	c->count++;
	return rc;
}

/* No subtree can hold anything before the lower of the two entries. */
static int
compare_entries(struct compare *c, struct err *e)
{
	struct thin_cursor *a = &c->from.c, *b = &c->to.c;
	uint64_t key;
	bool same;

	if (b->front == THIN_END ||
	    (a->front == THIN_ENTRY && a->key < b->key)) {
		key = a->key;
		thin_cursor_skip(a);
		return differs(c, THIN_META_ONLY_FROM, key, e);
	}
	if (a->front == THIN_END || b->key < a->key) {
		key = b->key;
		thin_cursor_skip(b);
		return differs(c, THIN_META_ONLY_TO, key, e);
	}
	key = a->key;
	same = data_block(a) == data_block(b);
	thin_cursor_skip(a);
	thin_cursor_skip(b);
	return same ? 0 : differs(c, THIN_META_DIFFERENT, key, e);
}

static int
compare(struct compare *c, struct err *e)
{
	struct thin_cursor *a = &c->from.c, *b = &c->to.c;
	int rc = 0;

	while (rc == 0 && (a->front != THIN_END || b->front != THIN_END)) {
		struct side *s;

		if (a->front == THIN_SUBTREE && b->front == THIN_SUBTREE &&
		    a->block == b->block) {
			thin_cursor_skip(a);
			thin_cursor_skip(b);
			continue;
		}
		s = to_enter(&c->from, &c->to);
		rc = s != NULL ? thin_cursor_enter(&s->c, e)
			       : compare_entries(c, e);
	}
	return rc < 0 ? rc : give(c, e);
}

static int
begin_side(struct thin_meta *m, const struct thin_tree *tree, struct side *s,
    struct err *e)
{
	int rc = thin_tree_height(&m->disk, tree, &s->height, e);

	return rc < 0 ? rc : thin_cursor_init(&s->c, &m->disk, tree, e);
}

int
thin_meta_compare(struct thin_meta *m, uint32_t from, uint32_t to,
    thin_meta_differ_fn *fn, void *arg, struct err *e)
{
	struct compare c = {.fn = fn, .arg = arg};
	struct thin_tree a, b;
	int rc = find_tree(m, from, &a, e);

	if (rc < 0)
		return rc;
	rc = find_tree(m, to, &b, e);
	if (rc < 0)
		return rc;
	if (a.root == b.root)
		return 0;
	rc = begin_side(m, &a, &c.from, e);
	if (rc == 0)
		rc = begin_side(m, &b, &c.to, e);
	if (rc == 0)
		rc = compare(&c, e);
	thin_cursor_fini(&c.from.c);
	thin_cursor_fini(&c.to.c);
	return rc < 0 ? err_wrap(e, "thin devices %u and %u", from, to) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/io/btrfs_search.h"

#include <assert.h>
#include <errno.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent/core/mem.h"
#include "agent/core/stop.h"

_Static_assert(BTRFS_INODE_ITEM_KEY == BTRFS_SEARCH_INODE, "");
_Static_assert(BTRFS_EXTENT_DATA_KEY == BTRFS_SEARCH_EXTENT, "");
_Static_assert(sizeof(struct btrfs_ioctl_search_header) == 32, "");

#define BUF_BYTES (512u << 10)
#define BUF_BYTES_MIN 4096u
#define BUF_BYTES_MAX (16u << 20) /* the kernel takes no more */
#define INODE_LEN sizeof(struct btrfs_inode_item)
#define INLINE_AT offsetof(struct btrfs_file_extent_item, disk_bytenr)
#define EXTENT_LEN sizeof(struct btrfs_file_extent_item)
#define FILE_END_MAX (1ull << 63)

/* ---- replies ---- */

int
btrfs_search_take(
    struct cursor *reply, struct btrfs_search_item *out, struct err *e)
{
	struct btrfs_ioctl_search_header h;
	const uint8_t *p;

	if (cursor_left(reply) == 0)
		return 0;
	p = cursor_bytes(reply, sizeof h);
	if (p == NULL)
		return err_set(e, -EBADMSG,
		    "btrfs tree search: the reply ends inside a header");
	memcpy(&h, p, sizeof h);
	p = cursor_bytes(reply, h.len);
	if (p == NULL || h.type > 255)
		return err_set(e, -EBADMSG,
		    "btrfs tree search: item (%llu %u %llu) of %u bytes "
		    "cannot be",
		    (unsigned long long)h.objectid, h.type,
		    (unsigned long long)h.offset, h.len);
	out->key = (struct btrfs_search_key){
	    .objectid = h.objectid,
	    .offset = h.offset,
	    .type = h.type,
	};
	out->body = SPAN(p, h.len);
	return 1;
}

static int
bad_item(const struct btrfs_search_item *item, const char *what, struct err *e)
{
	return err_set(e, -EBADMSG,
	    "btrfs tree search: inode %llu, item of type %u at %llu: %s",
	    (unsigned long long)item->key.objectid, item->key.type,
	    (unsigned long long)item->key.offset, what);
}

int
btrfs_search_inode(const struct btrfs_search_item *item,
    struct btrfs_search_inode *out, struct err *e)
{
	const uint8_t *p = item->body.data;

	assert(item->key.type == BTRFS_SEARCH_INODE);
	if (item->body.len < INODE_LEN)
		return bad_item(item, "too short for an inode", e);
	*out = (struct btrfs_search_inode){
	    .generation =
		bytes_le64(p + offsetof(struct btrfs_inode_item, generation)),
	    .size = bytes_le64(p + offsetof(struct btrfs_inode_item, size)),
	    .nbytes = bytes_le64(p + offsetof(struct btrfs_inode_item, nbytes)),
	    .mode = bytes_le32(p + offsetof(struct btrfs_inode_item, mode)),
	};
	if (out->size > FILE_END_MAX)
		return bad_item(item, "larger than a file can be", e);
	return 0;
}

#define FIELD(name) offsetof(struct btrfs_file_extent_item, name)

/* What an inline extent covers is its length in memory. */
static int
inline_extent(const struct btrfs_search_item *item,
    struct btrfs_search_extent *x, struct err *e)
{
	const uint8_t *p = item->body.data;

	/* It lives inside a tree block, of 64 KiB at most. */
	if (x->ram_bytes > 65536)
		return bad_item(item, "longer than an inline extent can be", e);
	if (x->start >= FILE_END_MAX || x->ram_bytes > FILE_END_MAX - x->start)
		return bad_item(item, "past the end of any file", e);
	x->end = x->start + x->ram_bytes;
	x->inline_bytes = SPAN(p + INLINE_AT, item->body.len - INLINE_AT);
	return 0;
}

static int
disk_extent(const struct btrfs_search_item *item, struct btrfs_search_extent *x,
    struct err *e)
{
	const uint8_t *p = item->body.data;
	uint64_t len;

	if (item->body.len < EXTENT_LEN)
		return bad_item(item, "too short for an extent", e);
	x->disk_bytenr = bytes_le64(p + FIELD(disk_bytenr));
	x->disk_num_bytes = bytes_le64(p + FIELD(disk_num_bytes));
	x->offset = bytes_le64(p + FIELD(offset));
	len = bytes_le64(p + FIELD(num_bytes));
	if (len == 0 || len > FILE_END_MAX - x->start)
		return bad_item(item, "no file has such a range", e);
	x->end = x->start + len;
	return 0;
}

int
btrfs_search_extent(const struct btrfs_search_item *item,
    struct btrfs_search_extent *out, struct err *e)
{
	const uint8_t *p = item->body.data;
	struct btrfs_search_extent x = {.start = item->key.offset};
	int rc;

	assert(item->key.type == BTRFS_SEARCH_EXTENT);
	if (item->body.len < INLINE_AT)
		return bad_item(item, "too short for an extent", e);
	if (x.start >= FILE_END_MAX)
		return bad_item(item, "no file has such a range", e);
	x.generation = bytes_le64(p + FIELD(generation));
	x.ram_bytes = bytes_le64(p + FIELD(ram_bytes));
	x.compression = p[FIELD(compression)];
	x.encryption = p[FIELD(encryption)];
	x.other_encoding = bytes_le16(p + FIELD(other_encoding));
	if (p[FIELD(type)] > BTRFS_SEARCH_PREALLOC)
		return bad_item(item, "an extent of a kind not known", e);
	x.data = p[FIELD(type)];
	if (x.data == BTRFS_SEARCH_INLINE)
		rc = inline_extent(item, &x, e);
	else
		rc = disk_extent(item, &x, e);
	if (rc == 0)
		*out = x;
	return rc;
}

/* ---- the search ---- */

void
btrfs_search_init(struct btrfs_search *s, int fd, size_t buf_bytes)
{
	*s = (struct btrfs_search){
	    .fd = fd,
	    .buf_bytes = buf_bytes ? buf_bytes : BUF_BYTES,
	    .from = {.objectid = BTRFS_FIRST_FREE_OBJECTID},
	    .to = {BTRFS_LAST_FREE_OBJECTID, UINT64_MAX, 255},
	};
}

void
btrfs_search_init_file(struct btrfs_search *s, int fd, size_t buf_bytes,
    uint64_t ino, uint64_t off)
{
	btrfs_search_init(s, fd, buf_bytes);
	s->from = (struct btrfs_search_key){ino, off, BTRFS_SEARCH_EXTENT};
	s->to = (struct btrfs_search_key){ino, UINT64_MAX, BTRFS_SEARCH_EXTENT};
}

void
btrfs_search_init_inode(struct btrfs_search *s, int fd, uint64_t ino)
{
	btrfs_search_init(s, fd, BUF_BYTES_MIN);
	s->from = (struct btrfs_search_key){ino, 0, BTRFS_SEARCH_INODE};
	s->to = s->from;
}

void
btrfs_search_fini(struct btrfs_search *s)
{
	free(s->args);
	s->args = NULL;
}

/* The smallest key above `k`; false where there is none. */
static bool
step(struct btrfs_search_key *k)
{
	if (++k->offset != 0)
		return true;
	if (++k->type <= 255)
		return true;
	k->type = 0;
	return ++k->objectid != 0;
}

static bool
above(const struct btrfs_search_key *a, const struct btrfs_search_key *b)
{
	if (a->objectid != b->objectid)
		return a->objectid > b->objectid;
	if (a->type != b->type)
		return a->type > b->type;
	return a->offset > b->offset;
}

/* Ask from `from` on. A key range is one interval of 136-bit numbers: the
 * bounds of type and offset hold only at its two ends. */
static int
ask(struct btrfs_search *s, const struct btrfs_search_key *from, struct err *e)
{
	struct btrfs_ioctl_search_args_v2 *a;

	for (;;) {
		if (s->args == NULL)
			s->args = mem_new(sizeof *a + s->buf_bytes);
		a = s->args;
		a->key = (struct btrfs_ioctl_search_key){
		    .min_objectid = from->objectid,
		    .max_objectid = s->to.objectid,
		    .min_type = from->type,
		    .max_type = s->to.type,
		    .min_offset = from->offset,
		    .max_offset = s->to.offset,
		    .min_transid = s->since,
		    .max_transid = UINT64_MAX,
		    .nr_items = s->at_most ? s->at_most : UINT32_MAX,
		};
		a->buf_size = s->buf_bytes;
		if (ioctl(s->fd, BTRFS_IOC_TREE_SEARCH_V2, a) == 0)
			break;
		if (errno == EINTR)
			continue;
		if (errno != EOVERFLOW)
			return err_sys(e, errno, "btrfs tree search");
		/* One item is larger than the buffer; it says how large. */
		if (s->buf_bytes >= BUF_BYTES_MAX)
			return err_set(e, -EBADMSG,
			    "btrfs tree search: an item of %llu bytes",
			    (unsigned long long)a->buf_size);
		s->buf_bytes *= 2;
		if (s->buf_bytes > BUF_BYTES_MAX)
			s->buf_bytes = BUF_BYTES_MAX;
		free(TAKE(s->args));
	}
	s->left = a->key.nr_items;
	s->reply = cursor_of(SPAN(a->buf, s->buf_bytes));
	return 0;
}

static int
refill(struct btrfs_search *s, struct err *e)
{
	struct btrfs_search_key from = s->last;
	int rc;

	if (!s->begun)
		from = s->from;
	else if (!step(&from) || above(&from, &s->to))
		return 0;
	rc = stop_check(e);
	if (rc < 0)
		return rc;
	return ask(s, &from, e);
}

int
btrfs_search_next(
    struct btrfs_search *s, struct btrfs_search_item *out, struct err *e)
{
	struct btrfs_search_item item;
	int rc;

	if (s->ended)
		return 0;
	if (s->left == 0) {
		rc = refill(s, e);
		if (rc < 0)
			return rc;
	}
	if (s->left == 0) {
		s->ended = true;
		return 0;
	}
	rc = btrfs_search_take(&s->reply, &item, e);
	if (rc == 0)
		return err_set(e, -EBADMSG,
		    "btrfs tree search: the reply lacks %u items", s->left);
	if (rc < 0)
		return rc;
	if (s->begun && !above(&item.key, &s->last))
		return bad_item(&item, "it is out of order", e);
	s->left--;
	s->last = item.key;
	s->begun = true;
	*out = item;
	return 1;
}

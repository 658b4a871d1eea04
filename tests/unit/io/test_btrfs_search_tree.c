/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search from one reply to the next, against a tree of a few items that an
 * ioctl of our own answers from: as the kernel does, or as it must not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kmod-free/io/btrfs_search.h"

#define BODY_BYTES 8

static const struct btrfs_search_key *tree;
static size_t items;
static unsigned per_reply;   /* items in a reply, at most */
static size_t body_bytes;    /* of each item */
static unsigned interrupts;  /* calls that a signal still ends */
static bool lie_about_count; /* one more than there are */
static bool from_start;      /* whatever was asked for */
static unsigned calls;
static uint64_t since; /* of the last call */

static bool
before(
    const struct btrfs_search_key *k, const struct btrfs_ioctl_search_key *from)
{
	if (from_start)
		return false;
	if (k->objectid != from->min_objectid)
		return k->objectid < from->min_objectid;
	if (k->type != from->min_type)
		return k->type < from->min_type;
	return k->offset < from->min_offset;
}

static bool
behind(
    const struct btrfs_search_key *k, const struct btrfs_ioctl_search_key *to)
{
	if (k->objectid != to->max_objectid)
		return k->objectid > to->max_objectid;
	if (k->type != to->max_type)
		return k->type > to->max_type;
	return k->offset > to->max_offset;
}

static int
answer(struct btrfs_ioctl_search_args_v2 *a)
{
	size_t need = sizeof(struct btrfs_ioctl_search_header) + body_bytes;
	uint32_t n = 0;
	size_t at = 0;

	for (size_t i = 0; i < items && n < per_reply && n < a->key.nr_items;
	     i++) {
		struct btrfs_ioctl_search_header h = {
		    .objectid = tree[i].objectid,
		    .type = tree[i].type,
		    .offset = tree[i].offset,
		    .len = (uint32_t)body_bytes};

		if (before(&tree[i], &a->key))
			continue;
		if (behind(&tree[i], &a->key))
			break;
		if (a->buf_size - at < need)
			break;
		memcpy((uint8_t *)a->buf + at, &h, sizeof h);
		memset((uint8_t *)a->buf + at + sizeof h, 7, body_bytes);
		at += need;
		n++;
	}
	if (n == 0 && a->buf_size < need) {
		a->buf_size = need;
		errno = EOVERFLOW;
		return -1;
	}
	a->key.nr_items = n + lie_about_count;
	return 0;
}

int
ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	(void)fd;
	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	assert_int_equal(request, BTRFS_IOC_TREE_SEARCH_V2);
	calls++;
	since = ((struct btrfs_ioctl_search_args_v2 *)arg)->key.min_transid;
	if (interrupts > 0) {
		interrupts--;
		errno = EINTR;
		return -1;
	}
	return answer(arg);
}

/* All types and offsets at their ends: where a step to the next key carries. */
static const struct btrfs_search_key ends[] = {
    {256, 0, 1},
    {256, UINT64_MAX, 1},
    {256, 0, 2},
    {256, UINT64_MAX, 255},
    {257, 0, 0},
    {257, 5, 108},
    {BTRFS_LAST_FREE_OBJECTID, UINT64_MAX, 255},
};

static int
setup(void **state)
{
	(void)state;
	tree = ends;
	items = sizeof ends / sizeof *ends;
	per_reply = 1000;
	body_bytes = BODY_BYTES;
	interrupts = calls = 0;
	lie_about_count = from_start = false;
	return 0;
}

/* How many items came, in order; or the error. */
static int
search(size_t buf_bytes)
{
	struct btrfs_search_item item;
	struct btrfs_search s;
	struct err e = ERR_NONE;
	int rc, n = 0;

	btrfs_search_init(&s, -1, buf_bytes);
	while ((rc = btrfs_search_next(&s, &item, &e)) > 0) {
		assert_true((size_t)n < items);
		assert_int_equal(item.key.objectid, tree[n].objectid);
		assert_int_equal(item.key.type, tree[n].type);
		assert_int_equal(item.key.offset, tree[n].offset);
		assert_int_equal(item.body.len, body_bytes);
		n++;
	}
	if (rc == 0)
		assert_int_equal(btrfs_search_next(&s, &item, &e), 0);
	btrfs_search_fini(&s);
	return rc < 0 ? rc : n;
}

static void
goes_on_behind_the_last_item_of_a_reply(void **state)
{
	(void)state;
	for (per_reply = 1; per_reply < 9; per_reply++)
		assert_int_equal(search(0), items);
}

static void
an_interrupted_call_is_repeated(void **state)
{
	(void)state;
	interrupts = 3;
	assert_int_equal(search(0), items);
}

static void
the_buffer_grows_for_a_large_item(void **state)
{
	(void)state;
	body_bytes = 60000;
	assert_int_equal(search(4096), items);
}

/* No item is larger than a tree block; a kernel that says so is not believed
 * for ever. */
static void
but_not_without_end(void **state)
{
	(void)state;
	body_bytes = 1u << 31;
	assert_int_equal(search(4096), -EBADMSG);
	assert_true(calls < 64);
}

static void
a_reply_with_fewer_items_than_it_says_is_damage(void **state)
{
	(void)state;
	lie_about_count = true;
	assert_int_equal(search(0), -EBADMSG);
}

/* Or the search would never end. */
static void
items_out_of_order_are_damage(void **state)
{
	static const struct btrfs_search_key types[] = {
	    {256, 0, 2}, {256, 0, 1}};
	static const struct btrfs_search_key objects[] = {
	    {257, 0, 1}, {256, 0, 1}};

	(void)state;
	from_start = true;
	per_reply = 3;
	assert_int_equal(search(0), -EBADMSG);
	from_start = false;
	per_reply = 1000;
	items = 2;
	tree = types;
	assert_int_equal(search(0), -EBADMSG);
	tree = objects;
	assert_int_equal(search(0), -EBADMSG);
}

/* Extents of one file, from an offset to its end or to a bound. */
static unsigned
extents_from(uint64_t off, uint64_t to, uint32_t at_most)
{
	struct btrfs_search_item item;
	struct btrfs_search s;
	struct err e = ERR_NONE;
	unsigned n = 0;

	btrfs_search_init_file(&s, -1, 0, 257, off);
	s.to.offset = to;
	s.at_most = at_most;
	s.since = 77;
	while (btrfs_search_next(&s, &item, &e) == 1) {
		assert_int_equal(item.key.objectid, 257);
		assert_int_equal(item.key.type, BTRFS_SEARCH_EXTENT);
		assert_true(item.key.offset >= off && item.key.offset <= to);
		n++;
	}
	btrfs_search_fini(&s);
	return n;
}

static void
the_extents_of_one_file_only(void **state)
{
	static const struct btrfs_search_key files[] = {
	    {256, 8192, 108},
	    {257, 0, 1},
	    {257, 9000, 107},
	    {257, 0, 108},
	    {257, 8192, 108},
	    {257, 16384, 108},
	    {257, UINT64_MAX, 108},
	    {257, 0, 109},
	    {258, 8192, 108},
	};

	(void)state;
	tree = files;
	items = sizeof files / sizeof *files;
	for (per_reply = 1; per_reply < 6; per_reply++) {
		assert_int_equal(extents_from(0, UINT64_MAX, 0), 4);
		assert_int_equal(extents_from(1, UINT64_MAX, 0), 3);
		assert_int_equal(extents_from(8192, 16383, 0), 1);
		assert_int_equal(extents_from(8193, 16383, 0), 0);
	}
	assert_int_equal(since, 77);
	calls = 0;
	assert_int_equal(extents_from(0, 8192, 1), 2);
	assert_int_equal(calls, 2);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(goes_on_behind_the_last_item_of_a_reply),
	    TEST(an_interrupted_call_is_repeated),
	    TEST(the_buffer_grows_for_a_large_item),
	    TEST(but_not_without_end),
	    TEST(a_reply_with_fewer_items_than_it_says_is_damage),
	    TEST(items_out_of_order_are_damage),
	    TEST(the_extents_of_one_file_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

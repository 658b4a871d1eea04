/* SPDX-License-Identifier: Apache-2.0 */
/* Replies of the btrfs tree search: nothing in them is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <string.h>

#include "kmod-free/io/btrfs_search.h"

static void
put_item(struct buf *b, uint64_t ino, uint32_t type, uint64_t off,
    const void *body, size_t len)
{
	struct btrfs_ioctl_search_header h = {
	    .objectid = ino,
	    .type = type,
	    .offset = off,
	    .len = (uint32_t)len,
	};

	buf_put(b, &h, sizeof h);
	buf_put(b, body, len);
}

static struct btrfs_file_extent_item
regular(void)
{
	struct btrfs_file_extent_item x;
	uint8_t *p = (uint8_t *)&x;

	memset(&x, 0, sizeof x);
	bytes_put_le64(
	    p + offsetof(struct btrfs_file_extent_item, generation), 9);
	x.type = 1;
	bytes_put_le64(
	    p + offsetof(struct btrfs_file_extent_item, disk_bytenr), 1 << 20);
	bytes_put_le64(
	    p + offsetof(struct btrfs_file_extent_item, num_bytes), 8192);
	return x;
}

static int
decode(
    const void *body, size_t len, uint64_t off, struct btrfs_search_extent *out)
{
	struct btrfs_search_item item = {
	    .key = {257, off, BTRFS_SEARCH_EXTENT},
	    .body = SPAN(body, len),
	};
	struct err e = ERR_NONE;

	return btrfs_search_extent(&item, out, &e);
}

static void
test_items_come_out_as_they_are(void **state)
{
	SCOPED_BUF struct buf b = {0};
	struct btrfs_search_item item;
	struct err e = ERR_NONE;
	struct cursor c;

	(void)state;
	put_item(&b, 257, 1, 0, "body", 4);
	put_item(&b, 258, 108, 4096, "", 0);
	c = cursor_of(buf_span(&b));
	assert_int_equal(btrfs_search_take(&c, &item, &e), 1);
	assert_int_equal(item.key.objectid, 257);
	assert_int_equal(item.body.len, 4);
	assert_memory_equal(item.body.data, "body", 4);
	assert_int_equal(btrfs_search_take(&c, &item, &e), 1);
	assert_int_equal(item.key.type, 108);
	assert_int_equal(item.key.offset, 4096);
	assert_int_equal(item.body.len, 0);
	assert_int_equal(btrfs_search_take(&c, &item, &e), 0);
}

static void
test_cut_anywhere_is_refused(void **state)
{
	SCOPED_BUF struct buf b = {0};

	(void)state;
	put_item(&b, 257, 1, 0, "body", 4);
	for (size_t n = 1; n < b.len; n++) {
		struct cursor c = cursor_of(SPAN(b.data, n));
		struct btrfs_search_item item;
		struct err e = ERR_NONE;

		assert_int_equal(btrfs_search_take(&c, &item, &e), -EBADMSG);
	}
}

static void
test_any_flipped_bit_does_no_harm(void **state)
{
	struct btrfs_file_extent_item x = regular();
	struct btrfs_inode_item inode;
	SCOPED_BUF struct buf b = {0};

	(void)state;
	memset(&inode, 0, sizeof inode);
	put_item(&b, 257, 1, 0, &inode, sizeof inode);
	put_item(&b, 257, 108, 0, &x, sizeof x);
	for (size_t i = 0; i < b.len * 8; i++) {
		struct cursor c;
		struct btrfs_search_item item;
		struct err e = ERR_NONE;

		b.data[i / 8] ^= (uint8_t)(1u << i % 8);
		c = cursor_of(buf_span(&b));
		while (btrfs_search_take(&c, &item, &e) == 1) {
			struct btrfs_search_extent xo;
			struct btrfs_search_inode io;

			if (item.key.type == BTRFS_SEARCH_INODE)
				btrfs_search_inode(&item, &io, &e);
			if (item.key.type == BTRFS_SEARCH_EXTENT &&
			    btrfs_search_extent(&item, &xo, &e) == 0)
				assert_true(
				    xo.start <= xo.end && xo.end <= 1ull << 63);
		}
		b.data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

static void
test_extent_fields(void **state)
{
	struct btrfs_file_extent_item x = regular();
	struct btrfs_search_extent out;

	(void)state;
	assert_int_equal(decode(&x, sizeof x, 4096, &out), 0);
	assert_int_equal(out.start, 4096);
	assert_int_equal(out.end, 12288);
	assert_int_equal(out.generation, 9);
	assert_int_equal(out.disk_bytenr, 1 << 20);
	assert_int_equal(out.data, BTRFS_SEARCH_REGULAR);
}

static void
test_extents_cut_anywhere_are_refused(void **state)
{
	struct btrfs_file_extent_item x = regular();
	struct btrfs_search_extent out;

	(void)state;
	for (size_t n = 0; n < sizeof x; n++)
		assert_int_equal(decode(&x, n, 0, &out), -EBADMSG);
}

static void
test_extents_that_cannot_be(void **state)
{
	struct btrfs_file_extent_item x = regular();
	uint8_t *num_bytes =
	    (uint8_t *)&x + offsetof(struct btrfs_file_extent_item, num_bytes);
	struct btrfs_search_extent out;

	(void)state;
	x.type = 3;
	assert_int_equal(decode(&x, sizeof x, 0, &out), -EBADMSG);
	x.type = 2;
	assert_int_equal(decode(&x, sizeof x, 0, &out), 0);
	assert_int_equal(decode(&x, sizeof x, UINT64_MAX, &out), -EBADMSG);
	assert_int_equal(
	    decode(&x, sizeof x, (1ull << 63) - 4096, &out), -EBADMSG);
	bytes_put_le64(num_bytes, 0);
	assert_int_equal(decode(&x, sizeof x, 0, &out), -EBADMSG);
	bytes_put_le64(num_bytes, UINT64_MAX);
	assert_int_equal(decode(&x, sizeof x, 4096, &out), -EBADMSG);
}

static void
test_inline_extents(void **state)
{
	uint8_t body[64] = {0};
	const size_t head =
	    offsetof(struct btrfs_file_extent_item, disk_bytenr);
	uint8_t *ram =
	    body + offsetof(struct btrfs_file_extent_item, ram_bytes);
	struct btrfs_search_extent out;

	(void)state;
	bytes_put_le64(ram, 5);
	memcpy(body + head, "hello", 5);
	assert_int_equal(decode(body, head + 5, 0, &out), 0);
	assert_int_equal(out.data, BTRFS_SEARCH_INLINE);
	assert_int_equal(out.end, 5);
	assert_int_equal(out.inline_bytes.len, 5);
	assert_memory_equal(out.inline_bytes.data, "hello", 5);
	bytes_put_le64(ram, 1 << 20);
	assert_int_equal(decode(body, head + 5, 0, &out), -EBADMSG);
}

static void
test_short_inodes_are_refused(void **state)
{
	struct btrfs_inode_item inode;
	struct btrfs_search_inode out;

	(void)state;
	memset(&inode, 0, sizeof inode);
	for (size_t n = 0; n <= sizeof inode; n++) {
		struct btrfs_search_item item = {
		    .key = {257, 0, BTRFS_SEARCH_INODE},
		    .body = SPAN(&inode, n),
		};
		struct err e = ERR_NONE;

		assert_int_equal(btrfs_search_inode(&item, &out, &e),
		    n == sizeof inode ? 0 : -EBADMSG);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_items_come_out_as_they_are),
	    cmocka_unit_test(test_cut_anywhere_is_refused),
	    cmocka_unit_test(test_any_flipped_bit_does_no_harm),
	    cmocka_unit_test(test_extent_fields),
	    cmocka_unit_test(test_extents_cut_anywhere_are_refused),
	    cmocka_unit_test(test_extents_that_cannot_be),
	    cmocka_unit_test(test_inline_extents),
	    cmocka_unit_test(test_short_inodes_are_refused),
	};

	return cmocka_run_group_tests_name("btrfs_search", tests, NULL, NULL);
}

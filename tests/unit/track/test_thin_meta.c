/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata of thin pools made by hand: what two devices share is not read,
 * whatever their trees look like; what is damaged is refused, by block.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/track/thin_meta.h"
#include "tests/unit/track/thin_build.h"

#define META_BLOCKS 4000u

static int
new_file(void)
{
	int fd = memfd_create("thin metadata", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* A tree that maps blocks 0 to n - 1, to data from 1000 on. */
static uint64_t
bulk(struct thin_build *b, uint64_t n)
{
	SCOPED_FREE uint64_t *key = mem_array(n + 1, sizeof *key);
	SCOPED_FREE uint64_t *value = mem_array(n + 1, sizeof *value);

	for (uint64_t i = 0; i < n; i++) {
		key[i] = i;
		value[i] = thin_build_value(1000 + i, 1);
	}
	return tb_bulk(b, key, value, n);
}

/* ---- what is said of a comparison ---- */

struct said {
	char text[2000];
	int fail_with;
};

static int
say(void *arg, enum thin_meta_side side, uint64_t first, uint64_t count,
    struct err *e)
{
	struct said *s = arg;
	size_t n = strlen(s->text);

	if (s->fail_with != 0)
		return err_set(e, s->fail_with, "told to");
	snprintf(s->text + n, sizeof s->text - n, "%c%llu+%llu ",
	    side == THIN_META_ONLY_FROM ? '<'
	    : side == THIN_META_ONLY_TO ? '>'
					: '!',
	    (unsigned long long)first, (unsigned long long)count);
	return 0;
}

static int
ignore_range(
    void *arg, uint64_t first, uint64_t data, uint64_t count, struct err *e)
{
	(void)arg;
	(void)first;
	(void)data;
	(void)count;
	(void)e;
	return 0;
}

/* Compares two devices; how many blocks were read for it. */
static uint64_t
compared(struct thin_build *b, uint32_t from, uint32_t to, struct said *s)
{
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct thin_meta_info before, after;
	struct err e = ERR_NONE;

	memset(s, 0, sizeof *s);
	assert_int_equal(thin_meta_open(&m, b->fd, true, &e), 0);
	thin_meta_info(m, &before);
	if (thin_meta_compare(m, from, to, say, s, &e) < 0)
		fail_msg("%s", e.text);
	thin_meta_info(m, &after);
	return after.reads - before.reads;
}

/* ---- a pool that is whole ---- */

static void
test_info(void **state)
{
	SCOPED_FD int fd = new_file();
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct thin_meta_details details;
	struct thin_meta_info info;
	struct thin_build b;
	struct err e = ERR_NONE;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 252);
	thin_build_device(&b, 5, bulk(&b, 10), 10);
	thin_build_finish(&b);
	assert_int_equal(thin_meta_open(&m, fd, true, &e), 0);
	thin_meta_info(m, &info);
	assert_int_equal(info.block_bytes, 65536);
	assert_int_equal(info.transaction, 42);
	assert_false(info.needs_check);
	assert_int_equal(thin_meta_device(m, 5, &details, &e), 0);
	assert_int_equal(details.mapped, 10);
	assert_int_equal(thin_meta_device(m, 4, &details, &e), -ENOENT);
	assert_int_equal(thin_meta_device(m, 6, &details, &e), -ENOENT);
	assert_int_equal(thin_meta_walk(m, 4, ignore_range, NULL, &e), -ENOENT);
	assert_int_equal(thin_meta_compare(m, 5, 4, say, NULL, &e), -ENOENT);
	assert_non_null(strstr(e.text, "no device 4"));
	thin_build_fini(&b);
}

static void
test_the_kinds_of_difference(void **state)
{
	SCOPED_FD int fd = new_file();
	struct thin_build b;
	struct said s;
	uint64_t root, old;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 6);
	root = old = bulk(&b, 100);
	thin_build_device(&b, 1, root, 100);
	root = tb_put(&b, root, 50, thin_build_value(7, 2)); /* inside a run */
	root = tb_put(&b, root, 51, thin_build_value(8, 2));
	/* The same block of data, mapped anew: the same content. */
	root = tb_put(&b, root, 70, thin_build_value(1070, 9));
	root = tb_remove(&b, root, 0);
	root = tb_remove(&b, root, 99);
	root = tb_remove(&b, root, 52);
	root = tb_put(&b, root, 200, thin_build_value(9, 2));
	thin_build_device(&b, 2, root, 98);
	thin_build_device(&b, 3, tb_empty(&b), 0);
	thin_build_device(&b, 4, old, 100);
	thin_build_finish(&b);
	compared(&b, 1, 2, &s);
	assert_string_equal(s.text, "<0+1 !50+2 <52+1 <99+1 >200+1 ");
	compared(&b, 2, 1, &s);
	assert_string_equal(s.text, ">0+1 !50+2 >52+1 >99+1 <200+1 ");
	compared(&b, 1, 3, &s);
	assert_string_equal(s.text, "<0+100 ");
	compared(&b, 3, 1, &s);
	assert_string_equal(s.text, ">0+100 ");
	compared(&b, 3, 3, &s);
	assert_string_equal(s.text, "");
	compared(&b, 1, 4, &s);
	assert_string_equal(s.text, "");
	thin_build_fini(&b);
}

/* One block of 400,000 changed: the two paths to it are read, not the 1,600
 * leaves. */
static void
test_shared_nodes_are_not_read(void **state)
{
	SCOPED_FD int fd = new_file();
	struct thin_build b;
	struct said s;
	uint64_t root, of_devices, alone;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 252);
	root = bulk(&b, 400000);
	thin_build_device(&b, 1, root, 400000);
	thin_build_device(&b, 2, root, 400000);
	root = tb_put(&b, root, 333333, thin_build_value(5, 2));
	thin_build_device(&b, 3, root, 400000);
	thin_build_device(&b, 4, bulk(&b, 400000), 400000);
	thin_build_finish(&b);
	of_devices = compared(&b, 1, 2, &s);
	assert_string_equal(s.text, "");
	assert_int_equal(of_devices, 2); /* the tree of devices, twice */
	/* Three levels: both paths, and both heights were looked at first. */
	assert_int_equal(compared(&b, 1, 3, &s), of_devices + 4 * 3);
	assert_string_equal(s.text, "!333333+1 ");
	/* Equal, and nothing is shared. */
	alone = compared(&b, 1, 4, &s);
	assert_string_equal(s.text, "");
	assert_true(alone > 2 * 400000 / 252);
	thin_build_fini(&b);
}

/* The root was full: the newer tree is a level taller. */
static void
test_a_taller_tree_shares_too(void **state)
{
	SCOPED_FD int fd = new_file();
	struct thin_build b;
	struct said s;
	uint64_t root;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 30);
	root = bulk(&b, 30 * 30);
	thin_build_device(&b, 1, root, 900);
	root = tb_put(&b, root, 900, thin_build_value(5, 2));
	thin_build_device(&b, 2, root, 901);
	thin_build_finish(&b);
	/* The tree of devices; the heights, 2 and 3; old root and its last
	 * leaf; new root, the two below, and the last leaf's two halves. */
	assert_int_equal(compared(&b, 1, 2, &s), 2 + 2 + 3 + 2 + 3 + 2);
	assert_string_equal(s.text, ">900+1 ");
	assert_int_equal(compared(&b, 2, 1, &s), 2 + 2 + 3 + 2 + 3 + 2);
	assert_string_equal(s.text, "<900+1 ");
	thin_build_fini(&b);
}

/* Leaves went from the middle and the head: what follows has another place in
 * its parent, and is shared still. */
static void
test_moved_nodes_are_not_read(void **state)
{
	SCOPED_FD int fd = new_file();
	struct thin_build b;
	struct said s;
	uint64_t root;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 60);
	root = bulk(&b, 60 * 50);
	thin_build_device(&b, 1, root, 3000);
	for (uint64_t i = 0; i < 120; i++)
		root = tb_remove(&b, root, i);
	for (uint64_t i = 600; i < 660; i++)
		root = tb_remove(&b, root, i);
	thin_build_device(&b, 2, root, 2820);
	thin_build_finish(&b);
	/* Heights, roots, three old leaves, and no new one. */
	assert_int_equal(compared(&b, 1, 2, &s), 2 + 4 + 2 + 3);
	assert_string_equal(s.text, "<0+120 <600+60 ");
	thin_build_fini(&b);
}

/* Calls of read that this process made. */
static unsigned long
read_calls(void)
{
	static const char key[] = "syscr: ";
	unsigned long n = 0;
	char line[64];
	FILE *f = fopen("/proc/self/io", "re");

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, key, strlen(key)) == 0)
			n = strtoul(line + strlen(key), NULL, 10);
	if (f != NULL)
		fclose(f);
	return n;
}

/* Two trees that share nothing, and a leaf in the middle that is damaged. */
static void
test_leaves_in_a_row_are_read_at_once(void **state)
{
	SCOPED_FD int fd = new_file();
	SCOPED_THIN_META struct thin_meta *m = NULL;
	const uint64_t n = 126 * 100;
	unsigned long calls = read_calls();
	struct thin_build b;
	struct said s;
	struct err e = ERR_NONE;
	uint64_t second, blocks;
	char where[32];

	(void)state;
	if (calls == 0)
		skip(); /* a kernel that does not count */
	thin_build_init(&b, fd, META_BLOCKS, 126);
	thin_build_device(&b, 1, bulk(&b, n), n);
	second = b.next;
	thin_build_device(&b, 2, bulk(&b, n), n);
	thin_build_finish(&b);
	calls = read_calls();
	blocks = compared(&b, 1, 2, &s);
	calls = read_calls() - calls;
	assert_string_equal(s.text, "");
	assert_in_range(blocks, 200, 220); /* none of them for nothing */
	assert_in_range(calls, 1, 60);

	thin_build_at(&b, second + 50)[100] ^= 1;
	assert_int_equal(thin_meta_open(&m, fd, true, &e), 0);
	assert_int_equal(thin_meta_compare(m, 1, 2, say, &s, &e), -EBADMSG);
	snprintf(where, sizeof where, "block %llu ",
	    (unsigned long long)second + 50);
	assert_non_null(strstr(e.text, where));
	thin_build_fini(&b);
}

static void
test_the_callers_error_ends_it(void **state)
{
	SCOPED_FD int fd = new_file();
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct said s = {.fail_with = -ENOSPC};
	struct thin_build b;
	struct err e = ERR_NONE;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 6);
	thin_build_device(&b, 1, bulk(&b, 100), 100);
	thin_build_device(&b, 2, tb_empty(&b), 0);
	thin_build_finish(&b);
	assert_int_equal(thin_meta_open(&m, fd, true, &e), 0);
	assert_int_equal(thin_meta_compare(m, 1, 2, say, &s, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "told to"));
	thin_build_fini(&b);
}

static void
test_what_is_not_read_in_time_is_not_read(void **state)
{
	SCOPED_FD int fd = new_file();
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct said s = {0};
	struct thin_build b;
	struct err e = ERR_NONE;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 6);
	thin_build_device(&b, 1, bulk(&b, 100), 100);
	thin_build_device(&b, 2, bulk(&b, 100), 100);
	thin_build_finish(&b);
	assert_int_equal(thin_meta_open(&m, fd, true, &e), 0);
	thin_meta_limit(m, clock_mono_ms() + 60000);
	assert_int_equal(thin_meta_compare(m, 1, 2, say, &s, &e), 0);
	thin_meta_limit(m, clock_mono_ms());
	assert_int_equal(thin_meta_compare(m, 1, 2, say, &s, &e), -ESTALE);
	assert_non_null(strstr(e.text, "may be held"));
	thin_build_fini(&b);
}

/* ---- the metadata snapshot ---- */

static void
test_held_is_what_counts(void **state)
{
	SCOPED_FD int fd = new_file();
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct thin_meta_details details;
	struct thin_meta_info info;
	struct thin_build b;
	struct err e = ERR_NONE;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 6);
	thin_build_device(&b, 1, bulk(&b, 100), 100);
	thin_build_finish(&b);
	/* The live trees are no longer where they were. */
	bytes_put_le64(b.map + 320, b.cap - 1);
	bytes_put_le64(b.map + 328, b.cap - 1);
	bytes_put_le64(b.map + 48, 43);
	bytes_put_le32(b.map + 4, 1);
	thin_build_seal(&b, 0);
	assert_int_equal(thin_meta_open(&m, fd, true, &e), 0);
	thin_meta_info(m, &info);
	assert_int_equal(info.transaction, 42);
	assert_true(info.needs_check); /* a pool fails as a whole */
	assert_int_equal(thin_meta_device(m, 1, &details, &e), 0);
	assert_int_equal(thin_meta_check_held(m, &e), 0);
	/* The live superblock may change as it likes. */
	bytes_put_le64(b.map + 48, 44);
	thin_build_seal(&b, 0);
	assert_int_equal(thin_meta_check_held(m, &e), 0);
	thin_build_fini(&b);
}

static void
test_a_released_snapshot_is_noticed(void **state)
{
	SCOPED_FD int fd = new_file();
	SCOPED_THIN_META struct thin_meta *m = NULL, *none = NULL;
	struct thin_build b;
	struct err e = ERR_NONE;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 6);
	thin_build_device(&b, 1, bulk(&b, 100), 100);
	thin_build_finish(&b);
	assert_int_equal(thin_meta_open(&m, fd, true, &e), 0);
	tb_super(&b, 0, 0);
	assert_int_equal(thin_meta_check_held(m, &e), -ESTALE);
	assert_int_equal(thin_meta_open(&none, fd, true, &e), -ENOENT);
	assert_null(none);
	/* Taken again, at another place, and at the same one later. */
	tb_super(&b, 0, b.held + 1);
	assert_int_equal(thin_meta_check_held(m, &e), -ESTALE);
	tb_super(&b, 0, b.held);
	assert_int_equal(thin_meta_check_held(m, &e), 0);
	bytes_put_le64(thin_build_at(&b, b.held) + 48, 50);
	thin_build_seal(&b, b.held);
	assert_int_equal(thin_meta_check_held(m, &e), -ESTALE);
	thin_build_fini(&b);
}

static void
test_a_change_without_a_snapshot_is_noticed(void **state)
{
	SCOPED_FD int fd = new_file();
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct thin_build b;
	struct err e = ERR_NONE;

	(void)state;
	thin_build_init(&b, fd, META_BLOCKS, 6);
	thin_build_finish(&b);
	assert_int_equal(thin_meta_open(&m, fd, false, &e), 0);
	assert_int_equal(thin_meta_check_held(m, &e), 0);
	bytes_put_le64(b.map + 48, 50);
	thin_build_seal(&b, 0);
	assert_int_equal(thin_meta_check_held(m, &e), -ESTALE);
	thin_build_fini(&b);
}

/* ---- damage ---- */

/* Everything is asked: 0, or the first that failed. */
static int
ask_all(int fd, struct err *e)
{
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct thin_meta_details details;
	struct said s = {0};
	int rc = thin_meta_open(&m, fd, true, e);

	if (rc == 0)
		rc = thin_meta_device(m, 1, &details, e);
	if (rc == 0)
		rc = thin_meta_walk(m, 1, ignore_range, NULL, e);
	if (rc == 0)
		rc = thin_meta_walk(m, 2, ignore_range, NULL, e);
	if (rc == 0)
		rc = thin_meta_compare(m, 1, 2, say, &s, e);
	return rc;
}

/* Two devices, three levels; nodes of six. */
struct victim {
	struct thin_build b;
	int fd;
	uint64_t root, leaf; /* of device 1; its first */
};

static void
victim_open(struct victim *v)
{
	struct err e = ERR_NONE;

	v->fd = new_file();
	thin_build_init(&v->b, v->fd, 200, 6);
	v->root = bulk(&v->b, 100);
	thin_build_device(&v->b, 1, v->root, 100);
	thin_build_device(
	    &v->b, 2, tb_put(&v->b, v->root, 9, thin_build_value(3, 3)), 100);
	v->leaf = v->root;
	while (!tb_leaf(&v->b, v->leaf))
		v->leaf = bytes_le64(tb_value(&v->b, v->leaf, 0));
	thin_build_finish(&v->b);
	assert_int_equal(ask_all(v->fd, &e), 0);
}

static void
victim_close(struct victim *v)
{
	thin_build_fini(&v->b);
	close(v->fd);
}
#define SCOPED_VICTIM __attribute__((cleanup(victim_close)))

static void
test_any_flipped_byte_is_refused(void **state)
{
	SCOPED_VICTIM struct victim v = {0};

	(void)state;
	victim_open(&v);
	for (uint64_t block = 0; block < v.b.next; block++) {
		for (unsigned i = 0; i < 4096; i += i < 48 ? 1 : 53) {
			uint8_t *p = thin_build_at(&v.b, block) + i;
			struct err e = ERR_NONE;

			*p ^= 0x10;
			assert_int_equal(ask_all(v.fd, &e), -EBADMSG);
			assert_non_null(strstr(e.text, "thin_check"));
			*p ^= 0x10;
		}
	}
}

static void
test_a_file_cut_short_is_refused(void **state)
{
	(void)state;
	for (uint64_t keep = 0;; keep++) {
		SCOPED_VICTIM struct victim v = {0};
		struct err e = ERR_NONE;

		victim_open(&v);
		if (keep == v.b.next)
			break;
		assert_int_equal(
		    ftruncate(v.fd, (off_t)(keep * 4096 + 4095 * (keep % 2))),
		    0);
		assert_int_equal(ask_all(v.fd, &e), -EBADMSG);
	}
}

/* Well summed, and still senseless: the text says where, and what. */
static void
refused(struct victim *v, uint64_t block, const char *what)
{
	char where[40];
	struct err e = ERR_NONE;

	thin_build_seal(&v->b, block);
	snprintf(
	    where, sizeof where, "block %llu of", (unsigned long long)block);
	assert_int_equal(ask_all(v->fd, &e), -EBADMSG);
	if (strstr(e.text, where) == NULL || strstr(e.text, what) == NULL)
		fail_msg("\"%s\" says not: %s %s", e.text, where, what);
}

/* One field of a node is set; then it is as it was. */
static void
refused_u32(struct victim *v, uint64_t block, unsigned at, uint32_t to,
    const char *what)
{
	uint8_t *p = thin_build_at(&v->b, block) + at;
	uint32_t was = bytes_le32(p);

	bytes_put_le32(p, to);
	refused(v, block, what);
	bytes_put_le32(p, was);
	thin_build_seal(&v->b, block);
}

static void
refused_u64(
    struct victim *v, uint64_t block, uint8_t *p, uint64_t to, const char *what)
{
	uint64_t was = bytes_le64(p);

	bytes_put_le64(p, to);
	refused(v, block, what);
	bytes_put_le64(p, was);
	thin_build_seal(&v->b, block);
}

static void
test_headers_that_cannot_be(void **state)
{
	SCOPED_VICTIM struct victim v = {0};

	(void)state;
	victim_open(&v);
	refused_u32(&v, v.leaf, 4, 0, "no node");
	refused_u32(&v, v.leaf, 4, 3, "no node");
	refused_u32(&v, v.leaf, 8, (uint32_t)v.root, "another place");
	refused_u32(&v, v.leaf, 16, 7, "more entries");
	refused_u32(&v, v.leaf, 16, UINT32_MAX, "more entries");
	refused_u32(&v, v.leaf, 20, 255, "more entries");
	refused_u32(&v, v.leaf, 20, UINT32_MAX, "more entries");
	refused_u32(&v, v.leaf, 24, 24, "another tree");
	refused_u32(&v, v.leaf, 24, 0, "another tree");
	refused_u32(&v, v.root, 24, 16, "another tree");
	refused_u32(&v, v.root, 16, 0, "leads nowhere");
	refused_u32(&v, v.b.details_root, 24, 8, "another tree");
}

static void
test_keys_that_cannot_be(void **state)
{
	SCOPED_VICTIM struct victim v = {0};
	struct thin_build *b = &v.b;
	uint64_t second;

	(void)state;
	victim_open(&v);
	second = bytes_le64(tb_value(b, v.root, 1));
	refused_u64(&v, v.leaf, tb_key(b, v.leaf, 1), 0, "out of order");
	refused_u64(&v, v.leaf, tb_key(b, v.leaf, 4), 1, "out of order");
	/* In the range of the next leaf; before that of its own. */
	refused_u64(&v, v.leaf, tb_key(b, v.leaf, 4), 50, "out of order");
	refused_u64(&v, second, tb_key(b, second, 0), 1, "out of order");
	refused_u64(
	    &v, v.root, tb_key(b, v.root, 1), UINT64_MAX, "out of order");
	/* A device has 2^63 bytes at most; devices are 24 bits. */
	refused_u64(&v, v.root, tb_key(b, v.root, tb_n(b, v.root) - 1),
	    1ull << 47, "out of order");
	refused_u64(&v, b->mapping_root, tb_key(b, b->mapping_root, 1),
	    1u << 24, "out of order");
	refused_u64(&v, b->details_root, tb_key(b, b->details_root, 1),
	    1u << 24, "out of order");
}

static void
test_places_that_cannot_be(void **state)
{
	SCOPED_VICTIM struct victim v = {0};
	struct thin_build *b = &v.b;
	struct err e = ERR_NONE;

	(void)state;
	victim_open(&v);
	refused_u64(&v, v.root, tb_value(b, v.root, 0), 0, "outside");
	refused_u64(&v, v.root, tb_value(b, v.root, 0), 200, "outside");
	refused_u64(&v, v.root, tb_value(b, v.root, 1), UINT64_MAX, "outside");
	refused_u64(&v, 0, b->map + 320, 0, "outside");
	refused_u64(&v, 0, b->map + 328, 200, "outside");
	refused_u64(&v, 0, b->map + 56, 200, "outside");
	refused_u64(&v, 0, b->map + 56, UINT64_MAX, "outside");
	/* A device whose tree lies outside. */
	bytes_put_le64(tb_value(b, b->mapping_root, 0), 200);
	thin_build_seal(b, b->mapping_root);
	assert_int_equal(ask_all(v.fd, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "device 1"));
}

static void
test_loops_end(void **state)
{
	SCOPED_VICTIM struct victim v = {0};
	struct thin_build *b = &v.b;

	(void)state;
	victim_open(&v);
	/* Its own first child: its other keys are not in that range. */
	refused_u64(&v, v.root, tb_value(b, v.root, 0), v.root, "out of order");
	/* With one entry they are: the way down never ends. */
	bytes_put_le64(tb_value(b, v.root, 0), v.root);
	bytes_put_le32(thin_build_at(b, v.root) + 16, 1);
	refused(&v, v.root, "too deep");
}

static void
test_superblocks_that_cannot_be(void **state)
{
	SCOPED_VICTIM struct victim v = {0};
	struct err e = ERR_NONE;

	(void)state;
	victim_open(&v);
	refused_u32(&v, 0, 32, 5, "no superblock");
	refused_u32(&v, 0, 8, 1, "another place");
	refused_u32(&v, 0, 336, 0, "size");
	refused_u32(&v, 0, 336, 127, "size");
	refused_u32(&v, 0, 336, (1u << 21) + 128, "size");
	refused_u32(&v, 0, 340, 16, "4 KiB");
	refused_u32(&v, v.b.held, 340, 16, "4 KiB");
	bytes_put_le32(v.b.map + 40, 3);
	thin_build_seal(&v.b, 0);
	assert_int_equal(ask_all(v.fd, &e), -EOPNOTSUPP);
	bytes_put_le32(v.b.map + 40, 2);
	bytes_put_le32(v.b.map + 360, 1);
	thin_build_seal(&v.b, 0);
	assert_int_equal(ask_all(v.fd, &e), -EOPNOTSUPP);
}

/* An empty leaf below others holds nothing, and what follows is found. */
static void
test_an_empty_leaf_is_nothing(void **state)
{
	SCOPED_VICTIM struct victim v = {0};
	SCOPED_THIN_META struct thin_meta *m = NULL;
	struct said s = {0};
	struct err e = ERR_NONE;

	(void)state;
	victim_open(&v);
	bytes_put_le32(thin_build_at(&v.b, v.leaf) + 16, 0);
	thin_build_seal(&v.b, v.leaf);
	/* Shared by both, it is not even read: block 9 is in the next one. */
	assert_int_equal(thin_meta_open(&m, v.fd, true, &e), 0);
	assert_int_equal(thin_meta_compare(m, 1, 2, say, &s, &e), 0);
	assert_string_equal(s.text, "!9+1 ");
	assert_int_equal(ask_all(v.fd, &e), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_info),
	    cmocka_unit_test(test_the_kinds_of_difference),
	    cmocka_unit_test(test_shared_nodes_are_not_read),
	    cmocka_unit_test(test_a_taller_tree_shares_too),
	    cmocka_unit_test(test_moved_nodes_are_not_read),
	    cmocka_unit_test(test_leaves_in_a_row_are_read_at_once),
	    cmocka_unit_test(test_the_callers_error_ends_it),
	    cmocka_unit_test(test_held_is_what_counts),
	    cmocka_unit_test(test_a_released_snapshot_is_noticed),
	    cmocka_unit_test(test_a_change_without_a_snapshot_is_noticed),
	    cmocka_unit_test(test_any_flipped_byte_is_refused),
	    cmocka_unit_test(test_a_file_cut_short_is_refused),
	    cmocka_unit_test(test_headers_that_cannot_be),
	    cmocka_unit_test(test_keys_that_cannot_be),
	    cmocka_unit_test(test_places_that_cannot_be),
	    cmocka_unit_test(test_what_is_not_read_in_time_is_not_read),
	    cmocka_unit_test(test_loops_end),
	    cmocka_unit_test(test_superblocks_that_cannot_be),
	    cmocka_unit_test(test_an_empty_leaf_is_nothing),
	};

	return cmocka_run_group_tests_name("thin_meta", tests, NULL, NULL);
}

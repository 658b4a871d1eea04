/* SPDX-License-Identifier: Apache-2.0 */
/* Where a file of btrfs lies, by its items, against FIEMAP for every block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/io/reader.h"
#include "tests/unit/snap/loop_btrfs.h"

#define BLOCK 4096u
#define BLOCKS 2048u
#define EXTENTS_MAX 4096u

static struct loop_btrfs loop;

static const struct config {
	const char *name, *mkfs, *options;
} configs[] = {
    {"as made today", "", "noatime"},
    {"hole items", "-O ^no-holes", "noatime"},
    {"compressed", "", "noatime,compress-force=zstd"},
};
static const struct config *config;

static int
setup(void **state)
{
	(void)state;
	loop_btrfs_open(&loop, 512, config->mkfs, config->options);
	if (loop.dir[0] == '\0')
		print_message("btrfs tests are skipped: %s\n", loop.why);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	loop_btrfs_close(&loop);
	return 0;
}

/* Pieces of all kinds: written, twice, cloned from elsewhere, holes, reserved
 * and never written. */
static int
make_file(void)
{
	SCOPED_FREE char *path = mem_printf("%s/f", loop.dir);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	static uint8_t piece[8 * BLOCK];
	uint64_t seed = 5;

	assert_true(fd >= 0);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t at, len;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		at = (seed >> 33) % (BLOCKS - 8) * BLOCK;
		len = ((seed >> 20) % 8 + 1) * BLOCK;
		memset(piece, (int)i, sizeof piece);
		if (i % 16 == 3) {
			struct file_clone_range r = {
			    .src_fd = fd, .src_length = len, .dest_offset = at};

			fsync(fd);
			ioctl(fd, FICLONERANGE, &r); /* may overlap itself */
		} else if (i % 16 == 7) {
			fallocate(fd,
			    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    (off_t)at, (off_t)len);
		} else if (i % 16 == 9) {
			fallocate(fd, 0, (off_t)at, (off_t)len);
		} else {
			assert_int_equal(
			    pwrite(fd, piece, len, (off_t)at), len);
		}
		if (i % 5 == 0)
			fsync(fd);
	}
	fsync(fd);
	return fd;
}

/* FIEMAP's answer: the extents, wherever their bytes are on the device. */
static unsigned
fiemap_all(int fd, struct fiemap *m)
{
	memset(m, 0, sizeof *m);
	m->fm_length = FIEMAP_MAX_OFFSET;
	m->fm_extent_count = EXTENTS_MAX;
	assert_int_equal(ioctl(fd, FS_IOC_FIEMAP, m), 0);
	assert_true(m->fm_mapped_extents < EXTENTS_MAX);
	return m->fm_mapped_extents;
}

/* 0: no bytes of the file are on the device. */
static uint64_t
position_in(const struct fiemap *m, uint64_t off, bool *packed)
{
	for (unsigned i = 0; i < m->fm_mapped_extents; i++) {
		const struct fiemap_extent *x = &m->fm_extents[i];

		if (off < x->fe_logical || off - x->fe_logical >= x->fe_length)
			continue;
		if (x->fe_flags & FIEMAP_EXTENT_UNWRITTEN)
			return 0;
		*packed = (x->fe_flags & FIEMAP_EXTENT_ENCODED) != 0;
		return x->fe_physical + (*packed ? 0 : off - x->fe_logical);
	}
	return 0;
}

static uint64_t
position_at(const struct reader_phys *v, int n, uint64_t off, bool packed)
{
	for (int i = 0; i < n; i++)
		if (off >= v[i].off && off - v[i].off < v[i].len)
			return v[i].phys + (packed ? 0 : off - v[i].off);
	return 0;
}

static void
test_every_block_is_where_fiemap_says(void **state)
{
	static struct reader_phys all[EXTENTS_MAX], few[3];
	SCOPED_FREE struct fiemap *m = NULL;
	unsigned known = 0, within = 0;
	struct err e = ERR_NONE;
	int n, k, fd;

	(void)state;
	if (loop.dir[0] == '\0') {
		print_message("skip: %s\n", loop.why);
		skip();
	}
	m = mem_new(sizeof *m + EXTENTS_MAX * sizeof(struct fiemap_extent));
	fd = make_file();
	assert_true(fiemap_all(fd, m) > 100);
	n = reader_physical(fd, 0, UINT64_MAX, all, EXTENTS_MAX, &e);
	assert_true(n > 100);
	for (int i = 1; i < n; i++)
		assert_true(all[i].off >= all[i - 1].off + all[i - 1].len);
	for (uint64_t off = 0; off < (uint64_t)BLOCKS * BLOCK; off += BLOCK) {
		bool packed = false;
		uint64_t want = position_in(m, off, &packed);

		k = reader_physical(fd, off, UINT64_MAX, few, 3, &e);
		assert_true(k >= 0 && k <= 3);
		assert_int_equal(position_at(all, n, off, packed), want);
		if (want == 0)
			continue;
		assert_int_equal(position_at(few, k, off, packed), want);
		known++;
		within += few[0].off < off;
	}
	print_message("%s: %d extents, %u blocks, %u of them within one\n",
	    config->name, n, known, within);
	assert_true(known > BLOCKS / 4 && within > 100);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_block_is_where_fiemap_says),
	};
	int failed = 0;

	for (size_t i = 0; i < MEM_COUNT(configs); i++) {
		config = &configs[i];
		failed += cmocka_run_group_tests_name(
		    config->name, tests, setup, teardown);
	}
	return failed;
}

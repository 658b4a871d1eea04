/* SPDX-License-Identifier: Apache-2.0 */
/* Where the data of a file lies: its holes, and its place on the device. */
#include <assert.h>
#include <errno.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/core/mem.h"
#include "kmod-free/io/btrfs_search.h"
#include "kmod-free/io/reader.h"

#define FIEMAP_BATCH 512u
#define SEARCH_BYTES (16u << 10) /* of a reply: 192 extents */

static uint64_t
round_up(uint64_t v)
{
	return (v + READER_ALIGN - 1) & ~(uint64_t)(READER_ALIGN - 1);
}

/*
 * Rounded outwards to READER_ALIGN (never before `off`): a file system of
 * smaller blocks may start data anywhere, reads are in whole blocks.
 */
int
reader_data_range(int fd, uint64_t off, uint64_t size, uint64_t *start,
    uint64_t *len, struct err *e)
{
	uint64_t from, end;
	off_t data, hole;

	if (off >= size)
		return 0;
	if (size > INT64_MAX - READER_ALIGN)
		return err_set(e, -EINVAL, "no file has %llu bytes",
		    (unsigned long long)size);
	data = lseek(fd, (off_t)off, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return 0;
	if (data < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) {
		*start = off;
		*len = size - off;
		return 1;
	}
	if (data < 0)
		return err_sys(e, errno, "look for data from %llu on",
		    (unsigned long long)off);
	if ((uint64_t)data >= size)
		return 0;
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0 && errno != ENXIO)
		return err_sys(e, errno, "look for a hole from %llu on",
		    (unsigned long long)data);
	from = (uint64_t)data & ~(uint64_t)(READER_ALIGN - 1);
	from = from < off ? off : from;
	/* ENXIO: cut off meanwhile; the rest counts as data and reads zeros.
	 * At least a block, so that a caller's loop always moves on. */
	end = hole < 0 ? size : round_up((uint64_t)hole);
	if (end <= (uint64_t)data)
		end = round_up((uint64_t)data + 1);
	if (end > size)
		end = size;
	*start = from;
	*len = end - from;
	return 1;
}

/* The position is of no use when it is not on the device (yet). */
static uint64_t
position(const struct fiemap_extent *x)
{
	const uint32_t nowhere = FIEMAP_EXTENT_UNKNOWN |
				 FIEMAP_EXTENT_DELALLOC |
				 FIEMAP_EXTENT_DATA_INLINE;

	return (x->fe_flags & nowhere) != 0 ? 0 : x->fe_physical;
}

/* Extents of [off, end) into v[0..max): their number; *last when no more. */
static int
ask_fiemap(int fd, uint64_t off, uint64_t end, struct fiemap *m,
    struct reader_phys *v, size_t max, bool *last, struct err *e)
{
	uint32_t want = max < FIEMAP_BATCH ? (uint32_t)max : FIEMAP_BATCH;

	memset(m, 0, sizeof *m);
	m->fm_start = off;
	m->fm_length = end - off;
	m->fm_extent_count = want;
	*last = true;
	if (ioctl(fd, FS_IOC_FIEMAP, m) < 0) {
		if (errno == EOPNOTSUPP || errno == ENOTTY || errno == EINVAL ||
		    errno == EFBIG)
			return 0; /* it cannot tell, or none is so far out */
		return err_sys(e, errno, "ask where extents lie");
	}
	if (m->fm_mapped_extents > want)
		return 0;
	for (uint32_t i = 0; i < m->fm_mapped_extents; i++) {
		const struct fiemap_extent *x = &m->fm_extents[i];

		v[i].off = x->fe_logical;
		v[i].len = x->fe_length;
		v[i].phys = position(x);
		*last = (x->fe_flags & FIEMAP_EXTENT_LAST) != 0;
	}
	return (int)m->fm_mapped_extents;
}

static int
by_fiemap(int fd, uint64_t off, uint64_t end, struct reader_phys *v, size_t max,
    struct err *e)
{
	SCOPED_FREE struct fiemap *m =
	    mem_new(sizeof *m + FIEMAP_BATCH * sizeof(struct fiemap_extent));
	bool last = false;
	size_t n = 0;

	while (!last && n < max && off < end) {
		const struct reader_phys *x;
		int k = ask_fiemap(fd, off, end, m, v + n, max - n, &last, e);

		if (k < 0)
			return k;
		if (k == 0)
			break;
		n += (size_t)k;
		x = &v[n - 1];
		/* It must move on, whatever the file system says. */
		if (x->len == 0 || x->len > UINT64_MAX - x->off ||
		    x->off + x->len <= off)
			break;
		off = x->off + x->len;
	}
	return (int)n;
}

/* Where the bytes begin that the item shows; the rest of a compressed extent
 * says nothing about them. */
static uint64_t
search_position(const struct btrfs_search_extent *x)
{
	bool packed = x->data == BTRFS_SEARCH_REGULAR && x->compression != 0;

	return packed ? x->disk_bytenr : btrfs_search_place(x);
}

static bool
is_btrfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == BTRFS_SUPER_MAGIC;
}

/* Of the first `max` extents that begin in [off, end) those that lie anywhere: a
 * file may have a million that are only reserved, and is asked about often. */
static int
by_search(int fd, uint64_t off, uint64_t end, struct reader_phys *v, size_t max,
    struct err *e)
{
	struct btrfs_search_item item;
	struct btrfs_search s;
	struct stat st;
	size_t n = 0, seen = 0;
	int rc = 0;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "ask where extents lie");
	btrfs_search_init_file(&s, fd, SEARCH_BYTES, st.st_ino, off);
	while (seen++ < max && (rc = btrfs_search_next(&s, &item, e)) == 1) {
		struct btrfs_search_extent x;

		rc = btrfs_search_extent(&item, &x, e);
		if (rc < 0 || x.start >= end)
			break;
		if (search_position(&x) != 0)
			v[n++] = (struct reader_phys){
			    x.start, x.end - x.start, search_position(&x)};
	}
	btrfs_search_fini(&s);
	return rc < 0 ? rc : (int)n;
}

/*
 * On btrfs FIEMAP also tells of each extent whether it is shared, and for that
 * walks its back references: of a backup of 40,000 pages in a snapshot, where
 * all are, that took 0.4 of 2.4 s. The items themselves say all that is wanted;
 * but not which of them begins before `off` and holds it.
 */
static int
by_search_and_fiemap(int fd, uint64_t off, uint64_t end, struct reader_phys *v,
    size_t max, struct err *e)
{
	int n = by_search(fd, off, end, v, max, e), k;
	uint64_t to = n > 0 ? v[0].off : end;

	if (n < 0 || to == off)
		return n;
	if (n == (int)max)
		n--;
	memmove(v + 1, v, (size_t)n * sizeof *v);
	k = by_fiemap(fd, off, to, v, 1, e);
	if (k == 0)
		memmove(v, v + 1, (size_t)n * sizeof *v);
	return k < 0 ? k : k + n;
}

int
reader_physical(int fd, uint64_t off, uint64_t len, struct reader_phys *v,
    size_t max, struct err *e)
{
	uint64_t end =
	    len < FIEMAP_MAX_OFFSET - off ? off + len : FIEMAP_MAX_OFFSET;

	assert(max > 0 && max <= INT32_MAX);
	if (off < end && is_btrfs(fd)) {
		struct err why = ERR_NONE;
		int n = by_search_and_fiemap(fd, off, end, v, max, &why);

		/* Without CAP_SYS_ADMIN there is no search. */
		if (n >= 0)
			return n;
		if (n == -ECANCELED)
			return err_copy(e, &why);
	}
	return by_fiemap(fd, off, end, v, max, e);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/cow.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "tools/blockset.h"

#define BLOCK CHUNK_BLOCK_BYTES

/*
 * Every block is in one of two states: *ours* (its bytes are in the scratch
 * file, and a hole there is zeros) or the backup's (bytes below `base_end`,
 * zeros behind). What is past the end of the scratch file is zeros too.
 */
struct cow {
	pthread_rwlock_t lock;
	struct content *content;
	uint64_t object;
	uint64_t base_end; /* bytes of the backup that still show through */
	atomic_uint_fast64_t size;
	int scratch_fd; /* the folder; borrowed */
	int fd;         /* our file; -1 before the first write */
	bool torn; /* a failed write may have left bytes in no one's block */
	struct blockset ours;
};

struct cow *
cow_new(struct content *content, uint64_t object, uint64_t size, int scratch_fd)
{
	struct cow *c = mem_new(sizeof *c);

	pthread_rwlock_init(&c->lock, NULL);
	c->content = content;
	c->object = object;
	c->base_end = object == 0 ? 0 : size;
	atomic_init(&c->size, object == 0 ? 0 : size);
	c->scratch_fd = scratch_fd;
	c->fd = -1;
	return c;
}

void
cow_free(struct cow *c)
{
	if (c == NULL)
		return;
	if (c->fd >= 0)
		close(c->fd);
	blockset_fini(&c->ours);
	pthread_rwlock_destroy(&c->lock);
	free(c);
}

uint64_t
cow_size(const struct cow *c)
{
	return atomic_load(&c->size);
}

uint64_t
cow_scratch_bytes(struct cow *c)
{
	struct stat st;
	uint64_t n = 0;

	pthread_rwlock_rdlock(&c->lock);
	if (c->fd >= 0 && fstat(c->fd, &st) == 0)
		n = (uint64_t)st.st_blocks * 512;
	pthread_rwlock_unlock(&c->lock);
	return n;
}

/* The scratch file, made now if need be; no name leads to it. */
static int
need_scratch(struct cow *c, struct err *e)
{
	char name[48];
	uint64_t r;
	int rc;

	if (c->fd >= 0)
		return 0;
	c->fd =
	    openat(c->scratch_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (c->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT &&
	    errno != EINVAL)
		return err_sys(e, errno, "make a scratch file");
	rc = clock_random(&r, sizeof r, e);
	if (rc < 0)
		return rc;
	snprintf(name, sizeof name, ".scratch-%016llx", (unsigned long long)r);
	c->fd = openat(
	    c->scratch_fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (c->fd < 0)
		return err_sys(e, errno, "make a scratch file");
	unlinkat(c->scratch_fd, name, 0);
	return 0;
}

/* ---- reading --------------------------------------------------------- */

static int
read_base(struct cow *c, uint64_t off, uint8_t *to, size_t len, struct err *e)
{
	size_t have = 0;
	int rc;

	if (off < c->base_end)
		have =
		    c->base_end - off < len ? (size_t)(c->base_end - off) : len;
	if (have > 0) {
		rc = content_read(c->content, c->object, off, to, have, e);
		if (rc < 0)
			return rc;
	}
	memset(to + have, 0, len - have);
	return 0;
}

static int
read_ours(struct cow *c, uint64_t off, uint8_t *to, size_t len, struct err *e)
{
	/* Marked as ours by a punch, with nothing ever written: all zeros. */
	if (c->fd < 0)
		memset(to, 0, len);
	while (c->fd >= 0 && len > 0) {
		ssize_t k = pread(c->fd, to, len, (off_t)off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_sys(e, errno, "read the scratch at %llu",
			    (unsigned long long)off);
		if (k == 0) {
			memset(to, 0, len);
			return 0;
		}
		to += k;
		off += (uint64_t)k;
		len -= (size_t)k;
	}
	return 0;
}

ssize_t
cow_read(struct cow *c, uint64_t off, void *to, size_t len, struct err *e)
{
	uint8_t *at = to;
	uint64_t size;
	size_t left;
	int rc = 0;

	pthread_rwlock_rdlock(&c->lock);
	size = atomic_load(&c->size);
	if (off >= size)
		len = 0;
	else if (len > size - off)
		len = (size_t)(size - off);
	for (left = len; rc == 0 && left > 0;) {
		uint64_t block = off / BLOCK;
		uint64_t run =
		    blockset_run(&c->ours, block, (off + left - 1) / BLOCK + 1);
		uint64_t end = (block + run) * BLOCK;
		size_t n = end - off < left ? (size_t)(end - off) : left;

		if (blockset_has(&c->ours, block))
			rc = read_ours(c, off, at, n, e);
		else
			rc = read_base(c, off, at, n, e);
		at += n;
		off += n;
		left -= n;
	}
	pthread_rwlock_unlock(&c->lock);
	return rc < 0 ? rc : (ssize_t)len;
}

/* ---- writing --------------------------------------------------------- */

/*
 * Make a block ours that is about to be written in part: its bytes come along.
 * Zeros need not: a hole of the scratch file is zeros.
 */
static int
copy_up(struct cow *c, uint64_t block, struct err *e)
{
	uint8_t page[BLOCK];
	int rc;

	if (blockset_has(&c->ours, block))
		return 0;
	if (block * BLOCK < c->base_end || c->torn) {
		rc = read_base(c, block * BLOCK, page, BLOCK, e);
		if (rc < 0)
			return rc;
		if (c->torn || !bytes_all_zero(page, BLOCK)) {
			rc = fs_pwrite(c->fd, page, BLOCK, block * BLOCK, e);
			if (rc < 0)
				return rc;
		}
	}
	blockset_add(&c->ours, block, 1);
	return 0;
}

/* The partly covered blocks at both ends of [off, off + len) become ours. */
static int
copy_up_ends(struct cow *c, uint64_t off, uint64_t len, struct err *e)
{
	uint64_t end = off + len;
	int rc;

	rc = need_scratch(c, e);
	if (rc == 0 && off % BLOCK != 0)
		rc = copy_up(c, off / BLOCK, e);
	if (rc == 0 && end % BLOCK != 0)
		rc = copy_up(c, end / BLOCK, e);
	return rc;
}

static void
own(struct cow *c, uint64_t off, uint64_t len)
{
	uint64_t first = off / BLOCK;
	uint64_t end = (off + len + BLOCK - 1) / BLOCK;

	blockset_add(&c->ours, first, end - first);
}

static int
check_range(uint64_t off, uint64_t len, struct err *e)
{
	if (off > INT64_MAX || len > INT64_MAX - off)
		return err_set(e, -EFBIG, "a file cannot be that long");
	return 0;
}

int
cow_write(
    struct cow *c, uint64_t off, const void *from, size_t len, struct err *e)
{
	int rc = check_range(off, len, e);

	if (rc < 0 || len == 0)
		return rc;
	pthread_rwlock_wrlock(&c->lock);
	rc = copy_up_ends(c, off, len, e);
	if (rc == 0)
		rc = fs_pwrite(c->fd, from, len, off, e);
	if (rc == 0) {
		own(c, off, len);
		if (off + len > atomic_load(&c->size))
			atomic_store(&c->size, off + len);
	} else {
		c->torn = true;
	}
	pthread_rwlock_unlock(&c->lock);
	return rc < 0 ? rc : 0;
}

int
cow_truncate(struct cow *c, uint64_t size, struct err *e)
{
	int rc = check_range(0, size, e);
	struct stat st;

	if (rc < 0)
		return rc;
	pthread_rwlock_wrlock(&c->lock);
	/* Bytes behind the new end must be zeros if the file grows again. */
	if (size < c->base_end)
		c->base_end = size;
	if (c->fd >= 0) {
		if (fstat(c->fd, &st) < 0)
			rc = err_sys(e, errno, "stat the scratch");
		else if ((uint64_t)st.st_size > size &&
			 ftruncate(c->fd, (off_t)size) < 0)
			rc = err_sys(e, errno, "truncate the scratch");
	}
	if (rc == 0)
		atomic_store(&c->size, size);
	pthread_rwlock_unlock(&c->lock);
	return rc;
}

/* Give back scratch blocks; zeros are written where holes cannot be made. */
static int
punch(struct cow *c, uint64_t off, uint64_t len, struct err *e)
{
	static const uint8_t zeros[65536];
	struct stat st;

	if (fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)off, (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return err_sys(e, errno, "punch a hole into the scratch");
	if (fstat(c->fd, &st) < 0)
		return err_sys(e, errno, "stat the scratch");
	while (len > 0 && off < (uint64_t)st.st_size) {
		size_t n = len < sizeof zeros ? (size_t)len : sizeof zeros;
		int rc = fs_pwrite(c->fd, zeros, n, off, e);

		if (rc < 0)
			return rc;
		off += n;
		len -= n;
	}
	return 0;
}

int
cow_zero(struct cow *c, uint64_t off, uint64_t len, struct err *e)
{
	uint64_t size;
	int rc = check_range(off, len, e);

	if (rc < 0 || len == 0)
		return rc;
	pthread_rwlock_wrlock(&c->lock);
	size = atomic_load(&c->size);
	if (off < size) {
		if (len > size - off)
			len = size - off;
		rc = copy_up_ends(c, off, len, e);
		if (rc == 0)
			rc = punch(c, off, len, e);
		if (rc == 0)
			own(c, off, len);
	}
	pthread_rwlock_unlock(&c->lock);
	return rc;
}

int
cow_extend(struct cow *c, uint64_t size, struct err *e)
{
	int rc = check_range(0, size, e);

	if (rc < 0)
		return rc;
	pthread_rwlock_wrlock(&c->lock);
	if (size > atomic_load(&c->size))
		atomic_store(&c->size, size);
	pthread_rwlock_unlock(&c->lock);
	return 0;
}

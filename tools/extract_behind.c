/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was written goes to the disk at once and leaves the page cache when it
 * is there. Otherwise the disk idles until a tenth of the memory is dirty, the
 * final sync writes what has piled up, and a restore of more than the memory
 * has pushed out everything that other programs of the machine had cached.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "tools/extract_parts.h"

#define REGION_BYTES (32u << 20) /* one extent, where there is room */
/* Not worth the calls: left to the kernel and the sync at the end. */
#define SMALL_BYTES (1u << 20)

static void
add(struct extract_behind *b, const struct extract_range *r)
{
	unsigned at = (b->first + b->n++) % EXTRACT_BEHIND;

	b->range[at] = *r;
}

static bool
take(struct extract_behind *b, struct extract_range *r)
{
	if (b->n == 0)
		return false;
	*r = b->range[b->first];
	b->first = (b->first + 1) % EXTRACT_BEHIND;
	b->n--;
	return true;
}

static int
file_range(const struct extract_range *r, unsigned flags, struct err *e)
{
	if (sync_file_range(r->fd, (off_t)r->off, (off_t)r->len, flags) == 0 ||
	    errno == EINVAL || errno == ENOSYS || errno == ESPIPE)
		return 0;
	return err_sys(e, errno, "write %llu bytes at %llu to the disk",
	    (unsigned long long)r->len, (unsigned long long)r->off);
}

/* Until it is on the disk; the memory is only asked to go. */
static int
let_go(const struct extract_range *r, struct err *e)
{
	int rc = file_range(r,
	    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
		SYNC_FILE_RANGE_WAIT_AFTER,
	    e);

	posix_fadvise(r->fd, (off_t)r->off, (off_t)r->len, POSIX_FADV_DONTNEED);
	close(r->fd);
	return rc;
}

static int
start(struct extract *x, struct extract_range r, struct err *e)
{
	struct extract_range oldest;
	bool full;
	int rc = file_range(&r, SYNC_FILE_RANGE_WRITE, e);

	pthread_mutex_lock(&x->lock);
	full = x->behind.n == EXTRACT_BEHIND && take(&x->behind, &oldest);
	add(&x->behind, &r);
	pthread_mutex_unlock(&x->lock);
	if (full && let_go(&oldest, e) < 0)
		rc = e->code;
	return rc;
}

int
extract_behind(struct extract *x, const struct extract_job *j, struct err *e)
{
	uint64_t end = j->off + j->len;
	struct extract_range r = {
	    .off = (end - 1) / REGION_BYTES * REGION_BYTES};

	if (end % REGION_BYTES != 0 && end < j->file->o.size)
		return 0;
	r.len = end - r.off;
	if (r.len < SMALL_BYTES)
		return 0;
	/* Of its own: the file may be closed before its turn comes. */
	r.fd = fcntl(j->file->fd, F_DUPFD_CLOEXEC, 0);
	return r.fd < 0 ? 0 : start(x, r, e);
}

int
extract_behind_end(struct extract *x, struct err *e)
{
	struct extract_range r;
	int rc = 0;

	while (take(&x->behind, &r))
		if (let_go(&r, e) < 0)
			rc = e->code;
	return rc;
}

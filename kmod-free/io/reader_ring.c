/* SPDX-License-Identifier: Apache-2.0 */
/* The reader's io_uring: set up as well as this kernel can, fed in batches. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "agent/core/mem.h"
#include "kmod-free/io/reader_internal.h"

/*
 * COOP_TASKRUN (5.19): we are not interrupted for completions, we come for
 * them. SINGLE_ISSUER with DEFER_TASKRUN (6.1) was no faster (157,000 against
 * 160,000 random 8 KiB reads a second on 6.18) and would tie the reader to the
 * thread that made it; so it is left out.
 */
static const unsigned flag_sets[] = {
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
};

/* Before 5.12 the ring's memory counts against RLIMIT_MEMLOCK: rather a small
 * ring, filled more often, than none. */
static int
init_sized(struct io_uring *ring, unsigned entries, unsigned flags)
{
	int rc;

	do {
		struct io_uring_params p = {.flags = flags};

		rc = io_uring_queue_init_params(entries, ring, &p);
		entries /= 2;
	} while (rc == -ENOMEM && entries >= 8);
	return rc;
}

static int
init_ring(struct reader *r)
{
	int rc = -EINVAL;

	/* -EINVAL: this kernel does not know the flags. */
	for (size_t i = 0; i < MEM_COUNT(flag_sets) && rc == -EINVAL; i++)
		rc = init_sized(&r->ring, r->depth, flag_sets[i]);
	return rc;
}

static void
register_buffers(struct reader *r)
{
	struct iovec all = {.iov_base = r->pool, .iov_len = r->pool_len};
	int rc = io_uring_register_buffers(&r->ring, &all, 1);

	r->buffers_fixed = rc == 0;
	if (rc < 0)
		snprintf(r->notice, sizeof r->notice,
		    "read buffers are not registered with the kernel (%s): "
		    "raise RLIMIT_MEMLOCK above %zu bytes for full speed",
		    strerror(-rc), r->pool_len);
}

/* A table of -1 is a sparse one on kernels that have no call for it (< 5.19). */
static void
register_table(struct reader *r)
{
	int none[READER_TABLE];
	int rc = io_uring_register_files_sparse(&r->ring, READER_TABLE);

	if (rc < 0) {
		memset(none, 0xff, sizeof none);
		rc = io_uring_register_files(&r->ring, none, READER_TABLE);
	}
	r->table_on = rc == 0;
}

void
reader_ring_init(struct reader *r)
{
	int rc = init_ring(r);

	if (rc < 0) {
		snprintf(r->notice, sizeof r->notice,
		    "io_uring is not to be had here (%s): reads with pread, "
		    "one at a time; see sysctl kernel.io_uring_disabled and "
		    "the container's seccomp profile",
		    strerror(-rc));
		return;
	}
	r->ring_on = true;
	/* An eighth, of the pool too: one call for eight reads costs half the
	 * processor of one each, and the device never runs dry for it. */
	r->batch = r->depth < 8 ? 1 : r->depth < 128 ? r->depth / 8 : 16;
	register_buffers(r);
	register_table(r);
}

void
reader_ring_add_file(struct reader *r, struct reader_file *f)
{
	unsigned slot;

	if (!r->table_on || f->slot >= 0 || ~r->table_used == 0)
		return;
	slot = (unsigned)__builtin_ctzll(~r->table_used);
	if (io_uring_register_files_update(&r->ring, slot, &f->fd, 1) != 1)
		return;
	r->table_used |= 1ull << slot;
	f->slot = (int)slot;
}

void
reader_ring_drop_file(struct reader *r, struct reader_file *f)
{
	int none = -1;

	if (f->slot < 0 || !r->table_on)
		return;
	/* Where it cannot be emptied, the entry stays taken: the file is held
	 * open until the ring goes, no other may stand in its place. */
	if (io_uring_register_files_update(
		&r->ring, (unsigned)f->slot, &none, 1) == 1)
		r->table_used &= ~(1ull << f->slot);
	f->slot = -1;
}

static void
pause_1ms(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* Hand over what is queued; with `wait`, until something has arrived. The
 * kernel may be short of memory for a moment (EAGAIN), or ask to be relieved
 * of results first (EBUSY): what is queued stays queued. */
static int
enter(struct reader *r, bool wait)
{
	int rc = io_uring_submit_and_wait(
	    &r->ring, wait && r->flying + r->queued > 0 ? 1 : 0);

	if (rc == -EINTR || rc == -EAGAIN || rc == -EBUSY)
		return 0;
	if (rc < 0)
		return rc;
	assert((unsigned)rc <= r->queued);
	r->queued_bytes = 0;
	r->queued -= (unsigned)rc;
	r->flying += (unsigned)rc;
	return 0;
}

static int
lost(struct reader *r, int rc, struct err *e)
{
	r->lost = true;
	return err_sys(e, -rc, "io_uring stopped working");
}

static int
queue(struct reader *r, unsigned slot)
{
	struct reader_request *q = &r->request[slot];
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
	struct reader_file *f = q->file;
	uint8_t *p = reader_buffer(r, slot) + q->got;
	int fd = f->slot >= 0 ? f->slot : f->fd;

	if (sqe == NULL)
		return -EBUSY;
	if (r->buffers_fixed)
		io_uring_prep_read_fixed(
		    sqe, fd, p, q->len - q->got, q->off + q->got, 0);
	else
		io_uring_prep_read(
		    sqe, fd, p, q->len - q->got, q->off + q->got);
	io_uring_sqe_set_flags(
	    sqe, (f->slot >= 0 ? IOSQE_FIXED_FILE : 0) |
		     (q->way == READER_ALONE ? IOSQE_ASYNC : 0));
	io_uring_sqe_set_data64(sqe, slot);
	q->direct = f->direct;
	q->state = READER_FLIES;
	r->queued++;
	r->queued_bytes += q->len;
	return 0;
}

/* What became of a read: done, to be asked again (true), or in doubt. */
static bool
again(struct reader *r, unsigned slot, int res)
{
	struct reader_request *q = &r->request[slot];

	if (res > 0 && (uint32_t)res <= q->len - q->got) {
		if (reader_plain_arrived(r, slot, (uint32_t)res))
			return false;
		/* Short before the end. A direct read can only go on from a
		 * whole block. */
		q->got -= q->direct ? q->got % READER_ALIGN : 0;
		if (q->tries++ < READER_TRIES)
			return true;
	} else if (res == -EINVAL && q->direct) {
		reader_file_undirect(q->file);
		return true;
	} else if ((res == -EAGAIN || res == -EINTR) &&
		   q->tries++ < READER_TRIES) {
		return true;
	} else if (res == 0 && q->off + q->got >= q->file->size) {
		reader_plain_arrived(r, slot, 0);
		return false;
	}
	q->doubt = true;
	q->state = READER_DONE;
	return false;
}

void
reader_ring_result(struct reader *r, unsigned slot, int res)
{
	if (again(r, slot, res)) {
		r->request[slot].state = READER_WAITS;
		r->waiting++;
	}
}

static void
reap(struct reader *r)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&r->ring, head, cqe)
	{
		unsigned slot = (unsigned)cqe->user_data;

		n++;
		assert(
		    slot < r->slots && r->request[slot].state == READER_FLIES);
		reader_ring_result(r, slot, cqe->res);
	}
	io_uring_cq_advance(&r->ring, n);
	assert(n <= r->flying);
	r->flying -= n;
}

/* Queue what came back, or found the queue full. */
static void
feed(struct reader *r)
{
	for (unsigned i = 0; i < r->count && r->waiting > 0; i++) {
		unsigned slot = (r->head + i) % r->slots;

		if (r->request[slot].state != READER_WAITS)
			continue;
		if (queue(r, slot) < 0)
			return;
		r->waiting--;
	}
}

int
reader_ring_push(struct reader *r, unsigned slot, struct err *e)
{
	int rc = 0;

	feed(r);
	if (r->waiting > 0 || queue(r, slot) < 0)
		r->waiting++;
	if (r->queued >= r->batch || r->queued_bytes >= r->pool_len / 8)
		rc = enter(r, false);
	return rc < 0 ? lost(r, rc, e) : 0;
}

int
reader_ring_wait(struct reader *r, unsigned slot, struct err *e)
{
	for (;;) {
		int rc;

		reap(r);
		if (r->request[slot].state == READER_DONE)
			return 0;
		feed(r);
		rc = enter(r, true);
		if (rc < 0)
			return lost(r, rc, e);
		if (r->flying == 0)
			pause_1ms(); /* nothing was taken */
	}
}

/* Wait for what flies; what was never handed over never will be. */
static void
drain(struct reader *r)
{
	while (r->flying > 0 && !r->lost) {
		struct io_uring_cqe *cqe;
		int rc = io_uring_wait_cqe(&r->ring, &cqe);

		if (rc < 0 && rc != -EINTR && rc != -EAGAIN)
			r->lost = true;
		else
			reap(r);
	}
}

void
reader_ring_fini(struct reader *r)
{
	if (!r->ring_on)
		return;
	drain(r);
	/* Here and not left to the end of the ring: that happens some time
	 * after the close, and until then a file system whose files the table
	 * holds cannot be unmounted. */
	if (r->table_on)
		io_uring_unregister_files(&r->ring);
	if (r->buffers_fixed)
		io_uring_unregister_buffers(&r->ring);
	io_uring_queue_exit(&r->ring);
	r->table_on = false;
}

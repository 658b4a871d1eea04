/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux AIO for small reads of plain bytes in the order of the disk.
 *
 * btrfs refuses a direct read of more than a page that may not wait
 * (btrfs_dio_iomap_begin, IOMAP_NOWAIT), and io_uring asks for no other: each
 * such read goes through a thread of the kernel's, alone. io_submit waits where
 * it must, and what it submits in one call is one queue to the block layer,
 * which joins what follows each other on the disk. So lie the pages that a
 * checkpoint wrote one after the other, whatever their places in the table.
 * Measured, 20,000 transactions of pgbench: 35,000 reads of the device became
 * 3,000 on a new btrfs, and up to 25,000 on one whose free space is in pieces.
 *
 * One attempt only: what is to be repeated is the ring's, and what failed is read
 * again block by block, as everywhere.
 */
#include <assert.h>
#include <errno.h>

#include "agent/core/mem.h"
#include "kmod-free/io/reader_internal.h"

/* Of larger ones the kernel's threads do more at once: checksums, pages. */
#define BYTES_MAX 65536u
#define BATCH 32u
#define EVENTS 64

/* Most readers never need it. */
static bool
is_on(struct reader *r)
{
	if (r->aio != NULL || r->aio_refused)
		return r->aio != NULL;
	/* No such call, fs.aio-max-nr reached: without it. */
	r->aio_refused = io_setup((int)r->depth, &r->aio) < 0;
	if (r->aio_refused)
		return false;
	r->iocb = mem_array(r->slots, sizeof *r->iocb);
	r->aio_queue = mem_array(r->slots, sizeof(struct iocb *));
	return true;
}

/* Waits for what flies, and then for the kernel's own sake: 32 ms, measured with
 * nothing in flight. */
static void *
destroy(void *arg)
{
	struct reader *r = arg;

	if (io_destroy(r->aio) < 0 && r->aio_flying > 0)
		r->lost = true;
	return NULL;
}

void
reader_aio_stop(struct reader *r)
{
	if (r->aio == NULL)
		return;
	r->aio_ends = r->aio_flying == 0 &&
		      pthread_create(&r->aio_end, NULL, destroy, r) == 0;
	if (!r->aio_ends)
		destroy(r);
}

void
reader_aio_fini(struct reader *r)
{
	if (r->aio_ends)
		pthread_join(r->aio_end, NULL);
	free(r->iocb);
	free(r->aio_queue);
}

/* All that is queued. What the kernel refuses is the ring's. */
static void
submit(struct reader *r)
{
	struct iocb **at = r->aio_queue;

	while (r->aio_queued > 0) {
		int k = io_submit(r->aio, r->aio_queued, at);

		if (k > 0) {
			r->aio_flying += (unsigned)k;
		} else {
			unsigned slot = (unsigned)(*at - r->iocb);

			r->request[slot].aio = false;
			reader_ring_result(r, slot, -EAGAIN);
			k = 1;
		}
		at += k;
		r->aio_queued -= (unsigned)k;
	}
}

bool
reader_aio_push(struct reader *r, unsigned slot)
{
	struct reader_request *q = &r->request[slot];

	if (q->way != READER_ORDERED || q->len > BYTES_MAX ||
	    !q->file->direct || !is_on(r))
		return false;
	io_prep_pread(&r->iocb[slot], q->file->fd, reader_buffer(r, slot),
	    q->len, (long long)q->off);
	q->aio = q->direct = true;
	q->state = READER_FLIES;
	r->aio_queue[r->aio_queued++] = &r->iocb[slot];
	if (r->aio_queued == BATCH)
		submit(r);
	return true;
}

/* One at least. */
static int
reap(struct reader *r)
{
	struct io_event v[EVENTS];
	int n = io_getevents(r->aio, 1, EVENTS, v, NULL);

	for (int i = 0; i < n; i++) {
		unsigned slot = (unsigned)(v[i].obj - r->iocb);

		assert(slot < r->slots && r->request[slot].aio);
		r->request[slot].aio = false;
		r->aio_flying--;
		reader_ring_result(r, slot, (int)(long)v[i].res);
	}
	return n == -EINTR || n > 0 ? 0 : n;
}

/* What is queued waits for more of it, but not until the device runs dry: then it
 * is the end of a window, or of it all. */
int
reader_aio_wait(struct reader *r, unsigned slot, struct err *e)
{
	int rc = 0;

	if (r->aio_queued > 0 && r->aio_flying < BATCH)
		submit(r);
	while (rc == 0 && r->request[slot].aio) {
		rc = reap(r);
		if (r->aio_flying < BATCH)
			submit(r);
	}
	return rc < 0 ? err_sys(e, -rc, "Linux AIO stopped working") : 0;
}

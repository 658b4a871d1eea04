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
 * One attempt only. Whatever does not come back whole is repeated by the ring.
 */
#include <assert.h>
#include <errno.h>

#include "agent/core/mem.h"
#include "kmod-free/io/reader_internal.h"

/* Of larger ones the kernel's threads do more at once: checksums, pages. */
#define BYTES_MAX 65536u
#define BATCH 32u
#define EVENTS 64

void
reader_aio_init(struct reader *r)
{
	/* Any failure (no such call, fs.aio-max-nr reached): without it. */
	if (io_setup((int)r->depth, &r->aio) < 0) {
		r->aio = NULL;
		return;
	}
	r->iocb = mem_array(r->slots, sizeof *r->iocb);
	r->aio_queue = mem_array(r->slots, sizeof(struct iocb *));
}

void
reader_aio_fini(struct reader *r)
{
	if (r->aio != NULL)
		io_destroy(r->aio);
	r->aio = NULL;
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

	if (r->aio == NULL || q->way != READER_ORDERED || q->len > BYTES_MAX ||
	    !q->file->direct)
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

/* Requests are waited for in their order, and what flies is older than what is
 * queued: the one that is waited for is still queued when nothing flies. */
int
reader_aio_wait(struct reader *r, unsigned slot, struct err *e)
{
	int rc = 0;

	while (rc == 0 && r->request[slot].aio) {
		if (r->aio_flying == 0)
			submit(r);
		else
			rc = reap(r);
	}
	if (rc < 0)
		r->ring_lost = true;
	return rc < 0 ? err_sys(e, -rc, "Linux AIO stopped working") : 0;
}

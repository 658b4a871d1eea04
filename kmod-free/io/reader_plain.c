/* SPDX-License-Identifier: Apache-2.0 */
/* Reads without io_uring: the fall-back, and the second look at any read that
 * failed or came back short. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "kmod-free/io/reader_internal.h"

/* One call reads up to this much where requests follow each other: a single
 * reader in order needs large reads (measured: 1 MiB is twice 128 KiB). */
#define RUN_BYTES (1u << 20)
#define RUN_PIECES 64u

bool
reader_plain_arrived(struct reader *r, unsigned slot, uint32_t k)
{
	struct reader_request *q = &r->request[slot];

	q->got += k;
	if (q->got < q->len && q->off + q->got < q->file->size)
		return false;
	if (q->got < q->len)
		memset(reader_buffer(r, slot) + q->got, 0, q->len - q->got);
	q->state = READER_DONE;
	return true;
}

/* Requests from `slot` on that one preadv can serve. */
static unsigned
gather(struct reader *r, unsigned slot, struct iovec v[RUN_PIECES])
{
	const struct reader_request *first = &r->request[slot];
	uint64_t end = first->off;
	unsigned n = 0;

	while (n < r->count && n < RUN_PIECES) {
		unsigned at = (slot + n) % r->slots;
		const struct reader_request *q = &r->request[at];

		if (q->state == READER_DONE || q->file != first->file ||
		    q->off != end ||
		    (n > 0 && end + q->len - first->off > RUN_BYTES))
			break;
		v[n].iov_base = reader_buffer(r, at);
		v[n].iov_len = q->len;
		end += q->len;
		n++;
	}
	return n;
}

void
reader_plain_fill(struct reader *r, unsigned slot)
{
	struct reader_request *first = &r->request[slot];
	struct iovec v[RUN_PIECES];
	unsigned n = gather(r, slot, v);
	ssize_t k;

	do
		k = preadv(first->file->fd, v, (int)n, (off_t)first->off);
	while (k < 0 && errno == EINTR);
	for (unsigned i = 0; i < n && k >= 0; i++) {
		unsigned at = (slot + i) % r->slots;
		size_t take =
		    (size_t)k < v[i].iov_len ? (size_t)k : v[i].iov_len;

		r->request[at].got = 0;
		if (!reader_plain_arrived(r, at, (uint32_t)take))
			break;
		k -= (ssize_t)take;
	}
	if (first->state != READER_DONE) {
		first->doubt = true;
		first->state = READER_DONE;
	}
}

static bool
at_end(const struct reader_file *f, uint64_t off)
{
	struct stat st;

	return fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       off >= (uint64_t)st.st_size;
}

static void
pause_1ms(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/*
 * One pread of what is left of a block: bytes read, 0 at the file's end, or a
 * negative errno. Refused direct reads go through the page cache from then on;
 * that is also how the piece behind an unaligned short read is had.
 */
static int
read_piece(struct reader_file *f, uint8_t *p, uint32_t n, uint64_t off)
{
	unsigned tries = 0;

	if (f->direct && off % READER_ALIGN != 0) {
		if (at_end(f, off))
			return 0;
		reader_file_undirect(f);
	}
	for (;;) {
		ssize_t k = pread(f->fd, p, n, (off_t)off);

		if (k >= 0)
			return (int)k;
		if (errno == EINVAL && f->direct) {
			reader_file_undirect(f);
		} else if (errno == EAGAIN && tries++ < READER_TRIES) {
			pause_1ms();
		} else if (errno != EINTR) {
			return -errno;
		}
	}
}

/* 0: the block is there; 1: the file ends within (zeros follow). */
static int
read_block(struct reader_file *f, uint8_t *p, uint64_t off)
{
	uint32_t got = 0;

	while (got < READER_ALIGN) {
		int k = read_piece(f, p + got, READER_ALIGN - got, off + got);

		if (k < 0)
			return k;
		if (k == 0) {
			memset(p + got, 0, READER_ALIGN - got);
			return 1;
		}
		got += (uint32_t)k;
	}
	return 0;
}

int
reader_plain_blocks(struct reader *r, unsigned slot, struct err *e)
{
	struct reader_request *q = &r->request[slot];
	uint8_t *p = reader_buffer(r, slot);

	for (uint32_t at = 0; at < q->len; at += READER_ALIGN) {
		int rc = read_block(q->file, p + at, q->off + at);

		if (rc < 0) {
			err_sys(e, -rc, "read %s at offset %llu",
			    q->file->label, (unsigned long long)(q->off + at));
			/* Whatever name the file system gave it (EUCLEAN,
			 * ENODATA…), to the caller it is a bad block. */
			return e->code = -EIO;
		}
		if (rc == 1) {
			memset(p + at + READER_ALIGN, 0,
			    q->len - at - READER_ALIGN);
			break;
		}
	}
	q->doubt = false;
	return 0;
}

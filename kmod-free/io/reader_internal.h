/*
 * The parts of the reader, for its own .c files. Requests live in a circle of
 * slots: the oldest at `head`, `count` of them, and before it the one whose data
 * the caller still looks at. Their buffers follow each other in the pool, which
 * is a circle too.
 */
#ifndef NEAP_IO_READER_INTERNAL_H
#define NEAP_IO_READER_INTERNAL_H

#include <libaio.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/types.h>

#include "kmod-free/io/reader.h"

enum reader_state { READER_WAITS, READER_FLIES, READER_DONE };

struct reader_request {
	struct reader_file *file;
	void *cookie;
	size_t at; /* of its buffer, in the pool */
	uint64_t off;
	uint32_t len;
	uint32_t got;   /* bytes that have arrived */
	unsigned tries; /* submissions that came back for nothing */
	enum reader_state state;
	bool direct; /* as submitted */
	bool doubt;  /* read it again, block by block */
	bool aio;    /* this time it was not the ring that took it */
	enum reader_way way;
};

struct reader_file {
	struct reader *r; /* NULL once the reader is gone */
	struct reader_file *prev, *next;
	char *label;
	uint64_t size; /* when it was opened */
	int fd;
	int slot;       /* in the ring's file table, or -1 */
	unsigned users; /* requests */
	unsigned asked; /* up to READER_SLOT_AFTER */
	bool direct, closed;
};

#define READER_TABLE 64u      /* registered files, a bit each */
#define READER_SLOT_AFTER 16u /* requests after which one is worth it */
#define READER_TRIES 1000u
#define READER_POOL_MAX (1u << 30) /* the most that one buffer may register */

struct reader {
	struct reader_request *request; /* `slots` of them */
	uint8_t *pool;
	size_t pool_len, tail; /* behind the newest buffer */
	unsigned slots, depth, head, count;
	uint32_t unit;
	bool held; /* the slot before head is the caller's */
	bool buffered;
	enum reader_way way;
	struct reader_file *files; /* all that are open */
	char notice[256];

	bool lost;        /* the kernel may still write into the pool */
	unsigned waiting; /* requests that are to be given to the ring */

	/* io_uring: */
	bool ring_on, buffers_fixed, table_on;
	struct io_uring ring;
	unsigned queued, flying; /* requests, on their way */
	unsigned batch;
	size_t queued_bytes; /* since the last call */
	uint64_t table_used; /* bits */

	/* Linux AIO, beside the ring: */
	io_context_t aio; /* NULL: none yet, or it was refused */
	bool aio_refused;
	bool aio_ends; /* aio_end takes it apart */
	pthread_t aio_end;
	struct iocb *iocb, **aio_queue;
	unsigned aio_queued, aio_flying;
};

static inline uint8_t *
reader_buffer(const struct reader *r, unsigned slot)
{
	return r->pool + r->request[slot].at;
}

/* reader_file.c */
void reader_file_use(struct reader_file *f);
void reader_file_unuse(struct reader_file *f);
void reader_file_detach(struct reader_file *f); /* its reader goes */
/* O_DIRECT turned out to be refused: read it through the page cache. */
void reader_file_undirect(struct reader_file *f);

/* reader_ring.c: io_uring. Without it, notice is set and ring_on false. */
void reader_ring_init(struct reader *r);
void reader_ring_fini(struct reader *r);
int reader_ring_push(struct reader *r, unsigned slot, struct err *e);
int reader_ring_wait(struct reader *r, unsigned slot, struct err *e);
/* What became of a read, as bytes or -errno; the ring repeats what it must. */
void reader_ring_result(struct reader *r, unsigned slot, int res);
void reader_ring_add_file(struct reader *r, struct reader_file *f);
void reader_ring_drop_file(struct reader *r, struct reader_file *f);

/* reader_aio.c: Linux AIO, where it is to be had. */
void reader_aio_stop(struct reader *r); /* waits for what flies */
void reader_aio_fini(struct reader *r);
/* True: taken. */
bool reader_aio_push(struct reader *r, unsigned slot);
/* Until it is done, or is the ring's. */
int reader_aio_wait(struct reader *r, unsigned slot, struct err *e);

/* reader_plain.c: preads. */
/* Read the request at `slot` and what lies directly behind it. */
void reader_plain_fill(struct reader *r, unsigned slot);
/* Read one request block by block: data, zeros behind the end, or -EIO. */
int reader_plain_blocks(struct reader *r, unsigned slot, struct err *e);
/* `k` more bytes of `q` have come: zeros behind the file's end, done or not. */
bool reader_plain_arrived(struct reader *r, unsigned slot, uint32_t k);

#endif

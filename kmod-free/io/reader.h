/*
 * Reads of files at the disk's speed: io_uring with registered buffers, deep
 * queue, O_DIRECT where the file system takes it; Linux AIO for small ones in
 * the order of the disk. Requests complete to the
 * caller in the order in which they were asked. Without io_uring (old kernel,
 * kernel.io_uring_disabled, seccomp) the same interface reads with pread in
 * order, and reader_notice says so.
 *
 * One thread's at a time. Memory: one pool, taken at reader_new. A request takes
 * of it what it reads, so that few large ones fly at a time, or many small.
 */
#ifndef NEAP_IO_READER_H
#define NEAP_IO_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/err.h"

#define READER_ALIGN 4096u

struct reader;

struct reader_how {
	unsigned depth; /* requests in flight; 0: 64 */
	uint32_t unit;  /* largest request, bytes; 0: 131072 */
	size_t pool;    /* bytes of all, at least 3 units; 0: (depth + 2) units,
			 * which is room for `depth` requests of any size */
	bool no_uring;  /* tests and bench: force the fall-back */
	bool buffered;  /* never O_DIRECT */
};

/* One open file; shared by its requests, closed after its last one. */
struct reader_file;

struct reader_done {
	struct reader_file *file;
	void *cookie;        /* of the request */
	uint64_t off;        /* as asked */
	uint32_t len;        /* as asked */
	const uint8_t *data; /* len bytes; behind the file's end: zeros */
};

int reader_new(
    struct reader **out, const struct reader_how *how, struct err *e);
/* Nothing is asked any more: waits for what flies, and lets go of all files. What
 * the kernel takes its time to take apart, it takes apart until reader_free. */
void reader_stop(struct reader *r);
void reader_free(struct reader *r);                /* NULL is fine */
const char *reader_notice(const struct reader *r); /* NULL: all is well */

/*
 * Open `name` below `dirfd` (not following a final symlink). `label` (kept as a
 * copy) names it in errors. Give it back with reader_close when no more
 * requests follow; it is closed when those in flight are done. The name may be
 * a regular file or a block device; -EINVAL for anything else.
 */
int reader_open(struct reader *r, int dirfd, const char *name,
    const char *label, struct reader_file **out, struct err *e);
/* What `given` is open on, opened once more; `given` stays the caller's. Needs
 * /proc and the right to open it. */
int reader_open_fd(struct reader *r, int given, const char *label,
    struct reader_file **out, struct err *e);
void reader_close(struct reader_file *f);
int reader_file_fd(const struct reader_file *f);

/* No room for a request of a whole unit: call reader_next. Never when idle. */
bool reader_full(const struct reader *r);
bool reader_idle(const struct reader *r); /* nothing asked for is left */
/* What is known of where requests lie. It only decides who takes them. */
enum reader_way {
	READER_ANYHOW,
	/*
	 * Far from each other. The file system has to look up where each one
	 * is, on a cold disk by reading, and does so before it takes the next
	 * one; handed to threads of the kernel they are looked up side by side.
	 * Measured on btrfs with cold caches: a backup in which nothing
	 * changed, with 1,150 blocks of sample, 0.41 s instead of 0.54.
	 * Requests that lie close to each other lose by it: a backup of 40,000
	 * scattered pages took 3.2 s instead of 2.6.
	 */
	READER_ALONE,
	/* Plain bytes in the order of the disk: what follows each other there
	 * may become one read (reader_aio.c). */
	READER_ORDERED,
};

/* From here on. */
void reader_way(struct reader *r, enum reader_way way);
/* off and len are multiples of READER_ALIGN, len <= unit; not when full. */
int reader_ask(struct reader *r, struct reader_file *f, uint64_t off,
    uint32_t len, void *cookie, struct err *e);
/*
 * The oldest request, waited for. `out->data` and `out->file` are good until
 * the next reader_next (or reader_free).
 * A block that cannot be read: -EIO with file and exact offset, found by
 * reading the request again block by block. Never zeros in its place.
 */
int reader_next(struct reader *r, struct reader_done *out, struct err *e);

/*
 * Data ranges of an open file by SEEK_DATA/SEEK_HOLE from `off` on: 1 and the
 * range, 0 when only holes follow. Where the file system cannot tell, the
 * whole rest is data. Rounded outwards to READER_ALIGN, within [off, size).
 */
int reader_data_range(int fd, uint64_t off, uint64_t size, uint64_t *start,
    uint64_t *len, struct err *e);

/* Where an extent lies, for ordering only; 0: unknown. btrfs says where in the
 * space of its own, and of a compressed extent where that begins. */
struct reader_phys {
	uint64_t off, len, phys;
};
/* Extents of [off, off + len), at most `max`, 1 at least; gives the count. A
 * file system may have to work for each one that it names. */
int reader_physical(int fd, uint64_t off, uint64_t len, struct reader_phys *v,
    size_t max, struct err *e);

#endif

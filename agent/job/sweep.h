/*
 * Reading many ranges of many files: cuts them into pieces that do not cross a
 * 128 KiB border of the object, orders them physically within a window, keeps
 * the reader's queue full, and hands every piece to a callback. Neighbouring
 * pieces of one file are one request of the disk.
 *
 * Memory: SWEEP_POOL_BYTES: 15 large requests or 128 small ones in flight.
 *
 * Measured, a full scan of 8.6 GB on btrfs in CPU seconds with the kernel's
 * threads, medians: requests of 128 KiB 5.3, of 512 KiB 4.0. A pool of 16 MiB
 * is no better than 8; one of 33 MiB worse, also for requests of 1 MiB: by the
 * time that its end is hashed it is out of the processor's cache.
 */
#ifndef NEAP_JOB_SWEEP_H
#define NEAP_JOB_SWEEP_H

#include "agent/job/tree.h"
#include "kmod-free/io/reader.h"

#define SWEEP_PIECE_BYTES 131072u
#define SWEEP_BLOCK_BYTES 4096u
#define SWEEP_REQUEST_BYTES 524288u
#define SWEEP_POOL_BYTES 8388608u

static inline uint64_t
sweep_blocks(uint64_t bytes)
{
	return bytes / SWEEP_BLOCK_BYTES + (bytes % SWEEP_BLOCK_BYTES != 0);
}

/* `len` bytes, a multiple of 4096; behind the file's end they are zeros. */
typedef int sweep_fn(void *arg, const struct tree_file *f, uint64_t off,
    uint32_t len, const uint8_t *data, struct err *e);

struct sweep;

int sweep_new(
    struct sweep **out, const struct tree *t, bool physical, struct err *e);
/* Closes all that it reads; what it counted stays. NULL is fine for both. */
void sweep_leave(struct sweep *s);
void sweep_free(struct sweep *s);
const char *sweep_notice(const struct sweep *s);
uint64_t sweep_read_bytes(const struct sweep *s);
uint64_t sweep_requests(const struct sweep *s); /* of the disk, so far */

/* Called between windows of 64 MiB at most, as long as anything is read. */
typedef int sweep_tick_fn(void *arg, struct err *e);
void sweep_tick(struct sweep *s, sweep_tick_fn *fn, void *arg);

/* Ranges from here on are few and far between, and read in the order of the
 * files: to ask first where each lies takes longer than to read it. */
void sweep_scattered(struct sweep *s, bool on);

/* Pieces asked from here on go to `fn`. */
void sweep_to(struct sweep *s, sweep_fn *fn, void *arg);
int sweep_begin(struct sweep *s, const struct tree_file *f, struct err *e);
int sweep_fd(const struct sweep *s); /* of the file begun */
/* Of the file begun: a range and its place, as its tracker says, for what is asked
 * next. Where nobody says, the file system is asked. */
void sweep_placed(struct sweep *s, const struct extent *x);
/* off and len in multiples of 4096. */
int sweep_range(struct sweep *s, uint64_t off, uint64_t len, struct err *e);
/*
 * The blocks [from, to) of the file: asks for what is data, and calls `hole`
 * for what is not, which needs no reading.
 */
typedef int sweep_hole_fn(void *arg, const struct tree_file *f, uint64_t from,
    uint64_t to, struct err *e);
int sweep_look(struct sweep *s, uint64_t from, uint64_t to, sweep_hole_fn *hole,
    struct err *e);
int sweep_end(struct sweep *s, struct err *e); /* of the file */
/* Wait for all pieces asked so far. */
int sweep_drain(struct sweep *s, struct err *e);

#endif

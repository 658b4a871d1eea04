/*
 * What a dm-thin pool knows of its devices: which block of a device lies in
 * which block of the pool's data, and in what two devices differ. Read from
 * the pool's metadata (format 2) itself, without the kernel: its `_tmeta`
 * device opened with O_DIRECT, or a file. One thread's. Memory: 80 blocks for
 * each tree that is walked, however large it is.
 *
 * A pool in use changes its metadata all the time. Reserve a metadata snapshot
 * (message reserve_metadata_snap), open with `held`, and ask
 * thin_meta_check_held before the answers are believed: a snapshot that
 * somebody released meanwhile leaves blocks that were written anew, and each
 * of them is whole. Without `held` nobody may be writing.
 *
 * Everywhere: -EBADMSG, the metadata is damaged (the text names the block and
 * says what to do); -ECANCELED; errors of reading. Answers so far do not count
 * then.
 */
#ifndef NEAP_TRACK_THIN_META_H
#define NEAP_TRACK_THIN_META_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/err.h"

struct thin_meta;

/*
 * Gives *out (thin_meta_close), which borrows fd until then. -ENOENT: `held`,
 * and no metadata snapshot is. -EOPNOTSUPP: a format that we do not know.
 */
int thin_meta_open(struct thin_meta **out, int fd, bool held, struct err *e);
void thin_meta_close(struct thin_meta *m);
void thin_meta_close_scope(struct thin_meta **m);
#define SCOPED_THIN_META __attribute__((cleanup(thin_meta_close_scope)))

struct thin_meta_info {
	uint32_t block_bytes; /* of data: 64 KiB to 1 GiB */
	uint64_t transaction; /* LVM's transaction_id */
	bool needs_check;     /* the kernel saw it fail; pool is read-only */
	uint64_t reads;       /* blocks of metadata read so far */
};

void thin_meta_info(const struct thin_meta *m, struct thin_meta_info *out);
/* What is not read by then (clock_mono_ms time) is not read: -ESTALE. */
void thin_meta_limit(struct thin_meta *m, int64_t until_ms);
/* What was opened is what the pool still holds; -ESTALE. */
int thin_meta_check_held(struct thin_meta *m, struct err *e);

struct thin_meta_details {
	uint64_t mapped; /* blocks */
	uint64_t transaction;
	uint32_t created, snapshotted; /* the pool's own time */
};

#define THIN_META_DEVICE_MAX ((1u << 24) - 1)

/* -ENOENT: the pool has no device of that number (LVM's thin_id). */
int thin_meta_device(struct thin_meta *m, uint32_t device,
    struct thin_meta_details *out, struct err *e);

/* `count` blocks of the device from `first` on lie in the pool's blocks from
 * `data` on. 0, or a negative errno that ends the walk. */
typedef int thin_meta_range_fn(
    void *arg, uint64_t first, uint64_t data, uint64_t count, struct err *e);
/* All that is mapped, in order. -ENOENT as above. */
int thin_meta_walk(struct thin_meta *m, uint32_t device, thin_meta_range_fn *fn,
    void *arg, struct err *e);

enum thin_meta_side {
	THIN_META_ONLY_FROM, /* mapped in `from`: in `to` it reads as zeros */
	THIN_META_ONLY_TO,
	THIN_META_DIFFERENT, /* mapped to another block of data */
};

typedef int thin_meta_differ_fn(void *arg, enum thin_meta_side side,
    uint64_t first, uint64_t count, struct err *e);
/*
 * In what blocks the mappings of two devices differ, in order. Nodes that both
 * share are not read, so the cost follows the differences. A block of data is
 * never written while two devices share it: the same block means the same
 * content as long as neither device is written. -ENOENT as above.
 */
int thin_meta_compare(struct thin_meta *m, uint32_t from, uint32_t to,
    thin_meta_differ_fn *fn, void *arg, struct err *e);

#endif

/*
 * Inside extract: what walker and workers share.
 */
#ifndef NEAP_TOOLS_EXTRACT_PARTS_H
#define NEAP_TOOLS_EXTRACT_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "agent/core/queue.h"
#include "tools/chunk_cache.h"
#include "tools/extract.h"

#define EXTRACT_WORKERS_MAX 16
#define EXTRACT_QUEUE 64
#define EXTRACT_DAMAGE_LISTED 20

struct extract_dir { /* an open folder, as long as somebody needs it */
	int fd;
	atomic_uint refs;
	char *path; /* in the backup; "" is the root */
};

struct extract_file {
	struct extract_dir *dir;
	char *name;
	struct object o;
	int fd;
	bool existed;     /* delta: it has content to be compared */
	bool device;      /* not made by us: nothing in it is a hole */
	atomic_uint refs; /* the walker's and one for each job */
	/* By one at a time: two that write one file spin in the kernel. */
	pthread_mutex_t writing;
};

/*
 * What a worker does at a time: a window of a file, put together of pieces of
 * chunks and written at once, or a range that has to be zeros. After some
 * backups of scattered changes a window is of many chunks, and as many small
 * writes cost several times what one large one does.
 */
#define EXTRACT_WINDOW_BLOCKS (8 * CHUNK_BLOCKS)
#define EXTRACT_WINDOW (EXTRACT_WINDOW_BLOCKS * CHUNK_BLOCK_BYTES)

struct extract_piece {
	struct chunk_id chunk;
	unsigned slot, blocks;
	uint32_t at; /* in the window, bytes */
};

struct extract_job {
	struct extract_file *file;
	bool zero;
	uint64_t off, len; /* bytes, within the file's size */
	unsigned n;
	struct extract_piece piece[EXTRACT_WINDOW_BLOCKS];
};

/* What is on its way to the disk, the oldest first. */
#define EXTRACT_BEHIND 4

struct extract_range {
	int fd; /* of its own */
	uint64_t off, len;
};

struct extract_behind {
	struct extract_range range[EXTRACT_BEHIND];
	unsigned first, n;
};

struct extract_worker {
	struct extract *x;
	pthread_t thread;
	uint8_t *want, *now; /* windows: what belongs there, what is there */
};

struct extract {
	const struct extract_how *how;
	struct map_view *view;
	struct chunk_cache *cache;
	int target_fd;
	bool device; /* the target; then: */
	uint64_t device_bytes, device_object;
	struct queue queue;
	struct extract_worker worker[EXTRACT_WORKERS_MAX];
	unsigned workers;        /* that run */
	struct extract_job *job; /* the walker's, being filled; or NULL */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t file_closed;
	unsigned open_files, open_files_max;
	struct extract_behind behind;
	struct err failure; /* the first that ends everything */
	int damage_code;
	char *damage[EXTRACT_DAMAGE_LISTED];
	bool unset_told;
	struct extract_stats stats;
	uint64_t done_bytes, total_bytes;
};

/* ---- extract_work.c ---- */
int extract_start(struct extract *x, struct err *e);
/* Everything queued is done; the first failure. */
int extract_finish(struct extract *x, struct err *e);
/* The walker's: a piece of a chunk, or zeros, for a place. */
int extract_put(struct extract *x, struct extract_file *f,
    const struct map_extent *at, struct err *e);
int extract_put_zero(struct extract *x, struct extract_file *f, uint64_t off,
    uint64_t len, struct err *e);
int extract_flush(struct extract *x, struct err *e);
void extract_add_done(struct extract *x, uint64_t bytes);
void extract_fail(struct extract *x, const struct err *e);
int extract_failed(struct extract *x, struct err *e);
/* Write the blocks of [0, len) at `off` in which `now` and `want` differ. */
int extract_write_differing(struct extract *x, int fd, const uint8_t *now,
    const uint8_t *want, uint64_t len, uint64_t off, struct err *e);

/* ---- extract_behind.c ---- */
/* The job's window has been written. */
int extract_behind(
    struct extract *x, const struct extract_job *j, struct err *e);
/* Nothing is on its way any more; the last failure. */
int extract_behind_end(struct extract *x, struct err *e);

/* ---- extract_file.c ---- */
struct extract_dir *extract_dir_new(int fd, const char *path);
void extract_dir_put(struct extract_dir *d);
/* Opens or makes it; waits while too many are open. Takes over *o's content. */
int extract_file_open(struct extract *x, struct extract_dir *dir,
    const char *name, struct object *o, struct extract_file **out,
    struct err *e);
/* The target itself, a device; it stays open when the file is put. */
struct extract_file *extract_file_device(struct extract *x);
void extract_file_get(struct extract_file *f);
/* The last one sets its attributes and closes it. */
void extract_file_put(struct extract *x, struct extract_file *f);
/* Attributes on a name; what cannot be set is counted and told once. */
int extract_apply(struct extract *x, const struct object *o, int dirfd,
    const char *name, const char *path, struct err *e);

/* ---- extract_walk.c ---- */
int extract_walk(struct extract *x, struct err *e);
int extract_walk_device(struct extract *x, struct err *e);

/* ---- extract_device.c ---- */
bool extract_device_is(const char *path);
/* -EPERM: in use, too small, or not empty. */
int extract_device_open(struct extract *x, struct err *e);
/* `compare`: read first, and write only what is no zero. */
int extract_device_zero(struct extract *x, int fd, uint64_t off, uint64_t len,
    bool compare, struct err *e);

/* ---- extract_guard.c: -EPERM when somebody works with the target ---- */
int extract_guard(const struct extract_how *how, struct err *e);

#endif

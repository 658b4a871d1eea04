/*
 * The parts of the block map, for its own .c files. docs/format.md describes
 * the files byte by byte.
 */
#ifndef NEAP_TRACK_BLOCKMAP_INTERNAL_H
#define NEAP_TRACK_BLOCKMAP_INTERNAL_H

#include <xxhash.h>

#include "agent/core/bytes.h"
#include "agent/core/tmpfile.h"
#include "kmod-free/track/blockmap.h"

#define BLOCKMAP_PAGE_BYTES 4096u
#define BLOCKMAP_PAGE_HASHES 255u
#define BLOCKMAP_SUM_BYTES 16u
#define BLOCKMAP_SECRET_BYTES 192u
#define BLOCKMAP_TIME_BYTES 32u /* NUL-padded */
#define BLOCKMAP_JOB_BYTES 256u /* NUL-padded */
/* So that every offset in `hashes` fits an off_t. */
#define BLOCKMAP_PAGES_MAX ((1ull << 51) - 1)

#define BLOCKMAP_OBJECTS "objects"
#define BLOCKMAP_OBJECTS_NEW "objects.new"
#define BLOCKMAP_HASHES "hashes"
#define BLOCKMAP_REDO "redo"
#define BLOCKMAP_REDO_NEW "redo.new"

/* ---- where the files are and whose (blockmap.c) ---- */

struct blockmap_place {
	int dirfd;
	char *dir; /* for texts */
	uint8_t repo_id[16];
	char job[BLOCKMAP_JOB_BYTES];
};

void blockmap_sum(uint8_t out[BLOCKMAP_SUM_BYTES], const void *p, size_t n);
void blockmap_sum_stream(
    uint8_t out[BLOCKMAP_SUM_BYTES], const XXH3_state_t *s);
uint64_t blockmap_blocks_of(uint64_t size); /* a file of `size` bytes */
uint64_t blockmap_pages_of(uint64_t size);

/* ---- the object table, file `objects` (blockmap_table.c) ---- */

struct blockmap_table {
	char time[BLOCKMAP_TIME_BYTES];
	uint8_t secret[BLOCKMAP_SECRET_BYTES];
	uint64_t pages;            /* every run ends at or before */
	struct blockmap_object *v; /* sorted by key */
	size_t n;
	uint8_t sum[BLOCKMAP_SUM_BYTES]; /* names this very file */
};

void blockmap_table_fini(struct blockmap_table *t);
int blockmap_table_order(const void *a, const void *b); /* for qsort */
int blockmap_table_load(struct blockmap_table *t,
    const struct blockmap_place *at, const char *name, struct err *e);
/* Durable but for its name; sets t->sum. */
int blockmap_table_store(struct blockmap_table *t,
    const struct blockmap_place *at, const char *name, struct err *e);
/* The time in a header that is whole, though the rest may not be; "" else. */
void blockmap_table_time(char out[BLOCKMAP_TIME_BYTES],
    const struct blockmap_place *at, const char *name);

/* ---- free runs of pages (blockmap_runs.c) ---- */

struct blockmap_gap {
	uint64_t page, pages;
};

struct blockmap_runs {
	struct blockmap_gap *gap; /* by page */
	size_t n, first;          /* those before `first` are used up */
	uint64_t end;             /* all behind is free */
	bool full;                /* BLOCKMAP_PAGES_MAX was not enough */
};

/* -EBADMSG: two runs overlap. */
int blockmap_runs_init(
    struct blockmap_runs *r, const struct blockmap_table *t, struct err *e);
void blockmap_runs_fini(struct blockmap_runs *r);
uint64_t blockmap_runs_take(struct blockmap_runs *r, uint64_t pages);
/* Take the `pages` at `page` itself, if they are free. */
bool blockmap_runs_extend(
    struct blockmap_runs *r, uint64_t page, uint64_t pages);

/* ---- pages of file `hashes`, verified and cached (blockmap_pages.c) ---- */

struct blockmap_pages {
	int fd;
	const char *dir;
	const uint8_t *secret;
	struct blockmap_slot *slot;
	uint64_t last; /* read */
};

void blockmap_pages_init(
    struct blockmap_pages *p, int fd, const char *dir, const uint8_t *secret);
void blockmap_pages_fini(struct blockmap_pages *p); /* leaves fd open */
void blockmap_pages_forget(struct blockmap_pages *p);
/* Its 255 hashes; good until the next call. -EBADMSG: torn. */
int blockmap_pages_get(struct blockmap_pages *p, uint64_t page,
    const uint8_t **out, struct err *e);
/* The same to be changed: written by a later call, at the latest by flush. */
int blockmap_pages_edit(
    struct blockmap_pages *p, uint64_t page, uint8_t **out, struct err *e);
int blockmap_pages_flush(struct blockmap_pages *p, struct err *e);
/* All zeros from `page` on; the disk space goes back where that can be. */
int blockmap_pages_clear(
    struct blockmap_pages *p, uint64_t page, uint64_t pages, struct err *e);
/* Stored pages of one run into another, cleared one. */
int blockmap_pages_copy(struct blockmap_pages *p, uint64_t from, uint64_t to,
    uint64_t pages, struct err *e);

/* ---- what an update will do, file `redo` (blockmap_redo.c) ---- */

struct blockmap_redo_head {
	char time[BLOCKMAP_TIME_BYTES], before[BLOCKMAP_TIME_BYTES];
	uint8_t from[BLOCKMAP_SUM_BYTES]; /* the object table it changes */
	uint8_t to[BLOCKMAP_SUM_BYTES];   /* the one it leads to */
	uint64_t body_len, moves_at, puts, moves;
	uint8_t body_sum[BLOCKMAP_SUM_BYTES];
};

/* Applied first, in order; repeating all of them is harmless. */
enum blockmap_move_kind {
	BLOCKMAP_CLEAR = 1, /* pages from a on become zero: n */
	BLOCKMAP_COPY = 2,  /* pages a… to b…: n */
	BLOCKMAP_TAIL = 3,  /* in page a, hashes from b on become zero */
};

struct blockmap_move {
	uint32_t kind;
	uint64_t a, b, n;
};

struct blockmap_redo_writer {
	struct tmpfile tmp;
	struct buf buf;
	XXH3_state_t *sum;
	struct blockmap_redo_head head;
	struct blockmap_move last; /* kept back: neighbours are joined */
};

int blockmap_redo_begin(
    struct blockmap_redo_writer *w, int dirfd, struct err *e);
void blockmap_redo_end(struct blockmap_redo_writer *w);
int blockmap_redo_put(struct blockmap_redo_writer *w, uint64_t page,
    unsigned slot, unsigned count, const uint8_t (*hash)[BLOCKMAP_HASH_LEN],
    struct err *e);
/* Behind all puts. */
int blockmap_redo_move(
    struct blockmap_redo_writer *w, struct blockmap_move move, struct err *e);
/* head.time, before, from, to are set. Durable but for its name. */
int blockmap_redo_store(
    struct blockmap_redo_writer *w, int dirfd, const char *name, struct err *e);

/* The header: -ENOENT, -EBADMSG. */
int blockmap_redo_load(struct blockmap_redo_head *h,
    const struct blockmap_place *at, const char *name, struct err *e);
/* The body: 0 or -EBADMSG. */
int blockmap_redo_check(const struct blockmap_redo_head *h,
    const struct blockmap_place *at, const char *name, struct err *e);
int blockmap_redo_apply(const struct blockmap_redo_head *h,
    const struct blockmap_place *at, const char *name, struct blockmap_pages *p,
    uint64_t pages, struct err *e);

/* ---- the whole ---- */

struct blockmap_update {
	struct blockmap_object *v;
	size_t *old; /* index in the table, or SIZE_MAX */
	size_t n, cap, old_cap;
	bool *taken; /* of the table's objects */
	struct blockmap_runs runs;
	struct blockmap_redo_writer redo;
	struct blockmap_table next; /* from prepare on */
	bool prepared;
};

struct blockmap {
	struct blockmap_place at;
	int hashes;
	struct blockmap_table table;
	struct blockmap_pages pages;
	struct blockmap_update *update;
	bool committing; /* a commit began and has not ended: open it again */
};

/* blockmap_update.c */
void blockmap_update_free(struct blockmap_update *u);
/* blockmap_commit.c */
/* From prepared files to the new state; takes over `next`'s contents. */
int blockmap_commit_finish(
    struct blockmap *b, struct blockmap_table *next, struct err *e);
/* What a crash left: finish it or drop it. */
int blockmap_commit_recover(struct blockmap *b,
    blockmap_committed_fn *committed, void *arg, struct err *e);
int blockmap_commit_drop(const struct blockmap_place *at, struct err *e);
int blockmap_commit_stretch(
    const struct blockmap *b, uint64_t pages, struct err *e);

#endif

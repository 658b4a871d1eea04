/*
 * What the files of the table share: the layout, a frame and a directory
 * parsed, the frame cache, and a merge of sorted sources.
 */
#ifndef NEAP_STORE_TABLE_INTERNAL_H
#define NEAP_STORE_TABLE_INTERNAL_H

#include "agent/store/codec.h"
#include "agent/store/table.h"

#define TABLE_MAGIC "neapTABL"
#define TABLE_END_MAGIC "neapTEND"
#define TABLE_VERSION 1
#define TABLE_HEADER_LEN 64u
#define TABLE_TRAILER_LEN 32u
#define TABLE_FLAG_ENCRYPTED 1
#define TABLE_DIR_FRAME (1ull << 63) /* frame number of the directory */

/* A frame closes when it reaches TABLE_FRAME_BYTES, so the last entry may go
 * over; 16 is more than the two varints. */
#define TABLE_FRAME_PLAIN_MAX                                                  \
	(TABLE_FRAME_BYTES + TABLE_KEY_MAX + TABLE_VALUE_MAX + 16)

const char *table_seal_kind(enum table_kind kind); /* "index", "map" */

/* ---- one frame, opened ---- */

struct table_frame {
	_Atomic unsigned refs;
	uint32_t number;
	uint64_t used; /* the cache's clock */
	uint8_t *plain;
	size_t len;
	uint32_t *at; /* offset of each entry in `plain` */
	uint32_t entries;
};

/* Checks all of the plain bytes; keeps `plain` (malloc) on success. */
int table_frame_new(
    struct table_frame **out, uint8_t *plain, size_t len, struct err *e);
void table_frame_ref(struct table_frame *f);
void table_frame_unref(struct table_frame *f); /* NULL is fine */
void table_frame_entry(const struct table_frame *f, uint32_t i,
    struct span *key, struct span *value);
/* First entry with a key >= `key`; f->entries where there is none. */
uint32_t table_frame_lower(const struct table_frame *f, struct span key);

/* ---- the directory ---- */

/*
 * Kept as it is written, 18 bytes for a frame of the index and 30 for one of a
 * map: of tables that grow with the database it is what stays in memory.
 */
struct table_dir {
	uint64_t entries; /* of the whole table */
	uint32_t frames;
	uint8_t *plain; /* the items lie in it */
	size_t len;
	uint32_t *at; /* where in `plain` each 16th item begins */
};

struct table_dir_item {
	struct span key; /* no key of the frame is less, all before it are */
	uint64_t off;
	uint32_t sealed_len, plain_len;
	enum codec_id codec;
};

/* `end`: offset of the directory, where the last frame must end. Keeps `plain`
 * (malloc) on success. */
int table_dir_parse(struct table_dir *out, uint8_t *plain, size_t len,
    uint64_t end, struct err *e);
void table_dir_fini(struct table_dir *d);
/* Item of frame `n`, which must be there; its key is borrowed. */
struct table_dir_item table_dir_item(const struct table_dir *d, uint32_t n);
/* The only frame that may hold `key`; -1: it is less than all. */
int64_t table_dir_find(const struct table_dir *d, struct span key);

/* ---- frames of an open table ---- */

const struct table_dir *table_directory(const struct table *t);
/* A reference to an opened frame, from the cache or the file. */
int table_take_frame(
    struct table *t, uint32_t number, struct table_frame **out, struct err *e);

/* ---- merging ---- */

/* Entries in key order, like table_iter_next: 1, 0 at the end, < 0. */
struct table_source {
	int (*next)(
	    void *arg, struct span *key, struct span *value, struct err *e);
	void *arg;
};

/*
 * Sources given oldest first as one sequence; of entries with one key the
 * newest source's counts. Borrows what the sources point to.
 */
struct table_merge;
struct table_merge *table_merge_new(const struct table_source *src, size_t n);
/* Over tables from `from` on, with cursors of its own. */
int table_merge_tables(struct table_merge **out, struct table *const *t,
    size_t n, struct span from, struct err *e);
void table_merge_free(struct table_merge *m); /* NULL is fine */
void table_merge_free_scope(struct table_merge **m);
#define SCOPED_MERGE __attribute__((cleanup(table_merge_free_scope)))
int table_merge_next(
    struct table_merge *m, struct span *key, struct span *value, struct err *e);
/* Which source the last entry came from. */
size_t table_merge_winner(const struct table_merge *m);

void table_iter_free_scope(struct table_iter **i);
#define SCOPED_ITER __attribute__((cleanup(table_iter_free_scope)))
struct table_source table_iter_source(struct table_iter *i);

#endif

/*
 * A table: an immutable file of (key, value) entries in key order, in sealed
 * frames of about 32 KiB, with a sparse directory at its end. Index segments
 * and maps are tables. A look-up reads one frame.
 *
 * A builder is one thread's. A table may be read from several threads; it
 * keeps a small cache of open frames.
 */
#ifndef NEAP_STORE_TABLE_H
#define NEAP_STORE_TABLE_H

#include "agent/store/repo.h"
#include "agent/store/seal.h"

#define TABLE_FRAME_BYTES 32768u
#define TABLE_KEY_MAX 4096u
#define TABLE_VALUE_MAX (1u << 20)
#define TABLE_ID_LEN 16

enum table_kind { TABLE_INDEX = 1, TABLE_MAP = 2 };

/* ---- writing ---- */

struct table_builder;
/* Written to `folder`/hex id ("index", "maps") of the repository. */
int table_builder_new(struct table_builder **out, struct repo *r,
    const struct keys *k, enum table_kind kind, struct err *e);
/* Keys strictly ascending (asserted). */
int table_builder_add(
    struct table_builder *b, struct span key, struct span value, struct err *e);
uint64_t table_builder_count(const struct table_builder *b);
/* Gives the id and length of the new file; not yet synced. Frees `b`. */
int table_builder_finish(struct table_builder *b, uint8_t id[TABLE_ID_LEN],
    uint64_t *len, struct err *e);
void table_builder_abort(struct table_builder *b); /* NULL is fine */

/* ---- reading ---- */

struct table;
/* -ENOENT, -EBADMSG with the file's name and the offset. */
int table_open(struct table **out, struct repo *r, const struct keys *k,
    enum table_kind kind, const uint8_t id[TABLE_ID_LEN], struct err *e);
void table_close(struct table *t); /* NULL is fine */
const uint8_t *table_id(const struct table *t);
uint64_t table_count(const struct table *t);
uint64_t table_len(const struct table *t); /* bytes of the file */

/* Open frames that it may keep, 16 unless told: 32 KiB and a little each. */
void table_cache_frames(struct table *t, unsigned frames);

/* The value of `key` into `out` (replaced). 1 found, 0 not there, < 0 error. */
int table_get(struct table *t, struct span key, struct buf *out, struct err *e);

/*
 * A cursor over a table: one thread's. `key` and `value` are borrowed until the
 * next call.
 */
struct table_iter;
struct table_iter *table_iter_new(struct table *t);
void table_iter_free(struct table_iter *i);
/*
 * First entry with a key >= `key` / the last one with a key <= `key`, or the
 * first of the table where there is none. A new cursor is at the first.
 */
int table_iter_seek(struct table_iter *i, struct span key, struct err *e);
int table_iter_seek_last(struct table_iter *i, struct span key, struct err *e);
/* 1 and the entry, 0 at the end, < 0 error; then moves on. */
int table_iter_next(
    struct table_iter *i, struct span *key, struct span *value, struct err *e);

void table_name(
    char out[64], enum table_kind kind, const uint8_t id[TABLE_ID_LEN]);

#endif

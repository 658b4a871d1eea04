/*
 * The host's own table (object, block) → 128-bit XXH3: what the last backup
 * of a job contained, so that the next one knows what changed. A cache: when
 * it is lost, torn or somebody else's, everything is hashed and it is built
 * anew. It is never believed on faith: pages carry checksums, the header names
 * repository, job and backup, and a half-finished update is finished from its
 * redo file or dropped.
 *
 * A file that is zeros (or a hole, or past its end) has the hash of 16 zero
 * bytes. Lies in one folder. docs/format.md specifies the files. One thread's.
 */
#ifndef NEAP_TRACK_BLOCKMAP_H
#define NEAP_TRACK_BLOCKMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/err.h"

#define BLOCKMAP_BLOCK_BYTES 4096u
#define BLOCKMAP_HASH_LEN 16u

struct blockmap;

struct blockmap_owner {
	uint8_t repo_id[16];
	const char *job;
};

struct blockmap_object {
	/* key */
	uint32_t volume;
	uint64_t ino, gen;
	/* value */
	uint64_t object;        /* number in the repository's maps */
	uint64_t size;          /* bytes */
	uint8_t attributes[16]; /* digest of the encoded object record */
	/* own */
	uint64_t run_page, run_pages; /* where its hashes lie */
};

/*
 * -ENOENT: there is none. -EBADMSG / -ESTALE: torn, or not of this owner; the
 * caller says so and calls blockmap_create. `committed` tells whether a backup
 * TIME exists in the repository: it decides about a half-finished update.
 */
typedef int blockmap_committed_fn(void *arg, const char *time);
int blockmap_open(struct blockmap **out, const char *dir,
    const struct blockmap_owner *who, blockmap_committed_fn *committed,
    void *arg, struct err *e);
/* An empty one with a new secret seed; replaces what is there. */
int blockmap_create(struct blockmap **out, const char *dir,
    const struct blockmap_owner *who, struct err *e);
void blockmap_close(struct blockmap *b); /* NULL is fine; drops an update */

/* The backup it describes ("" : none). */
const char *blockmap_backup(const struct blockmap *b);

/* XXH3-128 under the seed of `count` blocks at `data`, zeros for zero blocks. */
void blockmap_hash(const struct blockmap *b, const uint8_t *data,
    unsigned count, uint8_t (*out)[BLOCKMAP_HASH_LEN]);

/* The object as the last backup saw it, or NULL; borrowed until commit. */
const struct blockmap_object *blockmap_find(
    const struct blockmap *b, uint32_t volume, uint64_t ino, uint64_t gen);
/* All of them, in key order (to see which are gone). */
const struct blockmap_object *blockmap_at(const struct blockmap *b, size_t i);
size_t blockmap_objects(const struct blockmap *b);
/* Hashes of `count` blocks as the last backup saw them; past its end zeros.
 * -EBADMSG: a page is torn. */
int blockmap_get(struct blockmap *b, const struct blockmap_object *o,
    uint64_t block, unsigned count, uint8_t (*out)[BLOCKMAP_HASH_LEN],
    struct err *e);
/* They will be asked for soon, and others in between: read them meanwhile. */
void blockmap_ahead(const struct blockmap *b, const struct blockmap_object *o,
    uint64_t block, uint64_t count);
/* The next run of blocks at or after `block` that may be non-zero (skips
 * holes of the table itself): 1 and *start, *count; 0 none. */
int blockmap_stored(struct blockmap *b, const struct blockmap_object *o,
    uint64_t block, uint64_t *start, uint64_t *count, struct err *e);

/*
 * An update: every object that the new backup has is kept or added, hashes of
 * changed blocks are put. Objects not named are dropped by the commit.
 *
 *	begin; keep/add …; put …; prepare(TIME); <record committed>; commit
 *
 * keep carries the old hashes over; `now` has the new size and attributes.
 * Returns an index that put takes.
 */
int blockmap_begin(struct blockmap *b, struct err *e);
size_t blockmap_keep(struct blockmap *b, const struct blockmap_object *old,
    const struct blockmap_object *now);
size_t blockmap_add(struct blockmap *b, const struct blockmap_object *now);
const struct blockmap_object *blockmap_new_at(
    const struct blockmap *b, size_t i);
size_t blockmap_new_objects(const struct blockmap *b);
int blockmap_put(struct blockmap *b, size_t i, uint64_t block, unsigned count,
    const uint8_t (*hash)[BLOCKMAP_HASH_LEN], struct err *e);
/* Everything of the update on disk, beside the old state. */
int blockmap_prepare(struct blockmap *b, const char *time, struct err *e);
/* The backup is committed by now: a failure costs the map, not the backup.
 * Close it; the next open finishes the commit or says that it is lost. */
int blockmap_commit(struct blockmap *b, struct err *e);
void blockmap_abandon(struct blockmap *b);

uint64_t blockmap_bytes(const struct blockmap *b); /* on disk */

#endif

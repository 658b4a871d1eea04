/*
 * Maps: what a backup consists of. A backup names one base map and a few delta
 * maps, oldest first; a newer one hides an older one entry by entry.
 *
 *   names    (folder object, name) → object
 *   objects  object → its record (object.h)
 *   extents  (object, first block) → zero, or (chunk, first slot)
 *
 * Object 1 is the root folder "/" of the tree. Blocks that no extent names
 * read as zeros. An object's content ends at its size.
 *
 * The builder takes entries in any order, from one thread, with bounded
 * memory (it sorts in runs, spilled to unnamed files in `spill_dir`). A view
 * may be read from several threads.
 */
#ifndef NEAP_STORE_MAP_H
#define NEAP_STORE_MAP_H

#include "agent/store/chunk.h"
#include "agent/store/object.h"
#include "agent/store/table.h"

#define MAP_ROOT_OBJECT 1u

struct map_extent {
	uint64_t block; /* first block of the object */
	uint32_t count; /* blocks; 1 to 32 for data */
	bool zero;
	uint8_t slot; /* first slot in the chunk */
	struct chunk_id chunk;
};

struct map_ref { /* how a record names a map */
	uint8_t id[TABLE_ID_LEN];
	uint64_t len, count;
};

/* ---- building a delta (or a base) ------------------------------------ */

struct map_builder;
int map_builder_new(struct map_builder **out, struct repo *r,
    const struct keys *k, const char *spill_dir, struct err *e);
void map_builder_abort(struct map_builder *b); /* NULL is fine */
/* Of two entries with one key the later one counts. */
int map_builder_name(struct map_builder *b, uint64_t folder, const char *name,
    uint64_t object, struct err *e); /* object 0: the name is gone */
int map_builder_object(struct map_builder *b, uint64_t object,
    const struct object *o, struct err *e); /* NULL: the object is gone */
/* Extents of one builder do not overlap. */
int map_builder_extent(struct map_builder *b, uint64_t object,
    const struct map_extent *x, struct err *e);
uint64_t map_builder_count(const struct map_builder *b);
/* Frees `b`. Not yet synced. */
int map_builder_finish(
    struct map_builder *b, struct map_ref *out, struct err *e);

/*
 * Keep the list short: while the last map is at least a quarter of the one
 * before it, merge the two. `maps` (oldest first) is rewritten in place, *n
 * shrinks. Reads and writes metadata only.
 */
int map_compact(struct repo *r, const struct keys *k, struct map_ref *maps,
    size_t *n, uint64_t *written, struct err *e);

/* ---- reading ---- */

struct map_view;
int map_view_open(struct map_view **out, struct repo *r, const struct keys *k,
    const struct map_ref *maps, size_t n, struct err *e);
void map_view_close(struct map_view *v); /* NULL is fine */

/* 1 found, 0 not there, < 0 error. */
int map_view_lookup(struct map_view *v, uint64_t folder, const char *name,
    uint64_t *object, struct err *e);
int map_view_object(
    struct map_view *v, uint64_t object, struct object *out, struct err *e);

/* Names of a folder in byte order, from the first one > `after` (NULL: all).
 * The callback's result != 0 ends the walk and is returned. */
typedef int map_name_fn(void *arg, const char *name, uint64_t object);
int map_view_names(struct map_view *v, uint64_t folder, const char *after,
    map_name_fn *fn, void *arg, struct err *e);

/* All objects in id order, likewise. */
typedef int map_object_fn(void *arg, uint64_t object, const struct object *o);
int map_view_objects(
    struct map_view *v, map_object_fn *fn, void *arg, struct err *e);

/* The data extents of `count` blocks from `block` on, clipped to that range, in
 * order, overlaps resolved; zeros and gaps are left out. */
typedef int map_extent_fn(void *arg, const struct map_extent *x);
int map_view_extents(struct map_view *v, uint64_t object, uint64_t block,
    uint64_t count, map_extent_fn *fn, void *arg, struct err *e);

/* A path "/a/b" from the root; 1 found, 0 not there. */
int map_view_path(
    struct map_view *v, const char *path, uint64_t *object, struct err *e);

#endif

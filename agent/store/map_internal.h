/*
 * What the files of the map share: entries as bytes, the sorter of a builder,
 * and the overlay of several maps' extents.
 */
#ifndef NEAP_STORE_MAP_INTERNAL_H
#define NEAP_STORE_MAP_INTERNAL_H

#include "agent/store/map.h"
#include "agent/store/table_internal.h"

/* ---- entries as bytes (docs/format.md, "Map") --------------------------- */

#define MAP_TAG_EXTENT 'E'
#define MAP_TAG_NAME 'N'
#define MAP_TAG_OBJECT 'O'
#define MAP_NAME_MAX (TABLE_KEY_MAX - 9)
/* Bytes of an object fit in an off_t: 2^63 / 4096. */
#define MAP_BLOCK_MAX (1ull << 51)

struct map_key { /* room for the keys of fixed length */
	uint8_t b[17];
	size_t len;
};

struct map_key map_key_extent(uint64_t object, uint64_t block);
struct map_key map_key_object(uint64_t object);
struct map_key map_key_folder(uint64_t folder); /* before all its names */
static inline struct span
map_key_span(const struct map_key *k)
{
	return SPAN(k->b, k->len);
}

void map_encode_extent(struct buf *out, const struct map_extent *x);
/* Each -EBADMSG where the entry breaks a rule of the format. */
int map_decode_extent(uint64_t *object, struct map_extent *out, struct span key,
    struct span value, struct err *e);
int map_decode_object_key(uint64_t *object, struct span key, struct err *e);
/* *name is borrowed from `key`; object 0: the name is gone. */
int map_decode_name(uint64_t *folder, struct span *name, uint64_t *object,
    struct span key, struct span value, struct err *e);
bool map_name_is_valid(struct span name);

/* Open the tables that `maps` name, each as long as it says. */
int map_open_tables(struct table ***out, struct repo *r, const struct keys *k,
    const struct map_ref *maps, size_t n, struct err *e);
void map_close_tables(struct table **t, size_t n); /* NULL is fine */

/* ---- sorting with bounded memory ---- */

struct map_sort;
/* Runs go to an unnamed file in `spill_dir`, only when they must. */
struct map_sort *map_sort_new(const char *spill_dir);
void map_sort_free(struct map_sort *s); /* NULL is fine */
int map_sort_add(
    struct map_sort *s, struct span key, struct span value, struct err *e);
/* All in key order; of one key the entry added last. Once. */
typedef int map_sort_fn(
    void *arg, struct span key, struct span value, struct err *e);
int map_sort_each(
    struct map_sort *s, map_sort_fn *fn, void *arg, struct err *e);
/* For tests: memory of sorters made from now on. 0: the default, 8 MiB. */
void map_sort_set_limit(size_t bytes);
uint64_t map_sort_runs(const struct map_sort *s); /* spilled so far */

/* ---- the extents of several maps as one ---- */

/*
 * Walks the extents of tables given oldest first. For every block the newest
 * table that has an extent over it counts; what it hides is cut away.
 */
struct map_overlay;
struct map_overlay *map_overlay_new(struct table *const *t, size_t n);
void map_overlay_free(struct map_overlay *o); /* NULL is fine */
void map_overlay_free_scope(struct map_overlay **o);
#define SCOPED_OVERLAY __attribute__((cleanup(map_overlay_free_scope)))
/* To `block` of `object`; an extent that begins before it is cut. */
int map_overlay_seek(
    struct map_overlay *o, uint64_t object, uint64_t block, struct err *e);
/* The next piece, zeros too: 1, 0 at the end, < 0. Pieces come in the order
 * of (object, block). */
int map_overlay_next(struct map_overlay *o, uint64_t *object,
    struct map_extent *out, struct err *e);

#endif

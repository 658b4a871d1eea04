/*
 * A set of byte ranges of numbered objects: what a tracker answers. Bounded:
 * past `max` ranges it grows coarser (neighbours are joined), which may only
 * make it name more. One thread's.
 */
#ifndef NEAP_IO_EXTENTS_H
#define NEAP_IO_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extent {
	uint64_t object;   /* inode number; 0 for an image */
	uint64_t off, len; /* bytes */
	/* Where it begins on the volume, so that reads can be put in the order
	 * of the disk: a hint. 0: not known, or not as plain bytes. */
	uint64_t place;
};

struct extents {
	struct extent *v; /* sorted, merged and aligned after extents_settle */
	size_t n, cap;
	size_t max;     /* ranges kept; 0: EXTENTS_MAX */
	uint32_t align; /* bytes, a power of two; 0: 4096 */
	bool settled;
};

/* 32 MiB, as a tracker may add twice as many before they are merged. */
#define EXTENTS_MAX (1u << 19)

void extents_fini(struct extents *x);
#define SCOPED_EXTENTS __attribute__((cleanup(extents_fini)))
/* len 0 adds nothing; a range past 2^64 is clipped. */
void extents_add(
    struct extents *x, uint64_t object, uint64_t off, uint64_t len);
/* The same of a range whose place is known. */
void extents_add_placed(struct extents *x, const struct extent *v);
/* Round outwards to `align`, sort, merge. Required before reading v. */
void extents_settle(struct extents *x);
/* Settled only: all of [off, off+len) is in the set / some of it is. */
bool extents_contain(
    const struct extents *x, uint64_t object, uint64_t off, uint64_t len);
bool extents_touch(
    const struct extents *x, uint64_t object, uint64_t off, uint64_t len);
/* Settled only: the first range of `object` that ends behind `off`, NULL: none. */
const struct extent *extents_next(
    const struct extents *x, uint64_t object, uint64_t off);
/* Of two settled ones: adds to `out` what of `object` is in one of them only. */
void extents_differing(const struct extents *a, const struct extents *b,
    uint64_t object, struct extents *out);
/* Settled only: index of the first range of `object` (or where it would be). */
size_t extents_first(const struct extents *x, uint64_t object);
uint64_t extents_bytes(const struct extents *x);

#endif

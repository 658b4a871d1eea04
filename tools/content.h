/*
 * The bytes of a backup's files: extents of the map, chunks through the cache,
 * and threads that decode ahead of sequential readers. Thread-safe.
 */
#ifndef NEAP_TOOLS_CONTENT_H
#define NEAP_TOOLS_CONTENT_H

#include <stdatomic.h>

#include "agent/store/map.h"
#include "tools/chunk_cache.h"

struct content;

/* One reader of one file; {0} at first. Racing users only spoil the guess. */
struct content_stream {
	atomic_uint_fast64_t next;  /* where a sequential reader goes on */
	atomic_uint_fast64_t ahead; /* decoded, or asked for, up to here */
};

int content_new(struct content **out, struct map_view *view,
    struct chunk_cache *cache, struct err *e);
void content_free(struct content *c); /* stops its threads; NULL is fine */

/*
 * `len` bytes of an object at `off`; zeros where no extent is. The size of the
 * object is the caller's business. -EBADMSG, -ENOENT: damaged or missing, with
 * the chunk's place in the text.
 */
int content_read(struct content *c, uint64_t object, uint64_t off, void *to,
    size_t len, struct err *e);

/*
 * The first byte at or after `off` and below `size` that lies in an extent
 * (`data`), or in none: through *at, `size` where there is none.
 */
int content_seek(struct content *c, uint64_t object, uint64_t off,
    uint64_t size, bool data, uint64_t *at, struct err *e);

/* Tell of a read, so that what follows is decoded ahead. `size`: of the file. */
void content_follow(struct content *c, struct content_stream *s,
    uint64_t object, uint64_t off, size_t len, uint64_t size);

#endif

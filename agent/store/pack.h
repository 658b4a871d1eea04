/*
 * Packs: immutable files of sealed chunks with a directory at their end, as
 * docs/format.md has them. A writer belongs to one thread; a reader caches
 * open packs' keys and may be used from several.
 */
#ifndef NEAP_STORE_PACK_H
#define NEAP_STORE_PACK_H

#include "agent/store/chunk.h"
#include "agent/store/repo.h"
#include "agent/store/seal.h"

#define PACK_TARGET_BYTES (32u << 20)
#define PACK_MAX_BYTES (64u << 20)

struct pack_entry {
	struct chunk_id id;
	uint32_t off, len;
	uint8_t blocks, codec;
};

struct pack_writer;

int pack_writer_new(struct pack_writer **out, struct repo *r,
    const struct keys *k, struct err *e);
const uint8_t *pack_writer_id(const struct pack_writer *w);
uint64_t pack_writer_len(const struct pack_writer *w);
/* The pack's own key; a frame's number is its offset in the pack. */
const struct seal *pack_writer_seal(const struct pack_writer *w);
/* Reserve the place of a frame of `len` sealed bytes; thread-safe. */
uint32_t pack_writer_reserve(struct pack_writer *w, uint32_t len);
/* Frames arrive in the order of their reservations. */
int pack_writer_put(struct pack_writer *w, const struct pack_entry *en,
    struct span sealed, struct err *e);
/* Directory, trailer, name. The pack is whole, not yet synced. Frees `w`. */
int pack_writer_finish(struct pack_writer *w, struct err *e);
void pack_writer_abort(struct pack_writer *w); /* NULL is fine */

/* The directory of a pack; needs the metadata key only. */
int pack_directory(struct repo *r, const struct keys *k,
    const uint8_t pack_id[16], struct pack_entry **entries, size_t *n,
    struct err *e);

struct pack_reader;
int pack_reader_new(struct pack_reader **out, struct repo *r,
    const struct keys *k, struct err *e);
void pack_reader_free(struct pack_reader *p);
/*
 * The plain bytes of a chunk into `to` (CHUNK_BYTES). Opened, unpacked, and
 * its digest compared with `id`: -EBADMSG names pack and offset. -ENOENT: the
 * pack is not there. -EKEYREJECTED: no private key here.
 */
int pack_reader_get(struct pack_reader *p, const struct chunk_id *id,
    const struct chunk_place *at, uint8_t *to, struct err *e);

void pack_name(char out[64], const uint8_t pack_id[16]); /* packs/xx/… */

#endif

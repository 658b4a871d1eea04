/*
 * The bytes of a pack: header, directory, trailer, as docs/format.md §5 has
 * them. Internal to agent/store; the writer, the reader and pack_directory
 * share it. Errors do not name the pack: callers do.
 */
#ifndef NEAP_STORE_PACK_FORMAT_H
#define NEAP_STORE_PACK_FORMAT_H

#include "agent/store/pack.h"

#define PACK_FORMAT_HEADER_LEN 64u
#define PACK_FORMAT_TRAILER_LEN 32u
#define PACK_FORMAT_ENTRY_LEN 40u
#define PACK_FORMAT_CHUNKS_MAX 65535u

struct pack_format_tail { /* what a trailer says */
	uint64_t dir_off;
	uint32_t dir_len; /* sealed */
	uint32_t count;
};

void pack_format_header(uint8_t out[PACK_FORMAT_HEADER_LEN], bool encrypted,
    const uint8_t id[16], const uint8_t pub[SEAL_PACK_PUBLIC_LEN]);
int pack_format_check_header(const uint8_t h[PACK_FORMAT_HEADER_LEN],
    bool encrypted, const uint8_t id[16], struct err *e);
static inline const uint8_t *
pack_format_public(const uint8_t h[PACK_FORMAT_HEADER_LEN])
{
	return h + 32;
}

void pack_format_trailer(
    uint8_t out[PACK_FORMAT_TRAILER_LEN], const struct pack_format_tail *t);
int pack_format_read_trailer(const uint8_t in[PACK_FORMAT_TRAILER_LEN],
    uint64_t file_len, struct pack_format_tail *out, struct err *e);

void pack_format_directory(
    struct buf *out, const struct pack_entry *v, size_t n);
/* Checked whole: `v` has t->count elements and its frames tile [64, D). */
int pack_format_read_directory(struct span plain,
    const struct pack_format_tail *t, struct pack_entry *v, struct err *e);

/* A frame's own bounds: blocks, codec, length; -EBADMSG. */
int pack_format_check_frame(
    uint32_t len, unsigned blocks, unsigned codec, struct err *e);

#endif

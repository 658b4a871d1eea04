/*
 * A chunk: 1 to 32 blocks of 4 KiB, named by the strong digest of their plain
 * content. This header has the words; pack.h and ingest.h store them.
 */
#ifndef NEAP_STORE_CHUNK_H
#define NEAP_STORE_CHUNK_H

#include <stdint.h>

#include "agent/store/keys.h"

#define CHUNK_BLOCK_BYTES 4096u
#define CHUNK_BLOCKS 32u
#define CHUNK_BYTES (CHUNK_BLOCK_BYTES * CHUNK_BLOCKS)

struct chunk_id {
	uint8_t b[32];
};

/* Where a chunk lies, as the index says it. */
struct chunk_place {
	uint8_t pack[16];
	uint32_t off;   /* of the sealed frame in the pack, bytes */
	uint32_t len;   /* of the sealed frame */
	uint8_t blocks; /* 1 to 32 */
	uint8_t codec;  /* enum codec_id */
};

/*
 * A chunk's id: SHA-256 of the SHA-256s of its blocks, one behind the other;
 * the outer one keyed (HMAC) in encrypted repositories. Blocks can be hashed
 * side by side (leaves.h), one long text cannot.
 */
struct chunk_digest; /* one thread's context */
int chunk_digest_new(
    struct chunk_digest **out, const struct keys *k, struct err *e);
void chunk_digest_free(struct chunk_digest *d);
/* `plain` is 1 to 32 whole blocks. */
int chunk_digest_of(struct chunk_digest *d, struct span plain,
    struct chunk_id *out, struct err *e);

#endif

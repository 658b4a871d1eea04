/*
 * Compression of one buffer: zstd, or raw where zstd does not help. A codec is
 * one thread's; its memory is taken when it is made.
 */
#ifndef NEAP_STORE_CODEC_H
#define NEAP_STORE_CODEC_H

#include "agent/core/bytes.h"
#include "agent/core/err.h"

enum codec_id { CODEC_RAW = 0, CODEC_ZSTD = 1 };

struct codec;

int codec_new(struct codec **out, int zstd_level, struct err *e);
void codec_free(struct codec *c); /* NULL is fine */

size_t codec_bound(size_t plain_len);
/* Compress into `to` (codec_bound bytes); raw when that is not smaller. */
int codec_pack(struct codec *c, struct span plain, uint8_t *to, size_t *len,
    enum codec_id *id, struct err *e);
/* Exactly `len` plain bytes come out, or -EBADMSG. */
int codec_unpack(struct codec *c, enum codec_id id, struct span packed,
    uint8_t *to, size_t len, struct err *e);

#endif

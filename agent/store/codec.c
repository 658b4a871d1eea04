/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/codec.h"

#include <errno.h>
#include <string.h>
#include <zstd.h>

#include "agent/core/mem.h"

struct codec {
	ZSTD_CCtx *c;
	ZSTD_DCtx *d;
};

static int
set_params(ZSTD_CCtx *c, int level, struct err *e)
{
	ZSTD_bounds b = ZSTD_cParam_getBounds(ZSTD_c_compressionLevel);

	if (level < b.lowerBound || level > b.upperBound)
		return err_set(e, -EINVAL,
		    "compression level %d: zstd has %d to %d", level,
		    b.lowerBound, b.upperBound);
	/* The frame around it has a tag and the length is known: both would be
	 * bytes for nothing in each of millions of small frames. */
	if (ZSTD_isError(
		ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 0)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0)))
		return err_set(e, -EINVAL, "zstd refuses its parameters");
	return 0;
}

int
codec_new(struct codec **out, int zstd_level, struct err *e)
{
	struct codec *c = mem_new(sizeof *c);
	int rc = 0;

	c->c = ZSTD_createCCtx();
	c->d = ZSTD_createDCtx();
	if (c->c == NULL || c->d == NULL)
		rc = err_sys(e, ENOMEM, "take memory for zstd");
	else
		rc = set_params(c->c, zstd_level, e);
	if (rc < 0) {
		codec_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void
codec_free(struct codec *c)
{
	if (c == NULL)
		return;
	ZSTD_freeCCtx(c->c);
	ZSTD_freeDCtx(c->d);
	free(c);
}

size_t
codec_bound(size_t plain_len)
{
	return ZSTD_compressBound(plain_len);
}

int
codec_pack(struct codec *c, struct span plain, uint8_t *to, size_t *len,
    enum codec_id *id, struct err *e)
{
	size_t n = ZSTD_compress2(
	    c->c, to, codec_bound(plain.len), plain.data, plain.len);

	if (ZSTD_isError(n))
		return err_set(e, -EIO, "compress %zu bytes: zstd: %s",
		    plain.len, ZSTD_getErrorName(n));
	if (n < plain.len) {
		*len = n;
		*id = CODEC_ZSTD;
		return 0;
	}
	if (plain.len > 0)
		memcpy(to, plain.data, plain.len);
	*len = plain.len;
	*id = CODEC_RAW;
	return 0;
}

static int
unpack_zstd(
    struct codec *c, struct span packed, uint8_t *to, size_t len, struct err *e)
{
	size_t n = ZSTD_findFrameCompressedSize(packed.data, packed.len);

	/* zstd itself would also take several frames, and skip over bytes that
	 * mean nothing: the format has exactly one. */
	if (ZSTD_isError(n))
		return err_set(
		    e, -EBADMSG, "unpack: zstd: %s", ZSTD_getErrorName(n));
	if (n != packed.len)
		return err_set(e, -EBADMSG,
		    "unpack: %zu bytes behind the zstd frame", packed.len - n);
	n = ZSTD_decompressDCtx(c->d, to, len, packed.data, packed.len);
	if (ZSTD_isError(n))
		return err_set(
		    e, -EBADMSG, "unpack: zstd: %s", ZSTD_getErrorName(n));
	if (n != len)
		return err_set(e, -EBADMSG,
		    "unpack: %zu bytes came out, %zu expected", n, len);
	return 0;
}

int
codec_unpack(struct codec *c, enum codec_id id, struct span packed, uint8_t *to,
    size_t len, struct err *e)
{
	switch (id) {
	case CODEC_ZSTD:
		return unpack_zstd(c, packed, to, len, e);
	case CODEC_RAW:
		if (packed.len != len)
			return err_set(e, -EBADMSG,
			    "unpack: %zu raw bytes, %zu expected", packed.len,
			    len);
		if (len > 0)
			memcpy(to, packed.data, len);
		return 0;
	}
	return err_set(e, -EBADMSG, "unpack: codec %d is not known", (int)id);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/pack_format.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <string.h>

#include "agent/store/codec.h"

#define VERSION 1
#define FLAG_ENCRYPTED 1

static const char head_magic[8] = "neapPACK";
static const char tail_magic[8] = "neapPEND";

void
pack_format_header(uint8_t out[PACK_FORMAT_HEADER_LEN], bool encrypted,
    const uint8_t id[16], const uint8_t pub[SEAL_PACK_PUBLIC_LEN])
{
	memset(out, 0, PACK_FORMAT_HEADER_LEN);
	memcpy(out, head_magic, 8);
	bytes_put_le16(out + 8, VERSION);
	bytes_put_le16(out + 10, encrypted ? FLAG_ENCRYPTED : 0);
	memcpy(out + 16, id, 16);
	memcpy(out + 32, pub, SEAL_PACK_PUBLIC_LEN);
}

int
pack_format_check_header(const uint8_t h[PACK_FORMAT_HEADER_LEN],
    bool encrypted, const uint8_t id[16], struct err *e)
{
	uint16_t flags = bytes_le16(h + 10);

	if (memcmp(h, head_magic, 8) != 0)
		return err_set(e, -EBADMSG, "header at 0: not a pack");
	if (bytes_le16(h + 8) != VERSION)
		return err_set(e, -EOPNOTSUPP,
		    "header at 8: pack version %u, this neap knows %d",
		    bytes_le16(h + 8), VERSION);
	if (flags != (encrypted ? FLAG_ENCRYPTED : 0))
		return err_set(e, -EBADMSG,
		    "header at 10: flags %#x, but the repository is "
		    "%sencrypted",
		    flags, encrypted ? "" : "not ");
	if (memcmp(h + 16, id, 16) != 0)
		return err_set(e, -EBADMSG,
		    "header at 16: it is another pack than its name says");
	return 0;
}

void
pack_format_trailer(
    uint8_t out[PACK_FORMAT_TRAILER_LEN], const struct pack_format_tail *t)
{
	memcpy(out, tail_magic, 8);
	bytes_put_le64(out + 8, t->dir_off);
	bytes_put_le32(out + 16, t->dir_len);
	bytes_put_le32(out + 20, t->count);
	bytes_put_le64(out + 24, XXH64(out, 24, 0));
}

int
pack_format_read_trailer(const uint8_t in[PACK_FORMAT_TRAILER_LEN],
    uint64_t file_len, struct pack_format_tail *out, struct err *e)
{
	struct pack_format_tail t = {
	    .dir_off = bytes_le64(in + 8),
	    .dir_len = bytes_le32(in + 16),
	    .count = bytes_le32(in + 20),
	};
	unsigned long long at = file_len - PACK_FORMAT_TRAILER_LEN;

	if (memcmp(in, tail_magic, 8) != 0)
		return err_set(e, -EBADMSG,
		    "trailer at %llu: not one; the pack is cut off or damaged",
		    at);
	if (bytes_le64(in + 24) != XXH64(in, 24, 0))
		return err_set(e, -EBADMSG,
		    "trailer at %llu: its checksum does not fit", at);
	if (t.count < 1 || t.count > PACK_FORMAT_CHUNKS_MAX)
		return err_set(
		    e, -EBADMSG, "trailer at %llu: %u chunks", at, t.count);
	if (t.dir_off < PACK_FORMAT_HEADER_LEN || t.dir_off > file_len ||
	    t.dir_off + t.dir_len + PACK_FORMAT_TRAILER_LEN != file_len ||
	    t.dir_len != 8 + t.count * PACK_FORMAT_ENTRY_LEN + SEAL_TAG_LEN)
		return err_set(e, -EBADMSG,
		    "trailer at %llu: a directory of %u bytes at %llu does not "
		    "fit %u chunks and the pack's length %llu",
		    at, t.dir_len, (unsigned long long)t.dir_off, t.count,
		    (unsigned long long)file_len);
	*out = t;
	return 0;
}

int
pack_format_check_frame(
    uint32_t len, unsigned blocks, unsigned codec, struct err *e)
{
	uint32_t raw = blocks * CHUNK_BLOCK_BYTES + SEAL_TAG_LEN;

	if (blocks < 1 || blocks > CHUNK_BLOCKS)
		return err_set(e, -EBADMSG, "a chunk of %u blocks", blocks);
	if (codec != CODEC_RAW && codec != CODEC_ZSTD)
		return err_set(
		    e, -EBADMSG, "a chunk of unknown codec %u", codec);
	if (len <= SEAL_TAG_LEN || len > raw ||
	    (codec == CODEC_RAW && len != raw))
		return err_set(e, -EBADMSG,
		    "a frame of %u bytes for a chunk of %u blocks", len,
		    blocks);
	return 0;
}

void
pack_format_directory(struct buf *out, const struct pack_entry *v, size_t n)
{
	buf_put_le32(out, (uint32_t)n);
	buf_put_le32(out, 0);
	for (size_t i = 0; i < n; i++) {
		buf_put(out, v[i].id.b, sizeof v[i].id.b);
		buf_put_le32(out, v[i].off);
		buf_put_le32(out, v[i].len | (v[i].blocks - 1u) << 20 |
				      (uint32_t)v[i].codec << 25);
	}
}

static struct pack_entry
read_entry(const uint8_t *p)
{
	uint32_t packed = bytes_le32(p + 36);
	struct pack_entry en = {
	    .off = bytes_le32(p + 32),
	    .len = packed & 0xfffff,
	    .blocks = (uint8_t)((packed >> 20 & 31) + 1),
	    /* The bits above must be zero: they make the codec unknown. */
	    .codec = (uint8_t)(packed >> 25),
	};

	memcpy(en.id.b, p, sizeof en.id.b);
	return en;
}

int
pack_format_read_directory(struct span plain, const struct pack_format_tail *t,
    struct pack_entry *v, struct err *e)
{
	const uint8_t *p = plain.data;
	uint64_t at = PACK_FORMAT_HEADER_LEN;

	if (plain.len != 8 + (size_t)t->count * PACK_FORMAT_ENTRY_LEN ||
	    bytes_le32(p) != t->count)
		return err_set(e, -EBADMSG,
		    "directory at %llu: its count is not the trailer's %u",
		    (unsigned long long)t->dir_off, t->count);
	for (uint32_t i = 0; i < t->count; i++) {
		v[i] = read_entry(p + 8 + (size_t)i * PACK_FORMAT_ENTRY_LEN);
		if (v[i].off != at)
			return err_set(e, -EBADMSG,
			    "directory, entry %u: its frame is at %u, the one "
			    "before ends at %llu",
			    i, v[i].off, (unsigned long long)at);
		if (pack_format_check_frame(
			v[i].len, v[i].blocks, v[i].codec, e) < 0)
			return err_wrap(e, "directory, entry %u", i);
		at += v[i].len;
	}
	if (at != t->dir_off)
		return err_set(e, -EBADMSG,
		    "directory at %llu: the frames end at %llu",
		    (unsigned long long)t->dir_off, (unsigned long long)at);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a pack: a byte says which. 0: a header and its pack's id; 1: a
 * trailer, 8 bytes for the file's length before it; else a directory, whose
 * count and end are taken from it.
 */
#include <xxhash.h>

#include "agent/store/pack_format.h"
#include "tests/fuzz/fuzz.h"

static void
trailer(const uint8_t *data, size_t len)
{
	uint64_t file = fuzz_u64(&data, &len, 8) % (PACK_MAX_BYTES + 1);
	uint8_t t[PACK_FORMAT_TRAILER_LEN];
	struct pack_format_tail tail;
	struct err e = ERR_NONE;

	if (len != sizeof t || file < PACK_FORMAT_HEADER_LEN + sizeof t)
		return;
	memcpy(t, data, sizeof t);
	bytes_put_le64(t + 24, XXH64(t, 24, 0));
	if (pack_format_read_trailer(t, file, &tail, &e) < 0)
		return;
	MUST(tail.count > 0 && tail.count <= PACK_FORMAT_CHUNKS_MAX);
	MUST(tail.dir_off >= PACK_FORMAT_HEADER_LEN);
	MUST(tail.dir_off + tail.dir_len + sizeof t == file);
}

static void
directory(struct span plain)
{
	struct pack_format_tail t = {.dir_len = 8};
	SCOPED_FREE struct pack_entry *v = NULL;
	SCOPED_BUF struct buf again = {0};
	struct err e = ERR_NONE;
	uint64_t at = PACK_FORMAT_HEADER_LEN;

	if (plain.len < 8)
		return;
	t.count = bytes_le32(plain.data);
	if (t.count == 0 || t.count > PACK_FORMAT_CHUNKS_MAX)
		return;
	t.dir_off = PACK_FORMAT_HEADER_LEN;
	for (uint32_t i = 0; i < t.count && plain.len >= 48 + i * 40ul; i++)
		t.dir_off +=
		    bytes_le32((const uint8_t *)plain.data + 44 + i * 40ul) &
		    0xfffff;
	v = mem_array(t.count, sizeof *v);
	if (pack_format_read_directory(plain, &t, v, &e) < 0)
		return;
	for (uint32_t i = 0; i < t.count; i++) {
		MUST(v[i].off == at && v[i].len > SEAL_TAG_LEN);
		MUST(v[i].blocks >= 1 && v[i].blocks <= CHUNK_BLOCKS);
		at += v[i].len;
	}
	pack_format_directory(&again, v, t.count);
	MUST(again.len == plain.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	unsigned part = (unsigned)fuzz_u64(&data, &len, 1);
	struct err e = ERR_NONE;

	if (part == 0 && len == PACK_FORMAT_HEADER_LEN + 16)
		pack_format_check_header(
		    data, data[10] & 1, data + PACK_FORMAT_HEADER_LEN, &e);
	else if (part == 1)
		trailer(data, len);
	else
		directory(SPAN(data, len));
	return 0;
}

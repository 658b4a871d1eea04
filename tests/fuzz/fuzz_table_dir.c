/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a table. 8 bytes say where it lies; 0: where its own frames
 * end, so that the fuzzer need not find that out.
 */
#include "agent/core/mem.h"
#include "agent/store/table_internal.h"
#include "tests/fuzz/fuzz.h"

/* Where the last frame of a directory ends, if its items can be read at all. */
static uint64_t
end_of(struct span plain)
{
	struct cursor c = cursor_of(plain);
	uint64_t end = TABLE_HEADER_LEN;

	cursor_le64(&c);
	for (uint32_t n = cursor_le32(&c); n > 0 && !c.bad; n--) {
		cursor_string(&c);
		end = cursor_varint(&c);
		end += cursor_varint(&c);
		cursor_varint(&c);
		cursor_u8(&c);
	}
	return end;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint64_t end = fuzz_u64(&data, &len, 8), at = TABLE_HEADER_LEN;
	struct span plain = SPAN(data, len);
	uint8_t *own = NULL;
	struct table_dir d;
	struct err e = ERR_NONE;

	if (end == 0)
		end = end_of(plain);
	if (end > INT64_MAX ||
	    table_dir_parse(&d, own = mem_dup(data, len), len, end, &e) < 0) {
		free(own);
		return 0;
	}
	for (uint32_t i = 0; i < d.frames; i++) {
		struct table_dir_item it = table_dir_item(&d, i);

		MUST(it.key.len > 0 && it.key.len <= TABLE_KEY_MAX);
		MUST(table_dir_find(&d, it.key) == i);
		MUST(it.off == at && it.sealed_len > SEAL_TAG_LEN);
		MUST(it.plain_len <= TABLE_FRAME_PLAIN_MAX);
		at += it.sealed_len;
	}
	MUST(at == end);
	table_dir_fini(&d);
	return 0;
}

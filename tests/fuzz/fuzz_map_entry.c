/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry of a map: a byte for the key's length, the key, the value. What is
 * taken obeys the rules of docs/format.md and comes back from its own bytes.
 */
#include "agent/store/map_internal.h"
#include "tests/fuzz/fuzz.h"

static void
extent(struct span key, struct span value)
{
	SCOPED_BUF struct buf b = {0};
	struct map_extent x, again;
	struct err e = ERR_NONE;
	uint64_t object, of;

	if (map_decode_extent(&object, &x, key, value, &e) < 0)
		return;
	MUST(x.count > 0 && x.block + x.count <= MAP_BLOCK_MAX);
	MUST(x.zero || x.slot + x.count <= CHUNK_BLOCKS);
	map_encode_extent(&b, &x);
	MUST(map_decode_extent(&of, &again, key, buf_span(&b), &e) == 0);
	MUST(of == object && again.block == x.block);
	MUST(again.count == x.count && again.zero == x.zero);
	MUST(again.slot == x.slot &&
	     memcmp(&again.chunk, &x.chunk, sizeof x.chunk) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	size_t n = fuzz_u64(&data, &len, 1);
	struct span key = SPAN(data, n < len ? n : len);
	struct span value = SPAN(data + key.len, len - key.len);
	struct err e = ERR_NONE;
	uint64_t folder, object;
	struct span name;

	/* No table holds an empty key. */
	if (key.len == 0)
		return 0;
	extent(key, value);
	if (map_decode_name(&folder, &name, &object, key, value, &e) == 0) {
		MUST(map_name_is_valid(name));
		MUST(memchr(name.data, '/', name.len) == NULL);
		MUST((object == 0) == (value.len == 0));
	}
	if (map_decode_object_key(&object, key, &e) == 0)
		MUST(object != 0);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The place of a chunk in the index: what is taken is written as it was. */
#include "agent/store/index_internal.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t again[INDEX_PLACE_LEN];
	struct chunk_place at = {0};
	struct err e = ERR_NONE;
	uint32_t number;

	if (index_decode_place(&at, &number, SPAN(data, len), &e) < 0)
		return 0;
	MUST(at.blocks >= 1 && at.blocks <= CHUNK_BLOCKS);
	index_encode_place(again, number, &at);
	MUST(span_cmp(SPAN(data, len), SPAN(again, sizeof again)) == 0);
	return 0;
}

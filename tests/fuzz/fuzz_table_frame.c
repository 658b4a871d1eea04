/* SPDX-License-Identifier: Apache-2.0 */
/* A frame of a table: its entries lie within it and are found by their keys. */
#include "agent/store/table_internal.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *plain = mem_dup(data, len);
	struct table_frame *f;
	struct err e = ERR_NONE;

	if (table_frame_new(&f, plain, len, &e) < 0) {
		free(plain);
		return 0;
	}
	MUST(f->entries > 0);
	for (uint32_t i = 0; i < f->entries; i++) {
		struct span key, value;

		table_frame_entry(f, i, &key, &value);
		MUST((const uint8_t *)key.data >= plain);
		MUST((const uint8_t *)value.data + value.len <= plain + len);
		MUST(table_frame_lower(f, key) == i);
	}
	table_frame_unref(f);
	return 0;
}

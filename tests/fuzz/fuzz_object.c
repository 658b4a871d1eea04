/* SPDX-License-Identifier: Apache-2.0 */
/* An object record: what is taken can be written again, and is then the same. */
#include "agent/store/object.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	SCOPED_OBJECT struct object o = {0}, again = {0};
	SCOPED_BUF struct buf a = {0}, b = {0};
	struct err e = ERR_NONE;

	if (object_decode(&o, SPAN(data, len), &e) < 0)
		return 0;
	object_encode(&o, &a);
	MUST(object_decode(&again, buf_span(&a), &e) == 0);
	object_encode(&again, &b);
	MUST(span_cmp(buf_span(&a), buf_span(&b)) == 0);
	return 0;
}

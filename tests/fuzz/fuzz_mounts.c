/* SPDX-License-Identifier: Apache-2.0 */
/* A mount table, as /proc/self/mountinfo has it: names in it are anybody's. */
#include <errno.h>

#include "agent/core/mounts.h"
#include "tests/fuzz/fuzz.h"

static char *text;
static size_t text_len;

static void
must_lie_within(const char *s)
{
	MUST(s >= text && s + strlen(s) <= text + text_len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	SCOPED_FREE char *copy = mem_strn((const char *)data, len);
	SCOPED_MOUNTS struct mounts m = {0};
	struct err e = ERR_NONE;

	text = copy;
	text_len = strlen(copy);
	if (mounts_parse(&m, copy, &e) < 0) {
		MUST(e.code == -EBADMSG);
		return 0;
	}
	for (size_t i = 0; i < m.n; i++) {
		const struct mounts_row *r = &m.v[i];

		must_lie_within(r->dev);
		must_lie_within(r->root);
		must_lie_within(r->point);
		must_lie_within(r->type);
		must_lie_within(r->source);
		must_lie_within(r->super);
		MUST(mounts_by_id(&m, r->id) != NULL);
		mounts_row_read_only(r);
	}
	return 0;
}

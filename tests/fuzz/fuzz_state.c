/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host remembers of a job: state.json up to a zero byte, then
 * history.jsonl. What is taken is written as it was.
 */
#include <errno.h>

#include "agent/core/jdoc.h"
#include "agent/job/state.h"
#include "tests/fuzz/fuzz_dir.h"

static bool
same(const char *a, const char *b)
{
	return (a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0);
}

static void
save_again(struct state *s, const struct conf *c)
{
	struct err e = ERR_NONE;
	struct state t;

	MUST(state_save(s, &e) == 0);
	MUST(state_peek(&t, c, "docs", &e) == 0);
	MUST(t.last_rehash_s == s->last_rehash_s && t.serial == s->serial);
	MUST(t.rehash_object == s->rehash_object &&
	     t.rehash_block == s->rehash_block);
	MUST(t.absent_mark == s->absent_mark);
	MUST(same(t.map_identity, s->map_identity));
	MUST(same(t.map_moment, s->map_moment));
	MUST(same(t.quarantine, s->quarantine));
	MUST(same(t.quarantine_why, s->quarantine_why));
	MUST(t.quarantine_s == s->quarantine_s);
	state_close(&t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct conf c = {.state_dir = (char *)fuzz_dir()};
	const uint8_t *nul = len > 0 ? memchr(data, 0, len) : NULL;
	size_t first = nul ? (size_t)(nul - data) : len;
	size_t rest = nul ? len - first - 1 : 0;
	SCOPED_JSON json_t *last = NULL;
	SCOPED_JSON json_t *line = json_pack("{s:b}", "ok", 1);
	struct err e = ERR_NONE;
	struct state s;

	fuzz_dir_mkdirs("jobs/docs");
	fuzz_dir_put("jobs/docs/state.json", SPAN(data, first), (off_t)first);
	fuzz_dir_put("jobs/docs/history.jsonl",
	    SPAN(nul ? nul + 1 : data, rest), (off_t)rest);
	MUST(state_peek(&s, &c, "docs", &e) == 0);
	last = state_history_last(&s);
	save_again(&s, &c);
	/* Whatever the history was, a line added to it is read back, unless
	 * what is before was cut off in the middle. */
	MUST(state_history_add(&s, line, &e) == 0);
	json_decref(last);
	last = state_history_last(&s);
	if (rest == 0 || data[len - 1] == '\n')
		MUST(json_equal(last, line));
	state_close(&s);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a PostgreSQL server wrote about a copy, which may be damaged: names of
 * relations and bytes of pages are in it. */
#include "agent/hooks/postgresql/serverlog.h"
#include "tests/fuzz/fuzz_dir.h"

/* Not longer than its place, and one line. */
static void
must_be_a_line(const char *s, size_t room)
{
	MUST(strnlen(s, room) < room);
	MUST(strchr(s, '\n') == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	SCOPED_FREE char *path = fs_join(fuzz_dir(), "log");
	struct serverlog l;
	struct err e = ERR_NONE;

	fuzz_dir_put("log", SPAN(data, len), (off_t)len);
	MUST(serverlog_read(&l, path, &e) == 0);
	must_be_a_line(l.damage, sizeof l.damage);
	must_be_a_line(l.surroundings, sizeof l.surroundings);
	must_be_a_line(l.fatal, sizeof l.fatal);
	MUST(l.redo_ms >= -1);
	MUST(l.redo_done || l.redo_ms == -1);
	return 0;
}

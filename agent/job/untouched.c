/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/untouched.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

static bool
look(const char *dir, const char *name, struct statx *st)
{
	SCOPED_FREE char *path = fs_join(dir, name);

	memset(st, 0, sizeof *st);
	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW,
		   STATX_BASIC_STATS | STATX_BTIME, st) == 0;
}

static char *
time_text(const struct statx_timestamp *t)
{
	return mem_printf("%lld.%09u", (long long)t->tv_sec, t->tv_nsec);
}

/* "hashes" is made once and lives as long as the map; "" : there is none. */
static char *
identity(const char *dir)
{
	SCOPED_FREE char *born = NULL;
	struct statx st;

	if (!look(dir, "hashes", &st))
		return mem_str("");
	/* Zero on file systems that do not keep it. */
	born = time_text(&st.stx_btime);
	return mem_printf("%llu born %s", (unsigned long long)st.stx_ino, born);
}

/* Every commit changes "hashes" or replaces "objects". */
static char *
moment(const char *dir)
{
	SCOPED_FREE char *a = NULL, *b = NULL;
	struct statx h, o;

	if (!look(dir, "hashes", &h) || !look(dir, "objects", &o))
		return mem_str("");
	a = time_text(&h.stx_ctime);
	b = time_text(&o.stx_ctime);
	return mem_printf("%s, %llu %s", a, (unsigned long long)o.stx_ino, b);
}

void
untouched_note(struct state *s, const char *dir, bool all)
{
	free(s->map_identity);
	free(s->map_moment);
	s->map_identity = identity(dir);
	s->map_moment = all ? moment(dir) : NULL;
}

static bool
equal(const char *noted, const char *now)
{
	return noted != NULL && strcmp(noted, now) == 0;
}

int
untouched_check(const struct state *s, const char *dir, struct err *e)
{
	SCOPED_FREE char *who = identity(dir), *when = moment(dir);

	if (who[0] == '\0')
		return 0;
	/* No moment: it was made and never committed to, as by a dry run. */
	if (equal(s->map_identity, who) &&
	    (s->interrupted || s->map_moment == NULL ||
		equal(s->map_moment, when)))
		return 0;
	return err_set(e, -ESTALE,
	    "the files in %s are not as state.json beside them has it, such as "
	    "after a copy was put back, or where the last backup could not "
	    "save its state",
	    dir);
}

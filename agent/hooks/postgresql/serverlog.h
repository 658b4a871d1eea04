/*
 * What a PostgreSQL server wrote into its log while a copy was checked: did
 * recovery run to its end, and is there a line that means damage?
 */
#ifndef NEAP_HOOKS_POSTGRESQL_SERVERLOG_H
#define NEAP_HOOKS_POSTGRESQL_SERVERLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/err.h"

struct serverlog {
	bool redo_starts, redo_done, redo_not_required, wants_preload;
	/* The last lines of a start and of an end: behind all that recovery has
	 * to say, and behind all. */
	bool accepts, down;
	int64_t redo_ms;        /* -1: it did not say */
	char damage[512];       /* the first line of each kind, or "" */
	char surroundings[512]; /* memory, disk space, rights, settings */
	char fatal[512];
};

int serverlog_read(struct serverlog *l, const char *path, struct err *e);
/*
 * The log is written by a process of its own, which may be behind: read it until
 * it has the last line of a start, or of an end (`down`), for 5 seconds at most.
 * Where that line does not come, it is what has come.
 */
int serverlog_await(
    struct serverlog *l, const char *path, bool down, struct err *e);

#endif

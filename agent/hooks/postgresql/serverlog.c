/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/serverlog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"

#define LATE_MS 5000

/* Not the data's fault: looked for first. */
static const char *const surroundings[] = {"No space left on device",
    "Disk quota exceeded", "Permission denied", "Operation not permitted",
    "Read-only file system", "Cannot allocate memory", "out of memory",
    "could not map anonymous shared memory", "could not create shared memory",
    "could not create semaphores", "could not load library",
    "could not access file \"$libdir", "could not bind", "could not create any",
    "unrecognized configuration parameter", "invalid value for parameter",
    "Too many open files"};

static const char *const damage[] = {"PANIC:", "invalid page in block",
    "page verification failed", "could not read block",
    "unexpected data beyond EOF", "checkpoint record",
    "incorrect checksum in control file", "references to invalid pages",
    "WAL ends before", "is corrupted", "appears to be corrupt",
    "could not access status of transaction", "missing chunk number",
    "unexpected chunk number", "invalid magic number in file",
    "is not satisfied", "invalid memory alloc request size",
    "was terminated by signal 11", "was terminated by signal 6",
    "was terminated by signal 7"};

static bool
any(const char *line, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strstr(line, list[i]) != NULL)
			return true;
	return false;
}

static void
keep(char out[512], const char *line)
{
	if (out[0] == '\0')
		snprintf(out, 512, "%.500s", line);
}

/* "redo done at 0/1A2B system usage: CPU: …, elapsed: 0.42 s" (14 and later) */
static void
note_redo_done(struct serverlog *l, const char *line)
{
	const char *at = strstr(line, "elapsed: ");
	double s = at != NULL ? strtod(at + 9, NULL) : -1;

	l->redo_done = true;
	if (s >= 0 && s < 1e9)
		l->redo_ms = (int64_t)(s * 1000);
}

static void
look_at(struct serverlog *l, const char *line)
{
	bool serious = strstr(line, "FATAL:") || strstr(line, "PANIC:");

	if (strstr(line, "redo starts at") != NULL)
		l->redo_starts = true;
	if (strstr(line, "redo is not required") != NULL)
		l->redo_not_required = true;
	if (strstr(line, "redo done at") != NULL)
		note_redo_done(l, line);
	if (strstr(line, "database system is ready to accept") != NULL)
		l->accepts = true;
	if (strstr(line, "database system is shut down") != NULL)
		l->down = true;
	if (strstr(line, "shared_preload_libraries") != NULL)
		l->wants_preload = true;
	/* A LOG line is part of a healthy recovery ("invalid record length")
	 * unless a process crashed. */
	if (strstr(line, "LOG:") != NULL &&
	    strstr(line, "was terminated by signal") == NULL)
		return;
	if (any(line, surroundings, MEM_COUNT(surroundings)))
		keep(l->surroundings, line);
	else if (any(line, damage, MEM_COUNT(damage)) ||
		 (serious && strstr(line, "could not open file") != NULL &&
		     strstr(line, "No such file") != NULL))
		keep(l->damage, line);
	if (serious)
		keep(l->fatal, line);
}

int
serverlog_read(struct serverlog *l, const char *path, struct err *e)
{
	FILE *f = fopen(path, "re");
	SCOPED_FREE char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	*l = (struct serverlog){.redo_ms = -1};
	if (f == NULL)
		return err_sys(e, errno, "open the server's log %s", path);
	while ((n = getline(&line, &cap, f)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		look_at(l, line);
	}
	if (ferror(f))
		err_sys(e, errno, "read the server's log %s", path);
	fclose(f);
	return e->code < 0 ? e->code : 0;
}

int
serverlog_await(struct serverlog *l, const char *path, bool down, struct err *e)
{
	int64_t until = clock_mono_ms() + LATE_MS;

	for (;;) {
		int rc = serverlog_read(l, path, e);

		if (rc < 0 || (down ? l->down : l->accepts) ||
		    clock_mono_ms() >= until)
			return rc;
		usleep(10000);
	}
}

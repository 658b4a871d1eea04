/*
 * A SQLite database as files, looked at without SQLite. Opening a live
 * database, even to read, may create its -shm, and closing any descriptor of
 * it drops every POSIX lock this process has on it: so the header's bytes.
 * Format: https://www.sqlite.org/fileformat2.html
 */
#ifndef NEAP_HOOKS_SQLITE_DBFILE_H
#define NEAP_HOOKS_SQLITE_DBFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/err.h"

struct dbfile {
	char *path; /* real path */
	char *wal, *journal, *shm;
	uint32_t page_size, change_counter, schema_cookie, version_number;
	uint64_t size;
	bool wal_mode;
	bool has_wal, has_journal, has_shm;
};

/* -EBADMSG: no SQLite database (an empty file is an empty one). */
int dbfile_open(struct dbfile *f, const char *path, struct err *e);
void dbfile_fini(struct dbfile *f);
#define SCOPED_DBFILE __attribute__((cleanup(dbfile_fini)))

#endif

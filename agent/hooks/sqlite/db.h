/* An open SQLite database: errors as ours, and queries. */
#ifndef NEAP_HOOKS_SQLITE_DB_H
#define NEAP_HOOKS_SQLITE_DB_H

#include <sqlite3.h>

#include "agent/core/err.h"

void db_close_scope(sqlite3 **db);
void db_finalize_scope(sqlite3_stmt **st);
#define SCOPED_DB __attribute__((cleanup(db_close_scope)))
#define SCOPED_STMT __attribute__((cleanup(db_finalize_scope)))

/* Read and write, never created. -EBADMSG: corrupt; -EBUSY: locked. */
int db_open(sqlite3 **db, const char *path, struct err *e);
int db_do(sqlite3 *db, const char *sql, struct err *e);
int db_prepare(sqlite3_stmt **st, sqlite3 *db, const char *sql, struct err *e);
/* 1: a row; 0: no more. */
int db_step(sqlite3_stmt *st, struct err *e);

#endif

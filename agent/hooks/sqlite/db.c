/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/sqlite/db.h"

#include <errno.h>
#include <string.h>

#include "agent/core/mem.h"

void
db_close_scope(sqlite3 **db)
{
	sqlite3_close(*db); /* NULL is fine */
}

void
db_finalize_scope(sqlite3_stmt **st)
{
	sqlite3_finalize(*st); /* NULL is fine */
}

static int
db_error(sqlite3 *db, int code, const char *what, struct err *e)
{
	int our, why;

	switch (code & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		our = -EBADMSG;
		break;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		our = -EBUSY;
		break;
	case SQLITE_FULL:
		our = -ENOSPC;
		break;
	case SQLITE_CANTOPEN:
		our = -ENOENT;
		break;
	default:
		our = -EIO;
		break;
	}
	/* "disk I/O error" alone helps nobody. */
	why = db != NULL ? sqlite3_system_errno(db) : 0;
	if (our == -EIO && (why == ENOSPC || why == EDQUOT))
		our = -ENOSPC;
	return err_set(e, our, "%.300s: %s%s%s", what,
	    db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code),
	    why != 0 ? ": " : "", why != 0 ? strerror(why) : "");
}

int
db_open(sqlite3 **db, const char *path, struct err *e)
{
	SCOPED_DB sqlite3 *made = NULL;
	int code = sqlite3_open_v2(path, &made,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_PRIVATECACHE, NULL);

	if (code != SQLITE_OK)
		return db_error(made, code, path, e);
	sqlite3_extended_result_codes(made, 1);
	*db = TAKE(made);
	return 0;
}

int
db_do(sqlite3 *db, const char *sql, struct err *e)
{
	int code = sqlite3_exec(db, sql, NULL, NULL, NULL);

	return code == SQLITE_OK ? 0 : db_error(db, code, sql, e);
}

int
db_prepare(sqlite3_stmt **st, sqlite3 *db, const char *sql, struct err *e)
{
	sqlite3_stmt *made = NULL;
	int code = sqlite3_prepare_v2(db, sql, -1, &made, NULL);

	if (code != SQLITE_OK)
		return db_error(db, code, sql, e);
	if (made == NULL)
		return err_set(e, -EINVAL, "\"%.300s\" is no statement", sql);
	*st = made;
	return 0;
}

int
db_step(sqlite3_stmt *st, struct err *e)
{
	int code = sqlite3_step(st);

	if (code == SQLITE_ROW)
		return 1;
	if (code == SQLITE_DONE)
		return 0;
	return db_error(sqlite3_db_handle(st), code, sqlite3_sql(st), e);
}

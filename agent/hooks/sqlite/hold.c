/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/sqlite/verbs.h"

#include <errno.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/sqlite/db.h"
#include "agent/hooks/sqlite/dbfile.h"

#define BUSY_MS 2000

/* The database and its log in one snapshot: nothing to lock. */
static int
hold_nothing(const struct serve *s, const char *path, struct err *e)
{
	SCOPED_DBFILE struct dbfile f = {0};
	struct serve_hold h;
	json_t *position;

	if (dbfile_open(&f, path, e) < 0)
		return e->code;
	position =
	    json_pack("{s:I}", "change_counter", (json_int_t)f.change_counter);
	if (serve_hold(&h, s, "atomic", position, NULL, e) < 0)
		return e->code;
	return serve_released(&h, NULL, NULL, NULL, NULL, e);
}

/*
 * A quiet file: no writer in, readers go on. Never a checkpoint: one from
 * outside while another process writes can corrupt a database before 3.51.3
 * (the WAL-reset bug).
 */
static int
hold_writers(const struct serve *s, const char *path, struct err *e)
{
	SCOPED_DB sqlite3 *db = NULL;
	struct serve_hold h;
	struct err why = ERR_NONE;
	const char *lost = NULL;

	if (db_open(&db, path, e) < 0)
		return e->code;
	/* The last one out of a WAL database checkpoints it: not us. */
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_busy_timeout(db, BUSY_MS);
	if (db_do(db, "BEGIN IMMEDIATE", e) < 0)
		return e->code;
	if (serve_hold(&h, s, "locked", NULL, NULL, e) < 0)
		return e->code;
	if (sqlite3_get_autocommit(db) != 0)
		lost = "the transaction that held is gone";
	if (db_do(db, "ROLLBACK", &why) < 0 && lost == NULL)
		lost = why.text;
	return serve_released(&h, lost, NULL, NULL, NULL, e);
}

int
hold_quiesce(const struct serve *s, struct err *e)
{
	const char *path;

	if (serve_path(s, &path, e) < 0)
		return e->code;
	if (jdoc_bool(s->config, "hold", false))
		return hold_writers(s, path, e);
	return hold_nothing(s, path, e);
}

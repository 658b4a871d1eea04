/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/sqlite/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/report.h"
#include "agent/hooks/sqlite/copy.h"
#include "agent/hooks/sqlite/db.h"
#include "agent/hooks/sqlite/dbfile.h"

/* A PRAGMA whose rows are complaints; `good` is the row that is none. */
static void
check_pragma(struct report *r, sqlite3 *db, const char *name, const char *sql,
    const char *good)
{
	SCOPED_STMT sqlite3_stmt *st = NULL;
	struct err e = ERR_NONE;
	char first[512] = "";
	unsigned bad = 0;
	int rc = db_prepare(&st, db, sql, &e);

	while (rc == 0 && (rc = db_step(st, &e)) > 0) {
		const char *text = (const char *)sqlite3_column_text(st, 0);

		rc = 0;
		if (good != NULL && text != NULL && strcmp(text, good) == 0)
			continue;
		if (bad++ == 0)
			snprintf(
			    first, sizeof first, "%s", text ? text : "null");
	}
	if (rc < 0)
		report_error(r, name, &e);
	else if (bad > 0)
		report_step(r, name, REPORT_FAILED, "%u complaints, first: %s",
		    bad, first);
	else
		report_step(r, name, REPORT_PASSED, "nothing wrong");
}

static bool
is_true(sqlite3_stmt *st)
{
	const char *v = (const char *)sqlite3_column_text(st, 0);

	if (v == NULL)
		return false;
	if (sqlite3_column_type(st, 0) == SQLITE_TEXT &&
	    (strcmp(v, "t") == 0 || strcmp(v, "true") == 0))
		return true;
	return sqlite3_column_double(st, 0) != 0;
}

static void
run_query(struct report *r, sqlite3 *db, const char *sql)
{
	SCOPED_STMT sqlite3_stmt *st = NULL;
	SCOPED_FREE char *name = mem_printf("query: %.400s", sql);
	struct err e = ERR_NONE;
	char value[256] = "null";
	bool good;
	int rc = db_prepare(&st, db, sql, &e);

	if (rc == 0)
		rc = db_step(st, &e);
	if (rc < 0) {
		report_step(r, name, REPORT_FAILED, "%s", e.text);
		return;
	}
	if (rc == 0 || sqlite3_column_count(st) < 1) {
		report_step(r, name, REPORT_FAILED,
		    "no row; one row with a "
		    "true first column is wanted");
		return;
	}
	good = is_true(st);
	if (sqlite3_column_text(st, 0) != NULL)
		snprintf(value, sizeof value, "%.200s",
		    (const char *)sqlite3_column_text(st, 0));
	if (db_step(st, &e) != 0)
		report_step(r, name, REPORT_FAILED, "more than one row");
	else
		report_step(r, name, good ? REPORT_PASSED : REPORT_FAILED,
		    "the first column is %s", value);
}

static void
run_queries(struct report *r, sqlite3 *db, const struct serve *s)
{
	const json_t *queries = json_object_get(s->config, "queries");
	struct err e = ERR_NONE;
	size_t i;
	json_t *v;

	if (json_array_size(queries) == 0) {
		report_step(r, "queries", REPORT_SKIPPED, "none configured");
		return;
	}
	if (db_do(db, "PRAGMA query_only = on", &e) < 0)
		report_error(r, "queries", &e);
	json_array_foreach (queries, i, v) {
		if (json_is_string(v))
			run_query(r, db, json_string_value(v));
		else
			report_step(r, "queries", REPORT_COULD_NOT,
			    "queries[%zu] is not a text", i);
	}
}

/* Opening read-write and reading once makes SQLite recover. */
static int
recover(struct report *r, sqlite3 **db, const char *path)
{
	SCOPED_DBFILE struct dbfile f = {0};
	struct err e = ERR_NONE;
	int64_t since = clock_mono_ms();
	int rc = dbfile_open(&f, path, &e);

	/* Rebuilt from the log; one that came along may be of another time. */
	if (rc == 0 && f.has_shm && unlink(f.shm) < 0)
		rc = err_sys(&e, errno, "remove %s", f.shm);
	if (rc == 0)
		rc = db_open(db, path, &e);
	if (rc == 0)
		rc = db_do(*db,
		    "BEGIN IMMEDIATE; "
		    "SELECT count(*) FROM sqlite_master; COMMIT",
		    &e);
	if (rc < 0) {
		report_error(r, "recover", &e);
		return rc;
	}
	json_object_set_new(
	    r->doc, "recovery_ms", json_integer(clock_mono_ms() - since));
	json_object_set_new(
	    r->doc, "boot_ms", json_integer(clock_mono_ms() - since));
	report_step(r, "recover", REPORT_PASSED, "%s; %s",
	    f.wal_mode ? "WAL mode" : "rollback mode",
	    f.has_journal ? "a journal was there"
	    : f.has_wal   ? "a log was there"
			  : "nothing to recover");
	return 0;
}

int
validate_clone(const struct serve *s, struct err *e)
{
	SCOPED_REPORT struct report r = {0};
	SCOPED_FREE char *path = NULL;
	SCOPED_DB sqlite3 *db = NULL;
	struct err why = ERR_NONE;

	report_init(&r, "sqlite");
	json_object_set_new(
	    r.doc, "version", json_string(sqlite3_libversion()));
	if (copy_path(&path, s, &why) < 0) {
		report_error(&r, "recover", &why);
	} else if (recover(&r, &db, path) == 0) {
		check_pragma(
		    &r, db, "integrity_check", "PRAGMA integrity_check", "ok");
		check_pragma(&r, db, "foreign_key_check",
		    "PRAGMA foreign_key_check", NULL);
		run_queries(&r, db, s);
	}
	return report_end(&r, e);
}

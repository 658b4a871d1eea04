/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/postgresql/amcheck.h"
#include "agent/hooks/postgresql/position.h"
#include "agent/hooks/report.h"

static void
check_recovery(struct report *r, const struct boot *b, const struct copy *c)
{
	const struct serverlog *l = &b->said;
	int64_t redo = l->redo_ms < 0 ? b->boot_ms : l->redo_ms;

	json_object_set_new(r->doc, "boot_ms", json_integer(b->boot_ms));
	if (copy_was_stopped(c) || l->redo_not_required) {
		json_object_set_new(r->doc, "recovery_ms", json_integer(0));
		report_step(r, "boot", REPORT_PASSED,
		    "ready after %lld ms, no recovery was due",
		    (long long)b->boot_ms);
		return;
	}
	json_object_set_new(r->doc, "recovery_ms", json_integer(redo));
	if (l->redo_starts && l->redo_done)
		report_step(r, "boot", REPORT_PASSED,
		    "ready after %lld ms, of which crash recovery took %lld",
		    (long long)b->boot_ms, (long long)redo);
	else
		report_step(r, "boot", REPORT_FAILED,
		    "the copy was running "
		    "when it was taken, but the log shows no \"%s\"",
		    l->redo_starts ? "redo done" : "redo starts");
}

/* What was flushed before the snapshot must be there after recovery. */
static void
check_position(
    struct report *r, PGconn *conn, const struct copy *c, const struct serve *s)
{
	const char *want = jdoc_str(
	    json_object_get(s->config, "position"), "durable_lsn", NULL);
	char have[CONN_TEXT];
	struct err e = ERR_NONE;
	uint64_t want_lsn, have_lsn;

	if (want == NULL || position_parse(&want_lsn, want) < 0) {
		report_step(r, "position", REPORT_SKIPPED,
		    "the backup recorded no position to compare with");
		return;
	}
	/* The checkpoint after recovery begins where the log ended. */
	if (conn_value(conn, have,
		copy_was_stopped(c)
		    ? "SELECT pg_current_wal_insert_lsn()"
		    : "SELECT redo_lsn FROM pg_control_checkpoint()",
		&e) < 0) {
		report_error(r, "position", &e);
		return;
	}
	if (position_parse(&have_lsn, have) < 0)
		report_step(r, "position", REPORT_COULD_NOT,
		    "\"%.40s\" is no position", have);
	else if (have_lsn < want_lsn)
		report_step(r, "position", REPORT_FAILED,
		    "recovery ended at "
		    "%s, but %s was on disk before the snapshot: log is "
		    "missing",
		    have, want);
	else
		report_step(r, "position", REPORT_PASSED,
		    "recovered to %s, at or past %s", have, want);
}

static bool
is_true(const char *v)
{
	char *end;
	double d;

	if (strcmp(v, "t") == 0 || strcmp(v, "true") == 0)
		return true;
	d = strtod(v, &end);
	return end != v && *end == '\0' && d != 0 && d == d;
}

static void
run_query(struct report *r, PGconn *conn, const char *sql)
{
	SCOPED_RESULT PGresult *res = NULL;
	SCOPED_FREE char *name = mem_printf("query: %.400s", sql);
	struct err e = ERR_NONE;
	const char *v;

	if (conn_query(&res, conn, sql, &e) < 0) {
		report_step(r, name, REPORT_FAILED, "%s",
		    conn_message(PQerrorMessage(conn)));
		return;
	}
	if (PQntuples(res) != 1 || PQnfields(res) < 1) {
		report_step(r, name, REPORT_FAILED,
		    "%d rows; one row with a true first column is wanted",
		    PQntuples(res));
		return;
	}
	v = PQgetisnull(res, 0, 0) ? "null" : PQgetvalue(res, 0, 0);
	report_step(r, name, is_true(v) ? REPORT_PASSED : REPORT_FAILED,
	    "the first column is %.200s", v);
}

static void
run_queries(struct report *r, const struct boot *b, const struct copy *c,
    const struct serve *s)
{
	const json_t *queries = json_object_get(s->config, "queries");
	SCOPED_CONN PGconn *conn = NULL;
	struct err e = ERR_NONE;
	size_t i;
	json_t *v;

	if (json_array_size(queries) == 0) {
		report_step(r, "queries", REPORT_SKIPPED, "none configured");
		return;
	}
	if (conn_open_private(&conn, b->dir, c->superuser,
		jdoc_str(serve_connection(s), "database", "postgres"),
		&e) < 0 ||
	    conn_do(conn, "RESET search_path", &e) < 0 ||
	    conn_do(conn, "SET default_transaction_read_only = on", &e) < 0) {
		report_error(r, "queries", &e);
		return;
	}
	json_array_foreach (queries, i, v) {
		if (json_is_string(v))
			run_query(r, conn, json_string_value(v));
		else
			report_step(r, "queries", REPORT_COULD_NOT,
			    "queries[%zu] is not a text", i);
	}
}

static void
check_log(struct report *r, const struct boot *b, bool stopped)
{
	struct serverlog l;
	struct err e = ERR_NONE;
	int rc = stopped ? serverlog_await(&l, b->log, true, &e)
			 : serverlog_read(&l, b->log, &e);

	if (rc < 0)
		report_error(r, "server log", &e);
	else if (l.damage[0] != '\0')
		report_step(r, "server log", REPORT_FAILED, "%s", l.damage);
	else if (l.surroundings[0] != '\0')
		report_step(
		    r, "server log", REPORT_COULD_NOT, "%s", l.surroundings);
	else if (stopped && !l.down)
		report_step(r, "server log", REPORT_COULD_NOT,
		    "the server has stopped, and its log does not say so: "
		    "some of it may be missing");
	else
		report_step(
		    r, "server log", REPORT_PASSED, "no sign of damage");
}

static void
check_sums(
    struct report *r, const struct copy *c, bool stopped, bool amcheck_ran)
{
	SCOPED_FREE char *tool = copy_tool(c, "pg_checksums");
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *argv[] = {tool, "--check", "-D", c->data, NULL};
	struct err e = ERR_NONE;
	int status;

	if (strcmp(copy_control(c, "Data page checksum version"), "0") == 0) {
		report_step(r, "checksums",
		    amcheck_ran ? REPORT_SKIPPED : REPORT_COULD_NOT,
		    "data checksums are not enabled%s",
		    amcheck_ran ? ""
				: ", and amcheck did not run: nothing "
				  "has read the whole database");
	} else if (!stopped || tool == NULL) {
		report_step(r, "checksums", REPORT_COULD_NOT, "%s",
		    tool ? "the server was not stopped in order"
			 : "there is no pg_checksums");
	} else if (serve_tool(&p, argv, &status, &e) < 0) {
		report_error(r, "checksums", &e);
	} else if (status == 0) {
		report_step(r, "checksums", REPORT_PASSED,
		    "pg_checksums --check: every page of every file");
	} else {
		buf_put_u8(&p.stderr_text, 0);
		p.stderr_text.len--;
		report_step(r, "checksums",
		    strstr((char *)p.stderr_text.data, "verification failed")
			? REPORT_FAILED
			: REPORT_COULD_NOT,
		    "%s", process_complaint(&p));
	}
}

/* On the running copy. True where amcheck saw everything. */
static bool
check_running(struct report *r, const struct boot *b, const struct copy *c,
    const struct serve *s)
{
	char detail[CONN_TEXT];
	SCOPED_CONN PGconn *conn = NULL;
	struct err e = ERR_NONE;
	enum report_result ran;
	bool sums =
	    strcmp(copy_control(c, "Data page checksum version"), "0") != 0;

	check_recovery(r, b, c);
	if (conn_open_private(&conn, b->dir, c->superuser, "template1", &e) < 0)
		report_error(r, "connect", &e);
	else
		check_position(r, conn, c, s);
	ran = amcheck_run(b, c, detail);
	/* Checksums, where there are any, read every page in its place. */
	report_step(r, "amcheck",
	    ran == REPORT_COULD_NOT && sums ? REPORT_SKIPPED : ran, "%s",
	    detail);
	run_queries(r, b, c, s);
	return ran != REPORT_COULD_NOT;
}

static void
check_copy(struct report *r, const struct serve *s)
{
	SCOPED_COPY struct copy c = {0};
	SCOPED_BOOT struct boot b = BOOT_NONE;
	struct err e = ERR_NONE;
	bool amcheck_ran, stopped;

	if (copy_open(&c, s, &e) < 0) {
		report_error(r, "control", &e);
		return;
	}
	json_object_set_new(r->doc, "version", json_integer(c.major));
	report_step(r, "control", REPORT_PASSED, "system %s, %s",
	    copy_control(&c, "Database system identifier"),
	    copy_control(&c, "Database cluster state"));
	if (copy_prepare(&c, s, &e) < 0) {
		report_error(r, "prepare", &e);
		return;
	}
	if (boot_start(&b, &c, s, &e) < 0) {
		report_error(r, "boot", &e);
		return;
	}
	amcheck_ran = check_running(r, &b, &c, s);
	stopped = boot_stop(&b, &e) == 0;
	if (stopped)
		report_step(r, "stop", REPORT_PASSED, "stopped in order");
	else
		report_error(r, "stop", &e);
	check_log(r, &b, stopped);
	check_sums(r, &c, stopped, amcheck_ran);
}

int
validate_clone(const struct serve *s, struct err *e)
{
	SCOPED_REPORT struct report r = {0};

	report_init(&r, "postgresql");
	check_copy(&r, s);
	return report_end(&r, e);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/amcheck.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

#define JOBS_MAX 4

static int
databases(
    json_t **names, const struct boot *b, const struct copy *c, struct err *e)
{
	SCOPED_CONN PGconn *conn = NULL;
	SCOPED_RESULT PGresult *r = NULL;

	if (conn_open_private(&conn, b->dir, c->superuser, "template1", e) < 0)
		return e->code;
	/* template0 takes no connections; pg_checksums reads it. */
	if (conn_query(&r, conn,
		"SELECT datname FROM pg_database "
		"WHERE datallowconn ORDER BY 1",
		e) < 0)
		return e->code;
	*names = json_array();
	for (int i = 0; i < PQntuples(r); i++)
		json_array_append_new(*names, json_string(PQgetvalue(r, i, 0)));
	return 0;
}

/* The copy is ours to change: put the extension where it is missing. */
static int
install(PGconn *conn, struct err *e)
{
	char n[CONN_TEXT];

	if (conn_value(conn, n,
		"SELECT count(*) FROM pg_available_extensions "
		"WHERE name = 'amcheck'",
		e) < 0)
		return e->code;
	if (strcmp(n, "0") == 0)
		return err_set(e, -ENOENT,
		    "the extension amcheck is not "
		    "installed on this host");
	if (conn_do(conn, "SET default_transaction_read_only = off", e) < 0)
		return e->code;
	return conn_do(conn,
	    "CREATE EXTENSION IF NOT EXISTS amcheck "
	    "WITH SCHEMA pg_catalog",
	    e);
}

static int
install_all(const json_t *names, const struct boot *b, const struct copy *c,
    struct err *e)
{
	size_t i;
	json_t *v;

	json_array_foreach (names, i, v) {
		SCOPED_CONN PGconn *conn = NULL;

		if (conn_open_private(&conn, b->dir, c->superuser,
			json_string_value(v), e) < 0 ||
		    install(conn, e) < 0)
			return err_wrap(e, "database %s", json_string_value(v));
	}
	return 0;
}

/* The beginning of a tool's output on one line. */
static void
one_line(char out[CONN_TEXT], struct process *p)
{
	struct buf *b = p->stdout_text.len ? &p->stdout_text : &p->stderr_text;
	size_t n = b->len < CONN_TEXT - 1 ? b->len : CONN_TEXT - 1;

	for (size_t i = 0; i < n; i++)
		out[i] = b->data[i] == '\n' ? ' ' : (char)b->data[i];
	out[n] = '\0';
}

static enum report_result
by_tool(const char *tool, const struct boot *b, const struct copy *c,
    char detail[CONN_TEXT])
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	struct err e = ERR_NONE;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	char jobs[16];
	const char *argv[] = {tool, "--all", "--heapallindexed",
	    "--parent-check", "--jobs", jobs, "-h", b->dir, "-p", "5432", "-U",
	    c->superuser, "--maintenance-db=template1", NULL};
	int status;

	snprintf(jobs, sizeof jobs, "%ld",
	    cpus < 1          ? 1
	    : cpus > JOBS_MAX ? JOBS_MAX
			      : cpus);
	if (serve_tool(&p, argv, &status, &e) < 0) {
		snprintf(detail, CONN_TEXT, "%.900s", e.text);
		return REPORT_COULD_NOT;
	}
	if (status == 0) {
		snprintf(detail, CONN_TEXT,
		    "pg_amcheck --all --heapallindexed "
		    "--parent-check found nothing wrong");
		return REPORT_PASSED;
	}
	one_line(detail, &p);
	return status == 2 ? REPORT_FAILED : REPORT_COULD_NOT;
}

static enum report_result
by_query(const json_t *names, const struct boot *b, const struct copy *c,
    char detail[CONN_TEXT])
{
	size_t i;
	json_t *v;
	long long indexes = 0;

	json_array_foreach (names, i, v) {
		SCOPED_CONN PGconn *conn = NULL;
		struct err e = ERR_NONE;
		char schema[CONN_TEXT], n[CONN_TEXT];
		SCOPED_FREE char *sql = NULL;

		if (conn_open_private(&conn, b->dir, c->superuser,
			json_string_value(v), &e) < 0 ||
		    conn_value(conn, schema,
			"SELECT quote_ident(n.nspname) "
			"FROM pg_extension x JOIN pg_namespace n "
			"ON n.oid = x.extnamespace "
			"WHERE x.extname = 'amcheck'",
			&e) < 0) {
			snprintf(detail, CONN_TEXT, "%.900s", e.text);
			return REPORT_COULD_NOT;
		}
		sql = mem_printf(
		    "SELECT count(*) FROM (SELECT "
		    "%s.bt_index_parent_check(i.indexrelid, true) "
		    "FROM pg_index i JOIN pg_class k ON k.oid = i.indexrelid "
		    "JOIN pg_am a ON a.oid = k.relam WHERE a.amname = 'btree' "
		    "AND k.relkind = 'i' AND i.indisvalid AND i.indisready "
		    "AND k.relpersistence <> 't' OFFSET 0) AS checked",
		    schema);
		if (conn_value(conn, n, sql, &e) < 0) {
			/* Whatever it stumbles over is what it looks for. */
			snprintf(detail, CONN_TEXT, "database %s: %.900s",
			    json_string_value(v),
			    conn_message(PQerrorMessage(conn)));
			return REPORT_FAILED;
		}
		indexes += strtoll(n, NULL, 10);
	}
	snprintf(detail, CONN_TEXT,
	    "bt_index_parent_check: %lld indexes and "
	    "their tables have nothing wrong",
	    indexes);
	return REPORT_PASSED;
}

enum report_result
amcheck_run(const struct boot *b, const struct copy *c, char detail[CONN_TEXT])
{
	SCOPED_FREE char *tool = copy_tool(c, "pg_amcheck");
	SCOPED_JSON json_t *names = NULL;
	struct err e = ERR_NONE;

	if (databases(&names, b, c, &e) < 0 ||
	    install_all(names, b, c, &e) < 0) {
		snprintf(detail, CONN_TEXT, "not run, because: %.900s", e.text);
		return REPORT_COULD_NOT;
	}
	return tool != NULL ? by_tool(tool, b, c, detail)
			    : by_query(names, b, c, detail);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/conn.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

#define PARAMS_MAX 12

void
conn_free_scope(PGconn **c)
{
	PQfinish(*c); /* NULL is fine */
}

void
conn_result_free_scope(PGresult **r)
{
	PQclear(*r); /* NULL is fine */
}

const char *
conn_message(const char *text)
{
	static char out[ERR_TEXT_MAX / 2];
	size_t n = 0;

	for (; *text != '\0' && n + 1 < sizeof out; text++)
		if (*text != '\n')
			out[n++] = *text;
		else if (text[1] != '\0')
			out[n++] = ' ';
	out[n] = '\0';
	return out;
}

struct params {
	const char *key[PARAMS_MAX], *value[PARAMS_MAX];
	size_t n;
};

static void
add(struct params *p, const char *key, const char *value)
{
	if (value == NULL || p->n + 1 >= PARAMS_MAX)
		return;
	p->key[p->n] = key;
	p->value[p->n++] = value;
}

static int
open_params(PGconn **out, const struct params *p, struct err *e)
{
	SCOPED_CONN PGconn *c = PQconnectdbParams(p->key, p->value, 0);
	struct err ignored = ERR_NONE;

	if (c == NULL)
		return err_set(e, -ENOMEM, "connect: out of memory");
	if (PQstatus(c) != CONNECTION_OK) {
		err_set(e, -EIO, "connect to PostgreSQL: %s",
		    conn_message(PQerrorMessage(c)));
		/* There, but starting or stopping: come again. */
		if (PQpingParams(p->key, p->value, 0) == PQPING_REJECT)
			e->code = -EBUSY;
		return e->code;
	}
	/* Nothing in "public" may stand in for what we call. */
	if (conn_do(c, "SET search_path = ''", e) < 0)
		return err_wrap(e, "connect to PostgreSQL");
	conn_do(c, "SET lc_messages = 'C'", &ignored);
	*out = TAKE(c);
	return 0;
}

int
conn_open(PGconn **out, const struct serve *s, struct err *e)
{
	const json_t *conf = serve_connection(s);
	const json_t *port = json_object_get(conf, "port");
	char number[24];
	struct params p = {.n = 0};
	const char *socket = jdoc_str(conf, "socket", NULL);

	snprintf(
	    number, sizeof number, "%lld", (long long)json_integer_value(port));
	add(&p, "host", socket ? socket : jdoc_str(conf, "host", NULL));
	add(&p, "port",
	    json_is_integer(port) ? number : json_string_value(port));
	add(&p, "user", jdoc_str(conf, "user", NULL));
	add(&p, "dbname", jdoc_str(conf, "database", "postgres"));
	add(&p, "passfile", jdoc_str(conf, "passfile", NULL));
	add(&p, "application_name", "neap");
	add(&p, "connect_timeout", "10");
	/* A session that stays finds out as soon that the way is gone. */
	add(&p, "tcp_user_timeout", "10000");
	return open_params(out, &p, e);
}

int
conn_open_private(PGconn **out, const char *dir, const char *user,
    const char *database, struct err *e)
{
	struct params p = {.n = 0};

	add(&p, "host", dir);
	add(&p, "port", "5432");
	add(&p, "user", user);
	add(&p, "dbname", database);
	add(&p, "application_name", "neap");
	return open_params(out, &p, e);
}

static int
checked(PGresult *r, PGconn *c, const char *sql, struct err *e)
{
	ExecStatusType st = PQresultStatus(r); /* NULL: a fatal error */
	const char *state;
	int code = -EIO;

	if (st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK)
		return 0;
	state = r != NULL ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
	if (state != NULL && strcmp(state, "42501") == 0)
		code = -EACCES;
	if (state != NULL && strcmp(state, "57014") == 0)
		code = -ETIMEDOUT;
	return err_set(
	    e, code, "%.200s: %s", sql, conn_message(PQerrorMessage(c)));
}

int
conn_query(PGresult **out, PGconn *c, const char *sql, struct err *e)
{
	SCOPED_RESULT PGresult *r = PQexec(c, sql);
	int rc = checked(r, c, sql, e);

	if (rc == 0)
		*out = TAKE(r);
	return rc;
}

int
conn_do(PGconn *c, const char *sql, struct err *e)
{
	SCOPED_RESULT PGresult *r = NULL;

	return conn_query(&r, c, sql, e);
}

static int
one_value(
    char out[CONN_TEXT], const PGresult *r, const char *sql, struct err *e)
{
	if (PQntuples(r) != 1 || PQnfields(r) != 1)
		return err_set(
		    e, -EIO, "%.200s: %d rows, not one", sql, PQntuples(r));
	if (PQgetlength(r, 0, 0) >= CONN_TEXT)
		return err_set(e, -EIO, "%.200s: a value of %d bytes", sql,
		    PQgetlength(r, 0, 0));
	memcpy(out, PQgetvalue(r, 0, 0), (size_t)PQgetlength(r, 0, 0) + 1);
	return 0;
}

int
conn_value(PGconn *c, char out[CONN_TEXT], const char *sql, struct err *e)
{
	SCOPED_RESULT PGresult *r = NULL;
	int rc = conn_query(&r, c, sql, e);

	return rc < 0 ? rc : one_value(out, r, sql, e);
}

int
conn_value1(PGconn *c, char out[CONN_TEXT], const char *sql, const char *arg,
    struct err *e)
{
	SCOPED_RESULT PGresult *r =
	    PQexecParams(c, sql, 1, NULL, &arg, NULL, NULL, 0);
	int rc = checked(r, c, sql, e);

	return rc < 0 ? rc : one_value(out, r, sql, e);
}

/*
 * One connection to a PostgreSQL server and queries of one row. Names in
 * queries of ours are looked up in pg_catalog alone, so that nothing a user
 * created can stand in for them.
 */
#ifndef NEAP_HOOKS_POSTGRESQL_CONN_H
#define NEAP_HOOKS_POSTGRESQL_CONN_H

#include <stdbool.h>

/* Debian keeps libpq's headers in a folder of their own. */
#if __has_include(<libpq-fe.h>)
#include <libpq-fe.h>
#else
#include <postgresql/libpq-fe.h>
#endif

#include "agent/hooks/serve.h"

#define CONN_TEXT 1024

void conn_free_scope(PGconn **c);
void conn_result_free_scope(PGresult **r);
#define SCOPED_CONN __attribute__((cleanup(conn_free_scope)))
#define SCOPED_RESULT __attribute__((cleanup(conn_result_free_scope)))

/* To the live server that the settings name; -EBUSY while it starts. */
int conn_open(PGconn **out, const struct serve *s, struct err *e);
/* To a server of ours, on the socket in `dir`. */
int conn_open_private(PGconn **out, const char *dir, const char *user,
    const char *database, struct err *e);

/* Any statement; gives its result. -EIO, with the server's own words. */
int conn_query(PGresult **out, PGconn *c, const char *sql, struct err *e);
/* No result wanted. -EACCES: no right to; -ETIMEDOUT: statement_timeout. */
int conn_do(PGconn *c, const char *sql, struct err *e);
/* The only value of the only row; "" for NULL. */
int conn_value(PGconn *c, char out[CONN_TEXT], const char *sql, struct err *e);
/* As conn_value, with $1. */
int conn_value1(PGconn *c, char out[CONN_TEXT], const char *sql,
    const char *arg, struct err *e);

/* The server's message without its line ends; borrowed until the next. */
const char *conn_message(const char *text);

#endif

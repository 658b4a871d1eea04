/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/position.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

#define LSN_SQL                                                                \
	"CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "         \
	"ELSE pg_current_wal_insert_lsn() END"

/* One row as an object of texts under the columns' names. */
static int
row(json_t **out, PGconn *c, const char *sql, struct err *e)
{
	SCOPED_RESULT PGresult *r = NULL;
	json_t *o;

	if (conn_query(&r, c, sql, e) < 0)
		return e->code;
	if (PQntuples(r) != 1)
		return err_set(
		    e, -EIO, "%.200s: %d rows, not one", sql, PQntuples(r));
	o = json_object();
	for (int i = 0; i < PQnfields(r); i++)
		json_object_set_new(o, PQfname(r, i),
		    PQgetisnull(r, 0, i) ? json_null()
					 : jdoc_new_str(PQgetvalue(r, 0, i)));
	*out = o;
	return 0;
}

int
position_read(json_t **position, PGconn *c, struct err *e)
{
	return row(position, c,
	    "SELECT s.system_identifier, k.timeline_id AS timeline, "
	    "k.redo_lsn, k.checkpoint_lsn, " LSN_SQL " AS lsn, "
	    "CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END "
	    "AS role FROM pg_control_system() s, pg_control_checkpoint() k",
	    e);
}

int
position_lsn(json_t **position, PGconn *c, struct err *e)
{
	return row(position, c, "SELECT " LSN_SQL " AS lsn", e);
}

int
position_add_durable(json_t *position, PGconn *c, struct err *e)
{
	char lsn[CONN_TEXT], done[CONN_TEXT];

	/* Read first, then flush past it: an insert position is the edge of
	 * a record, and the flush of a later commit covers it. The flush
	 * position itself may lie inside a record, where no recovery ends. */
	if (conn_value(c, lsn, "SELECT " LSN_SQL, e) < 0)
		return e->code;
	if (strcmp(jdoc_str(position, "role", ""), "primary") == 0) {
		/* Not "on": that may wait for a standby that is away. And a
		 * transaction that wrote nothing is not flushed at its
		 * commit, whatever its number: so it writes a message. */
		if (conn_do(c, "SET synchronous_commit = 'local'", e) < 0 ||
		    conn_value(c, done,
			"SELECT pg_logical_emit_message(true, 'neap', '')",
			e) < 0)
			return e->code;
	}
	if (lsn[0] != '\0')
		json_object_set_new(position, "durable_lsn", json_string(lsn));
	return 0;
}

/* Up to eight hex digits; where they end, or NULL. */
static const char *
half(uint64_t *value, const char *text)
{
	size_t n = strspn(text, "0123456789abcdefABCDEF");

	if (n < 1 || n > 8)
		return NULL;
	*value = strtoul(text, NULL, 16);
	return text + n;
}

int
position_parse(uint64_t *lsn, const char *text)
{
	uint64_t high, low;

	text = half(&high, text);
	if (text == NULL || *text != '/')
		return -EINVAL;
	text = half(&low, text + 1);
	if (text == NULL || *text != '\0')
		return -EINVAL;
	*lsn = high << 32 | low;
	return 0;
}

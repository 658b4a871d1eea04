/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/verbs.h"

#include <errno.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/postgresql/position.h"
#include "agent/hooks/postgresql/wal_needed.h"

#define CHECKPOINT_MS 120000
#define STATEMENT_MS "10000"

/* Less log to replay and fewer changed blocks; a courtesy, never a need. */
static int
checkpoint(PGconn *c, json_t *notes, struct err *e)
{
	struct err why = ERR_NONE;
	int rc = conn_do(c, "CHECKPOINT", &why);

	if (rc == -EACCES)
		serve_note(notes,
		    "no CHECKPOINT: the role may not; grant it "
		    "pg_checkpoint (15 and later), or recovery takes longer");
	else if (rc == -ETIMEDOUT)
		serve_note(notes,
		    "the CHECKPOINT was not done after %d s; "
		    "recovery takes longer",
		    CHECKPOINT_MS / 1000);
	else if (rc < 0)
		return err_copy(e, &why);
	return 0;
}

#define ALL_WAL "all of pg_wal is backed up: %s"

/* To know is worth much, not to know costs only room: all of it is kept. */
static void
look_at_log(
    struct wal_needed *n, PGconn *c, const json_t *position, json_t *notes)
{
	struct err why = ERR_NONE;

	if (wal_needed_before(n, c, position, &why) == 0)
		return;
	serve_note(notes, ALL_WAL, why.text);
	wal_needed_fini(n);
}

/* The session of the probe goes on, if the server has not ended it meanwhile. */
static int
connect_again(PGconn **c, const struct serve *s, struct err *e)
{
	struct err ignored = ERR_NONE;

	if (s->kept == NULL || *s->kept == NULL)
		return conn_open(c, s, e);
	*c = TAKE(*s->kept);
	if (conn_do(*c, "RESET default_transaction_read_only", &ignored) == 0)
		return 0;
	PQfinish(TAKE(*c));
	return conn_open(c, s, e);
}

/*
 * Atomic: everything is in one snapshot, crash recovery does the rest, and
 * nothing is locked. The two positions bracket the instant.
 */
int
hold_quiesce(const struct serve *s, struct err *e)
{
	SCOPED_CONN PGconn *c = NULL;
	SCOPED_JSON json_t *position = NULL, *notes = json_array();
	SCOPED_JSON json_t *after = NULL, *log = NULL;
	SCOPED_JSON json_t *late = json_array();
	SCOPED_WAL_NEEDED struct wal_needed needed = {0};
	struct err lost = ERR_NONE, why = ERR_NONE;
	struct serve_hold h;
	const char *gone = NULL;
	int pid;

	if (connect_again(&c, s, e) < 0)
		return e->code;
	if (conn_do(c, "SET statement_timeout = 120000", e) < 0 ||
	    checkpoint(c, notes, e) < 0 ||
	    conn_do(c, "SET statement_timeout = " STATEMENT_MS, e) < 0 ||
	    position_read(&position, c, e) < 0 ||
	    position_add_durable(position, c, e) < 0)
		return err_wrap(e, "quiesce");
	look_at_log(&needed, c, position, notes);
	pid = PQbackendPID(c);
	if (serve_hold(&h, s, "atomic", json_incref(position),
		json_incref(notes), e) < 0)
		return e->code;
	/* The same session, still answering: the server was not restarted. */
	if (position_lsn(&after, c, &lost) < 0)
		gone = lost.text;
	else if (PQbackendPID(c) != pid)
		gone = "the session was replaced by another";
	if (gone == NULL && wal_needed_after(&log, &needed, c, &why) < 0)
		serve_note(late, ALL_WAL, why.text);
	return serve_released(&h, gone, json_incref(after), json_incref(log),
	    json_incref(late), e);
}

/*
 * Where in its log a PostgreSQL server is: system identifier, timeline, LSNs.
 */
#ifndef NEAP_HOOKS_POSTGRESQL_POSITION_H
#define NEAP_HOOKS_POSTGRESQL_POSITION_H

#include <stdint.h>

#include "agent/hooks/postgresql/conn.h"

/* All of it; gives. */
int position_read(json_t **position, PGconn *c, struct err *e);
/* Only {"lsn":…}: the other side of the bracket; gives. */
int position_lsn(json_t **position, PGconn *c, struct err *e);
/*
 * Add "durable_lsn": everything before it is in files already, so a restored
 * copy whose recovery ends earlier has lost its log. On a primary this writes
 * and flushes one empty commit.
 */
int position_add_durable(json_t *position, PGconn *c, struct err *e);
/* "A/B" → number; -EINVAL. */
int position_parse(uint64_t *lsn, const char *text);

#endif

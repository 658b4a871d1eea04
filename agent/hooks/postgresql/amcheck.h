/*
 * PostgreSQL's own look at its tables and indexes, in every database of a
 * running copy. pg_amcheck (14 and later) reads heaps and B-trees; without it
 * the extension's B-tree check, which reads the heaps as well.
 */
#ifndef NEAP_HOOKS_POSTGRESQL_AMCHECK_H
#define NEAP_HOOKS_POSTGRESQL_AMCHECK_H

#include "agent/hooks/postgresql/boot.h"
#include "agent/hooks/postgresql/conn.h"
#include "agent/hooks/report.h"

/* REPORT_PASSED, _FAILED or _COULD_NOT, and why, in `detail`. */
enum report_result amcheck_run(
    const struct boot *b, const struct copy *c, char detail[CONN_TEXT]);

#endif

/*
 * One backup, from probe to history. On every failure the database is
 * released, the new snapshot removed, the old one and the repository are as
 * they were; whole packs that were stored stay and are used by the next run.
 */
#ifndef NEAP_JOB_BACKUP_H
#define NEAP_JOB_BACKUP_H

#include <jansson.h>
#include <stdbool.h>

#include "agent/conf/conf.h"
#include "agent/core/err.h"

struct backup_how {
	bool full_scan;     /* hash everything */
	bool dry_run;       /* up to what would be read; stores nothing */
	bool trust_tracker; /* lift its quarantine */
};

/* Gives the result document (the --json of `neap backup`). */
int backup_run(const struct conf *c, const struct conf_job *j,
    const struct backup_how *how, json_t **result, struct err *e);

#endif

/*
 * Which files of pg_wal recovery from a snapshot can need. The server keeps
 * many more: older ones that a standby might ask for, and old ones renamed in
 * advance, whose content means nothing until they are written again. Often
 * they are half of the cluster, and all of them are new with every backup.
 *
 * Needed are the segments from the one where recovery starts (the redo
 * position of the last checkpoint, or the oldest position of a replication
 * slot), to the one being written; and what is not archived yet, where the
 * server archives. What a base backup tool or the user put beside them is no
 * segment and stays.
 */
#ifndef NEAP_HOOKS_POSTGRESQL_WAL_NEEDED_H
#define NEAP_HOOKS_POSTGRESQL_WAL_NEEDED_H

#include <stdbool.h>

#include "agent/hooks/postgresql/conn.h"

struct wal_needed {
	char *wal;   /* real path of pg_wal; NULL: all is needed */
	char *label; /* backup_label: where it is, it says where to start */
	char first[32];
	bool archives, primary;
};

/*
 * Before the snapshot; `position` is position_read's. Where it fails all is
 * needed, and the text says why.
 */
int wal_needed_before(
    struct wal_needed *n, PGconn *c, const json_t *position, struct err *e);
/* After it: the member "log" of what the hook says (neap-hook(7)); gives, and
 * leaves *log alone where all is needed. */
int wal_needed_after(
    json_t **log, const struct wal_needed *n, PGconn *c, struct err *e);
void wal_needed_fini(struct wal_needed *n); /* {0} is fine */
#define SCOPED_WAL_NEEDED __attribute__((cleanup(wal_needed_fini)))

#endif

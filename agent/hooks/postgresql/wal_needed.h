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
#ifndef NEAP_HOOKS_POSTGRESQL_NEEDED_H
#define NEAP_HOOKS_POSTGRESQL_NEEDED_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/hooks/postgresql/conn.h"

struct needed {
	char *wal;   /* real path of pg_wal; NULL: all is needed */
	char *label; /* backup_label: where it is, it says where to start */
	char first[32];
	bool archives, primary;
};

/* Before the snapshot; `position` is position_read's. */
int needed_before(
    struct needed *n, PGconn *c, const json_t *position, struct err *e);
/* After it: the member "log" of what the hook says (neap-hook(7)); gives. */
int needed_after(
    json_t **log, const struct needed *n, PGconn *c, struct err *e);
void needed_fini(struct needed *n); /* {0} is fine */
#define SCOPED_NEEDED __attribute__((cleanup(needed_fini)))

/* Name of the segment that holds `lsn`: three times eight digits. -EINVAL: no
 * segment has that size. */
int needed_segment(
    char out[32], uint32_t timeline, uint64_t lsn, uint64_t segment_bytes);

#endif

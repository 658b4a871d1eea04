/*
 * The copy pass: read what may have changed, hash every block against the
 * block map, and send what did change into the store and the delta map.
 * What turned into zeros (holes, discards, truncations) becomes zero extents.
 */
#ifndef NEAP_JOB_COPY_H
#define NEAP_JOB_COPY_H

#include "agent/job/gather.h"
#include "agent/job/sweep.h"
#include "kmod-free/track/tracker.h"

struct copy {
	struct tree *tree;
	struct sweep *sweep;
	struct gather gather;
	/* One for each volume of the plan. */
	const struct tracker_answer *named;
	const char *job; /* for progress */

	uint64_t changed_bytes; /* blocks that differ */
	uint64_t named_bytes;   /* asked to be looked at */
};

int copy_run(struct copy *c, struct err *e);

/* The ingest_done_fn of a backup: `arg` is its tree. */
int copy_chunk_done(void *arg, const struct ingest_chunk *c, struct err *e);

#endif

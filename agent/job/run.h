/*
 * The state of one backup while it runs, shared by the files that make up the
 * use case: backup.c (the order of things), instant.c (quiesce, snapshot,
 * release), change.c (what changed), record.c (what is written down).
 * Private to those.
 */
#ifndef NEAP_JOB_RUN_H
#define NEAP_JOB_RUN_H

#include "agent/job/backup.h"
#include "agent/job/copy.h"
#include "agent/job/crosscheck.h"
#include "agent/job/plan.h"
#include "agent/job/state.h"
#include "agent/store/store.h"

#define RUN_SNAPSHOT_MAX 128
#define RUN_CHAIN_MAX 32 /* "TIME.MAP": what the block map is of */

struct run {
	const struct conf *conf;
	const struct conf_job *job;
	const struct backup_how *how;
	int64_t started_ms;

	struct state state;
	struct store store;
	struct plan plan;
	struct blockmap *blockmap;

	/* the backup before this one, against which changes are found */
	char parent[20]; /* TIME; "" : none */
	json_t *parent_record;
	struct map_ref *maps; /* oldest first; grows by the new one */
	size_t maps_n;
	struct map_view *previous;
	uint64_t absent_mark; /* of the packs that are missing now */

	/* the instant */
	char time[20];
	int64_t utc_s;
	char snapshot[RUN_SNAPSHOT_MAX];
	json_t *quiesced, *released;
	int64_t hold_ms, freeze_ms; /* the latter 0: nothing was frozen */
	int64_t watched_ms;         /* the views; clock_mono_ms time */
	const char *level;

	/* what changed */
	struct tree tree;
	struct tracker_answer *named, *second; /* for each volume */
	const char *tracker;                   /* word for the record */
	char *everything_why;                  /* why all is hashed; or NULL */
	bool escalated;
	struct crosscheck check;
	struct sweep *sweep;
	struct copy copy;

	/* what was stored */
	struct ingest *ingest;
	struct ingest_stats stored;
	uint64_t map_bytes, record_bytes;
};

void instant_snapshot_name(
    char out[RUN_SNAPSHOT_MAX], const char *job, const char *time);

/* instant.c */
int instant_take(struct run *r, struct err *e);
void instant_undo(struct run *r); /* remove the new snapshots */
/* A sweep_tick_fn while their views are read; `arg` is the run. */
int instant_watch(void *arg, struct err *e);
/* They have been read: those that cost the writers go, unless the next backup
 * is to be compared with them. */
void instant_read(struct run *r);
/* Remove this job's snapshots other than `keep` (NULL: none is kept). */
void instant_reap(struct run *r, const char *keep);

/* unused.c */
/* Fills in the tree's `used` and the plan's `unused`. */
int unused_find(struct run *r, struct err *e);
uint64_t unused_bytes(const struct run *r); /* of all images */
struct unused_image {
	uint64_t size, unused; /* bytes; of an image in the last backup */
};
/* Names what was used then, or is now, and not both. */
int unused_compare(struct run *r, size_t volume, const char *anchor,
    const struct unused_image *old, struct err *e);

/* change.c */
bool change_counts(const struct run *r, size_t volume);
int change_ask(struct run *r, struct err *e);   /* the trackers */
int change_check(struct run *r, struct err *e); /* the cross-check */

/* record.c: give */
json_t *record_make(const struct run *r);
json_t *record_result(const struct run *r);

#endif

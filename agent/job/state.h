/*
 * What the host remembers of a job between backups: the lock, a small state
 * document, and the history of runs. All below STATE_DIR/jobs/JOB; all of it
 * can be lost: then everything is hashed once.
 */
#ifndef NEAP_JOB_STATE_H
#define NEAP_JOB_STATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/conf/conf.h"
#include "agent/core/err.h"

struct state {
	char *dir;        /* STATE_DIR/jobs/JOB */
	int lock_fd;      /* held while open for writing; else -1 */
	bool interrupted; /* the last run neither finished nor cleaned up */

	/* the document */
	int64_t
	    last_rehash_s; /* when the rolling re-hash last moved; 0: never */
	uint64_t rehash_object, rehash_block; /* where it goes on */
	uint64_t serial;                      /* backups made by this host */
	/* The packs that were missing when all was last stored without them:
	 * index_absent's mark. */
	uint64_t absent_mark;
	char *map_identity, *map_moment; /* untouched.c's; or NULL */
	char *quarantine; /* tracker that named too little; or NULL */
	char *quarantine_why;
	int64_t quarantine_s;
};

/* Take the lock: -EBUSY with the other's process id. Makes the folder. */
int state_open(
    struct state *s, const struct conf *c, const char *job, struct err *e);
/* Read only, for status: no lock; absent is an empty state. */
int state_peek(
    struct state *s, const struct conf *c, const char *job, struct err *e);
int state_save(struct state *s, struct err *e);
/* Where an error says that there is no room and it is the state's file system
 * that has none, add so and what to do. Returns e's code. */
int state_explain(const struct state *s, struct err *e);
/* A run begins / has ended in order (or cleaned up after itself). */
int state_begin(struct state *s, struct err *e);
int state_end(struct state *s, struct err *e);
void state_quarantine(struct state *s, const char *tracker, const char *why);
void state_lift(struct state *s);
/* One line of JSON to the history, which is kept to its last 10,000 lines. */
int state_history_add(struct state *s, const json_t *line, struct err *e);
/* The last line, gives; NULL without an error where there is none. */
json_t *state_history_last(const struct state *s);
void state_close(struct state *s);
#define SCOPED_STATE __attribute__((cleanup(state_close)))

#endif

/*
 * Law 1: a tracker is a hint. Before anything is copied, blocks that it did
 * not name are hashed against the block map: a random sample of all, the
 * share of the rolling re-hash that is due, and what a second opinion names
 * and it does not. One wrong block, and the tracker is not believed.
 */
#ifndef NEAP_JOB_CROSSCHECK_H
#define NEAP_JOB_CROSSCHECK_H

#include "agent/job/state.h"
#include "agent/job/sweep.h"
#include "kmod-free/track/tracker.h"

/* 4096 random 4 KiB reads are about 60 ms on a disk that does 70,000 a second;
 * docs/architecture.md has the odds that they find k wrong blocks in n. */
#define CROSSCHECK_SAMPLES_MAX 4096u
#define CROSSCHECK_SAMPLES_MIN 64u

struct crosscheck {
	const struct tree *tree;
	struct sweep *sweep;
	const struct tracker_answer *named;  /* for each volume */
	const struct tracker_answer *second; /* likewise, or NULL */
	struct state *state;
	double sample_percent;
	unsigned rolling_days;
	int64_t now_s;

	/* the answer */
	uint64_t sampled_blocks, rehashed_blocks, second_blocks;
	uint64_t wrong_blocks;
	char *wrong_where; /* the first one: "PATH, offset N" */
};

/*
 * How many of `blocks` a sample of `percent` takes: CROSSCHECK_SAMPLES_MIN at
 * least, for of a small database a good part is to be seen each time,
 * CROSSCHECK_SAMPLES_MAX at most, and never more than there are. 0 percent takes none.
 */
size_t crosscheck_samples(uint64_t blocks, double percent);
/*
 * Which ones: one out of each of `n` parts of equal size (to one block), by the
 * random number in its place; n is at most `blocks`. None is taken twice.
 */
void crosscheck_pick(uint64_t *pick, size_t n, uint64_t blocks);

int crosscheck_run(struct crosscheck *x, struct err *e);
void crosscheck_fini(struct crosscheck *x);

#endif

/*
 * Are the block map's files the ones that our last commit left? A copy that
 * was put back in their place has valid checksums, but its parts may be of
 * two times (made while a backup ran; one file of an older copy). Then a block
 * counts as unchanged that is not, in this backup and in all that follow. What
 * no copy can bring along tells: the inode, its birth, its last change.
 */
#ifndef NEAP_JOB_UNTOUCHED_H
#define NEAP_JOB_UNTOUCHED_H

#include "agent/core/err.h"
#include "agent/job/state.h"

/* Into the state's document: the files as they are now. `all` is false where
 * only their identity is known to be right, as after making them. */
void untouched_note(struct state *s, const char *dir, bool all);
/*
 * -ESTALE: somebody else was at them. A run that was cut off has moved their
 * times itself, so after one only their identity counts. 0 also where there
 * is no block map.
 */
int untouched_check(const struct state *s, const char *dir, struct err *e);

#endif

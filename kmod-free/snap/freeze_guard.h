/*
 * The guard of a freeze: a process that lets the devices go on when it is told
 * so, when the other end of its socket is closed, and at the deadline, whichever
 * comes first. It holds its memory, allocates none, and touches no file but its
 * note in /run.
 */
#ifndef NEAP_SNAP_FREEZE_GUARD_H
#define NEAP_SNAP_FREEZE_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/core/err.h"

#define FREEZE_GUARD_READY 'r' /* it says: now you may freeze */
#define FREEZE_GUARD_THAW 't'  /* it is told; answers freeze_guard_answer */

struct freeze_guard_how {
	int control;       /* see dm_suspend.h */
	char *const *uuid; /* the devices, in the order of their freezing */
	size_t n;
	int64_t deadline_ms; /* clock_mono_ms time */
	const char *note;    /* path; removed when all go on */
	int note_fd;         /* locked as long as the guard lives */
};

struct freeze_guard_answer {
	int64_t thawed_ms; /* when they went on; clock_mono_ms time */
	bool expired;      /* by the deadline */
};

/* Gives its pid, and our end of the socket through *fd. */
pid_t freeze_guard_start(
    const struct freeze_guard_how *how, int *fd, struct err *e);

#endif

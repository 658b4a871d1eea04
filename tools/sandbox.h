/*
 * A place where a restored copy may run: own mount, network, PID, IPC and UTS
 * namespaces, the programs of this host read-only, the backed-up paths writable
 * at their original places, and no path to live data (law 9).
 */
#ifndef NEAP_TOOLS_SANDBOX_H
#define NEAP_TOOLS_SANDBOX_H

#include <sys/types.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

struct sandbox_how {
	const char *root;         /* an empty folder of ours: becomes "/" */
	const char *clone;        /* where the writable copy is mounted */
	const char *const *paths; /* of the backup, absolute; NULL-terminated */
	/* and where each lies in the copy, as many, absolute below it */
	const char *const *sources;
	const char *program; /* a file to see, read-only; its folder is not */
	const char *run, *run_at; /* a folder of ours, writable inside at … */
	const char *out, *out_at; /* another such, or NULL */
};

/*
 * What runs inside, in a process of its own. What it puts into `out` (at most
 * SANDBOX_OUTPUT_MAX) and its error come back to the caller.
 */
#define SANDBOX_OUTPUT_MAX (16u << 20)
typedef int sandbox_fn(void *arg, struct buf *out, struct err *e);

/*
 * Run it and wait. Everything that was started inside is dead on return, also
 * when we are told to stop (-ECANCELED) or `timeout_ms` is over (-ETIMEDOUT),
 * and when the caller dies. Needs root; one-threaded callers only.
 */
int sandbox_run(const struct sandbox_how *how, sandbox_fn *fn, void *arg,
    int64_t timeout_ms, struct buf *out, struct err *e);

#endif

/*
 * Which files of an engine's numbered log are needed to recover from the
 * snapshot, by the hook's member "log" (neap-hook(7)). The others are not
 * backed up: often they are half of what lies there, and all of it changes
 * from backup to backup.
 *
 * Only names are judged, and only of regular files: all digits and capitals A
 * to F, as many as `first` has. What looks otherwise is kept.
 */
#ifndef NEAP_JOB_NEEDED_H
#define NEAP_JOB_NEEDED_H

#include <jansson.h>
#include <stdbool.h>

#include "agent/job/plan.h"

struct needed {
	bool told;           /* else all is needed, */
	const char *why_all; /* for this reason, or as nobody told; static */
	size_t volume;       /* the log's folder: which, */
	char *folder;        /* and where in its view */
	const char *first;   /* the document's */
	const char *last;    /* the document's; NULL: no end */
	json_t *keep;        /* names that are needed all the same, as keys */
};

/*
 * Borrows `released`, the hook's document, for the life of `n`. `view` has a
 * descriptor for each of the plan's volumes: what the hook names as a reason
 * to keep everything is looked for there, at the instant. -EIO: the document
 * is not as the contract has it.
 */
int needed_read(struct needed *n, const json_t *released, const struct plan *p,
    const int *view, struct err *e);
void needed_fini(struct needed *n); /* {0} is fine */

/* A regular file `name` of `folder` in the view of `volume` is not needed. */
bool needed_not(const struct needed *n, size_t volume, const char *folder,
    const char *name);

#endif

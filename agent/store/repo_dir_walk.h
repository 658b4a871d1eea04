/*
 * Every file below a folder of a repository, hidden ones left out, in no order.
 * Private to the folder driver.
 */
#ifndef NEAP_STORE_REPO_DIR_WALK_H
#define NEAP_STORE_REPO_DIR_WALK_H

#include <stdbool.h>

#include "agent/store/repo.h"

struct repo_dir_walk {
	const char *prefix; /* the folder; "": all */
	bool names;         /* lengths are not wanted: 0 is given */
	repo_list_fn *fn;   /* one call at a time, but from any thread */
	void *arg;
};

/* `fd` is the repository's folder. What `fn` returns ends it, unless 0. */
int repo_dir_walk(int fd, const struct repo_dir_walk *how, struct err *e);

#endif

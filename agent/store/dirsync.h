/*
 * The folders of a repository into which names were put, to be made durable.
 * What a killed process left may not be, so the first sync of a folder makes
 * those above it durable as well, up to the repository's; after that only its
 * own. Thread-safe. Internal to agent/store.
 */
#ifndef NEAP_STORE_DIRSYNC_H
#define NEAP_STORE_DIRSYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/core/err.h"

struct dirsync_folder {
	char *path;
	bool touched; /* since the last sync began */
	bool named;   /* the folder's own name is durable */
};

struct dirsync {
	int dirfd; /* of the repository's folder; borrowed */
	/* `syncing` is held through a whole sync: a second caller must not
	 * return while the first is still at work on what the second one has
	 * put. `lock` is for what follows. */
	pthread_mutex_t syncing, lock;
	struct dirsync_folder **folder;
	size_t n, cap;
	int failed; /* under `syncing` */
};

void dirsync_init(struct dirsync *d, int dirfd);
void dirsync_fini(struct dirsync *d);
/* Something happened to the file `name`, "packs/3f/3f20…". */
void dirsync_touch(struct dirsync *d, const char *name);
/* The folder of the file `name`, or one above it, was not there and was made. */
void dirsync_made(struct dirsync *d, const char *name);
/* 0: all that was touched before is durable. Once failed, it always fails. */
int dirsync_run(struct dirsync *d, struct err *e);

#endif

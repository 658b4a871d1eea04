/*
 * A small cache of files open for reading, by name, below one folder. Files of
 * a repository are never changed, so an open one stays right. Thread-safe.
 * Internal to agent/store.
 */
#ifndef NEAP_STORE_FDCACHE_H
#define NEAP_STORE_FDCACHE_H

#include <pthread.h>
#include <stdint.h>

#include "agent/core/err.h"

#define FDCACHE_FILES 64

struct fdcache_file {
	char *name; /* NULL: free slot */
	int fd;
	unsigned users;
	uint64_t used; /* the cache's tick at the last use */
};

struct fdcache {
	pthread_mutex_t lock;
	int dirfd; /* borrowed */
	uint64_t tick;
	struct fdcache_file file[FDCACHE_FILES];
};

/* A file on loan. slot < 0: it found no place and is closed when given back. */
struct fdcache_loan {
	int fd, slot;
};

void fdcache_init(struct fdcache *c, int dirfd);
void fdcache_fini(struct fdcache *c); /* nobody has a loan */
int fdcache_get(struct fdcache *c, const char *name, struct fdcache_loan *out,
    struct err *e);
void fdcache_put(struct fdcache *c, struct fdcache_loan loan);
void fdcache_forget(struct fdcache *c, const char *name); /* it is removed */

#endif

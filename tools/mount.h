/*
 * A backup as a file system. mount_start serves it from a process of its own;
 * the caller keeps `mount.control`: when that closes (mount_stop, or the caller
 * is gone, however it went) the server unmounts, drops the scratch and ends. A
 * server that is let go (mount_detach) lives until somebody unmounts.
 */
#ifndef NEAP_TOOLS_MOUNT_H
#define NEAP_TOOLS_MOUNT_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/store/store.h"

struct mount_how {
	const struct store_how *store;
	const char *backup;  /* as the user names it */
	const char *dir;     /* a folder that exists */
	const char *scratch; /* NULL: read-only; made when absent, else empty */
	size_t cache_bytes;
	bool foreground; /* damage to stderr, not to syslog */
};

struct mount_stats {
	uint64_t scratch_bytes; /* on the scratch's disk, when it ended */
	uint64_t
	    decoded_bytes; /* plain bytes of the chunks that were decoded */
};

struct mount {
	pid_t pid;
	int control; /* -1: none */
};

#define MOUNT_NONE                                                             \
	{                                                                      \
		.pid = -1, .control = -1                                       \
	}

/* After 0 it is mounted and answers. One-threaded callers only: it forks. */
int mount_start(struct mount *m, const struct mount_how *how, struct err *e);
void mount_detach(struct mount *m);
/* Unmount and wait; `stats` may be NULL. Idempotent. */
int mount_stop(struct mount *m, struct mount_stats *stats, struct err *e);
void mount_fini(struct mount *m);
#define SCOPED_MOUNT __attribute__((cleanup(mount_fini)))

/* Serve it here until it is unmounted or a signal comes. */
int mount_foreground(const struct mount_how *how, struct err *e);

/* -ENOENT: no backup of ours is mounted there; -EBUSY: in use, by whom. */
int mount_undo(const char *dir, struct err *e);

#endif

/*
 * A mount that hangs nowhere: no other process sees it, it hides and is hidden
 * by nothing, and it goes when its descriptors are closed, however the process
 * ends. Linux >= 5.2. Internal to kmod-free/snap.
 */
#ifndef NEAP_SNAP_DETACHED_H
#define NEAP_SNAP_DETACHED_H

#include <stdbool.h>

#include "agent/core/err.h"

struct detached_how {
	const char *type;           /* "btrfs" */
	const char *source;         /* device */
	const char *option, *value; /* "subvolid", "5"; NULL: none */
	const char *const *flags;   /* options without value, NULL-terminated;
				       NULL: none */
	/* Ask for a read-only mount. Must be set where the file system is
	 * read-only now: Linux 6.18 makes it writable otherwise. */
	bool read_only;
};

/* Gives a descriptor of the mount's root, for openat only (O_PATH).
 * -EOPNOTSUPP: kernel too old. */
int detached_mount(const struct detached_how *how, struct err *e);

#endif

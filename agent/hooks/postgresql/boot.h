/*
 * A PostgreSQL server of our own on a copy: no network, no archive, no
 * replication, no foreign libraries, one private socket. It never outlives
 * the hook: stopped by every scope's end, by SIGTERM to us, and killed by the
 * kernel when we are killed.
 */
#ifndef NEAP_HOOKS_POSTGRESQL_BOOT_H
#define NEAP_HOOKS_POSTGRESQL_BOOT_H

#include "agent/hooks/postgresql/copy.h"
#include "agent/hooks/postgresql/serverlog.h"

struct boot {
	struct process server;
	char *dir; /* private: socket, settings */
	char *log;
	int64_t boot_ms;       /* from its start to its "ready" */
	struct serverlog said; /* during the boot */
};

#define BOOT_NONE                                                              \
	{                                                                      \
		.server = PROCESS_NONE                                         \
	}

/* -EBADMSG: the data keeps it from starting; others: something else does. */
int boot_start(
    struct boot *b, const struct copy *c, const struct serve *s, struct err *e);
/* In order, with a last checkpoint. */
int boot_stop(struct boot *b, struct err *e);
void boot_fini(struct boot *b); /* at once */
#define SCOPED_BOOT __attribute__((cleanup(boot_fini)))

#endif

/*
 * The command line of a server on a copy. Settings go there, not into a file:
 * the copy's own postgresql.auto.conf outranks every file.
 */
#ifndef NEAP_HOOKS_POSTGRESQL_SWITCHES_H
#define NEAP_HOOKS_POSTGRESQL_SWITCHES_H

#include "agent/hooks/postgresql/copy.h"

struct switches {
	char **argv; /* NULL-terminated */
	size_t n, cap;
};

/* `dir` holds postgresql.conf, the hba and ident files, and the socket. */
void switches_init(struct switches *w, const struct copy *c,
    const struct serve *s, const char *dir, const char *preload);
void switches_fini(struct switches *w);
#define SCOPED_SWITCHES __attribute__((cleanup(switches_fini)))

#endif

/*
 * The folder with PostgreSQL's programs of one major version: as configured,
 * at the distributions' usual places, by pg_config, or on the PATH.
 */
#ifndef NEAP_HOOKS_POSTGRESQL_BINDIR_H
#define NEAP_HOOKS_POSTGRESQL_BINDIR_H

#include "agent/core/err.h"

/* Gives. `configured` may be NULL, and is the only place when it is not. */
int bindir_find(char **dir, int major, const char *configured, struct err *e);

#endif

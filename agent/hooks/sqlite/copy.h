/* The restored copy of a SQLite database. */
#ifndef NEAP_HOOKS_SQLITE_COPY_H
#define NEAP_HOOKS_SQLITE_COPY_H

#include "agent/hooks/serve.h"

/*
 * The database below --clone; gives. -ENOENT where it is not, -EPERM where
 * it is a link (SQLite would open what it leads to).
 */
int copy_path(char **path, const struct serve *s, struct err *e);

#endif

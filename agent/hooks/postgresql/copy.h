/*
 * A restored, writable copy of a PostgreSQL data directory: where it is, whose
 * it is, which programs fit it, and what must be taken out of it before it may
 * start (rule R7: a copy knows the way to the live data).
 */
#ifndef NEAP_HOOKS_POSTGRESQL_COPY_H
#define NEAP_HOOKS_POSTGRESQL_COPY_H

#include "agent/hooks/serve.h"

struct copy {
	char *data;      /* the data directory below --clone */
	char *bindir;    /* of the same major version */
	char *superuser; /* the role to connect as */
	int major;
	uid_t uid; /* of the owner; the server runs as it */
	gid_t gid;
	json_t *control; /* what pg_controldata says: {"label": "value"} */
};

/* -EBADMSG: not a sound data directory; others: could not look. */
int copy_open(struct copy *c, const struct serve *s, struct err *e);
void copy_fini(struct copy *c);
#define SCOPED_COPY __attribute__((cleanup(copy_fini)))

/*
 * Remove what belongs to the old life (process file, slots, standby signals)
 * and point tablespace and log links into the copy. -EPERM: a way out of the
 * copy would remain.
 */
int copy_prepare(const struct copy *c, const struct serve *s, struct err *e);

/* A value of pg_controldata; "" where it has none such. */
const char *copy_control(const struct copy *c, const char *label);
/* It was stopped in order: no recovery is due. */
bool copy_was_stopped(const struct copy *c);
/* "BINDIR/name"; gives, NULL where there is no such program. */
char *copy_tool(const struct copy *c, const char *name);
/* A setting of the server that the backup's probe recorded; "" if none. */
const char *copy_probed(const struct serve *s, const char *name);

#endif

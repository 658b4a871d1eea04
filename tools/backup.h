/*
 * One backup, opened for reading: its record and its tree.
 */
#ifndef NEAP_TOOLS_BACKUP_H
#define NEAP_TOOLS_BACKUP_H

#include <jansson.h>
#include <sys/types.h>

#include "agent/store/store.h"

struct backup {
	struct catalog_entry entry;
	char name[CATALOG_JOB_MAX + 24]; /* "JOB/TIME" */
	json_t *record;
	struct map_view *view;
};

/* `spec` as in catalog_resolve. Borrows the store until backup_close. */
int backup_open(
    struct backup *b, struct store *s, const char *spec, struct err *e);
void backup_close(struct backup *b); /* {0} is fine */
#define SCOPED_BACKUP __attribute__((cleanup(backup_close)))

/* The sum of the sizes of its files, as the record says it; 0: unknown. */
uint64_t backup_logical_bytes(const struct backup *b);

/* The n-th backed-up absolute path, NULL behind the last; borrowed. */
const char *backup_path(const struct backup *b, size_t n);

/*
 * A path of an object, found by walking the tree: for error texts only. Gives;
 * "object N" where no name leads there.
 */
char *backup_path_of(struct map_view *v, uint64_t object);

/* Who owns the data: the owner of the first backed-up path. */
int backup_owner(const struct backup *b, uid_t *uid, gid_t *gid, struct err *e);

#endif

/*
 * What differs between two backups, path by path, from their maps alone: no
 * content is read, so a host key is enough. Blocks that lie in different
 * chunks count as different.
 */
#ifndef NEAP_JOB_DIFF_H
#define NEAP_JOB_DIFF_H

#include <stdint.h>

#include "agent/store/map.h"

enum diff_kind { DIFF_ADDED, DIFF_REMOVED, DIFF_CONTENT, DIFF_ATTRIBUTES };

struct diff_line {
	enum diff_kind kind;
	const char *path;
	enum object_type type;
	uint64_t changed_bytes; /* content; of a new or gone file its size */
};

typedef int diff_fn(void *arg, const struct diff_line *l);
int diff_run(struct map_view *a, struct map_view *b, diff_fn *fn, void *arg,
    struct err *e);

#endif

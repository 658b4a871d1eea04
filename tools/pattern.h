/*
 * Which paths of a backup: absolute paths (they and all below), or globs on
 * the whole path, in which '*' matches '/' too.
 */
#ifndef NEAP_TOOLS_PATTERN_H
#define NEAP_TOOLS_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/core/err.h"

struct pattern {
	char *text;
	char *fixed; /* the folder above the first wildcard, or the path */
	bool glob, matched;
};

struct pattern_list {
	struct pattern *v;
	size_t n, cap;
};

/* -EINVAL: not absolute. */
int pattern_add(struct pattern_list *l, const char *text, struct err *e);
void pattern_free(struct pattern_list *l);
#define SCOPED_PATTERNS __attribute__((cleanup(pattern_free)))

/* Is `path` chosen by itself? (What is below a chosen folder is, too: the
 * caller's walk knows.) Marks the patterns that chose it. */
bool pattern_chooses(struct pattern_list *l, const char *path);
/* Can there be a chosen path below the folder `path`? */
bool pattern_may_be_below(const struct pattern_list *l, const char *path);
/* -ENOENT and the first pattern that chose nothing. */
int pattern_check_matched(const struct pattern_list *l, struct err *e);

#endif

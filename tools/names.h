/*
 * What changed among the names of one folder: name → inode, 0 where a name of
 * the backup is gone. In byte order. Its owner locks. {0} is empty.
 */
#ifndef NEAP_TOOLS_NAMES_H
#define NEAP_TOOLS_NAMES_H

#include <stdint.h>

struct names_entry {
	struct names_entry *left, *right;
	uint32_t rank; /* heap order keeps the tree flat (a treap) */
	uint64_t ino;
	char name[];
};

struct names {
	struct names_entry *root;
	uint32_t seed;
};

void names_fini(struct names *n);
/* NULL: not there. Borrowed until the next change. */
const struct names_entry *names_find(const struct names *n, const char *name);
void names_set(struct names *n, const char *name, uint64_t ino);
void names_remove(struct names *n, const char *name); /* absent is fine */
/* The first one behind `after` (NULL: the first of all), or NULL. */
const struct names_entry *names_next(const struct names *n, const char *after);

#endif

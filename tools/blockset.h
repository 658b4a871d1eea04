/*
 * A set of block numbers, for files of any size: leaves of 32,768 bits (one
 * for 128 MiB) that are made when needed; a full leaf costs nothing.
 * {0} is empty. Its owner locks.
 */
#ifndef NEAP_TOOLS_BLOCKSET_H
#define NEAP_TOOLS_BLOCKSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blockset {
	uint64_t **leaf;
	size_t leaves;
};

void blockset_fini(struct blockset *s);
void blockset_add(struct blockset *s, uint64_t first, uint64_t count);
bool blockset_has(const struct blockset *s, uint64_t block);
/* How many blocks from `first` on, before `end`, are as `first` is. */
uint64_t blockset_run(const struct blockset *s, uint64_t first, uint64_t end);

#endif

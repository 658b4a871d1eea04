/*
 * A set of chunk ids in memory. Ids are digests, so their first bytes are the
 * hash. One caller at a time. Internal to agent/store.
 */
#ifndef NEAP_STORE_IDSET_H
#define NEAP_STORE_IDSET_H

#include <stdbool.h>

#include "agent/store/chunk.h"

struct idset {
	struct chunk_id *slot;
	bool *taken;
	size_t n, size; /* size: 0 or a power of two, at most 3/4 full */
};

void idset_fini(struct idset *s); /* back to {0}, the empty set */
bool idset_add(struct idset *s, const struct chunk_id *id); /* false: in it */
bool idset_has(const struct idset *s, const struct chunk_id *id);
void idset_del(struct idset *s, const struct chunk_id *id);

#endif

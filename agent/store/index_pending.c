/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/index_internal.h"

#define SLOTS_FIRST 1024

static size_t
home(const struct index_pending *p, const struct chunk_id *id)
{
	return (size_t)bytes_le64(id->b) & (p->slots - 1);
}

/* The slot of `id`, or the free one where it would go. */
static uint32_t *
slot_of(const struct index_pending *p, const struct chunk_id *id)
{
	size_t i = home(p, id);

	while (p->slot[i] != 0 &&
	       memcmp(&p->entry[p->slot[i] - 1].id, id, sizeof *id) != 0)
		i = (i + 1) & (p->slots - 1);
	return &p->slot[i];
}

const struct index_entry *
index_pending_find(const struct index_pending *p, const struct chunk_id *id)
{
	uint32_t s = p->slots ? *slot_of(p, id) : 0;

	return s ? &p->entry[s - 1] : NULL;
}

/* Half of the slots stay free, so that a search is short. */
static void
grow(struct index_pending *p)
{
	p->slots = p->slots ? p->slots * 2 : SLOTS_FIRST;
	free(p->slot);
	p->slot = mem_array(p->slots, sizeof *p->slot);
	for (size_t i = 0; i < p->n; i++)
		*slot_of(p, &p->entry[i].id) = (uint32_t)i + 1;
}

bool
index_pending_add(struct index_pending *p, const struct chunk_id *id,
    const struct chunk_place *at)
{
	uint32_t *s;

	if (2 * (p->n + 1) > p->slots)
		grow(p);
	s = slot_of(p, id);
	if (*s != 0)
		return false;
	MEM_ROOM(p->entry, p->n, p->cap);
	p->entry[p->n++] = (struct index_entry){*id, *at};
	*s = (uint32_t)p->n;
	return true;
}

static int
order(const void *a, const void *b)
{
	const struct index_entry *x = a, *y = b;

	return memcmp(x->id.b, y->id.b, sizeof x->id.b);
}

void
index_pending_sort(struct index_pending *p)
{
	if (p->n > 1)
		qsort(p->entry, p->n, sizeof *p->entry, order);
}

void
index_pending_free(struct index_pending *p)
{
	free(p->entry);
	free(p->slot);
	*p = (struct index_pending){0};
}

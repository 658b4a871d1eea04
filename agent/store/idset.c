/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/idset.h"

#include <assert.h>
#include <string.h>

#include "agent/core/mem.h"

#define FIRST_SIZE 1024

void
idset_fini(struct idset *s)
{
	free(s->slot);
	free(s->taken);
	*s = (struct idset){0};
}

static size_t
home(const struct idset *s, const struct chunk_id *id)
{
	return (size_t)bytes_le64(id->b) & (s->size - 1);
}

/* Where `id` is, or the free place where it belongs. */
static size_t
place(const struct idset *s, const struct chunk_id *id)
{
	size_t i = home(s, id);

	while (s->taken[i] && memcmp(s->slot[i].b, id->b, sizeof id->b) != 0)
		i = (i + 1) & (s->size - 1);
	return i;
}

static void
resize(struct idset *s, size_t size)
{
	struct idset to = {.size = size, .n = s->n}, old = *s;

	to.slot = mem_array(size, sizeof *to.slot);
	to.taken = mem_array(size, sizeof *to.taken);
	for (size_t i = 0; i < s->size; i++) {
		if (s->taken[i]) {
			size_t at = place(&to, &s->slot[i]);

			to.slot[at] = s->slot[i];
			to.taken[at] = true;
		}
	}
	*s = to;
	idset_fini(&old);
}

bool
idset_has(const struct idset *s, const struct chunk_id *id)
{
	return s->size > 0 && s->taken[place(s, id)];
}

bool
idset_add(struct idset *s, const struct chunk_id *id)
{
	size_t at;

	if ((s->n + 1) * 4 > s->size * 3)
		resize(s, s->size ? s->size * 2 : FIRST_SIZE);
	at = place(s, id);
	if (s->taken[at])
		return false;
	s->slot[at] = *id;
	s->taken[at] = true;
	s->n++;
	return true;
}

void
idset_del(struct idset *s, const struct chunk_id *id)
{
	size_t hole, i;

	assert(idset_has(s, id));
	hole = i = place(s, id);
	/* Move up whoever would not be found across the hole (Knuth, volume 3,
	 * 6.4, algorithm R). */
	for (;;) {
		size_t mask = s->size - 1;

		i = (i + 1) & mask;
		if (!s->taken[i])
			break;
		if (((i - home(s, &s->slot[i])) & mask) < ((i - hole) & mask))
			continue;
		s->slot[hole] = s->slot[i];
		hole = i;
	}
	s->taken[hole] = false;
	s->n--;
}

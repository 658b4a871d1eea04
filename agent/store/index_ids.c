/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/index_internal.h"

void
index_ids_add(struct index_ids *l, const uint8_t id[TABLE_ID_LEN])
{
	MEM_ROOM(l->v, l->n, l->cap);
	memcpy(l->v[l->n++], id, TABLE_ID_LEN);
}

static int
order(const void *a, const void *b)
{
	return memcmp(a, b, TABLE_ID_LEN);
}

void
index_ids_sort(struct index_ids *l)
{
	size_t n = 0;

	if (l->n == 0)
		return;
	qsort(l->v, l->n, sizeof *l->v, order);
	for (size_t i = 1; i < l->n; i++) {
		if (order(l->v[n], l->v[i]) != 0)
			memcpy(l->v[++n], l->v[i], TABLE_ID_LEN);
	}
	l->n = n + 1;
}

int64_t
index_ids_find(const struct index_ids *l, const uint8_t id[TABLE_ID_LEN])
{
	const uint8_t(*at)[TABLE_ID_LEN] =
	    l->n ? bsearch(id, l->v, l->n, sizeof *l->v, order) : NULL;

	return at ? at - l->v : -1;
}

void
index_ids_free(struct index_ids *l)
{
	free(l->v);
	*l = (struct index_ids){0};
}

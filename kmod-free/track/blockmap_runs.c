/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of `hashes` are free. Told from the object table alone, so that
 * there is no second record that could disagree with it. Pages that the last
 * commit gave back are free; pages that an update gives up are so only after
 * its own commit: until then the old state must stay whole.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/core/mem.h"
#include "kmod-free/track/blockmap_internal.h"

static int
by_page(const void *pa, const void *pb)
{
	const struct blockmap_gap *a = pa, *b = pb;

	return (a->page > b->page) - (a->page < b->page);
}

/* The runs in use, by page, into `used`: their number. */
static size_t
list_used(const struct blockmap_table *t, struct blockmap_gap *used)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++) {
		if (t->v[i].run_pages == 0)
			continue;
		used[n].page = t->v[i].run_page;
		used[n].pages = t->v[i].run_pages;
		n++;
	}
	qsort(used, n, sizeof *used, by_page);
	return n;
}

int
blockmap_runs_init(
    struct blockmap_runs *r, const struct blockmap_table *t, struct err *e)
{
	SCOPED_FREE struct blockmap_gap *used = mem_array(t->n, sizeof *used);
	size_t n = list_used(t, used);

	*r = (struct blockmap_runs){.gap = mem_array(n, sizeof *r->gap)};
	for (size_t i = 0; i < n; i++) {
		if (used[i].page < r->end) {
			blockmap_runs_fini(r);
			return err_set(e, -EBADMSG,
			    "two objects share page %llu",
			    (unsigned long long)used[i].page);
		}
		if (used[i].page > r->end)
			r->gap[r->n++] = (struct blockmap_gap){
			    r->end, used[i].page - r->end};
		r->end = used[i].page + used[i].pages;
	}
	return 0;
}

void
blockmap_runs_fini(struct blockmap_runs *r)
{
	free(r->gap);
	*r = (struct blockmap_runs){0};
}

static uint64_t
take_at_end(struct blockmap_runs *r, uint64_t pages)
{
	uint64_t page = r->end;

	if (pages > BLOCKMAP_PAGES_MAX - r->end) {
		r->full = true;
		return 0;
	}
	r->end += pages;
	return page;
}

uint64_t
blockmap_runs_take(struct blockmap_runs *r, uint64_t pages)
{
	while (r->first < r->n && r->gap[r->first].pages == 0)
		r->first++;
	for (size_t i = r->first; i < r->n; i++) {
		struct blockmap_gap *g = &r->gap[i];

		if (g->pages < pages)
			continue;
		g->page += pages;
		g->pages -= pages;
		return g->page - pages;
	}
	return take_at_end(r, pages);
}

bool
blockmap_runs_extend(struct blockmap_runs *r, uint64_t page, uint64_t pages)
{
	struct blockmap_gap key = {.page = page}, *g;

	if (page == r->end && pages <= BLOCKMAP_PAGES_MAX - r->end) {
		take_at_end(r, pages);
		return true;
	}
	g = r->n == 0 ? NULL
		      : bsearch(&key, r->gap, r->n, sizeof *r->gap, by_page);
	if (g == NULL || g->pages < pages)
		return false;
	g->page += pages;
	g->pages -= pages;
	return true;
}

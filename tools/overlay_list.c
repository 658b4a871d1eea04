/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "tools/overlay_parts.h"

/*
 * A folder is read in batches: the next names of the backup and the next
 * changed ones, merged under the lock, handed out without it.
 */
#define BATCH 64

struct entry {
	char *name;
	uint64_t ino;
};

struct batch {
	struct entry v[BATCH];
	size_t n;
};

static void
batch_free(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->v[i].name);
	b->n = 0;
}

static int
put(struct batch *b, const char *name, uint64_t ino)
{
	b->v[b->n].name = mem_str(name);
	b->v[b->n].ino = ino;
	return ++b->n == BATCH;
}

static int
on_base_name(void *arg, const char *name, uint64_t object)
{
	return put(arg, name, object);
}

/* Lay the changes behind `after` over `base`, into `out`. */
static void
merge(const struct batch *base, const struct names *changes, const char *after,
    struct batch *out)
{
	const struct names_entry *x =
	    changes != NULL ? names_next(changes, after) : NULL;
	size_t i = 0;

	/* Behind a full batch the backup may have names that sort before the
	 * remaining changes: those wait for the next round. */
	while (out->n < BATCH && (i < base->n || x != NULL)) {
		int c = i == base->n ? 1
			: x == NULL  ? -1
				     : strcmp(base->v[i].name, x->name);

		if (i == base->n && base->n == BATCH)
			return;
		if (c < 0) {
			put(out, base->v[i].name, base->v[i].ino);
			i++;
			continue;
		}
		if (c == 0)
			i++;
		if (x->ino != 0)
			put(out, x->name, x->ino);
		x = names_next(changes, x->name);
	}
}

/* 1: maybe more; 0: that was all. *last: where to go on; given. */
static int
next_batch(struct overlay *ov, uint64_t folder, char **last, struct batch *out)
{
	struct batch base = {.n = 0};
	struct overlay_node *n;
	struct err e = ERR_NONE;
	char *from;
	int rc = 0;

	pthread_rwlock_rdlock(&ov->lock);
	for (;;) {
		n = overlay_find(ov, folder);
		if (folder < OVERLAY_FIRST_NEW)
			rc = map_view_names(ov->how.view, folder, *last,
			    on_base_name, &base, &e);
		if (rc < 0)
			break;
		merge(&base, n ? &n->names : NULL, *last, out);
		rc = base.n == BATCH || out->n == BATCH;
		from = out->n > 0   ? out->v[out->n - 1].name
		       : base.n > 0 ? base.v[base.n - 1].name
				    : NULL;
		if (from != NULL) {
			from = mem_str(from);
			free(*last);
			*last = from;
		}
		batch_free(&base);
		/* A batch of nothing but removed names: look further. */
		if (out->n > 0 || rc == 0)
			break;
	}
	pthread_rwlock_unlock(&ov->lock);
	batch_free(&base);
	return rc < 0 ? overlay_fail(ov, folder, 0, &e) : rc;
}

int
overlay_list(struct overlay *ov, uint64_t folder, const char *after,
    overlay_name_fn *fn, void *arg)
{
	char *last = after != NULL ? mem_str(after) : NULL;
	struct batch b = {.n = 0};
	int rc = 1, end = 0;

	while (rc == 1 && end == 0) {
		rc = next_batch(ov, folder, &last, &b);
		for (size_t i = 0; rc >= 0 && end == 0 && i < b.n; i++)
			end = fn(arg, b.v[i].name, b.v[i].ino);
		batch_free(&b);
	}
	free(last);
	return rc < 0 ? rc : end;
}

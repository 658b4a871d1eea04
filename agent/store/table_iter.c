/* SPDX-License-Identifier: Apache-2.0 */
/* A cursor over a table. It holds the frame that it hands out entries of. */
#include "agent/core/mem.h"
#include "agent/store/table_internal.h"

struct table_iter {
	struct table *table;
	struct table_frame *frame; /* NULL: to be taken by the next call */
	uint32_t number;           /* of the frame */
	uint32_t at;               /* next entry in it */
};

struct table_iter *
table_iter_new(struct table *t)
{
	struct table_iter *i = mem_new(sizeof *i);

	i->table = t;
	return i;
}

void
table_iter_free(struct table_iter *i)
{
	if (i == NULL)
		return;
	table_frame_unref(i->frame);
	free(i);
}

void
table_iter_free_scope(struct table_iter **i)
{
	table_iter_free(*i);
}

/* To the first entry >= `key` in the frame that may hold it; *exact: is it. */
static int
position(struct table_iter *i, struct span key, bool *exact, struct err *e)
{
	int64_t n = table_dir_find(table_directory(i->table), key);
	struct span k, v;
	int rc;

	*exact = false;
	table_frame_unref(TAKE(i->frame));
	i->number = n < 0 ? 0 : (uint32_t)n;
	i->at = 0;
	if (n < 0)
		return 0;
	rc = table_take_frame(i->table, i->number, &i->frame, e);
	if (rc < 0)
		return rc;
	i->at = table_frame_lower(i->frame, key);
	if (i->at < i->frame->entries) {
		table_frame_entry(i->frame, i->at, &k, &v);
		*exact = span_cmp(k, key) == 0;
	}
	return 0;
}

int
table_iter_seek(struct table_iter *i, struct span key, struct err *e)
{
	bool exact;

	return position(i, key, &exact, e);
}

int
table_iter_seek_last(struct table_iter *i, struct span key, struct err *e)
{
	bool exact;
	int rc = position(i, key, &exact, e);

	if (rc < 0 || exact)
		return rc;
	/* Between the directory's key and the frame's first: the last entry of
	 * the frame before. */
	if (i->at == 0 && i->number > 0) {
		table_frame_unref(TAKE(i->frame));
		rc = table_take_frame(i->table, --i->number, &i->frame, e);
		if (rc < 0)
			return rc;
		i->at = i->frame->entries;
	}
	if (i->at > 0)
		i->at--;
	return 0;
}

int
table_iter_next(
    struct table_iter *i, struct span *key, struct span *value, struct err *e)
{
	while (i->frame == NULL || i->at == i->frame->entries) {
		if (i->frame != NULL) {
			table_frame_unref(TAKE(i->frame));
			i->number++;
			i->at = 0;
		}
		if (i->number >= table_directory(i->table)->frames)
			return 0;
		int rc = table_take_frame(i->table, i->number, &i->frame, e);

		if (rc < 0)
			return rc;
	}
	table_frame_entry(i->frame, i->at++, key, value);
	return 1;
}

static int
source_next(void *arg, struct span *key, struct span *value, struct err *e)
{
	return table_iter_next(arg, key, value, e);
}

struct table_source
table_iter_source(struct table_iter *i)
{
	return (struct table_source){source_next, i};
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a segment: chunks of pending entries and of older segments merged,
 * then the packs, numbered anew, then the names of what it contains. Packs
 * that no chunk names any more stay listed: index_recover would take them for
 * forgotten ones.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "agent/store/index_internal.h"

struct writing {
	struct table_builder *out;
	const struct index_pending *pending;
	struct index_segment *const *seg;
	size_t n;
	const struct index_ids *absent;
	struct index_ids packs; /* sorted; a position is the new number */
	uint32_t **renumber;    /* for each segment, old number → new */
	size_t *renumbers;      /* how many */
	/* pending as a source of the merge */
	size_t next;
	uint8_t key[33], value[INDEX_PLACE_LEN];
};

static void
writing_fini(struct writing *w)
{
	table_builder_abort(w->out);
	index_ids_free(&w->packs);
	for (size_t i = 0; i < w->n; i++)
		free(w->renumber[i]);
	free(w->renumber);
	free(w->renumbers);
}

static int
number_packs(struct writing *w, struct err *e)
{
	struct index_ids of[1] = {0};
	int rc = 0;

	for (size_t i = 0; i < w->pending->n; i++) {
		const uint8_t *pack = w->pending->entry[i].at.pack;

		if (w->packs.n == 0 ||
		    memcmp(w->packs.v[w->packs.n - 1], pack, 16) != 0)
			index_ids_add(&w->packs, pack);
	}
	index_ids_sort(&w->packs);
	for (size_t i = 0; rc == 0 && i < w->n; i++)
		rc = index_segment_packs(w->seg[i], &w->packs, e);
	index_ids_sort(&w->packs);
	for (size_t i = 0; rc == 0 && i < w->n; i++) {
		of->n = 0;
		rc = index_segment_packs(w->seg[i], of, e);
		w->renumbers[i] = of->n;
		w->renumber[i] = mem_array(of->n, sizeof **w->renumber);
		for (size_t j = 0; j < of->n; j++)
			w->renumber[i][j] =
			    (uint32_t)index_ids_find(&w->packs, of->v[j]);
	}
	index_ids_free(of);
	return rc;
}

static int
pending_next(void *arg, struct span *key, struct span *value, struct err *e)
{
	struct writing *w = arg;
	const struct index_entry *en;

	(void)e;
	if (w->next == w->pending->n)
		return 0;
	en = &w->pending->entry[w->next++];
	w->key[0] = INDEX_TAG_CHUNK;
	memcpy(w->key + 1, en->id.b, sizeof en->id.b);
	index_encode_place(w->value,
	    (uint32_t)index_ids_find(&w->packs, en->at.pack), &en->at);
	*key = SPAN(w->key, sizeof w->key);
	*value = SPAN(w->value, sizeof w->value);
	return 1;
}

/* ---- segments as sources: without places that are of no use ---- */

struct segment_source {
	const struct writing *w;
	size_t i; /* of the segment */
	struct table_iter *it;
};

/* Whether a place is in a pack that is not there. */
static int
is_absent(const struct writing *w, size_t i, struct span value, struct err *e)
{
	struct chunk_place at;
	uint32_t number;
	int rc = index_decode_place(&at, &number, value, e);

	if (rc < 0 || number >= w->renumbers[i])
		return 0; /* put_renumbered says what is wrong */
	number = w->renumber[i][number];
	return index_ids_find(w->absent, w->packs.v[number]) >= 0;
}

/* Whether another of the segments has the chunk in a pack that is there. */
static int
is_elsewhere(const struct writing *w, size_t i, struct span key, struct err *e)
{
	struct chunk_place at;
	struct chunk_id id;
	int rc = 0;

	if (key.len != 1 + sizeof id.b)
		return 0;
	memcpy(id.b, (const uint8_t *)key.data + 1, sizeof id.b);
	for (size_t j = 0; rc == 0 && j < w->n; j++) {
		if (j == i)
			continue;
		rc = index_segment_find(w->seg[j], &id, &at, e);
		if (rc > 0 && index_ids_find(w->absent, at.pack) >= 0)
			rc = 0;
	}
	return rc;
}

static int
segment_next(void *arg, struct span *key, struct span *value, struct err *e)
{
	struct segment_source *s = arg;
	int rc;

	while ((rc = table_iter_next(s->it, key, value, e)) > 0) {
		if (s->w->absent->n == 0 ||
		    *(const uint8_t *)key->data != INDEX_TAG_CHUNK ||
		    !is_absent(s->w, s->i, *value, e))
			return 1;
		rc = is_elsewhere(s->w, s->i, *key, e);
		if (rc <= 0)
			return rc < 0 ? rc : 1;
	}
	return rc;
}

/* An entry of segment `i` under its pack's new number. */
static int
put_renumbered(struct writing *w, size_t i, struct span key, struct span value,
    struct err *e)
{
	uint8_t v[INDEX_PLACE_LEN];
	struct chunk_place at;
	uint32_t number;
	char name[64];
	int rc = index_decode_place(&at, &number, value, e);

	if (rc == 0 && number >= w->renumbers[i])
		rc =
		    err_set(e, -EBADMSG, "pack number %u is not in it", number);
	if (rc < 0) {
		table_name(name, TABLE_INDEX, table_id(w->seg[i]->table));
		return err_wrap(e, "%s", name);
	}
	index_encode_place(v, w->renumber[i][number], &at);
	return table_builder_add(w->out, key, SPAN(v, sizeof v), e);
}

static int
put_chunks(struct writing *w, struct table_merge *m, struct err *e)
{
	struct span key, value;
	int rc;

	while ((rc = table_merge_next(m, &key, &value, e)) > 0) {
		size_t from = table_merge_winner(m);

		if (*(const uint8_t *)key.data != INDEX_TAG_CHUNK)
			return 0; /* packs and names are not merged by key */
		if (from == w->n)
			rc = table_builder_add(w->out, key, value, e);
		else
			rc = put_renumbered(w, from, key, value, e);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static int
merge_chunks(struct writing *w, struct err *e)
{
	SCOPED_FREE struct table_source *src = mem_array(w->n + 1, sizeof *src);
	SCOPED_FREE struct segment_source *of = mem_array(w->n + 1, sizeof *of);
	struct table_merge *m;
	int rc;

	for (size_t i = 0; i < w->n; i++) {
		of[i] = (struct segment_source){
		    w, i, table_iter_new(w->seg[i]->table)};
		src[i] = (struct table_source){segment_next, &of[i]};
	}
	src[w->n] = (struct table_source){pending_next, w};
	m = table_merge_new(src, w->n + 1);
	rc = put_chunks(w, m, e);
	table_merge_free(m);
	for (size_t i = 0; i < w->n; i++)
		table_iter_free(of[i].it);
	return rc;
}

static int
put_packs(struct writing *w, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < w->packs.n; i++) {
		uint8_t k[5] = {INDEX_TAG_PACK, (uint8_t)(i >> 24),
		    (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};

		rc = table_builder_add(w->out, SPAN(k, sizeof k),
		    SPAN(w->packs.v[i], TABLE_ID_LEN), e);
	}
	return rc;
}

static int
put_older(struct writing *w, const struct index_ids *older, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < older->n; i++) {
		uint8_t k[1 + TABLE_ID_LEN] = {INDEX_TAG_OLDER};

		memcpy(k + 1, older->v[i], TABLE_ID_LEN);
		rc = table_builder_add(
		    w->out, SPAN(k, sizeof k), SPAN("", 0), e);
	}
	return rc;
}

int
index_write(struct repo *r, const struct keys *k,
    const struct index_pending *pending, struct index_segment *const *seg,
    size_t n, const struct index_ids *older, const struct index_ids *absent,
    uint8_t id[TABLE_ID_LEN], uint64_t *len, struct err *e)
{
	struct writing w = {
	    .pending = pending, .seg = seg, .n = n, .absent = absent};
	int rc;

	w.renumber = mem_array(n, sizeof(uint32_t *));
	w.renumbers = mem_array(n, sizeof *w.renumbers);
	rc = table_builder_new(&w.out, r, k, TABLE_INDEX, e);
	if (rc == 0)
		rc = number_packs(&w, e);
	if (rc == 0)
		rc = merge_chunks(&w, e);
	if (rc == 0)
		rc = put_packs(&w, e);
	if (rc == 0)
		rc = put_older(&w, older, e);
	if (rc == 0)
		rc = table_builder_finish(TAKE(w.out), id, len, e);
	writing_fini(&w);
	return rc;
}

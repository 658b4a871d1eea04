/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sorting entries with bounded memory: they gather in an arena; when it is
 * full it is sorted and written as a run behind the earlier ones in one unnamed
 * file; at the end the runs are merged. A later entry of a key hides the
 * earlier ones, within a run and between runs.
 *
 * A run is u32 key length, u32 value length, key, value, again and again. It
 * never outlives the process. An XXH64 guards it all the same: what is
 * read back becomes the map of somebody's only copy.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/tmpfile.h"
#include "agent/store/map_internal.h"

#define LIMIT_DEFAULT (8u << 20)
#define ENTRY_HEAD 8u
#define WRITE_BYTES (256u << 10)
/* Read buffers of all runs together stay near the arena's own size. */
#define WINDOWS_BYTES (8u << 20)
#define WINDOW_MIN (8u << 10)
#define WINDOW_MAX (128u << 10)

static size_t sort_limit = LIMIT_DEFAULT;

struct ref {
	uint32_t at; /* of the entry in the arena; key, then value */
	uint32_t key_len, value_len;
};

struct run {
	uint64_t off, end;
	uint64_t sum;
};

struct map_sort {
	char *spill_dir;
	size_t limit;
	struct buf arena;
	struct ref *ref;
	size_t refs, ref_cap;
	struct tmpfile spill;
	struct run *run;
	size_t runs, run_cap;
	size_t next; /* of the arena's entries, when they are read */
};

void
map_sort_set_limit(size_t bytes)
{
	sort_limit = bytes ? bytes : LIMIT_DEFAULT;
}

uint64_t
map_sort_runs(const struct map_sort *s)
{
	return s->runs;
}

struct map_sort *
map_sort_new(const char *spill_dir)
{
	struct map_sort *s = mem_new(sizeof *s);

	s->spill_dir = mem_str(spill_dir);
	s->limit = sort_limit;
	s->spill = (struct tmpfile)TMPFILE_NONE;
	return s;
}

void
map_sort_free(struct map_sort *s)
{
	if (s == NULL)
		return;
	tmpfile_close(&s->spill);
	buf_free(&s->arena);
	free(s->ref);
	free(s->run);
	free(s->spill_dir);
	free(s);
}

/* ---- in memory ---- */

static struct span
key_at(const struct map_sort *s, size_t i)
{
	return SPAN(s->arena.data + s->ref[i].at, s->ref[i].key_len);
}

static int
order(const void *a, const void *b, void *arg)
{
	const struct ref *x = a, *y = b;
	const uint8_t *base = arg;
	int c = span_cmp(
	    SPAN(base + x->at, x->key_len), SPAN(base + y->at, y->key_len));

	/* Places in the arena grow with time. */
	return c != 0 ? c : (x->at > y->at) - (x->at < y->at);
}

static void
sort_arena(struct map_sort *s)
{
	if (s->refs > 1)
		qsort_r(s->ref, s->refs, sizeof *s->ref, order, s->arena.data);
	s->next = 0;
}

/* The next of the sorted arena, the last one of each key. */
static int
arena_next(void *arg, struct span *key, struct span *value, struct err *e)
{
	struct map_sort *s = arg;

	(void)e;
	while (s->next + 1 < s->refs &&
	       span_cmp(key_at(s, s->next), key_at(s, s->next + 1)) == 0)
		s->next++;
	if (s->next >= s->refs)
		return 0;
	*key = key_at(s, s->next);
	*value = SPAN(s->arena.data + s->ref[s->next].at + key->len,
	    s->ref[s->next].value_len);
	s->next++;
	return 1;
}

/* ---- spilling ---- */

static int
run_put(struct map_sort *s, XXH64_state_t *sum, struct buf *b, struct err *e)
{
	int rc = tmpfile_write(&s->spill, b->data, b->len, e);

	XXH64_update(sum, b->data, b->len);
	buf_clear(b);
	return rc;
}

static int
write_entries(struct map_sort *s, XXH64_state_t *sum, struct err *e)
{
	SCOPED_BUF struct buf b = {0};
	struct span key, value;
	int rc = 0;

	while (rc == 0 && arena_next(s, &key, &value, e) > 0) {
		buf_put_le32(&b, (uint32_t)key.len);
		buf_put_le32(&b, (uint32_t)value.len);
		buf_put(&b, key.data, key.len);
		buf_put(&b, value.data, value.len);
		if (b.len >= WRITE_BYTES)
			rc = run_put(s, sum, &b, e);
	}
	return rc == 0 && b.len > 0 ? run_put(s, sum, &b, e) : rc;
}

static int
write_run(struct map_sort *s, struct run *r, struct err *e)
{
	XXH64_state_t *sum = XXH64_createState();
	int rc;

	XXH64_reset(sum, 0);
	r->off = s->spill.len;
	rc = write_entries(s, sum, e);
	r->end = s->spill.len;
	r->sum = XXH64_digest(sum);
	XXH64_freeState(sum);
	return rc;
}

static int
spill(struct map_sort *s, struct err *e)
{
	struct run r = {0};
	int rc = 0;

	/* Names of files are in it: for our eyes only. */
	if (s->spill.fd < 0)
		rc = tmpfile_open(&s->spill, AT_FDCWD, s->spill_dir, 0600, e);
	if (rc < 0)
		return rc;
	sort_arena(s);
	rc = write_run(s, &r, e);
	if (rc < 0)
		return err_wrap(e, "sort the map in folder %s", s->spill_dir);
	MEM_ROOM(s->run, s->runs, s->run_cap);
	s->run[s->runs++] = r;
	buf_clear(&s->arena);
	s->refs = 0;
	return 0;
}

int
map_sort_add(
    struct map_sort *s, struct span key, struct span value, struct err *e)
{
	size_t used = s->arena.len + s->refs * sizeof *s->ref;

	assert(key.len <= TABLE_KEY_MAX && value.len <= TABLE_VALUE_MAX);
	if (s->refs > 0 && used + key.len + value.len > s->limit) {
		int rc = spill(s, e);

		if (rc < 0)
			return rc;
	}
	MEM_ROOM(s->ref, s->refs, s->ref_cap);
	s->ref[s->refs++] = (struct ref){
	    (uint32_t)s->arena.len, (uint32_t)key.len, (uint32_t)value.len};
	buf_put(&s->arena, key.data, key.len);
	buf_put(&s->arena, value.data, value.len);
	return 0;
}

/* ---- reading the runs back ---- */

struct reader {
	const struct map_sort *s;
	const struct run *run;
	uint64_t off; /* of the next byte not yet in the window */
	size_t window;
	struct buf b;
	size_t at;    /* of the next entry in `b` */
	size_t given; /* length of the entry handed out, still at `at` */
	XXH64_state_t *sum;
};

/* At least `need` bytes at `at`; 0 where the run ends before. */
static int
fill(struct reader *r, size_t need, struct err *e)
{
	uint64_t left = r->run->end - r->off;
	size_t have = r->b.len - r->at, want;
	int rc;

	if (have >= need)
		return 1;
	if (left < need - have)
		return 0;
	if (have > 0)
		memmove(r->b.data, r->b.data + r->at, have);
	r->b.len = have;
	r->at = 0;
	want = need - have > r->window ? need - have : r->window;
	if (want > left)
		want = (size_t)left;
	rc = fs_pread(r->s->spill.fd, buf_room(&r->b, want), want, r->off, e);
	if (rc < 0)
		return rc;
	r->b.len += want;
	r->off += want;
	return 1;
}

static int
changed(const struct reader *r, struct err *e)
{
	return err_set(e, -EBADMSG,
	    "the map's spilled entries in folder %s are not as they were "
	    "written: a failing disk or memory",
	    r->s->spill_dir);
}

static int
run_next(void *arg, struct span *key, struct span *value, struct err *e)
{
	struct reader *r = arg;
	size_t klen, vlen;
	int rc;

	r->at += r->given;
	r->given = 0;
	if (r->b.len == r->at && r->off == r->run->end)
		return XXH64_digest(r->sum) == r->run->sum ? 0 : changed(r, e);
	rc = fill(r, ENTRY_HEAD, e);
	if (rc <= 0)
		return rc < 0 ? rc : changed(r, e);
	klen = bytes_le32(r->b.data + r->at);
	vlen = bytes_le32(r->b.data + r->at + 4);
	if (klen == 0 || klen > TABLE_KEY_MAX || vlen > TABLE_VALUE_MAX)
		return changed(r, e);
	rc = fill(r, ENTRY_HEAD + klen + vlen, e);
	if (rc <= 0)
		return rc < 0 ? rc : changed(r, e);
	r->given = ENTRY_HEAD + klen + vlen;
	XXH64_update(r->sum, r->b.data + r->at, r->given);
	*key = SPAN(r->b.data + r->at + ENTRY_HEAD, klen);
	*value = SPAN(r->b.data + r->at + ENTRY_HEAD + klen, vlen);
	return 1;
}

static int
deliver(struct table_merge *m, map_sort_fn *fn, void *arg, struct err *e)
{
	struct span key, value;
	int rc;

	while ((rc = table_merge_next(m, &key, &value, e)) > 0) {
		rc = fn(arg, key, value, e);
		if (rc != 0)
			return rc;
	}
	return rc;
}

int
map_sort_each(struct map_sort *s, map_sort_fn *fn, void *arg, struct err *e)
{
	size_t n = s->runs + 1;
	SCOPED_FREE struct reader *reader = mem_array(n, sizeof *reader);
	SCOPED_FREE struct table_source *src = mem_array(n, sizeof *src);
	size_t window = WINDOWS_BYTES / n;
	struct table_merge *m;
	int rc;

	if (window < WINDOW_MIN)
		window = WINDOW_MIN;
	if (window > WINDOW_MAX)
		window = WINDOW_MAX;
	for (size_t i = 0; i < s->runs; i++) {
		reader[i] = (struct reader){.s = s,
		    .run = &s->run[i],
		    .off = s->run[i].off,
		    .window = window,
		    .sum = XXH64_createState()};
		XXH64_reset(reader[i].sum, 0);
		src[i] = (struct table_source){run_next, &reader[i]};
	}
	/* What is still in memory is the newest run. */
	sort_arena(s);
	src[s->runs] = (struct table_source){arena_next, s};
	m = table_merge_new(src, n);
	rc = deliver(m, fn, arg, e);
	table_merge_free(m);
	for (size_t i = 0; i < s->runs; i++) {
		XXH64_freeState(reader[i].sum);
		buf_free(&reader[i].b);
	}
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Maps: many deltas and their merges say what a plain array says. */
#include "tests/unit/store/place.h"

#include <endian.h>
#include <pthread.h>

#include "agent/store/map_internal.h"

#define BLOCKS 160u  /* of an object, at most */
#define OBJECTS 400u /* numbers ever used in a run of the model */
#define NAMES 12u
#define FOLDERS 3u

/* ---- the model: what a backup should hold ---- */

struct block {
	uint32_t chunk; /* 0: zeros */
	uint8_t slot;
};

struct thing {
	bool live;
	uint64_t size;
	struct block at[BLOCKS];
};

struct model {
	struct thing thing[OBJECTS];   /* by object number */
	uint64_t name[FOLDERS][NAMES]; /* object, 0: no such name */
	uint64_t next_object;
	uint32_t next_chunk;
};

static struct chunk_id
chunk_of(uint32_t n)
{
	struct dice d = {n};
	struct chunk_id id;

	for (size_t i = 0; i < sizeof id.b; i += 8)
		bytes_put_le64(id.b + i, dice_u64(&d));
	return id;
}

static const char *
name_of(unsigned n)
{
	static const char *const name[NAMES] = {"a", "a.b", "ab", "b", "base",
	    "log", "pg_wal", "x y", "\xff\xfe", "z", "zz", "\n"};

	return name[n];
}

/* Folders are objects 1 to 3; they never go. */
static uint64_t
folder_of(unsigned n)
{
	return 1 + n;
}

/* ---- one delta: changes to the model, and the builder told of them ---- */

struct delta {
	struct model *m;
	struct map_builder *b;
	bool dirty[OBJECTS][BLOCKS];
	struct dice *d;
};

static void
tell_object(struct delta *x, uint64_t object)
{
	const struct thing *t = &x->m->thing[object];
	struct object o = {
	    .type = OBJECT_FILE, .mode = 0600, .nlink = 1, .size = t->size};
	struct err e = ERR_NONE;

	OK(map_builder_object(x->b, object, t->live ? &o : NULL, &e));
}

static void
tell_name(struct delta *x, unsigned folder, unsigned name)
{
	struct err e = ERR_NONE;

	OK(map_builder_name(x->b, folder_of(folder), name_of(name),
	    x->m->name[folder][name], &e));
}

static void
remove_object(struct delta *x, uint64_t object)
{
	struct thing *t = &x->m->thing[object];

	memset(t, 0, sizeof *t);
	memset(x->dirty[object], 0, sizeof x->dirty[object]);
	tell_object(x, object);
}

/* Gives the name to a new object, or to none; the old one goes. */
static void
rename_some(struct delta *x)
{
	unsigned folder = dice_below(x->d, FOLDERS);
	unsigned name = dice_below(x->d, NAMES);
	uint64_t *at = &x->m->name[folder][name];

	if (*at != 0)
		remove_object(x, *at);
	*at = 0;
	if (dice_below(x->d, 3) != 0 && x->m->next_object < OBJECTS) {
		*at = x->m->next_object++;
		x->m->thing[*at].live = true;
		x->m->thing[*at].size = dice_below(x->d, BLOCKS * 4096);
		tell_object(x, *at);
	}
	tell_name(x, folder, name);
}

static uint64_t
some_object(struct delta *x)
{
	for (int i = 0; i < 50; i++) {
		uint64_t o = x->m->name[dice_below(x->d, FOLDERS)]
				       [dice_below(x->d, NAMES)];

		if (o != 0)
			return o;
	}
	return 0;
}

/* A run of blocks: into a new chunk, or zeros (hole, truncate, extend). */
static void
write_some(struct delta *x, uint64_t object, unsigned max, bool zero)
{
	unsigned from = dice_below(x->d, BLOCKS);
	unsigned n = 1 + dice_below(x->d, max);
	uint32_t chunk = zero ? 0 : ++x->m->next_chunk;
	unsigned slot = 0;

	for (unsigned i = from; i < BLOCKS && i < from + n; i++) {
		if (slot == CHUNK_BLOCKS) {
			chunk = zero ? 0 : ++x->m->next_chunk;
			slot = 0;
		}
		x->m->thing[object].at[i] =
		    (struct block){chunk, zero ? 0 : (uint8_t)slot};
		x->dirty[object][i] = true;
		slot++;
	}
	x->m->thing[object].size = dice_below(x->d, BLOCKS * 4096);
	tell_object(x, object);
}

static bool
joins(const struct map_extent *x, const struct block *b, uint32_t last_chunk)
{
	if (x->count == 0 || (b->chunk == 0) != x->zero)
		return false;
	return x->zero ||
	       (b->chunk == last_chunk && b->slot == x->slot + x->count);
}

/* Dirty blocks of an object as extents, as a backup would gather them. */
static void
tell_extents(struct delta *x, uint64_t object)
{
	struct map_extent ext = {0};
	struct err e = ERR_NONE;
	uint32_t last = 0;

	for (unsigned i = 0; i <= BLOCKS; i++) {
		const struct block *b = &x->m->thing[object].at[i];
		bool dirty = i < BLOCKS && x->dirty[object][i];

		if (dirty && joins(&ext, b, last)) {
			ext.count++;
			continue;
		}
		if (ext.count > 0)
			OK(map_builder_extent(x->b, object, &ext, &e));
		ext.count = 0;
		if (!dirty)
			continue;
		ext = (struct map_extent){.block = i,
		    .count = 1,
		    .zero = b->chunk == 0,
		    .slot = b->slot};
		last = b->chunk;
		if (!ext.zero)
			ext.chunk = chunk_of(last);
	}
}

static struct map_ref
make_delta(struct place *p, struct model *m, unsigned changes, struct dice *d)
{
	struct delta *x = mem_new(sizeof *x);
	struct err e = ERR_NONE;
	struct map_ref ref;

	x->m = m;
	x->d = d;
	OK(map_builder_new(&x->b, p->repo, &p->keys, p->scratch, &e));
	for (unsigned i = 0; i < changes; i++) {
		uint64_t o = some_object(x);
		unsigned what = dice_below(d, 10);

		if (o == 0 || what == 0)
			rename_some(x);
		else
			write_some(x, o, what < 3 ? 100 : 6, what % 3 == 0);
	}
	for (uint64_t o = 0; o < m->next_object; o++)
		tell_extents(x, o);
	OK(map_builder_finish(x->b, &ref, &e));
	free(x);
	return ref;
}

/* ---- the view against the model ---- */

struct seen {
	struct block at[BLOCKS];
	uint64_t next; /* extents come in order */
};

static int
see_extent(void *arg, const struct map_extent *x)
{
	struct seen *s = arg;

	assert_false(x->zero);
	assert_true(x->block >= s->next);
	s->next = x->block + x->count;
	assert_true(s->next <= BLOCKS);
	for (uint32_t i = 0; i < x->count; i++)
		s->at[x->block + i] = (struct block){
		    bytes_le32(x->chunk.b), (uint8_t)(x->slot + i)};
	return 0;
}

static void
check_extents(struct map_view *v, const struct thing *t, uint64_t object,
    unsigned from, unsigned n)
{
	struct seen s = {.next = from};
	struct err e = ERR_NONE;

	OK(map_view_extents(v, object, from, n, see_extent, &s, &e));
	assert_true(s.next <= from + n);
	for (unsigned i = 0; i < BLOCKS; i++) {
		bool inside = i >= from && i < from + n;
		uint32_t chunk = inside ? t->at[i].chunk : 0;
		struct chunk_id id = chunk_of(chunk);

		if (chunk == 0) {
			assert_int_equal(s.at[i].chunk, 0);
		} else {
			assert_int_equal(s.at[i].chunk, bytes_le32(id.b));
			assert_int_equal(s.at[i].slot, t->at[i].slot);
		}
	}
}

static void
check_object(
    struct map_view *v, const struct model *m, uint64_t object, struct dice *d)
{
	const struct thing *t = &m->thing[object];
	SCOPED_OBJECT struct object o = {0};
	struct err e = ERR_NONE;

	FAILS(t->live, map_view_object(v, object, &o, &e));
	if (!t->live)
		return;
	assert_int_equal(o.size, t->size);
	check_extents(v, t, object, 0, BLOCKS);
	for (int i = 0; i < 4; i++) {
		unsigned from = dice_below(d, BLOCKS);

		check_extents(
		    v, t, object, from, 1 + dice_below(d, BLOCKS - from));
	}
}

struct names {
	const struct model *m;
	unsigned folder, n;
	char last[16];
};

static int
see_name(void *arg, const char *name, uint64_t object)
{
	struct names *s = arg;
	unsigned i = 0;

	assert_true(strcmp(s->last, name) < 0);
	snprintf(s->last, sizeof s->last, "%s", name);
	while (i < NAMES && strcmp(name_of(i), name) != 0)
		i++;
	assert_true(i < NAMES);
	assert_int_equal(s->m->name[s->folder][i], object);
	s->n++;
	return 0;
}

static void
check_names(struct map_view *v, const struct model *m, unsigned folder,
    const char *after)
{
	struct names s = {m, folder, 0, ""};
	struct err e = ERR_NONE;
	unsigned want = 0;

	if (after != NULL)
		snprintf(s.last, sizeof s.last, "%s", after);
	OK(map_view_names(v, folder_of(folder), after, see_name, &s, &e));
	for (unsigned i = 0; i < NAMES; i++) {
		uint64_t object = 0, is = m->name[folder][i];

		want +=
		    is != 0 && (after == NULL || strcmp(name_of(i), after) > 0);
		FAILS(is != 0, map_view_lookup(v, folder_of(folder), name_of(i),
				   &object, &e));
		assert_int_equal(object, is);
	}
	assert_int_equal(s.n, want);
}

struct objects {
	const struct model *m;
	uint64_t last, n;
};

static int
see_object(void *arg, uint64_t object, const struct object *o)
{
	struct objects *s = arg;

	assert_true(object > s->last);
	assert_true(s->m->thing[object].live);
	assert_int_equal(o->size, s->m->thing[object].size);
	s->last = object;
	s->n++;
	return 0;
}

static void
check_view(struct place *p, const struct model *m, const struct map_ref *maps,
    size_t n, struct dice *d)
{
	struct objects s = {m, 0, 0};
	struct err e = ERR_NONE;
	struct map_view *v;
	uint64_t live = 0;

	OK(map_view_open(&v, p->repo, &p->keys, maps, n, &e));
	for (uint64_t o = 1; o < m->next_object; o++) {
		check_object(v, m, o, d);
		live += m->thing[o].live;
	}
	for (unsigned f = 0; f < FOLDERS; f++) {
		check_names(v, m, f, NULL);
		check_names(v, m, f, name_of(dice_below(d, NAMES)));
	}
	OK(map_view_objects(v, see_object, &s, &e));
	assert_int_equal(s.n, live);
	map_view_close(v);
}

/* A base has nothing that is gone, and no zeros. */
static void
check_base(struct place *p, const struct model *m, const struct map_ref *base)
{
	SCOPED_ITER struct table_iter *i = NULL;
	struct err e = ERR_NONE;
	struct span key, value;
	struct table *t;
	int rc;

	OK(table_open(&t, p->repo, &p->keys, TABLE_MAP, base->id, &e));
	i = table_iter_new(t);
	while ((rc = table_iter_next(i, &key, &value, &e)) > 0) {
		uint64_t object = 0;
		struct map_extent x;

		assert_true(value.len > 0);
		if (*(const uint8_t *)key.data != MAP_TAG_EXTENT)
			continue;
		OK(map_decode_extent(&object, &x, key, value, &e));
		assert_false(x.zero);
		assert_true(m->thing[object].live);
	}
	OK(rc);
	table_iter_free(TAKE(i));
	table_close(t);
}

static void
model_begin(struct model *m)
{
	memset(m, 0, sizeof *m);
	m->next_object = 1 + FOLDERS;
}

/* All rules at once, over many deltas, merged as they come. */
static void
run_model(void **state, bool encrypted, uint64_t seed, unsigned base_changes)
{
	struct model *m = mem_new(sizeof *m);
	struct dice d = {seed};
	struct map_ref maps[64];
	struct err e = ERR_NONE;
	struct place p;
	size_t n = 0, longest = 0;
	bool merged_to_base = false;

	place_begin(&p, *state, "repo", encrypted);
	model_begin(m);
	for (int i = 0; i < 30; i++) {
		uint64_t written;
		size_t before;

		maps[n++] = make_delta(
		    &p, m, i == 0 ? base_changes : dice_below(&d, 25), &d);
		before = n;
		OK(map_compact(p.repo, &p.keys, maps, &n, &written, &e));
		assert_int_equal(written == 0, n == before);
		check_view(&p, m, maps, n, &d);
		if (n < before && n == 1) {
			check_base(&p, m, &maps[0]);
			merged_to_base = true;
		}
		if (n > longest)
			longest = n;
	}
	assert_true(longest > 1);
	assert_true(merged_to_base);
	place_end(&p);
	free(m);
}

static void
test_model_plain(void **state)
{
	run_model(state, false, 31, 100);
}

static void
test_model_encrypted(void **state)
{
	run_model(state, true, 32, 60);
}

/* Without merging: the view alone resolves a dozen maps. */
static void
test_model_without_merging(void **state)
{
	struct model *m = mem_new(sizeof *m);
	struct dice d = {33};
	struct map_ref maps[12];
	struct place p;

	place_begin(&p, *state, "repo", true);
	model_begin(m);
	for (size_t i = 0; i < 12; i++) {
		maps[i] = make_delta(&p, m, 30, &d);
		check_view(&p, m, maps, i + 1, &d);
	}
	place_end(&p);
	free(m);
}

/* Every entry passes through runs on disk. */
static void
test_model_with_spills(void **state)
{
	map_sort_set_limit(700);
	run_model(state, true, 34, 80);
	map_sort_set_limit(0);
}

/* ---- single facts ---- */

static struct map_extent
data(uint64_t block, uint32_t count, uint32_t chunk, uint8_t slot)
{
	return (struct map_extent){.block = block,
	    .count = count,
	    .slot = slot,
	    .chunk = chunk_of(chunk)};
}

static struct map_ref
map_with(struct place *p, const struct map_extent *x, size_t n)
{
	struct err e = ERR_NONE;
	struct map_builder *b;
	struct map_ref ref;

	OK(map_builder_new(&b, p->repo, &p->keys, p->scratch, &e));
	for (size_t i = 0; i < n; i++)
		OK(map_builder_extent(b, 5, &x[i], &e));
	OK(map_builder_finish(b, &ref, &e));
	return ref;
}

static int
print_extent(void *arg, const struct map_extent *x)
{
	char *at = (char *)arg + strlen(arg);

	sprintf(at, "%u+%u:%u ", (unsigned)x->block, x->count, x->slot);
	return 0;
}

static void
test_old_extent_is_split_around_a_new_one(void **state)
{
	struct map_extent old = data(0, 32, 1, 0), new = data(5, 2, 2, 9);
	struct map_extent zero = {.block = 20, .count = 100, .zero = true};
	struct err e = ERR_NONE;
	struct map_ref maps[3];
	struct map_view *v;
	char got[200] = "";
	struct place p;

	place_begin(&p, *state, "repo", true);
	maps[0] = map_with(&p, &old, 1);
	maps[1] = map_with(&p, &new, 1);
	maps[2] = map_with(&p, &zero, 1);
	OK(map_view_open(&v, p.repo, &p.keys, maps, 3, &e));
	OK(map_view_extents(v, 5, 0, UINT64_MAX, print_extent, got, &e));
	assert_string_equal(got, "0+5:0 5+2:9 7+13:7 ");
	got[0] = '\0';
	OK(map_view_extents(v, 5, 3, 5, print_extent, got, &e));
	assert_string_equal(got, "3+2:3 5+2:9 7+1:7 ");
	got[0] = '\0';
	OK(map_view_extents(v, 4, 0, 100, print_extent, got, &e));
	OK(map_view_extents(v, 6, 0, 100, print_extent, got, &e));
	OK(map_view_extents(v, 5, 20, 0, print_extent, got, &e));
	OK(map_view_extents(v, 5, UINT64_MAX, 9, print_extent, got, &e));
	assert_string_equal(got, "");
	map_view_close(v);
	place_end(&p);
}

static void
test_overlap_within_a_map_is_corrupt(void **state)
{
	struct map_extent two[2] = {data(0, 32, 1, 0), data(31, 2, 2, 0)};
	struct err e = ERR_NONE;
	struct map_view *v;
	struct map_ref ref;
	char got[200] = "";
	struct place p;

	place_begin(&p, *state, "repo", true);
	ref = map_with(&p, two, 2);
	OK(map_view_open(&v, p.repo, &p.keys, &ref, 1, &e));
	FAILS(-EBADMSG, map_view_extents(v, 5, 0, 100, print_extent, got, &e));
	assert_text_has(e.text, "object 5");
	map_view_close(v);
	place_end(&p);
}

/* Tombstones must outlive a merge that leaves an older map as it is. */
static void
test_gone_stays_gone_over_an_older_map(void **state)
{
	struct object o = {.type = OBJECT_FILE, .nlink = 1};
	SCOPED_OBJECT struct object got = {0};
	struct map_ref maps[3];
	struct err e = ERR_NONE;
	struct map_builder *b;
	struct map_view *v;
	struct place p;
	uint64_t written, object;
	size_t n = 3;

	place_begin(&p, *state, "repo", true);
	OK(map_builder_new(&b, p.repo, &p.keys, p.scratch, &e));
	for (uint32_t i = 0; i < 600; i++) {
		struct map_extent x = data(i * 32ull, 32, i + 1, 0);

		OK(map_builder_extent(b, 5, &x, &e));
	}
	OK(map_builder_object(b, 5, &o, &e));
	OK(map_builder_name(b, 1, "f", 5, &e));
	OK(map_builder_finish(b, &maps[0], &e));
	for (int i = 1; i < 3; i++) {
		OK(map_builder_new(&b, p.repo, &p.keys, p.scratch, &e));
		if (i == 1)
			OK(map_builder_object(b, 5, NULL, &e));
		else
			OK(map_builder_name(b, 1, "f", 0, &e));
		OK(map_builder_finish(b, &maps[i], &e));
	}
	OK(map_compact(p.repo, &p.keys, maps, &n, &written, &e));
	assert_int_equal(n, 2);
	assert_int_equal(maps[1].count, 2);
	OK(map_view_open(&v, p.repo, &p.keys, maps, n, &e));
	FAILS(0, map_view_object(v, 5, &got, &e));
	FAILS(0, map_view_lookup(v, 1, "f", &object, &e));
	map_view_close(v);
	place_end(&p);
}

static void
test_later_entry_of_a_key_counts(void **state)
{
	struct err e = ERR_NONE;
	struct map_builder *b;
	struct map_ref ref;
	struct map_view *v;
	struct place p;

	place_begin(&p, *state, "repo", true);
	map_sort_set_limit(300);
	OK(map_builder_new(&b, p.repo, &p.keys, p.scratch, &e));
	for (uint64_t i = 1; i <= 500; i++) {
		OK(map_builder_name(b, 1, "same", i, &e));
		OK(map_builder_name(b, 1 + i % 7, "other", i, &e));
	}
	map_sort_set_limit(0);
	assert_int_equal(map_builder_count(b), 1000);
	OK(map_builder_finish(b, &ref, &e));
	assert_int_equal(ref.count, 8);
	OK(map_view_open(&v, p.repo, &p.keys, &ref, 1, &e));
	for (uint64_t i = 494; i <= 500; i++) {
		uint64_t object;

		FAILS(1, map_view_lookup(v, 1 + i % 7, "other", &object, &e));
		assert_int_equal(object, i);
	}
	map_view_close(v);
	place_end(&p);
}

struct sorted {
	uint32_t n, last;
};

static int
see_sorted(void *arg, struct span key, struct span value, struct err *e)
{
	struct sorted *s = arg;
	uint32_t k = be32toh(bytes_le32(key.data));

	(void)e;
	assert_true(s->n == 0 || k > s->last);
	/* Put three times, each time with a longer value. */
	assert_int_equal(value.len, 2 + k * 37 % 3000);
	s->last = k;
	s->n++;
	return 0;
}

/* Runs, values longer than the memory, and what is still in memory. */
static void
test_sort_in_runs(void **state)
{
	struct sorted s = {0, 0};
	struct dice d = {36};
	struct err e = ERR_NONE;
	struct map_sort *sort;
	uint8_t value[4096] = {0};

	map_sort_set_limit(2000);
	sort = map_sort_new(*state);
	map_sort_set_limit(0);
	for (uint32_t round = 0; round < 3; round++) {
		uint32_t first = dice_below(&d, 1000);

		for (uint32_t i = 0; i < 1000; i++) {
			uint32_t k = (first + i * 7) % 1000;
			uint32_t key = htobe32(k);

			OK(map_sort_add(sort, SPAN(&key, 4),
			    SPAN(value, round + k * 37 % 3000), &e));
		}
	}
	assert_true(map_sort_runs(sort) > 100);
	OK(map_sort_each(sort, see_sorted, &s, &e));
	assert_int_equal(s.n, 1000);
	map_sort_free(sort);
}

static void
test_paths(void **state)
{
	struct err e = ERR_NONE;
	struct map_builder *b;
	struct map_ref ref;
	struct map_view *v;
	struct place p;
	uint64_t o = 0;

	place_begin(&p, *state, "repo", true);
	OK(map_builder_new(&b, p.repo, &p.keys, p.scratch, &e));
	OK(map_builder_name(b, MAP_ROOT_OBJECT, "srv", 2, &e));
	OK(map_builder_name(b, 2, "app", 3, &e));
	FAILS(-EINVAL, map_builder_name(b, 2, "..", 4, &e));
	FAILS(-EINVAL, map_builder_name(b, 2, "a/b", 4, &e));
	FAILS(-EINVAL, map_builder_name(b, 2, "", 4, &e));
	OK(map_builder_finish(b, &ref, &e));
	OK(map_view_open(&v, p.repo, &p.keys, &ref, 1, &e));
	FAILS(1, map_view_path(v, "/", &o, &e));
	assert_int_equal(o, MAP_ROOT_OBJECT);
	FAILS(1, map_view_path(v, "/srv/app", &o, &e));
	assert_int_equal(o, 3);
	FAILS(1, map_view_path(v, "//srv/", &o, &e));
	assert_int_equal(o, 2);
	FAILS(0, map_view_path(v, "/srv/../srv", &o, &e));
	FAILS(0, map_view_path(v, "/srv/none", &o, &e));
	map_view_close(v);
	place_end(&p);
}

static void
test_object_too_large_is_an_error(void **state)
{
	struct object_xattr x[17] = {0};
	struct object o = {
	    .type = OBJECT_FILE, .nlink = 1, .xattr = x, .xattrs = 17};
	SCOPED_FREE void *value = mem_new(65536);
	char name[17][8];
	struct err e = ERR_NONE;
	struct map_builder *b;
	struct place p;

	for (int i = 0; i < 17; i++) {
		snprintf(name[i], sizeof name[i], "user.%c", 'a' + i);
		x[i] = (struct object_xattr){name[i], value, 65536};
	}
	place_begin(&p, *state, "repo", true);
	OK(map_builder_new(&b, p.repo, &p.keys, p.scratch, &e));
	FAILS(-E2BIG, map_builder_object(b, 5, &o, &e));
	map_builder_abort(b);
	place_end(&p);
}

static void
test_record_and_map_must_agree(void **state)
{
	struct map_extent x = data(0, 1, 1, 0);
	struct err e = ERR_NONE;
	struct map_view *v;
	struct map_ref ref;
	struct place p;

	place_begin(&p, *state, "repo", true);
	ref = map_with(&p, &x, 1);
	ref.count++;
	FAILS(-EBADMSG, map_view_open(&v, p.repo, &p.keys, &ref, 1, &e));
	ref.id[0] ^= 1;
	FAILS(-EBADMSG, map_view_open(&v, p.repo, &p.keys, &ref, 1, &e));
	assert_text_has(e.text, "No such file");
	place_end(&p);
}

/* Values that no writer makes, one rule each. */
static void
test_bad_extents_are_refused(void **state)
{
	static const struct {
		uint64_t block;
		const char *value;
		size_t len;
	} bad[] = {
	    {0, "", 0},
	    {0, "\x01", 1},
	    {0, "\x00\x00", 2},                 /* no blocks */
	    {0, "\x01\x02", 2},                 /* kind */
	    {0, "\x01\x00\x00", 3},             /* rest */
	    {0, "\x80\x80\x80\x80\x10\x00", 6}, /* 2^32 blocks */
	    {MAP_BLOCK_MAX - 1, "\x02\x00", 2}, /* behind all */
	    {UINT64_MAX, "\x01\x00", 2},
	    {0,
		"\x21\x01\x00"
		"01234567890123456789012345678901",
		35},
	    {0,
		"\x02\x01\x1f"
		"01234567890123456789012345678901",
		35},
	    {0,
		"\x01\x01\x00"
		"0123456789012345678901234567890",
		34},
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		struct map_key k = map_key_extent(5, bad[i].block);
		struct err e = ERR_NONE;
		struct map_extent x;
		uint64_t object;

		FAILS(-EBADMSG, map_decode_extent(&object, &x, map_key_span(&k),
				    SPAN(bad[i].value, bad[i].len), &e));
	}
}

/* ---- threads ---- */

struct crowd {
	struct map_view *v;
	const struct model *m;
	uint64_t seed;
};

static void *
read_a_lot(void *arg)
{
	struct crowd *c = arg;
	struct dice d = {c->seed};

	for (int i = 0; i < 150; i++) {
		uint64_t o =
		    1 + dice_below(&d, (uint32_t)c->m->next_object - 1);

		check_object(c->v, c->m, o, &d);
		check_names(c->v, c->m, dice_below(&d, FOLDERS), NULL);
	}
	return NULL;
}

static void
test_many_readers(void **state)
{
	struct model *m = mem_new(sizeof *m);
	struct dice d = {35};
	struct map_ref maps[6];
	struct crowd c[4];
	pthread_t th[4];
	struct err e = ERR_NONE;
	struct map_view *v;
	struct place p;

	place_begin(&p, *state, "repo", true);
	model_begin(m);
	for (size_t i = 0; i < 6; i++)
		maps[i] = make_delta(&p, m, 80, &d);
	OK(map_view_open(&v, p.repo, &p.keys, maps, 6, &e));
	for (int i = 0; i < 4; i++) {
		c[i] = (struct crowd){v, m, (uint64_t)i};
		pthread_create(&th[i], NULL, read_a_lot, &c[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(th[i], NULL);
	map_view_close(v);
	place_end(&p);
	free(m);
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_model_plain),
	    TEST(test_model_encrypted),
	    TEST(test_model_without_merging),
	    TEST(test_model_with_spills),
	    TEST(test_old_extent_is_split_around_a_new_one),
	    TEST(test_overlap_within_a_map_is_corrupt),
	    TEST(test_gone_stays_gone_over_an_older_map),
	    TEST(test_later_entry_of_a_key_counts),
	    TEST(test_sort_in_runs),
	    TEST(test_paths),
	    TEST(test_object_too_large_is_an_error),
	    TEST(test_record_and_map_must_agree),
	    cmocka_unit_test(test_bad_extents_are_refused),
	    TEST(test_many_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

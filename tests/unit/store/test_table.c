/* SPDX-License-Identifier: Apache-2.0 */
/* Tables: what was put comes back, in order; damage never gives an answer. */
#include "tests/unit/store/place.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "agent/store/table_internal.h"

struct entry {
	struct buf key, value;
};

/* A sorted array as the oracle. */
struct model {
	struct entry *v;
	size_t n;
};

static int
by_key(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return span_cmp(buf_span(&x->key), buf_span(&y->key));
}

static void
random_bytes(struct buf *b, size_t n, unsigned range, struct dice *d)
{
	uint8_t *to = buf_room(b, n);

	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)dice_below(d, range);
	b->len += n;
}

/* Keys from few letters, so that many share prefixes or extend each other. */
static void
model_make(
    struct model *m, size_t n, size_t key_max, size_t value_max, struct dice *d)
{
	size_t kept = 0;

	m->v = mem_array(n, sizeof *m->v);
	for (size_t i = 0; i < n; i++) {
		size_t klen = 1 + dice_below(d, (uint32_t)key_max);
		size_t vlen = dice_below(d, (uint32_t)value_max + 1);

		random_bytes(&m->v[i].key, klen, 3, d);
		random_bytes(&m->v[i].value, vlen, i % 2 ? 256 : 4, d);
	}
	qsort(m->v, n, sizeof *m->v, by_key);
	for (size_t i = 0; i < n; i++) {
		if (kept > 0 && by_key(&m->v[kept - 1], &m->v[i]) == 0) {
			buf_free(&m->v[i].key);
			buf_free(&m->v[i].value);
		} else {
			m->v[kept++] = m->v[i];
		}
	}
	m->n = kept;
}

static void
model_free(struct model *m)
{
	for (size_t i = 0; i < m->n; i++) {
		buf_free(&m->v[i].key);
		buf_free(&m->v[i].value);
	}
	free(m->v);
}

static struct table *
write_and_open(struct place *p, const struct model *m)
{
	struct err e = ERR_NONE;
	struct table_builder *b;
	uint8_t id[TABLE_ID_LEN];
	struct table *t;
	uint64_t len;

	OK(table_builder_new(&b, p->repo, &p->keys, TABLE_MAP, &e));
	for (size_t i = 0; i < m->n; i++)
		OK(table_builder_add(
		    b, buf_span(&m->v[i].key), buf_span(&m->v[i].value), &e));
	assert_int_equal(table_builder_count(b), m->n);
	OK(table_builder_finish(b, id, &len, &e));
	OK(table_open(&t, p->repo, &p->keys, TABLE_MAP, id, &e));
	assert_int_equal(table_count(t), m->n);
	assert_int_equal(table_len(t), len);
	return t;
}

static void
assert_entry(const struct entry *want, struct span key, struct span value)
{
	assert_int_equal(span_cmp(buf_span(&want->key), key), 0);
	assert_int_equal(span_cmp(buf_span(&want->value), value), 0);
}

/* 0 where a whole walk gives the model; < 0 the error it met. */
static int
walk(struct table *t, const struct model *m, struct err *e)
{
	SCOPED_ITER struct table_iter *i = table_iter_new(t);
	struct span key, value;
	size_t n = 0;
	int rc;

	while ((rc = table_iter_next(i, &key, &value, e)) > 0) {
		assert_true(n < m->n);
		assert_entry(&m->v[n++], key, value);
	}
	if (rc == 0)
		assert_int_equal(n, m->n);
	return rc;
}

static size_t
model_lower(const struct model *m, struct span key)
{
	size_t i = 0;

	while (i < m->n && span_cmp(buf_span(&m->v[i].key), key) < 0)
		i++;
	return i;
}

/* get, seek and seek_last against the array, for one key. */
static void
check_key(struct table *t, const struct model *m, struct span key)
{
	SCOPED_ITER struct table_iter *it = table_iter_new(t);
	SCOPED_BUF struct buf got = {0};
	struct err e = ERR_NONE;
	struct span k, v;
	size_t i = model_lower(m, key);
	bool there = i < m->n && span_cmp(buf_span(&m->v[i].key), key) == 0;

	assert_int_equal(table_get(t, key, &got, &e), there);
	if (there)
		assert_int_equal(
		    span_cmp(buf_span(&got), buf_span(&m->v[i].value)), 0);
	OK(table_iter_seek(it, key, &e));
	assert_int_equal(table_iter_next(it, &k, &v, &e), i < m->n);
	if (i < m->n)
		assert_entry(&m->v[i], k, v);
	if (!there && i > 0)
		i--; /* the one before; the first where there is none */
	OK(table_iter_seek_last(it, key, &e));
	assert_int_equal(table_iter_next(it, &k, &v, &e), i < m->n);
	if (i < m->n)
		assert_entry(&m->v[i], k, v);
	/* and on from there */
	assert_int_equal(table_iter_next(it, &k, &v, &e), i + 1 < m->n);
	if (i + 1 < m->n)
		assert_entry(&m->v[i + 1], k, v);
}

static void
check_model(
    struct place *p, const struct model *m, unsigned tries, struct dice *d)
{
	struct table *t = write_and_open(p, m);
	struct err e = ERR_NONE;

	assert_int_equal(walk(t, m, &e), 0);
	for (unsigned i = 0; i < tries; i++) {
		SCOPED_BUF struct buf key = {0};

		random_bytes(&key, 1 + dice_below(d, 12), 3, d);
		check_key(t, m, buf_span(&key));
		if (m->n > 0)
			check_key(t, m,
			    buf_span(&m->v[dice_below(d, (uint32_t)m->n)].key));
	}
	table_close(t);
}

static void
random_model(void **state, bool encrypted)
{
	struct dice d = {encrypted ? 1 : 2};
	struct place p;

	place_begin(&p, *state, "repo", encrypted);
	for (int i = 0; i < 6; i++) {
		struct model m;

		model_make(&m, 1 + dice_below(&d, 4000), 12, 120, &d);
		check_model(&p, &m, 400, &d);
		model_free(&m);
	}
	place_end(&p);
}

static void
test_random_plain(void **state)
{
	random_model(state, false);
}

static void
test_random_encrypted(void **state)
{
	random_model(state, true);
}

static void
test_empty_table_has_nothing(void **state)
{
	struct model m = {0};
	struct dice d = {3};
	struct place p;

	place_begin(&p, *state, "repo", true);
	check_model(&p, &m, 400, &d);
	place_end(&p);
}

static void
test_longest_keys_and_values(void **state)
{
	struct dice d = {4};
	struct model m = {mem_array(3, sizeof *m.v), 3};
	struct place p;

	for (size_t i = 0; i < m.n; i++) {
		buf_put_u8(&m.v[i].key, (uint8_t)i);
		random_bytes(&m.v[i].key, TABLE_KEY_MAX - 1, 256, &d);
		random_bytes(&m.v[i].value, TABLE_VALUE_MAX, 256, &d);
	}
	place_begin(&p, *state, "repo", true);
	check_model(&p, &m, 20, &d); /* each reads a MiB, and again */
	place_end(&p);
	model_free(&m);
}

/* ---- damage ---- */

static int
open_file_of(const struct place *p, const struct table *t)
{
	char name[64], path[4200];
	int fd;

	table_name(name, TABLE_MAP, table_id(t));
	snprintf(path, sizeof path, "%s/%s", p->dir, name);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	return fd;
}

static void
try_damaged(struct place *p, const uint8_t *id, const struct model *m)
{
	struct err e = ERR_NONE;
	struct table *t;
	int rc = table_open(&t, p->repo, &p->keys, TABLE_MAP, id, &e);

	if (rc == 0) {
		rc = walk(t, m, &e);
		table_close(t);
	}
	if (rc != 0) {
		assert_int_equal(rc, -EBADMSG);
		assert_text_has(e.text, "maps/");
	}
}

static void
damage(void **state, bool encrypted)
{
	struct dice d = {5};
	struct model m;
	struct place p;
	struct table *t;
	uint8_t id[TABLE_ID_LEN];
	uint64_t len;
	int fd;

	place_begin(&p, *state, "repo", encrypted);
	model_make(&m, 20, 6, 8, &d);
	t = write_and_open(&p, &m);
	memcpy(id, table_id(t), sizeof id);
	len = table_len(t);
	fd = open_file_of(&p, t);
	table_close(t);
	for (uint64_t bit = 0; bit < len * 8; bit++) {
		uint8_t b, bad;

		assert_int_equal(pread(fd, &b, 1, (off_t)(bit / 8)), 1);
		bad = (uint8_t)(b ^ 1 << bit % 8);
		assert_int_equal(pwrite(fd, &bad, 1, (off_t)(bit / 8)), 1);
		try_damaged(&p, id, &m);
		assert_int_equal(pwrite(fd, &b, 1, (off_t)(bit / 8)), 1);
	}
	for (uint64_t cut = len; cut-- > 0;) {
		struct err e = ERR_NONE;

		assert_int_equal(ftruncate(fd, (off_t)cut), 0);
		FAILS(-EBADMSG,
		    table_open(&t, p.repo, &p.keys, TABLE_MAP, id, &e));
	}
	close(fd);
	model_free(&m);
	place_end(&p);
}

static void
test_damage_plain(void **state)
{
	damage(state, false);
}

static void
test_damage_encrypted(void **state)
{
	damage(state, true);
}

/* Its tag fits, so only the parser stands between these bytes and a crash. */
static void
test_any_bytes_as_a_directory(void **state)
{
	struct dice d = {6};

	(void)state;
	for (int i = 0; i < 20000; i++) {
		SCOPED_BUF struct buf b = {0};
		struct err e = ERR_NONE;
		struct table_dir dir;

		buf_put_le64(&b, dice_below(&d, 4));
		buf_put_le32(&b, dice_below(&d, 3));
		random_bytes(&b, dice_below(&d, 40), 80, &d);
		if (table_dir_parse(&dir, b.data, b.len,
			64 + dice_below(&d, 100), &e) == 0) {
			b = (struct buf){0}; /* it is the directory's now */
			table_dir_fini(&dir);
		} else {
			assert_int_equal(e.code, -EBADMSG);
		}
	}
}

static void
test_any_bytes_as_a_frame(void **state)
{
	struct dice d = {7};

	(void)state;
	for (int i = 0; i < 20000; i++) {
		SCOPED_BUF struct buf b = {0};
		struct err e = ERR_NONE;
		struct table_frame *f;

		random_bytes(&b, dice_below(&d, 40), 6, &d);
		if (table_frame_new(&f, b.data, b.len, &e) == 0) {
			b = (struct buf){0}; /* the frame has it */
			table_frame_unref(f);
		} else {
			assert_int_equal(e.code, -EBADMSG);
		}
	}
}

static void
test_another_kind_or_key_does_not_open(void **state)
{
	struct err e = ERR_NONE;
	struct model m = {0};
	struct keys other;
	struct place p;
	struct table *t;
	uint8_t id[TABLE_ID_LEN];

	place_begin(&p, *state, "repo", true);
	t = write_and_open(&p, &m);
	memcpy(id, table_id(t), sizeof id);
	table_close(t);
	FAILS(-ENOENT, table_open(&t, p.repo, &p.keys, TABLE_INDEX, id, &e));
	OK(keys_generate(&other, true, &e));
	FAILS(-EBADMSG, table_open(&t, p.repo, &other, TABLE_MAP, id, &e));
	OK(keys_generate(&other, false, &e));
	FAILS(-EBADMSG, table_open(&t, p.repo, &other, TABLE_MAP, id, &e));
	place_end(&p);
}

/* ---- merging and threads ---- */

static void
test_merge_takes_the_newest(void **state)
{
	static const char *const text[3][3] = {
	    {"a", "c", "e"}, {"b", "c", "d"}, {"c", "e", "f"}};
	static const char want[] = "a0b1c2d1e2f2";
	SCOPED_MERGE struct table_merge *m = NULL;
	struct err e = ERR_NONE;
	struct table *t[3];
	struct span key, value;
	struct place p;
	char got[32] = "";
	int rc;

	place_begin(&p, *state, "repo", false);
	for (int i = 0; i < 3; i++) {
		struct model one = {mem_array(3, sizeof *one.v), 3};

		for (int j = 0; j < 3; j++) {
			buf_put(&one.v[j].key, text[i][j], 1);
			buf_put_u8(&one.v[j].value, (uint8_t)('0' + i));
		}
		t[i] = write_and_open(&p, &one);
		model_free(&one);
	}
	OK(table_merge_tables(&m, t, 3, SPAN("a", 1), &e));
	while ((rc = table_merge_next(m, &key, &value, &e)) > 0) {
		strncat(got, key.data, 1);
		strncat(got, value.data, 1);
		assert_int_equal(
		    table_merge_winner(m), *(const char *)value.data - '0');
	}
	OK(rc);
	assert_string_equal(got, want);
	for (int i = 0; i < 3; i++)
		table_close(t[i]);
	place_end(&p);
}

struct crowd {
	struct table *t;
	const struct model *m;
	uint64_t seed;
	int wrong;
};

static void *
read_a_lot(void *arg)
{
	struct crowd *c = arg;
	SCOPED_BUF struct buf got = {0};
	struct dice d = {c->seed};
	struct err e = ERR_NONE;

	for (int i = 0; i < 2000; i++) {
		const struct entry *en =
		    &c->m->v[dice_below(&d, (uint32_t)c->m->n)];

		if (table_get(c->t, buf_span(&en->key), &got, &e) != 1 ||
		    span_cmp(buf_span(&got), buf_span(&en->value)) != 0)
			c->wrong++;
	}
	return NULL;
}

/* Four threads and fewer cached frames than the table has. */
static void
test_many_readers(void **state)
{
	struct dice d = {8};
	struct crowd c[4];
	pthread_t th[4];
	struct model m;
	struct place p;
	struct table *t;

	place_begin(&p, *state, "repo", true);
	model_make(&m, 3000, 12, 200, &d);
	t = write_and_open(&p, &m);
	assert_true(table_directory(t)->frames > 3);
	table_cache_frames(t, 3);
	for (int i = 0; i < 4; i++) {
		c[i] = (struct crowd){t, &m, (uint64_t)i, 0};
		pthread_create(&th[i], NULL, read_a_lot, &c[i]);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(th[i], NULL);
		assert_int_equal(c[i].wrong, 0);
	}
	table_close(t);
	model_free(&m);
	place_end(&p);
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_random_plain),
	    TEST(test_random_encrypted),
	    TEST(test_empty_table_has_nothing),
	    TEST(test_longest_keys_and_values),
	    TEST(test_damage_plain),
	    TEST(test_damage_encrypted),
	    TEST(test_any_bytes_as_a_directory),
	    TEST(test_any_bytes_as_a_frame),
	    TEST(test_another_kind_or_key_does_not_open),
	    TEST(test_merge_takes_the_newest),
	    TEST(test_many_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

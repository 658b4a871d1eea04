/* SPDX-License-Identifier: Apache-2.0 */
/* The difference of two backups, from maps that are made by hand. */
#include "tests/unit/store/scratch.h"

#include <errno.h>

#include "agent/job/diff.h"
#include "agent/store/store.h"
#include "tests/unit/store/place.h"

#define BLOCK 4096u
#define LINES_MAX 64

struct fixture {
	struct place p;
	struct map_builder *b;
	struct {
		enum diff_kind kind;
		char path[64];
		uint64_t bytes;
	} line[LINES_MAX];
	size_t lines;
};

static void
begin(struct fixture *f, void **state)
{
	*f = (struct fixture){0};
	place_begin(&f->p, *state, "repo", false);
}

/* ---- making maps ---- */

static void
start(struct fixture *f)
{
	struct object root = {.type = OBJECT_DIR, .mode = 0755, .nlink = 2};
	struct err e = ERR_NONE;

	OK(map_builder_new(&f->b, f->p.repo, &f->p.keys, f->p.scratch, &e));
	OK(map_builder_object(f->b, MAP_ROOT_OBJECT, &root, &e));
}

static void
add(struct fixture *f, uint64_t folder, const char *name, uint64_t object,
    enum object_type type, uint64_t size)
{
	struct object o = {
	    .type = type, .mode = 0644, .nlink = 1, .size = size};
	struct err e = ERR_NONE;

	if (type == OBJECT_SYMLINK)
		o.target = (char *)"x";
	OK(map_builder_name(f->b, folder, name, object, &e));
	OK(map_builder_object(f->b, object, &o, &e));
}

/* `count` blocks of chunk `chunk` from `slot` on. */
static void
extent(struct fixture *f, uint64_t object, uint64_t block, uint32_t count,
    uint8_t chunk, uint8_t slot)
{
	struct map_extent x = {.block = block, .count = count, .slot = slot};
	struct err e = ERR_NONE;

	memset(&x.chunk, chunk, sizeof x.chunk);
	OK(map_builder_extent(f->b, object, &x, &e));
}

static struct map_ref
made(struct fixture *f)
{
	struct map_ref r;
	struct err e = ERR_NONE;

	OK(map_builder_finish(f->b, &r, &e));
	return r;
}

/* ---- comparing ---- */

static int
on_line(void *arg, const struct diff_line *l)
{
	struct fixture *f = arg;

	assert_true(f->lines < LINES_MAX);
	f->line[f->lines].kind = l->kind;
	f->line[f->lines].bytes = l->changed_bytes;
	snprintf(f->line[f->lines++].path, 64, "%s", l->path);
	return 0;
}

static void
compare(struct fixture *f, const struct map_ref *a, size_t an,
    const struct map_ref *b, size_t bn)
{
	struct map_view *x, *y;
	struct err e = ERR_NONE;

	f->lines = 0;
	OK(map_view_open(&x, f->p.repo, &f->p.keys, a, an, &e));
	OK(map_view_open(&y, f->p.repo, &f->p.keys, b, bn, &e));
	OK(diff_run(x, y, on_line, f, &e));
	map_view_close(x);
	map_view_close(y);
}

static void
assert_line(struct fixture *f, size_t i, enum diff_kind kind, const char *path,
    uint64_t bytes)
{
	assert_true(i < f->lines);
	assert_string_equal(f->line[i].path, path);
	assert_int_equal(f->line[i].kind, kind);
	assert_int_equal(f->line[i].bytes, bytes);
}

/* ---- facts ---- */

static void
test_names(void **state)
{
	struct map_ref a, b;
	struct fixture f;

	begin(&f, state);
	start(&f);
	add(&f, 1, "gone", 2, OBJECT_DIR, 0);
	add(&f, 2, "file", 3, OBJECT_FILE, 5000);
	add(&f, 1, "same", 4, OBJECT_FILE, 7);
	add(&f, 1, "type", 5, OBJECT_FILE, 9);
	a = made(&f);
	start(&f);
	add(&f, 1, "came", 6, OBJECT_DIR, 0);
	add(&f, 6, "deep", 7, OBJECT_DIR, 0);
	add(&f, 7, "file", 8, OBJECT_FILE, 100);
	add(&f, 1, "same", 4, OBJECT_FILE, 7);
	add(&f, 1, "type", 9, OBJECT_SYMLINK, 0);
	b = made(&f);
	compare(&f, &a, 1, &b, 1);
	assert_int_equal(f.lines, 7);
	assert_line(&f, 0, DIFF_ADDED, "/came", 0);
	assert_line(&f, 1, DIFF_ADDED, "/came/deep", 0);
	assert_line(&f, 2, DIFF_ADDED, "/came/deep/file", 100);
	assert_line(&f, 3, DIFF_REMOVED, "/gone", 0);
	assert_line(&f, 4, DIFF_REMOVED, "/gone/file", 5000);
	assert_line(&f, 5, DIFF_REMOVED, "/type", 9);
	assert_line(&f, 6, DIFF_ADDED, "/type", 0);
	compare(&f, &a, 1, &a, 1);
	assert_int_equal(f.lines, 0);
	place_end(&f.p);
}

/* A newer map hides names and objects of the older one. */
static void
test_a_delta_over_its_base(void **state)
{
	struct map_ref v[2];
	struct err e = ERR_NONE;
	struct fixture f;

	begin(&f, state);
	start(&f);
	add(&f, 1, "a", 2, OBJECT_FILE, 2ul * BLOCK);
	add(&f, 1, "b", 3, OBJECT_FILE, 10);
	extent(&f, 2, 0, 2, 1, 0);
	v[0] = made(&f);
	OK(map_builder_new(&f.b, f.p.repo, &f.p.keys, f.p.scratch, &e));
	OK(map_builder_name(f.b, 1, "b", 0, &e));
	OK(map_builder_object(f.b, 3, NULL, &e));
	extent(&f, 2, 1, 1, 9, 0);
	v[1] = made(&f);
	compare(&f, v, 1, v, 2);
	assert_int_equal(f.lines, 2);
	assert_line(&f, 0, DIFF_CONTENT, "/a", BLOCK);
	assert_line(&f, 1, DIFF_REMOVED, "/b", 10);
	place_end(&f.p);
}

static void
test_attributes_and_size(void **state)
{
	struct object o = {.type = OBJECT_FILE, .mode = 0600, .size = 10};
	struct map_ref a, b;
	struct err e = ERR_NONE;
	struct fixture f;

	begin(&f, state);
	start(&f);
	add(&f, 1, "mode", 2, OBJECT_FILE, 10);
	add(&f, 1, "size", 3, OBJECT_FILE, 10);
	a = made(&f);
	start(&f);
	add(&f, 1, "mode", 2, OBJECT_FILE, 10);
	add(&f, 1, "size", 3, OBJECT_FILE, 11);
	OK(map_builder_object(f.b, 2, &o, &e));
	b = made(&f);
	compare(&f, &a, 1, &b, 1);
	assert_int_equal(f.lines, 2);
	assert_line(&f, 0, DIFF_ATTRIBUTES, "/mode", 0);
	assert_line(&f, 1, DIFF_CONTENT, "/size", 0);
	place_end(&f.p);
}

/* Red when the comparison stops at, or loses its place over, the border of two
 * windows of 4 GiB. */
static void
test_a_sparse_file_beyond_one_window(void **state)
{
	const uint64_t far = (1u << 20) - 1, size = (far + 40) * BLOCK;
	struct map_ref a, b;
	struct fixture f;

	begin(&f, state);
	start(&f);
	add(&f, 1, "f", 2, OBJECT_FILE, size);
	extent(&f, 2, far, 4, 1, 0);
	extent(&f, 2, far + 30, 2, 2, 0);
	a = made(&f);
	start(&f);
	add(&f, 1, "f", 2, OBJECT_FILE, size);
	extent(&f, 2, far, 3, 1, 0);
	extent(&f, 2, far + 30, 1, 2, 0);
	extent(&f, 2, far + 31, 1, 3, 0);
	b = made(&f);
	compare(&f, &a, 1, &b, 1);
	assert_int_equal(f.lines, 1);
	assert_line(&f, 0, DIFF_CONTENT, "/f", 2ul * BLOCK);
	place_end(&f.p);
}

/* The file's blocks as (chunk, slot), in extents cut anyhow. */
static void
put_model(struct fixture *f, struct dice *d, const uint8_t (*m)[2], size_t n)
{
	for (size_t i = 0, k; i < n; i = k) {
		for (k = i + 1;
		     k < n && m[k][0] == m[i][0] &&
		     m[k][1] == m[i][1] + (k - i) && dice_below(d, 4) > 0;
		     k++)
			;
		if (m[i][0] != 0)
			extent(f, 2, i, (uint32_t)(k - i), m[i][0], m[i][1]);
	}
}

/* Against a plain count, block by block. Red when how a file is cut into
 * extents counts as a difference, or a shifted slot does not. */
static void
test_random_contents(void **state)
{
	enum { N = 160 };
	struct dice d = {.x = 5};
	struct fixture f;

	begin(&f, state);
	for (int round = 0; round < 40; round++) {
		uint8_t m[2][N][2];
		struct map_ref r[2];
		uint64_t want = 0;

		for (size_t i = 0; i < N; i++) {
			m[0][i][0] =
			    (uint8_t)((i / 20 + 1) * (dice_below(&d, 5) > 0));
			m[0][i][1] = (uint8_t)(i % 20);
			memcpy(m[1][i], m[0][i], 2);
			if (dice_below(&d, 10) == 0)
				m[1][i][0] = (uint8_t)dice_below(&d, 9);
			if (dice_below(&d, 10) == 0)
				m[1][i][1] = (uint8_t)dice_below(&d, 20);
			want += m[0][i][0] != m[1][i][0] ||
				(m[0][i][0] != 0 && m[0][i][1] != m[1][i][1]);
		}
		for (int k = 0; k < 2; k++) {
			start(&f);
			add(&f, 1, "f", 2, OBJECT_FILE, N * (uint64_t)BLOCK);
			put_model(&f, &d, (const uint8_t(*)[2])m[k], N);
			r[k] = made(&f);
		}
		compare(&f, &r[0], 1, &r[1], 1);
		assert_int_equal(f.lines, want > 0);
		if (want > 0)
			assert_line(&f, 0, DIFF_CONTENT, "/f", want * BLOCK);
	}
	place_end(&f.p);
}

/* A map that names what it does not hold is corrupt, not empty. */
static void
test_a_name_without_its_object(void **state)
{
	struct map_view *x, *y;
	struct map_ref a, b;
	struct err e = ERR_NONE;
	struct fixture f;

	begin(&f, state);
	start(&f);
	a = made(&f);
	start(&f);
	OK(map_builder_name(f.b, 1, "nothing", 77, &e));
	b = made(&f);
	OK(map_view_open(&x, f.p.repo, &f.p.keys, &a, 1, &e));
	OK(map_view_open(&y, f.p.repo, &f.p.keys, &b, 1, &e));
	FAILS(-EBADMSG, diff_run(x, y, on_line, &f, &e));
	assert_text_has(e.text, "/nothing");
	map_view_close(x);
	map_view_close(y);
	place_end(&f.p);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_names),
	    TEST(test_a_delta_over_its_base),
	    TEST(test_attributes_and_size),
	    TEST(test_a_sparse_file_beyond_one_window),
	    TEST(test_random_contents),
	    TEST(test_a_name_without_its_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

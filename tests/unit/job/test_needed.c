/* SPDX-License-Identifier: Apache-2.0 */
/* Which files of a numbered log are left out, by what the hook says. */
#include "tests/unit/job/world.h"

#include <errno.h>

#include "agent/core/jdoc.h"
#include "agent/job/needed.h"

#define FIRST "00000002000000030000004A"
#define LAST "00000002000000030000004C"

struct fixture {
	struct world w;
	struct needed n;
	json_t *released;
};

static char *
in_docs(const struct fixture *f, const char *name)
{
	return fs_join(f->w.plan.path[0].path, name);
}

/* The log is DOCS/wal; `more` are members beside folder and first. */
static int
read_log(struct fixture *f, const char *more, struct err *e)
{
	SCOPED_FREE char *folder = in_docs(f, "wal");
	SCOPED_FREE char *text = mem_printf(
	    "{\"log\": {\"folder\": \"%s\", \"first\": \"" FIRST "\"%s}}",
	    folder, more);
	struct err ignored = ERR_NONE;

	f->released = jdoc_parse(span_str(text), &ignored);
	assert_non_null(f->released);
	return needed_read(&f->n, f->released, &f->w.plan, f->w.tree.view, e);
}

static void
begin(struct fixture *f, void **state)
{
	struct err e = ERR_NONE;

	*f = (struct fixture){0};
	world_begin(&f->w, *state);
	OK(tree_open(&f->w.tree, &f->w.plan, "neap-docs-x", &e));
}

static void
end(struct fixture *f)
{
	needed_fini(&f->n);
	json_decref(f->released);
	tree_close(&f->w.tree);
	world_end(&f->w);
}

/* In the view the folder is where the plan's path has it. */
static bool
is_left_out(const struct fixture *f, const char *name)
{
	return needed_not(&f->n, 0, f->n.folder, name);
}

static void
older_and_newer_segments_are_left_out(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state);
	OK(read_log(&f, ", \"last\": \"" LAST "\"", &e));
	assert_true(is_left_out(&f, "000000020000000300000049"));
	assert_true(is_left_out(&f, "0000000100000003000000FF"));
	assert_true(is_left_out(&f, "00000002000000030000004D"));
	assert_false(is_left_out(&f, FIRST));
	assert_false(is_left_out(&f, "00000002000000030000004B"));
	assert_false(is_left_out(&f, LAST));
	end(&f);
}

static void
without_a_last_one_all_newer_are_kept(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state);
	OK(read_log(&f, "", &e));
	assert_true(is_left_out(&f, "000000020000000300000049"));
	assert_false(is_left_out(&f, "000000030000000400000000"));
	end(&f);
}

static void
what_is_no_segment_is_kept(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state);
	OK(read_log(&f, ", \"last\": \"" LAST "\"", &e));
	assert_false(is_left_out(&f, "00000001.history"));
	assert_false(is_left_out(&f, "000000010000000000000001.partial"));
	assert_false(is_left_out(&f, "00000001000000000000000"));
	assert_false(is_left_out(&f, "0000000100000000000000010"));
	assert_false(is_left_out(&f, "00000001000000000000000a"));
	assert_false(is_left_out(&f, "00000001000000000000000G"));
	end(&f);
}

static void
a_name_counts_in_the_log_alone(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state);
	OK(read_log(&f, "", &e));
	assert_false(
	    needed_not(&f.n, 1, f.n.folder, "000000010000000000000001"));
	assert_false(needed_not(&f.n, 0, "", "000000010000000000000001"));
	assert_false(
	    needed_not(&f.n, 0, "other/wal", "000000010000000000000001"));
	end(&f);
}

static void
what_is_to_be_kept_is_kept(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state);
	OK(read_log(&f, ", \"keep\": [\"000000020000000300000041\"]", &e));
	assert_true(is_left_out(&f, "000000020000000300000040"));
	assert_false(is_left_out(&f, "000000020000000300000041"));
	assert_true(is_left_out(&f, "000000020000000300000042"));
	end(&f);
}

/* A label of a base backup says where to start, not the checkpoint. */
static void
a_file_in_the_view_may_need_all(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;
	SCOPED_FREE char *label = NULL;
	SCOPED_FREE char *more = NULL;

	begin(&f, state);
	label = in_docs(&f, "backup_label");
	more = mem_printf(", \"unless\": [\"%s\"]", label);
	OK(read_log(&f, more, &e));
	assert_true(f.n.told);
	needed_fini(&f.n);
	json_decref(f.released);
	world_write(&f.w, "backup_label", 0, 1, 1);
	OK(read_log(&f, more, &e));
	assert_false(f.n.told);
	assert_non_null(strstr(f.n.why_all, "unless"));
	assert_false(needed_not(&f.n, 0, "wal", "000000010000000000000001"));
	end(&f);
}

static void
of_a_view_that_is_none_all_is_needed(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state);
	f.w.volume.live = true;
	OK(read_log(&f, "", &e));
	assert_false(f.n.told);
	assert_non_null(strstr(f.n.why_all, "without a snapshot"));
	end(&f);
}

static void
nothing_said_means_all(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	begin(&f, state);
	f.released = json_pack("{s:s}", "state", "released");
	OK(needed_read(&f.n, f.released, &f.w.plan, f.w.tree.view, &e));
	assert_false(f.n.told);
	assert_null(f.n.why_all);
	OK(needed_read(&f.n, NULL, &f.w.plan, f.w.tree.view, &e));
	assert_false(f.n.told);
	end(&f);
}

/* The log may be a volume of its own within the data. */
static void
the_longest_path_decides(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;
	struct plan_path path[2];
	struct plan_volume volume[2];
	SCOPED_FREE char *wal = NULL;

	begin(&f, state);
	wal = in_docs(&f, "wal");
	path[0] = f.w.path;
	path[1] = (struct plan_path){
	    .path = wal, .role = (char *)"wal", .rel = (char *)"", .volume = 1};
	volume[0] = volume[1] = f.w.volume;
	f.w.plan.path = path;
	f.w.plan.paths = 2;
	f.w.plan.volume = volume;
	OK(read_log(&f, "", &e));
	assert_int_equal(f.n.volume, 1);
	assert_string_equal(f.n.folder, "");
	f.w.plan.path = &f.w.path;
	f.w.plan.paths = 1;
	f.w.plan.volume = &f.w.volume;
	end(&f);
}

static void
odd_answers_are_refused(void **state)
{
	static const char *const odd[] = {
	    "{\"log\": []}",
	    "{\"log\": {}}",
	    "{\"log\": {\"folder\": \"wal\", \"first\": \"00\"}}",
	    "{\"log\": {\"folder\": \"/nowhere/wal\", \"first\": \"00\"}}",
	    "{\"log\": {\"folder\": \"@\", \"first\": \"\"}}",
	    "{\"log\": {\"folder\": \"@\", \"first\": \"../x\"}}",
	    "{\"log\": {\"folder\": \"@\", \"first\": 3}}",
	    "{\"log\": {\"folder\": \"@\", \"first\": \"10\", \"last\": "
	    "\"0F\"}}",
	    "{\"log\": {\"folder\": \"@\", \"first\": \"10\", \"last\": "
	    "\"100\"}}",
	    "{\"log\": {\"folder\": \"@\", \"first\": \"10\", \"last\": 11}}",
	    "{\"log\": {\"folder\": \"@\", \"first\": \"10\", \"keep\": {}}}",
	    "{\"log\": {\"folder\": \"@\", \"first\": \"10\", \"keep\": [1]}}",
	    "{\"log\": {\"folder\": \"@\", \"first\": \"10\", \"unless\": "
	    "[1]}}",
	};
	struct fixture f;

	begin(&f, state);
	for (size_t i = 0; i < MEM_COUNT(odd); i++) {
		const char *at = strchr(odd[i], '@');
		SCOPED_FREE char *folder = in_docs(&f, "wal");
		SCOPED_FREE char *text =
		    at == NULL ? mem_str(odd[i])
			       : mem_printf("%.*s%s%s", (int)(at - odd[i]),
				     odd[i], folder, at + 1);
		struct err e = ERR_NONE;
		SCOPED_JSON json_t *doc = jdoc_parse(span_str(text), &e);

		assert_non_null(doc);
		FAILS(
		    -EIO, needed_read(&f.n, doc, &f.w.plan, f.w.tree.view, &e));
		assert_false(f.n.told);
		needed_fini(&f.n);
	}
	end(&f);
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(older_and_newer_segments_are_left_out),
	    TEST(without_a_last_one_all_newer_are_kept),
	    TEST(what_is_no_segment_is_kept),
	    TEST(a_name_counts_in_the_log_alone),
	    TEST(what_is_to_be_kept_is_kept),
	    TEST(a_file_in_the_view_may_need_all),
	    TEST(of_a_view_that_is_none_all_is_needed),
	    TEST(nothing_said_means_all),
	    TEST(the_longest_path_decides),
	    TEST(odd_answers_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan: what a hook names, on which volumes that lies, and what is refused.
 * The hook is a script that prints a file; the snapshot provider "btrfs" is
 * played by the one below, whose volumes are the folders vol1 and vol2.
 */
/* tsan */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/job/plan.h"
#include "kmod-free/snap/snap_all.h"

static char *top; /* the test's folder, resolved */
static const char *gap;

/* ---- a provider of two volumes ---- */

static int
two_open(struct snap_volume **out, const char *path, struct err *e)
{
	size_t n = strlen(top);
	struct snap_volume *v;

	if (strncmp(path, top, n) != 0 || strncmp(path + n, "/vol", 4) != 0)
		return err_set(e, -EOPNOTSUPP, "%s is on no volume", path);
	v = mem_new(sizeof *v);
	v->ops = snap_all[0];
	v->root = mem_strn(path, n + 5);
	v->id = mem_printf("two:%s", v->root + n + 1);
	v->fs_uuid = mem_str("u");
	v->fs_type = mem_str("two");
	*out = v;
	return 0;
}

static void
two_close(struct snap_volume *v)
{
	free(v->id);
	free(v->root);
	free(v->fs_uuid);
	free(v->fs_type);
	free(v);
}

static int
two_no_name(struct snap_volume *v, const char *name, struct err *e)
{
	(void)v;
	(void)name;
	return err_set(e, -EIO, "a plan makes no snapshot");
}

static int
two_list(struct snap_volume *v, snap_list_fn *fn, void *arg, struct err *e)
{
	(void)fn;
	(void)arg;
	return two_no_name(v, "", e);
}

static int
two_locate(struct snap_volume *v, const char *path, char **rel, struct err *e)
{
	const char *at = path + strlen(v->root);

	if (!fs_below(path, v->root))
		return err_set(e, -EXDEV, "%s is elsewhere", path);
	*rel = mem_str(*at == '/' ? at + 1 : at);
	return 0;
}

static int
two_gaps(struct snap_volume *v, const char *rel, snap_list_fn *fn, void *arg,
    struct err *e)
{
	SCOPED_FREE char *dir =
	    rel[0] ? fs_join(v->root, rel) : mem_str(v->root);

	(void)e;
	return gap != NULL && fs_below(gap, dir) ? fn(arg, gap) : 0;
}

static const struct snap_ops two = {
    .name = "btrfs",
    .summary = "two volumes",
    .caps = SNAP_ATOMIC | SNAP_FILES,
    .open = two_open,
    .close = two_close,
    .create = two_no_name,
    .view = two_no_name,
    .list = two_list,
    .remove = two_no_name,
    .locate = two_locate,
    .gaps = two_gaps,
};

/* Instead of the library's. */
const struct snap_ops *const snap_all[] = {&two, &snap_none, NULL};

/* ---- the hook ---- */

static void
write_file(const char *name, const char *text, mode_t mode)
{
	SCOPED_FREE char *path = fs_join(top, name);
	struct err e = ERR_NONE;

	OK(fs_replace_at(AT_FDCWD, path, span_str(text), mode, &e));
}

static void
make_dir(const char *name)
{
	SCOPED_FREE char *path = fs_join(top, name);
	struct err e = ERR_NONE;

	OK(fs_mkdirs(path, 0755, &e));
}

static int
setup(void **state)
{
	SCOPED_FREE char *hook = NULL;
	struct err e = ERR_NONE;

	if (scratch_setup(state) < 0)
		return -1;
	top = fs_real(*state, &e);
	gap = NULL;
	hook = mem_printf("#!/bin/sh\n[ $1 != probe ] || cat %s/answer\n", top);
	write_file("hook", hook, 0755);
	make_dir("vol1/data/sub");
	make_dir("vol1/wal");
	make_dir("vol2/space");
	make_dir("etc");
	write_file("etc/conf", "x", 0644);
	write_file("vol1/data/file", "x", 0644);
	return 0;
}

static int
teardown(void **state)
{
	free(top);
	return scratch_teardown(state);
}

/* "TOP" in what the hook says is the test's folder. */
static void
answer(const char *paths, const char *refuse)
{
	SCOPED_BUF struct buf b = {0};
	SCOPED_FREE char *text =
	    mem_printf("{\"engine\": \"toy\", \"paths\": [%s], "
		       "\"refuse\": [%s]}\n",
		paths, refuse);

	for (const char *p = text; *p != '\0'; p++) {
		if (strncmp(p, "TOP", 3) != 0) {
			buf_put_u8(&b, (uint8_t)*p);
			continue;
		}
		buf_put(&b, top, strlen(top));
		p += 2;
	}
	buf_put_u8(&b, 0);
	write_file("answer", (const char *)b.data, 0644);
}

struct fixture {
	struct conf conf;
	struct plan plan;
};

static int
try_make(struct fixture *f, const char *snapshot, struct err *e)
{
	SCOPED_FREE char *text = mem_printf("state_dir: %s/state\n"
					    "repository: {url: %s/repo, "
					    "encryption: none}\n"
					    "jobs:\n"
					    "  j: {engine: script, hook: "
					    "%s/hook, snapshot: %s}\n",
	    top, top, top, snapshot);

	*f = (struct fixture){0};
	if (conf_parse(&f->conf, "test.yaml", text, strlen(text), e) < 0)
		fail_msg("%s", e->text);
	int rc = plan_ask(&f->plan, &f->conf, &f->conf.job[0], e);

	return rc < 0 ? rc : plan_make(&f->plan, e);
}

static void
make(struct fixture *f, const char *snapshot)
{
	struct err e = ERR_NONE;

	OK(try_make(f, snapshot, &e));
}

static void
end(struct fixture *f)
{
	plan_fini(&f->plan);
	conf_free(&f->conf);
}

static void
assert_refused(struct fixture *f, const char *part)
{
	struct err e = ERR_NONE;

	FAILS(-EPERM, plan_check(&f->plan, &e));
	assert_text_has(e.text, part);
}

static void
assert_path(struct fixture *f, size_t i, const char *rel, const char *role)
{
	assert_true(i < f->plan.paths);
	assert_string_equal(f->plan.path[i].rel, rel);
	assert_string_equal(f->plan.path[i].role, role);
}

#define P(path, role) "{\"path\": \"TOP/" path "\", \"role\": \"" role "\"}"

/* ---- facts ---- */

static void
test_one_volume_is_fine(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	(void)state;
	answer(P("vol1/data", "data") "," P("vol1/wal", "wal"), "");
	make(&f, "auto");
	OK(plan_check(&f.plan, &e));
	assert_int_equal(f.plan.volumes, 1);
	assert_false(f.plan.volume[0].live);
	assert_path(&f, 0, "data", "data");
	assert_path(&f, 1, "wal", "wal");
	end(&f);
}

/* Red when two snapshots would pass for one instant. */
static void
test_two_volumes_are_refused(void **state)
{
	struct fixture f;

	(void)state;
	answer(P("vol1/data", "data") "," P("vol2/space", "tablespace"), "");
	make(&f, "auto");
	assert_refused(&f, "vol1/data");
	assert_refused(&f, "vol2/space (tablespace)");
	assert_refused(&f, "two snapshots are not one instant");
	end(&f);
}

static void
test_live_data_of_an_engine_is_refused(void **state)
{
	struct fixture f;

	(void)state;
	answer(P("vol1/data", "data"), "");
	make(&f, "none");
	assert_true(f.plan.volume[0].live);
	assert_refused(&f, "would be copied while script writes to it");
	end(&f);
}

static void
test_configuration_may_lie_anywhere(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	(void)state;
	answer(P("vol1/data", "data") "," P("etc/conf", "config") "," P(
		   "vol2/space", "config"),
	    "");
	make(&f, "auto");
	OK(plan_check(&f.plan, &e));
	assert_int_equal(f.plan.volumes, 3);
	for (size_t i = 0; i < f.plan.paths; i++)
		if (strstr(f.plan.path[i].path, "/etc/") != NULL)
			assert_true(f.plan.volume[f.plan.path[i].volume].live);
	end(&f);
}

static void
test_data_without_a_volume_is_refused(void **state)
{
	struct fixture f;

	(void)state;
	answer(P("etc", "data"), "");
	make(&f, "auto");
	assert_refused(&f, "is on no volume");
	end(&f);
}

static void
test_a_volume_inside_is_refused_by_name(void **state)
{
	SCOPED_FREE char *nested = fs_join(top, "vol1/data/sub");
	struct fixture f;

	(void)state;
	gap = nested;
	answer(P("vol1/data", "data"), "");
	make(&f, "auto");
	assert_refused(&f, "vol1/data/sub lies below");
	end(&f);
	/* Beside what is backed up it is nobody's business. */
	answer(P("vol1/wal", "data"), "");
	make(&f, "auto");
	assert_int_equal(f.plan.refusals, 0);
	end(&f);
}

static void
test_what_lies_in_a_folder_is_there_once(void **state)
{
	static const char *const orders[] = {
	    P("vol1/data", "data") "," P("vol1/data/sub", "wal") "," P(
		"vol1/data/file", "config"),
	    P("vol1/data/file", "config") "," P("vol1/data/sub", "wal") "," P(
		"vol1/data", "data"),
	    P("vol1/data/sub", "wal") "," P("vol1/data", "data") "," P(
		"vol1/data", "data"),
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(orders); i++) {
		struct fixture f;

		answer(orders[i], "");
		make(&f, "auto");
		assert_int_equal(f.plan.paths, 1);
		assert_path(&f, 0, "data", "data");
		end(&f);
	}
}

/* Red when data is excused from all rules, because the folder around it was
 * called configuration. */
static void
test_data_below_configuration_is_data(void **state)
{
	static const char *const orders[] = {
	    P("vol1", "config") "," P("vol1/data", "data"),
	    P("vol1/data", "data") "," P("vol1", "config"),
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(orders); i++) {
		struct fixture f;

		answer(orders[i], "");
		make(&f, "none");
		assert_int_equal(f.plan.paths, 1);
		assert_path(&f, 0, f.plan.path[0].rel, "data");
		assert_refused(&f, "would be copied while");
		end(&f);
	}
}

#define OPTIONAL                                                               \
	"{\"path\": \"TOP/vol1/wal/late\", \"role\": \"wal\", \
\"optional\": true}"

static void
test_an_optional_path_may_be_absent(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	(void)state;
	answer(P("vol1/data", "data") "," OPTIONAL, "");
	make(&f, "auto");
	OK(plan_check(&f.plan, &e));
	assert_path(&f, 1, "wal/late", "wal");
	assert_true(f.plan.path[1].optional);
	end(&f);
	answer(P("vol1/data", "data") "," P("vol1/wal/late", "wal"), "");
	FAILS(-ENOENT, try_make(&f, "auto", &e));
	assert_text_has(e.text, "vol1/wal/late");
	end(&f);
}

/* Red when a path that has to be there may be left out, because one around or
 * in it may. */
static void
test_only_what_is_all_optional_may_be_absent(void **state)
{
	static const char in[] = P("vol1/wal", "wal") "," OPTIONAL;
	static const char around[] =
	    P("vol1/data/sub", "data") ",{\"path\": \"TOP/vol1/data\", "
				       "\"role\": \"data\", \"optional\": "
				       "true}";
	static const char around_first[] =
	    "{\"path\": \"TOP/vol1/data\", \"role\": \"data\", "
	    "\"optional\": true}," P("vol1/data/sub", "data");
	static const char *const answers[] = {in, around, around_first};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(answers); i++) {
		struct fixture f;

		answer(answers[i], "");
		make(&f, "auto");
		assert_int_equal(f.plan.paths, 1);
		assert_false(f.plan.path[0].optional);
		end(&f);
	}
}

/* By its real place, so that a link cannot lead off the volume unseen. */
static void
test_links_are_resolved(void **state)
{
	SCOPED_FREE char *link_ = fs_join(top, "vol1/link");
	SCOPED_FREE char *to = fs_join(top, "vol2/space");
	struct fixture f;

	(void)state;
	assert_int_equal(symlink(to, link_), 0);
	answer(P("vol1/data", "data") "," P("vol1/link", "wal"), "");
	make(&f, "auto");
	assert_string_equal(f.plan.path[1].path, to);
	assert_refused(&f, "two snapshots are not one instant");
	end(&f);
}

static void
test_the_hook_may_refuse(void **state)
{
	struct fixture f;
	struct err e = ERR_NONE;

	(void)state;
	answer(P("vol1/data", "data"), "\"reason one\", \"reason two\"");
	make(&f, "auto");
	assert_refused(&f, "reason one; reason two");
	end(&f);
	answer(P("etc/conf", "config"), "");
	make(&f, "auto");
	assert_refused(&f, "names no path");
	end(&f);
	answer("{\"path\": \"relative\", \"role\": \"data\"}", "");
	FAILS(-EIO, try_make(&f, "auto", &e));
	end(&f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_one_volume_is_fine),
	    TEST(test_two_volumes_are_refused),
	    TEST(test_live_data_of_an_engine_is_refused),
	    TEST(test_configuration_may_lie_anywhere),
	    TEST(test_data_without_a_volume_is_refused),
	    TEST(test_a_volume_inside_is_refused_by_name),
	    TEST(test_what_lies_in_a_folder_is_there_once),
	    TEST(test_data_below_configuration_is_data),
	    TEST(test_an_optional_path_may_be_absent),
	    TEST(test_only_what_is_all_optional_may_be_absent),
	    TEST(test_links_are_resolved),
	    TEST(test_the_hook_may_refuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: the view is that instant, names are ours, paths find their way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/mounts.h"
#include "kmod-free/snap/snap.h"
#include "tests/unit/snap/loop_btrfs.h"

static struct loop_btrfs loop;

static int
setup(void **state)
{
	(void)state;
	loop_btrfs_open(&loop, 512, "", "noatime");
	if (loop.dir[0] == '\0')
		print_message("btrfs tests are skipped: %s\n", loop.why);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	loop_btrfs_close(&loop);
	return 0;
}

#define NEED_BTRFS()                                                           \
	do {                                                                   \
		if (loop.dir[0] == '\0') {                                     \
			print_message("skip: %s\n", loop.why);                 \
			skip();                                                \
		}                                                              \
	} while (0)

static void
close_scope(struct snap_volume **v)
{
	snap_close(*v);
}
#define SCOPED_VOLUME __attribute__((cleanup(close_scope)))

static struct snap_volume *
must_open(const char *driver, const char *path)
{
	struct snap_volume *v = NULL;
	struct err e = ERR_NONE;

	if (snap_open(&v, driver, path, &e) < 0)
		fail_msg("snap_open: %s", e.text);
	return v;
}

static void
must(int rc, const struct err *e)
{
	if (rc < 0)
		fail_msg("%s", e->text);
}

/* "db" as a subvolume with a file of that text in it; gives its path. */
static char *
subvolume(const char *name, const char *text)
{
	char *path = fs_join(loop.dir, name);

	assert_int_equal(loop_run("btrfs -q subvolume create %s >/dev/null && "
				  "mkdir %s/data && echo -n '%s' >%s/data/file",
			     path, path, text, path),
	    0);
	return path;
}

static void
assert_view_says(int view, const char *path, const char *text)
{
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	must(fs_read_at(view, path, 1000, &b, &e), &e);
	assert_int_equal(b.len, strlen(text));
	assert_memory_equal(b.data, text, b.len);
}

struct names {
	char text[2000];
	size_t n;
};

static int
gather(void *arg, const char *name)
{
	struct names *l = arg;
	size_t at = strlen(l->text);

	snprintf(l->text + at, sizeof l->text - at, "%s\n", name);
	l->n++;
	return 0;
}

/* ---- without root ---- */

static void
test_names_that_are_not_ours_are_refused(void **state)
{
	SCOPED_VOLUME struct snap_volume *v = must_open("none", "/tmp");
	char longest[SNAP_NAME_MAX + 2];
	static const char *const bad[] = {"", "neap-", "x", "snapper-1",
	    "neap-a/b", "neap-\n", "neap-../x", "neap-\x7f"};
	struct err e = ERR_NONE;

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		assert_int_equal(snap_create(v, bad[i], &e), -EINVAL);
		assert_int_equal(snap_remove(v, bad[i], &e), -EINVAL);
		assert_int_equal(snap_view(v, bad[i], &e), -EINVAL);
	}
	memset(longest, 'x', sizeof longest);
	memcpy(longest, SNAP_PREFIX, strlen(SNAP_PREFIX));
	longest[SNAP_NAME_MAX + 1] = '\0';
	assert_int_equal(snap_create(v, longest, &e), -EINVAL);
	longest[SNAP_NAME_MAX] = '\0';
	assert_int_equal(snap_create(v, longest, &e), 0);
}

static void
test_unknown_provider_is_named(void **state)
{
	struct snap_volume *v = NULL;
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(snap_open(&v, "zfs", "/", &e), -EINVAL);
	assert_non_null(strstr(e.text, "zfs"));
	assert_non_null(strstr(e.text, "btrfs"));
	assert_int_equal(snap_open(&v, "auto", "not/absolute", &e), -EINVAL);
	assert_int_equal(snap_open(&v, "auto", "/no/such/path", &e), -ENOENT);
	assert_null(v);
}

static void
test_auto_says_what_is_missing(void **state)
{
	struct snap_volume *v = NULL;
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(snap_open(&v, "auto", "/proc", &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.text, "btrfs: /proc lies on proc"));
	assert_non_null(strstr(e.text, "snapshot: none"));
}

static void
test_none_shows_the_live_files(void **state)
{
	char dir[] = "/tmp/neap-snap-XXXXXX";
	SCOPED_VOLUME struct snap_volume *v = NULL;
	SCOPED_FREE char *rel = NULL, *path = NULL;
	struct names l = {0};
	struct err e = ERR_NONE;
	SCOPED_FD int view = -1;

	(void)state;
	assert_non_null(mkdtemp(dir));
	path = fs_join(dir, "f");
	assert_int_equal(loop_run("echo -n now >%s", path), 0);
	v = must_open("none", path);
	assert_int_equal(v->ops->caps & SNAP_ATOMIC, 0);
	must(snap_create(v, "neap-x", &e), &e);
	must(snap_list(v, gather, &l, &e), &e);
	assert_int_equal(l.n, 0);
	must(snap_locate(v, path, &rel, &e), &e);
	view = snap_view(v, "neap-x", &e);
	must(view, &e);
	assert_view_says(view, rel, "now");
	must(snap_remove(v, "neap-x", &e), &e);
	free(TAKE(rel));
	assert_int_equal(snap_locate(v, "/proc/self", &rel, &e), -EXDEV);
	loop_run("rm -r %s", dir);
}

static void
test_mount_table_lines(void **state)
{
	char text[] =
	    "36 35 98:0 /mnt1 /m\\040nt\\134x rw,noatime master:1 shared:2 "
	    "- ext3 /dev/root ro,errors=continue\n"
	    "37 35 0:5 / / rw - tmpfs tmpfs rw\n";
	char torn[] = "36 35 98:0 /mnt1 /mnt rw,noatime master:1";
	SCOPED_MOUNTS struct mounts m = {0};
	struct mounts bad = {0};
	struct err e = ERR_NONE;

	(void)state;
	must(mounts_parse(&m, text, &e), &e);
	assert_int_equal(m.n, 2);
	assert_string_equal(m.v[0].point, "/m nt\\x");
	assert_string_equal(m.v[0].type, "ext3");
	assert_true(mounts_row_read_only(&m.v[0]));
	assert_string_equal(mounts_by_id(&m, 37)->source, "tmpfs");
	assert_false(mounts_row_read_only(&m.v[1]));
	assert_null(mounts_by_id(&m, 38));
	assert_int_equal(mounts_parse(&bad, torn, &e), -EBADMSG);
	mounts_fini(&bad);
}

/* ---- btrfs ---- */

static void
test_view_is_the_instant(void **state)
{
	SCOPED_FREE char *db = NULL, *dir = NULL, *file = NULL, *rel = NULL;
	SCOPED_VOLUME struct snap_volume *v = NULL;
	SCOPED_FD int view = -1;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	db = subvolume("instant", "before");
	dir = fs_join(db, "data");
	file = fs_join(dir, "file");
	v = must_open("auto", file);
	assert_string_equal(v->root, db);
	assert_string_equal(v->fs_type, "btrfs");
	assert_int_equal(strncmp(v->id, "btrfs:", 6), 0);
	must(snap_create(v, "neap-j-1", &e), &e);
	assert_int_equal(snap_create(v, "neap-j-1", &e), -EEXIST);
	assert_int_equal(
	    loop_run("echo -n after >%s; echo >%s/more", file, dir), 0);
	must(snap_locate(v, file, &rel, &e), &e);
	assert_string_equal(rel, "data/file");
	view = snap_view(v, "neap-j-1", &e);
	must(view, &e);
	assert_view_says(view, rel, "before");
	assert_int_equal(faccessat(view, "data/more", F_OK, 0), -1);
	assert_int_equal(mkdirat(view, "x", 0700), -1);
	assert_int_equal(errno, EROFS);
	must(snap_remove(v, "neap-j-1", &e), &e);
}

static int
count_btrfs_mounts(void)
{
	SCOPED_MOUNTS struct mounts m = {0};
	struct err e = ERR_NONE;
	int n = 0;

	must(mounts_load(&m, &e), &e);
	for (size_t i = 0; i < m.n; i++)
		n += fs_below(m.v[i].point, loop.dir) ||
		     strcmp(m.v[i].type, "btrfs") == 0;
	return n;
}

static void
test_nothing_is_left_in_the_subvolume_or_the_mount_table(void **state)
{
	SCOPED_FREE char *db = NULL, *all = NULL;
	SCOPED_VOLUME struct snap_volume *v = NULL;
	struct err e = ERR_NONE;
	struct stat st;
	int before;

	(void)state;
	NEED_BTRFS();
	before = count_btrfs_mounts();
	db = subvolume("clean", "x");
	v = must_open("btrfs", db);
	must(snap_create(v, "neap-j-1", &e), &e);
	assert_int_equal(loop_run("test \"$(ls -A %s)\" = data", db), 0);
	assert_int_equal(count_btrfs_mounts(), before);
	all = fs_join(loop.dir, "neap-snapshots");
	assert_int_equal(stat(all, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	must(snap_remove(v, "neap-j-1", &e), &e);
}

static void
test_list_and_remove(void **state)
{
	SCOPED_FREE char *db = NULL, *other_db = NULL;
	SCOPED_VOLUME struct snap_volume *v = NULL, *other = NULL;
	struct names l = {0};
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	db = subvolume("list", "x");
	other_db = subvolume("list-other", "x");
	v = must_open("btrfs", db);
	other = must_open("btrfs", other_db);
	assert_string_not_equal(v->id, other->id);
	/* Before there is a folder at all. */
	must(snap_list(v, gather, &l, &e), &e);
	must(snap_remove(v, "neap-absent", &e), &e);
	assert_int_equal(snap_view(v, "neap-absent", &e), -ENOENT);
	must(snap_create(v, "neap-j-1", &e), &e);
	must(snap_create(v, "neap-j-2", &e), &e);
	must(snap_create(other, "neap-j-1", &e), &e);
	must(snap_list(v, gather, &l, &e), &e);
	assert_non_null(strstr(l.text, "neap-j-1\n"));
	assert_non_null(strstr(l.text, "neap-j-2\n"));
	must(snap_remove(v, "neap-j-1", &e), &e);
	must(snap_remove(v, "neap-j-1", &e), &e);
	memset(&l, 0, sizeof l);
	must(snap_list(other, gather, &l, &e), &e);
	assert_string_equal(l.text, "neap-j-1\n");
	must(snap_remove(v, "neap-j-2", &e), &e);
	must(snap_remove(other, "neap-j-1", &e), &e);
}

static void
test_foreign_things_are_not_removed(void **state)
{
	SCOPED_FREE char *db = NULL, *ours = NULL;
	SCOPED_VOLUME struct snap_volume *v = NULL;
	struct names l = {0};
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	db = subvolume("foreign", "x");
	v = must_open("btrfs", db);
	must(snap_create(v, "neap-j-1", &e), &e);
	ours = mem_printf(
	    "%s/neap-snapshots/%s", loop.dir, strrchr(v->id, ':') + 1);
	assert_int_equal(
	    loop_run("mkdir %s/neap-dir && btrfs -q subvolume create "
		     "%s/theirs >/dev/null && "
		     "btrfs -q subvolume create %s/neap-sub >/dev/null",
		ours, ours, ours),
	    0);
	must(snap_list(v, gather, &l, &e), &e);
	assert_null(strstr(l.text, "neap-dir"));
	assert_null(strstr(l.text, "theirs"));
	assert_int_equal(snap_remove(v, "neap-dir", &e), -EPERM);
	assert_int_equal(snap_remove(v, "neap-sub", &e), -EPERM);
	assert_int_equal(snap_view(v, "neap-sub", &e), -EPERM);
	must(snap_remove(v, "neap-j-1", &e), &e);
}

static void
test_a_view_that_was_written_to_is_stale(void **state)
{
	SCOPED_FREE char *db = NULL, *path = NULL;
	SCOPED_VOLUME struct snap_volume *v = NULL;
	struct err e = ERR_NONE;
	SCOPED_FD int fresh = -1;

	(void)state;
	NEED_BTRFS();
	db = subvolume("written", "x");
	v = must_open("btrfs", db);
	must(snap_create(v, "neap-j-1", &e), &e);
	path = mem_printf(
	    "%s/neap-snapshots/%s/neap-j-1", loop.dir, strrchr(v->id, ':') + 1);
	/* A balance rewrites the tree and is no reason for distrust. */
	loop_run("btrfs -q balance start --full-balance %s >/dev/null 2>&1",
	    loop.dir);
	fresh = snap_view(v, "neap-j-1", &e);
	must(fresh, &e);
	assert_int_equal(
	    loop_run("btrfs property set %s ro false && sync %s && "
		     "echo -n y >%s/data/file && sync %s && "
		     "btrfs property set %s ro true",
		path, path, path, path, path),
	    0);
	assert_int_equal(snap_view(v, "neap-j-1", &e), -ESTALE);
	must(snap_remove(v, "neap-j-1", &e), &e);
	assert_int_equal(snap_view(v, "neap-j-1", &e), -ENOENT);
}

static void
test_through_a_bind_mount_of_a_folder(void **state)
{
	SCOPED_FREE char *db = NULL, *at = NULL, *rel = NULL, *file = NULL;
	SCOPED_FREE char *whole = NULL;
	SCOPED_VOLUME struct snap_volume *v = NULL, *plain = NULL;
	SCOPED_FD int view = -1;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	db = subvolume("bind", "here");
	at = fs_join(loop.dir, "bind-at");
	assert_int_equal(
	    loop_run("mkdir %s && mount --bind %s/data %s", at, db, at), 0);
	file = fs_join(at, "file");
	v = must_open("btrfs", file);
	plain = must_open("btrfs", db);
	assert_string_equal(v->id, plain->id);
	assert_string_equal(v->root, at);
	must(snap_locate(v, file, &rel, &e), &e);
	assert_string_equal(rel, "data/file");
	/* The same file by its other path. */
	free(TAKE(rel));
	whole = fs_join(db, "data/file");
	must(snap_locate(v, whole, &rel, &e), &e);
	assert_string_equal(rel, "data/file");
	free(TAKE(rel));
	must(snap_locate(v, db, &rel, &e), &e);
	assert_string_equal(rel, "");
	must(snap_create(v, "neap-j-1", &e), &e);
	view = snap_view(v, "neap-j-1", &e);
	must(view, &e);
	assert_view_says(view, "data/file", "here");
	must(snap_remove(v, "neap-j-1", &e), &e);
	assert_int_equal(loop_run("umount %s", at), 0);
}

static void
test_paths_elsewhere_are_refused(void **state)
{
	SCOPED_FREE char *db = NULL, *other = NULL, *file = NULL, *rel = NULL;
	SCOPED_VOLUME struct snap_volume *v = NULL;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	db = subvolume("where", "x");
	other = subvolume("elsewhere", "y");
	file = fs_join(db, "data/file");
	v = must_open("btrfs", db);
	assert_int_equal(snap_locate(v, other, &rel, &e), -EXDEV);
	assert_non_null(strstr(e.text, other));
	assert_non_null(strstr(e.text, db));
	assert_int_equal(snap_locate(v, "/proc/self", &rel, &e), -EXDEV);
	assert_non_null(strstr(e.text, "proc"));
	/* A file mounted over one of ours is not ours. */
	assert_int_equal(
	    loop_run("mount --bind %s/data/file %s", other, file), 0);
	assert_true(snap_locate(v, file, &rel, &e) < 0);
	assert_int_equal(loop_run("umount %s", file), 0);
	must(snap_locate(v, file, &rel, &e), &e);
}

static void
test_gaps(void **state)
{
	SCOPED_FREE char *db = NULL;
	SCOPED_VOLUME struct snap_volume *v = NULL, *top = NULL, *live = NULL;
	struct names l = {0};
	struct err e = ERR_NONE;
	char want[600];

	(void)state;
	NEED_BTRFS();
	db = subvolume("gaps", "x");
	assert_int_equal(
	    loop_run("btrfs -q subvolume create %s/data/nested >/dev/null && "
		     "btrfs -q subvolume create %s/data/nested/deep "
		     ">/dev/null && mkdir '%s/data/m t' %s/side && "
		     "mount -t tmpfs tmpfs '%s/data/m t'",
		db, db, db, db, db),
	    0);
	v = must_open("btrfs", db);
	must(snap_gaps(v, "", gather, &l, &e), &e);
	snprintf(want, sizeof want, "%s/data/nested\n%s/data/m t\n", db, db);
	assert_string_equal(l.text, want);
	memset(&l, 0, sizeof l);
	must(snap_gaps(v, "data", gather, &l, &e), &e);
	assert_string_equal(l.text, want);
	memset(&l, 0, sizeof l);
	must(snap_gaps(v, "side", gather, &l, &e), &e);
	assert_int_equal(l.n, 0);
	/* Our own snapshots are no gap of the top level. */
	must(snap_create(v, "neap-j-1", &e), &e);
	top = must_open("btrfs", loop.dir);
	memset(&l, 0, sizeof l);
	must(snap_gaps(top, "", gather, &l, &e), &e);
	assert_null(strstr(l.text, "neap-snapshots"));
	assert_non_null(strstr(l.text, db));
	must(snap_remove(v, "neap-j-1", &e), &e);
	/* The live view has the same. */
	live = must_open("none", db);
	memset(&l, 0, sizeof l);
	must(snap_gaps(live, "data", gather, &l, &e), &e);
	assert_string_equal(l.text, want);
	assert_int_equal(loop_run("umount '%s/data/m t'", db), 0);
}

static void
test_top_level_as_a_volume(void **state)
{
	SCOPED_VOLUME struct snap_volume *v = NULL;
	SCOPED_FREE char *file = NULL, *rel = NULL;
	SCOPED_FD int view = -1;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	file = fs_join(loop.dir, "topfile");
	assert_int_equal(loop_run("echo -n top >%s", file), 0);
	v = must_open("btrfs", file);
	assert_string_equal(v->root, loop.dir);
	must(snap_create(v, "neap-j-1", &e), &e);
	must(snap_locate(v, file, &rel, &e), &e);
	assert_string_equal(rel, "topfile");
	view = snap_view(v, "neap-j-1", &e);
	must(view, &e);
	assert_view_says(view, rel, "top");
	must(snap_remove(v, "neap-j-1", &e), &e);
}

/* What the user mounted read-only must not become writable by our mount. */
static void
test_read_only_file_system_stays_so(void **state)
{
	SCOPED_FREE char *db = NULL;
	struct snap_volume *v;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	db = subvolume("readonly", "x");
	assert_int_equal(loop_run("mount -o remount,ro %s", loop.dir), 0);
	v = must_open("btrfs", db);
	assert_int_equal(snap_create(v, "neap-j-1", &e), -EROFS);
	assert_int_equal(loop_run("grep -q ' %s .* - btrfs [^ ]* ro' "
				  "/proc/self/mountinfo",
			     loop.dir),
	    0);
	snap_close(v);
	assert_int_equal(loop_run("mount -o remount,rw %s", loop.dir), 0);
}

static void
test_a_folder_open_to_others_is_refused(void **state)
{
	SCOPED_FREE char *db = NULL;
	SCOPED_VOLUME struct snap_volume *v = NULL;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	db = subvolume("perm", "x");
	v = must_open("btrfs", db);
	must(snap_create(v, "neap-j-1", &e), &e);
	assert_int_equal(loop_run("chmod 755 %s/neap-snapshots", loop.dir), 0);
	assert_int_equal(snap_create(v, "neap-j-2", &e), -EPERM);
	assert_int_equal(loop_run("chmod 700 %s/neap-snapshots", loop.dir), 0);
	must(snap_remove(v, "neap-j-1", &e), &e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_names_that_are_not_ours_are_refused),
	    cmocka_unit_test(test_unknown_provider_is_named),
	    cmocka_unit_test(test_auto_says_what_is_missing),
	    cmocka_unit_test(test_none_shows_the_live_files),
	    cmocka_unit_test(test_mount_table_lines),
	    cmocka_unit_test(test_view_is_the_instant),
	    cmocka_unit_test(
		test_nothing_is_left_in_the_subvolume_or_the_mount_table),
	    cmocka_unit_test(test_list_and_remove),
	    cmocka_unit_test(test_foreign_things_are_not_removed),
	    cmocka_unit_test(test_a_view_that_was_written_to_is_stale),
	    cmocka_unit_test(test_through_a_bind_mount_of_a_folder),
	    cmocka_unit_test(test_paths_elsewhere_are_refused),
	    cmocka_unit_test(test_gaps),
	    cmocka_unit_test(test_top_level_as_a_volume),
	    cmocka_unit_test(test_read_only_file_system_stays_so),
	    cmocka_unit_test(test_a_folder_open_to_others_is_refused),
	};

	return cmocka_run_group_tests_name("snap", tests, setup, teardown);
}

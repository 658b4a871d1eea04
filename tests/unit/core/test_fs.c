/* SPDX-License-Identifier: Apache-2.0 */
/* Files and folders: whole or not at all, and no step too far. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

static char dir[64];
static int at = -1;

static int
setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/neap-fs-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return at < 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	close(at);
	return fs_remove_tree_at(AT_FDCWD, dir, &e);
}

static void
put(const char *path, const char *text)
{
	int fd = openat(at, path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static bool
there(const char *path)
{
	return faccessat(at, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
test_pread_past_the_end_is_corrupt(void **state)
{
	struct err e = ERR_NONE;
	char b[8];
	int fd;

	(void)state;
	put("f", "abcd");
	fd = openat(at, "f", O_RDONLY);
	assert_int_equal(fs_pread(fd, b, 2, 2, &e), 0);
	assert_memory_equal(b, "cd", 2);
	assert_int_equal(fs_pread(fd, b, 3, 2, &e), -EBADMSG);
	assert_string_equal(e.text, "read 1 bytes at 4: the file ends first");
	close(fd);
}

static void
test_pwrite_leaves_a_hole(void **state)
{
	struct err e = ERR_NONE;
	char b[3];
	int fd = openat(at, "f", O_RDWR | O_CREAT, 0600);

	(void)state;
	assert_int_equal(fs_pwrite(fd, "x", 1, 2, &e), 0);
	assert_int_equal(fs_pread(fd, b, 3, 0, &e), 0);
	assert_memory_equal(b, "\0\0x", 3);
	close(fd);
}

static void
test_read_appends(void **state)
{
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	(void)state;
	put("f", "def");
	buf_put(&b, "abc", 3);
	assert_int_equal(fs_read_at(at, "f", 3, &b, &e), 0);
	assert_int_equal(b.len, 6);
	assert_memory_equal(b.data, "abcdef", 6);
}

static void
test_read_of_too_much_leaves_the_buffer(void **state)
{
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	(void)state;
	put("f", "def");
	buf_put(&b, "abc", 3);
	assert_int_equal(fs_read_at(at, "f", 2, &b, &e), -EFBIG);
	assert_int_equal(b.len, 3);
	assert_string_equal(
	    e.text, "read f: larger than the 2 bytes it may have");
}

static void
test_read_of_what_is_not_there(void **state)
{
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(fs_read_at(at, "f", 2, &b, &e), -ENOENT);
	assert_string_equal(e.text, "open f: No such file or directory");
}

static void
test_replace_gives_content_and_mode(void **state)
{
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;
	struct stat st;

	(void)state;
	put("f", "a longer old text");
	assert_int_equal(fs_replace_at(at, "f", span_str("new"), 0640, &e), 0);
	assert_int_equal(fs_read_at(at, "f", 100, &b, &e), 0);
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.data, "new", 3);
	assert_int_equal(fstatat(at, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
}

static void
test_replace_that_fails_leaves_the_old(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(mkdirat(at, "f", 0700), 0);
	assert_int_equal(
	    fs_replace_at(at, "f", span_str("new"), 0600, &e), -EISDIR);
	assert_true(there("f"));
	assert_non_null(strstr(e.text, "write f: "));
	/* And no temporary beside it. */
	assert_int_equal(unlinkat(at, "f", AT_REMOVEDIR), 0);
}

static void
test_mkdirs_makes_all_and_takes_what_is_there(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(fs_mkdirs_at(at, "a/b//c/", 0700, &e), 0);
	assert_int_equal(fs_mkdirs_at(at, "a/b/c", 0700, &e), 0);
	assert_true(there("a/b/c"));
}

static void
test_mkdirs_where_a_file_is(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	put("f", "");
	assert_int_equal(fs_mkdirs_at(at, "f", 0700, &e), -EEXIST);
	assert_string_equal(e.text, "make folder f: File exists");
	assert_true(fs_mkdirs_at(at, "f/g", 0700, &e) < 0);
}

static void
test_mkdirs_through_a_link(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(mkdirat(at, "a", 0700), 0);
	assert_int_equal(symlinkat("a", at, "l"), 0);
	assert_int_equal(fs_mkdirs_at(at, "l/b", 0700, &e), 0);
	assert_true(there("a/b"));
}

static void
test_remove_tree(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(fs_mkdirs_at(at, "t/a/b", 0700, &e), 0);
	put("t/f", "x");
	put("t/a/b/.g", "x");
	assert_int_equal(fs_remove_tree_at(at, "t", &e), 0);
	assert_false(there("t"));
	assert_int_equal(fs_remove_tree_at(at, "t", &e), 0);
}

static void
test_remove_tree_does_not_follow_links(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(fs_mkdirs_at(at, "t", 0700, &e), 0);
	assert_int_equal(fs_mkdirs_at(at, "live", 0700, &e), 0);
	put("live/f", "x");
	assert_int_equal(symlinkat("../live", at, "t/l"), 0);
	assert_int_equal(symlinkat("live", at, "l"), 0);
	assert_int_equal(fs_remove_tree_at(at, "t", &e), 0);
	assert_int_equal(fs_remove_tree_at(at, "l", &e), 0);
	assert_true(there("live/f"));
	assert_false(there("l"));
}

/* In a child, for its mounts: 0, or the line that failed. */
static int
remove_over_a_bind_mount(void)
{
	struct err e = ERR_NONE;

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    chdir(dir) < 0 || mount("live", "t/m", NULL, MS_BIND, NULL) < 0)
		return 77;
	if (fs_remove_tree_at(AT_FDCWD, "t", &e) != -EXDEV)
		return __LINE__ & 63;
	if (fs_remove_tree_at(AT_FDCWD, "t/m", &e) != -EXDEV)
		return __LINE__ & 63;
	return 0;
}

/* Same device number, other people's data. */
static void
test_remove_tree_stops_at_a_bind_mount(void **state)
{
	struct err e = ERR_NONE;
	int st;
	pid_t pid;

	(void)state;
	if (geteuid() != 0) {
		print_message("skip: mounting needs root\n");
		skip();
	}
	assert_int_equal(fs_mkdirs_at(at, "t/m", 0700, &e), 0);
	assert_int_equal(fs_mkdirs_at(at, "live", 0700, &e), 0);
	put("live/f", "x");
	pid = fork();
	if (pid == 0)
		_exit(remove_over_a_bind_mount());
	assert_int_equal(waitpid(pid, &st, 0), pid);
	if (WIFEXITED(st) && WEXITSTATUS(st) == 77) {
		print_message("skip: no mount namespaces here\n");
		skip();
	}
	assert_int_equal(st, 0);
	assert_true(there("live/f"));
}

static void
test_join(void **state)
{
	static const char *const t[][3] = {{"a", "b", "a/b"},
	    {"a/", "b", "a/b"}, {"a", "/b", "a/b"}, {"/", "b", "/b"},
	    {"a//", "//b/c", "a/b/c"}};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		SCOPED_FREE char *p = fs_join(t[i][0], t[i][1]);

		assert_string_equal(p, t[i][2]);
	}
}

static void
test_below(void **state)
{
	(void)state;
	assert_true(fs_below("/a", "/a"));
	assert_true(fs_below("/a/b", "/a"));
	assert_true(fs_below("/a/b", "/a/"));
	assert_true(fs_below("/a", "/"));
	assert_false(fs_below("/ab", "/a"));
	assert_false(fs_below("/", "/a"));
}

static void
test_real(void **state)
{
	struct err e = ERR_NONE;
	SCOPED_FREE char *missing = NULL, *real = NULL, *link = NULL;

	(void)state;
	put("f", "");
	assert_int_equal(symlinkat("f", at, "l"), 0);
	link = fs_join(dir, "l");
	real = fs_real(link, &e);
	assert_non_null(real);
	assert_string_equal(strrchr(real, '/'), "/f");
	missing = fs_real("/nonexistent", &e);
	assert_null(missing);
	assert_string_equal(
	    e.text, "resolve /nonexistent: No such file or directory");
}

static void
test_program_dir(void **state)
{
	SCOPED_FREE char *d = fs_program_dir();

	(void)state;
	assert_int_equal(d[0], '/');
	assert_int_equal(access(d, X_OK), 0);
}

static void
test_size_text(void **state)
{
	static const struct {
		uint64_t n;
		const char *text;
	} t[] = {{0, "0 B"}, {999, "999 B"}, {1000, "1.0 kB"},
	    {999949, "999.9 kB"}, {999950, "1.0 MB"}, {8200000000ull, "8.2 GB"},
	    {UINT64_MAX, "18446.7 PB"}};
	char out[32];

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(t); i++)
		assert_string_equal(fs_size_text(out, t[i].n), t[i].text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_pread_past_the_end_is_corrupt),
	    TEST(test_pwrite_leaves_a_hole),
	    TEST(test_read_appends),
	    TEST(test_read_of_too_much_leaves_the_buffer),
	    TEST(test_read_of_what_is_not_there),
	    TEST(test_replace_gives_content_and_mode),
	    TEST(test_replace_that_fails_leaves_the_old),
	    TEST(test_mkdirs_makes_all_and_takes_what_is_there),
	    TEST(test_mkdirs_where_a_file_is),
	    TEST(test_mkdirs_through_a_link),
	    TEST(test_remove_tree),
	    TEST(test_remove_tree_does_not_follow_links),
	    TEST(test_remove_tree_stops_at_a_bind_mount),
	    TEST(test_join),
	    TEST(test_below),
	    TEST(test_real),
	    TEST(test_program_dir),
	    TEST(test_size_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

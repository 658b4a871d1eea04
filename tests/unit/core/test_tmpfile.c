/* SPDX-License-Identifier: Apache-2.0 */
/* Temporary files: no name before the end, and nothing left behind. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/tmpfile.h"

static char dir[64];
static int at = -1;

static int
setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/neap-tmpfile-XXXXXX");
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

static size_t
names(void)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	assert_non_null(d);
	for (struct dirent *de; (de = readdir(d)) != NULL;)
		n += strcmp(de->d_name, ".") != 0 &&
		     strcmp(de->d_name, "..") != 0;
	closedir(d);
	return n;
}

static void
fill(struct tmpfile *t, const char *text)
{
	struct err e = ERR_NONE;

	assert_int_equal(tmpfile_open(t, at, ".", 0640, &e), 0);
	assert_int_equal(tmpfile_write(t, text, strlen(text), &e), 0);
}

static void
holds(const char *name, const char *text)
{
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	assert_int_equal(fs_read_at(at, name, 100, &b, &e), 0);
	assert_int_equal(b.len, strlen(text));
	assert_memory_equal(b.data, text, b.len);
}

static void
test_closed_leaves_nothing(void **state)
{
	SCOPED_TMPFILE struct tmpfile t = TMPFILE_NONE;

	(void)state;
	fill(&t, "abc");
	tmpfile_close(&t);
	assert_int_equal(names(), 0);
	assert_int_equal(t.fd, -1);
	tmpfile_close(&t);
}

static void
test_commit_gives_the_name_once(void **state)
{
	SCOPED_TMPFILE struct tmpfile a = TMPFILE_NONE;
	SCOPED_TMPFILE struct tmpfile b = TMPFILE_NONE;
	struct err e = ERR_NONE;
	struct stat st;

	(void)state;
	fill(&a, "first");
	fill(&b, "second");
	assert_int_equal(tmpfile_commit(&a, at, "f", &e), 0);
	assert_int_equal(tmpfile_commit(&b, at, "f", &e), -EEXIST);
	tmpfile_close(&b);
	holds("f", "first");
	assert_int_equal(names(), 1);
	assert_int_equal(fstatat(at, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
}

static void
test_replace_takes_the_place(void **state)
{
	SCOPED_TMPFILE struct tmpfile a = TMPFILE_NONE;
	SCOPED_TMPFILE struct tmpfile b = TMPFILE_NONE;
	struct err e = ERR_NONE;

	(void)state;
	fill(&a, "first");
	fill(&b, "second");
	assert_int_equal(tmpfile_replace(&a, at, "f", &e), 0);
	assert_int_equal(tmpfile_replace(&b, at, "f", &e), 0);
	holds("f", "second");
	assert_int_equal(names(), 1);
}

static void
test_replace_that_fails_leaves_nothing(void **state)
{
	SCOPED_TMPFILE struct tmpfile t = TMPFILE_NONE;
	struct err e = ERR_NONE;

	(void)state;
	fill(&t, "x");
	assert_int_equal(mkdirat(at, "d", 0700), 0);
	assert_int_equal(tmpfile_replace(&t, at, "d", &e), -EISDIR);
	tmpfile_close(&t);
	assert_int_equal(names(), 1);
}

static void
test_len_counts_what_was_written(void **state)
{
	SCOPED_TMPFILE struct tmpfile t = TMPFILE_NONE;
	struct err e = ERR_NONE;

	(void)state;
	fill(&t, "abc");
	assert_int_equal(tmpfile_write(&t, "de", 2, &e), 0);
	assert_int_equal(t.len, 5);
	assert_int_equal(tmpfile_commit(&t, at, "f", &e), 0);
	holds("f", "abcde");
}

static void
test_open_in_a_folder_that_is_not_there(void **state)
{
	SCOPED_TMPFILE struct tmpfile t = TMPFILE_NONE;
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(tmpfile_open(&t, at, "none", 0600, &e), -ENOENT);
	assert_string_equal(
	    e.text, "open folder none: No such file or directory");
}

/* As a killed process leaves it, where there is no O_TMPFILE. */
static void
leftover(char *out, size_t size, int pid, const char *tail)
{
	char boot[9] = "00000000";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY);

	if (fd >= 0) {
		assert_int_equal(read(fd, boot, 8), 8);
		close(fd);
	}
	snprintf(out, size, ".tmp-%s-%d-%s", boot, pid, tail);
	fd = openat(at, out, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static int
dead_pid(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return (int)pid;
}

static void
test_reap_takes_what_the_dead_left(void **state)
{
	struct err e = ERR_NONE;
	char name[80];

	(void)state;
	leftover(name, sizeof name, dead_pid(), "0123456789abcdef");
	assert_int_equal(tmpfile_reap(at, ".", &e), 1);
	assert_int_equal(names(), 0);
}

static void
test_reap_leaves_what_is_not_such(void **state)
{
	struct err e = ERR_NONE;
	int pid = dead_pid(), fd;
	char name[80];

	(void)state;
	/* Of a live process, of another boot, and three that only look so. */
	leftover(name, sizeof name, getpid(), "0123456789abcdef");
	fd = openat(
	    at, ".tmp-zzzzzzzz-1-0123456789abcdef", O_CREAT | O_RDWR, 0600);
	close(fd);
	leftover(name, sizeof name, pid, "0123456789abcdef.mine");
	leftover(name, sizeof name, pid, "");
	leftover(name, sizeof name, pid, "xyz");
	assert_int_equal(tmpfile_reap(at, ".", &e), 0);
	assert_int_equal(names(), 5);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_closed_leaves_nothing),
	    TEST(test_commit_gives_the_name_once),
	    TEST(test_replace_takes_the_place),
	    TEST(test_replace_that_fails_leaves_nothing),
	    TEST(test_len_counts_what_was_written),
	    TEST(test_open_in_a_folder_that_is_not_there),
	    TEST(test_reap_takes_what_the_dead_left),
	    TEST(test_reap_leaves_what_is_not_such),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

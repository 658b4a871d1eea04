/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Temporary files where the file system has none without a name (NFS, FUSE):
 * the same promises. O_TMPFILE is refused by an openat of our own.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/tmpfile.h"

static int refusal;      /* of O_TMPFILE */
static int temporaries;  /* files with a temporary name that were made */
static bool names_taken; /* every temporary name is there already */

int
openat(int dirfd, const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	va_start(ap, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(ap, mode_t);
	va_end(ap);
	if ((flags & O_TMPFILE) == O_TMPFILE) {
		errno = refusal;
		return -1;
	}
	if (flags & O_EXCL) {
		temporaries++;
		if (names_taken) {
			errno = EEXIST;
			return -1;
		}
	}
	return (int)syscall(SYS_openat, dirfd, path, flags, mode);
}

static char dir[64];

static int
setup(void **state)
{
	(void)state;
	refusal = EOPNOTSUPP;
	temporaries = 0;
	names_taken = false;
	strcpy(dir, "/tmp/neap-tmpfile-XXXXXX");
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	return fs_remove_tree_at(AT_FDCWD, dir, &e);
}

static int
files(void)
{
	struct dirent *de;
	DIR *d = opendir(dir);
	int n = 0;

	while ((de = readdir(d)) != NULL)
		n += de->d_name[0] != '.' || strlen(de->d_name) > 2;
	closedir(d);
	return n;
}

static void
must_contain(const char *name, const char *want)
{
	SCOPED_BUF struct buf b = {0};
	SCOPED_FREE char *path = fs_join(dir, name);
	struct err e = ERR_NONE;

	assert_int_equal(fs_read_at(AT_FDCWD, path, 100, &b, &e), 0);
	assert_int_equal(b.len, strlen(want));
	assert_memory_equal(b.data, want, b.len);
}

static void
write_one(struct tmpfile *t, const char *text)
{
	struct err e = ERR_NONE;

	assert_int_equal(tmpfile_open(t, AT_FDCWD, dir, 0600, &e), 0);
	assert_int_equal(tmpfile_write(t, text, strlen(text), &e), 0);
	assert_int_equal(files(), 1);
}

static void
test_closed_leaves_nothing(void **state)
{
	struct tmpfile t;

	(void)state;
	write_one(&t, "one");
	tmpfile_close(&t);
	assert_int_equal(files(), 0);
}

static void
test_commit_gives_the_name_once(void **state)
{
	SCOPED_FREE char *path = fs_join(dir, "a");
	struct err e = ERR_NONE;
	struct tmpfile t;

	(void)state;
	write_one(&t, "one");
	assert_int_equal(tmpfile_commit(&t, AT_FDCWD, path, &e), 0);
	assert_int_equal(files(), 1);
	must_contain("a", "one");
	assert_int_equal(tmpfile_open(&t, AT_FDCWD, dir, 0600, &e), 0);
	assert_int_equal(tmpfile_commit(&t, AT_FDCWD, path, &e), -EEXIST);
	tmpfile_close(&t);
	assert_int_equal(files(), 1);
	must_contain("a", "one");
}

static void
test_replace_takes_the_place(void **state)
{
	SCOPED_FREE char *path = fs_join(dir, "a");
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(
	    fs_replace_at(AT_FDCWD, path, span_str("one"), 0600, &e), 0);
	assert_int_equal(
	    fs_replace_at(AT_FDCWD, path, span_str("two"), 0600, &e), 0);
	assert_int_equal(temporaries, 2);
	assert_int_equal(files(), 1);
	must_contain("a", "two");
}

/* Each means "not here" on some file system; any other is an error. */
static void
test_which_refusals_count(void **state)
{
	static const int not_here[] = {EOPNOTSUPP, EISDIR, EINVAL, ENOENT};
	struct err e = ERR_NONE;
	struct tmpfile t;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		refusal = not_here[i];
		write_one(&t, "x");
		tmpfile_close(&t);
	}
	refusal = ENOSPC;
	assert_int_equal(tmpfile_open(&t, AT_FDCWD, dir, 0600, &e), -ENOSPC);
	assert_non_null(strstr(e.text, dir));
	tmpfile_close(&t);
	assert_int_equal(files(), 0);
}

static void
test_a_folder_full_of_such_names_is_an_error(void **state)
{
	struct err e = ERR_NONE;
	struct tmpfile t;

	(void)state;
	names_taken = true;
	assert_int_equal(tmpfile_open(&t, AT_FDCWD, dir, 0600, &e), -EEXIST);
	tmpfile_close(&t);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_closed_leaves_nothing),
	    TEST(test_commit_gives_the_name_once),
	    TEST(test_replace_takes_the_place),
	    TEST(test_which_refusals_count),
	    TEST(test_a_folder_full_of_such_names_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

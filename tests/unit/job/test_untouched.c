/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/untouched.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

static char dir[64];

static void
put(const char *name, const char *text, int flags)
{
	SCOPED_FREE char *path = fs_join(dir, name);
	SCOPED_FD int fd = open(path, O_WRONLY | O_CREAT | flags, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static int
setup(void **arg)
{
	struct state *s = mem_new(sizeof *s);

	snprintf(dir, sizeof dir, "/tmp/neap-untouched-XXXXXX");
	assert_non_null(mkdtemp(dir));
	put("hashes", "pages", 0);
	put("objects", "table", 0);
	s->lock_fd = -1;
	untouched_note(s, dir, true);
	*arg = s;
	return 0;
}

static int
teardown(void **arg)
{
	struct err e = ERR_NONE;

	state_close(*arg);
	free(*arg);
	return fs_remove_tree_at(AT_FDCWD, dir, &e);
}

static int
check(const struct state *s)
{
	struct err e = ERR_NONE;

	return untouched_check(s, dir, &e);
}

/* Times are kept in ticks of the kernel; the next one is sure after 20 ms. */
static void
next_tick(void)
{
	usleep(20000);
}

static void
what_we_left_is_untouched(void **arg)
{
	assert_int_equal(check(*arg), 0);
}

static void
written_over_is_touched(void **arg)
{
	next_tick();
	put("hashes", "other", O_TRUNC);
	assert_int_equal(check(*arg), -ESTALE);
}

/* As cp -p and tar do it: the old times, where they can be set. */
static void
old_times_do_not_hide_it(void **arg)
{
	SCOPED_FREE char *path = fs_join(dir, "objects");
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	next_tick();
	put("objects", "TABLE", O_TRUNC);
	assert_int_equal(utimensat(AT_FDCWD, path,
			     (struct timespec[]){st.st_atim, st.st_mtim}, 0),
	    0);
	assert_int_equal(check(*arg), -ESTALE);
}

static void
after_a_kill_the_times_do_not_count(void **arg)
{
	struct state *s = *arg;

	next_tick();
	put("hashes", "half", 0);
	s->interrupted = true;
	assert_int_equal(check(s), 0);
}

static void
after_a_kill_another_file_counts(void **arg)
{
	SCOPED_FREE char *path = fs_join(dir, "hashes");
	SCOPED_FREE char *copy = fs_join(dir, "copy");
	struct state *s = *arg;

	put("copy", "pages", 0);
	assert_int_equal(rename(copy, path), 0);
	s->interrupted = true;
	assert_int_equal(check(s), -ESTALE);
}

static void
files_without_a_note_are_not_believed(void **arg)
{
	struct state *s = *arg;

	free(TAKE(s->map_identity));
	assert_int_equal(check(s), -ESTALE);
}

static void
no_block_map_is_no_harm(void **arg)
{
	SCOPED_FREE char *path = fs_join(dir, "hashes");

	assert_int_equal(unlink(path), 0);
	assert_int_equal(check(*arg), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(what_we_left_is_untouched),
	    TEST(written_over_is_touched),
	    TEST(old_times_do_not_hide_it),
	    TEST(after_a_kill_the_times_do_not_count),
	    TEST(after_a_kill_another_file_counts),
	    TEST(files_without_a_note_are_not_believed),
	    TEST(no_block_map_is_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history of runs when it grows too long and when the disk is full: a
 * write of our own stands in for the latter.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/job/state.h"

#define LIMIT (8u << 20)

static ssize_t room = -1; /* what a write still takes; -1: all */

ssize_t
write(int fd, const void *p, size_t n)
{
	if (room == 0) {
		errno = ENOSPC;
		return -1;
	}
	if (room > 0 && n > (size_t)room)
		n = (size_t)room;
	return syscall(SYS_write, fd, p, n);
}

static fsblkcnt_t blocks_left = 1000000;

int
statvfs(const char *path, struct statvfs *v)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -1;
	memset(v, 0, sizeof *v);
	v->f_frsize = 4096;
	v->f_bavail = blocks_left;
	v->f_favail = 1000;
	return 0;
}

static char dir[64];
static struct conf conf;
static struct state st;

static int
setup(void **s)
{
	struct err e = ERR_NONE;

	(void)s;
	room = -1;
	blocks_left = 1000000;
	strcpy(dir, "/tmp/neap-history-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	conf.state_dir = dir;
	return state_open(&st, &conf, "orders", &e);
}

static int
teardown(void **s)
{
	struct err e = ERR_NONE;

	(void)s;
	room = -1;
	state_close(&st);
	return fs_remove_tree_at(AT_FDCWD, dir, &e);
}

static int
add(int n, struct err *e)
{
	SCOPED_JSON json_t *line = json_pack("{s:i}", "n", n);

	return state_history_add(&st, line, e);
}

static int64_t
last(void)
{
	SCOPED_JSON json_t *line = state_history_last(&st);

	return jdoc_int(line, "n", -1);
}

static void
read_history(struct buf *b)
{
	SCOPED_FREE char *path = fs_join(st.dir, "history.jsonl");
	struct err e = ERR_NONE;

	assert_int_equal(fs_read_at(AT_FDCWD, path, 4 * LIMIT, b, &e), 0);
}

static void
test_a_long_one_is_halved_at_a_line(void **s)
{
	SCOPED_FREE char *path = fs_join(st.dir, "history.jsonl");
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	(void)s;
	for (unsigned i = 0; b.len <= LIMIT; i++)
		buf_put(&b, "{\"n\":12345678901}\n", 18);
	assert_int_equal(
	    fs_replace_at(AT_FDCWD, path, buf_span(&b), 0600, &e), 0);
	assert_int_equal(add(7, &e), 0);
	buf_clear(&b);
	read_history(&b);
	assert_true(b.len > LIMIT / 2 - 20 && b.len < LIMIT / 2 + 20);
	assert_memory_equal(b.data, "{\"n\":12345678901}\n{", 19);
	assert_int_equal(last(), 7);
}

/* One line of garbage, longer than all that is allowed. */
static void
test_without_lines_it_stays(void **s)
{
	SCOPED_FREE char *path = fs_join(st.dir, "history.jsonl");
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	(void)s;
	memset(buf_room(&b, LIMIT + 5), 'x', LIMIT + 5);
	b.len = LIMIT + 5;
	assert_int_equal(
	    fs_replace_at(AT_FDCWD, path, buf_span(&b), 0600, &e), 0);
	assert_int_equal(add(7, &e), 0);
	assert_null(state_history_last(&st));
	assert_int_equal(add(8, &e), 0);
	assert_int_equal(last(), 8);
}

static void
test_half_a_line_is_taken_back(void **s)
{
	SCOPED_BUF struct buf before = {0}, after = {0};
	struct err e = ERR_NONE;

	(void)s;
	assert_int_equal(add(1, &e), 0);
	read_history(&before);
	room = 3;
	assert_int_equal(add(2, &e), -ENOSPC);
	room = 0;
	assert_int_equal(add(3, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "history.jsonl"));
	room = -1;
	read_history(&after);
	assert_int_equal(span_cmp(buf_span(&before), buf_span(&after)), 0);
	assert_int_equal(add(4, &e), 0);
	assert_int_equal(last(), 4);
}

static void
test_a_full_file_system_is_named(void **s)
{
	struct err e = ERR_NONE;

	(void)s;
	err_set(&e, -ENOSPC, "write it");
	assert_int_equal(state_explain(&st, &e), -ENOSPC);
	assert_null(strstr(e.text, "is full"));
	blocks_left = 3;
	assert_int_equal(state_explain(&st, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "is full: make room there"));
	/* Once is enough. */
	assert_int_equal(state_explain(&st, &e), -ENOSPC);
	assert_null(strstr(strstr(e.text, "is full") + 1, "is full"));
}

/* A quota is as full as a disk, whatever statvfs says of that. */
static void
test_so_is_a_quota(void **s)
{
	struct err e = ERR_NONE;

	(void)s;
	err_set(&e, -EDQUOT, "write it");
	assert_int_equal(state_explain(&st, &e), -EDQUOT);
	assert_non_null(strstr(e.text, "is full: make room there"));
	err_clear(&e);
	err_set(&e, -EIO, "write it");
	blocks_left = 0;
	assert_int_equal(state_explain(&st, &e), -EIO);
	assert_string_equal(e.text, "write it");
}

/* Not even the job's folder could be made. */
static void
test_a_folder_that_is_missing_asks_the_one_above(void **s)
{
	struct err e = ERR_NONE;
	char *kept = st.dir;

	(void)s;
	st.dir = mem_printf("%s/not/there", dir);
	blocks_left = 0;
	err_set(&e, -ENOSPC, "make it");
	assert_int_equal(state_explain(&st, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "is full: make room there"));
	free(st.dir);
	st.dir = kept;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_a_long_one_is_halved_at_a_line),
	    TEST(test_without_lines_it_stays),
	    TEST(test_half_a_line_is_taken_back),
	    TEST(test_a_full_file_system_is_named),
	    TEST(test_so_is_a_quota),
	    TEST(test_a_folder_that_is_missing_asks_the_one_above),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

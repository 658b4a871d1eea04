/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Progress as it is drawn: whether it is a terminal, and what time it is, say
 * functions of our own.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/log.h"

static int64_t now_ms = 1000;
static bool terminal;

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	(void)id;
	ts->tv_sec = now_ms / 1000;
	ts->tv_nsec = now_ms % 1000 * 1000000;
	return 0;
}

int
isatty(int fd)
{
	(void)fd;
	return terminal;
}

static char said[4096];
static int kept = -1, file = -1;

static int
setup(void **state)
{
	char path[] = "/tmp/neap-log-XXXXXX";

	(void)state;
	file = mkstemp(path);
	unlink(path);
	kept = dup(STDERR_FILENO);
	return dup2(file, STDERR_FILENO) < 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	log_progress_end();
	dup2(kept, STDERR_FILENO);
	close(kept);
	close(file);
	return 0;
}

/* What was said since the last time. */
static const char *
heard(void)
{
	ssize_t n = pread(file, said, sizeof said - 1, 0);

	said[n > 0 ? n : 0] = '\0';
	assert_int_equal(ftruncate(file, 0), 0);
	lseek(file, 0, SEEK_SET);
	return said;
}

static void
test_elsewhere_a_line_every_ten_seconds(void **state)
{
	(void)state;
	terminal = false;
	log_init("prog", LOG_AT_NOTICE, true);
	log_progress("reading", 0, 4000000);
	now_ms += 9999;
	log_progress("reading", 1000000, 4000000);
	assert_string_equal(heard(), "");
	now_ms += 1;
	log_progress("reading", 2000000, 4000000);
	assert_string_equal(
	    heard(), "prog: reading 2.0 MB of 4.0 MB, 200.0 kB/s\n");
	now_ms += 10000;
	log_progress("writing", 10000000, 0);
	assert_string_equal(heard(), "prog: writing 10.0 MB, 500.0 kB/s\n");
}

static void
test_a_terminal_has_a_bar(void **state)
{
	(void)state;
	terminal = true;
	log_init("prog", LOG_AT_NOTICE, true);
	log_progress("reading", 0, 4000000);
	now_ms += 1000;
	log_progress("reading", 2000000, 4000000);
	assert_string_equal(heard(),
	    "\r\033[Kreading [###############...............]  50% 2.0 MB of "
	    "4.0 MB, 2.0 MB/s");
	/* Not ten times a second at most: nothing. */
	now_ms += 99;
	log_progress("reading", 3000000, 4000000);
	assert_string_equal(heard(), "");
	/* More than there is to do is all. */
	now_ms += 901;
	log_progress("reading", 9000000, 4000000);
	assert_non_null(strstr(heard(), "100% 4.0 MB of 4.0 MB"));
	now_ms += 100;
	log_progress("writing", 0, 0);
	assert_string_equal(heard(), "\r\033[Kwriting 0 B, 0 B/s");
}

/* Else the line would stand behind the bar. */
static void
test_a_line_takes_the_place_of_the_bar(void **state)
{
	(void)state;
	terminal = true;
	log_init("prog", LOG_AT_NOTICE, true);
	log_progress("reading", 0, 10);
	now_ms += 1000;
	log_progress("reading", 5, 10);
	heard();
	log_notice("one");
	assert_string_equal(heard(), "\r\033[Kprog: one\n");
	now_ms += 1000;
	log_progress("reading", 6, 10);
	heard();
	log_progress_end();
	assert_string_equal(heard(), "\r\033[K");
	log_progress_end();
	assert_string_equal(heard(), "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_elsewhere_a_line_every_ten_seconds),
	    TEST(test_a_terminal_has_a_bar),
	    TEST(test_a_line_takes_the_place_of_the_bar),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

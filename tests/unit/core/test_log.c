/* SPDX-License-Identifier: Apache-2.0 */
/* What a program says: whole lines, by level, and nothing during a hold. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/log.h"

static char said[65536];
static int kept = -1, file = -1;

/* Standard error into a file, from here on. */
static void
listen_to_it(void)
{
	char path[] = "/tmp/neap-log-XXXXXX";

	file = mkstemp(path);
	assert_true(file >= 0);
	unlink(path);
	kept = dup(STDERR_FILENO);
	dup2(file, STDERR_FILENO);
}

/* What was said up to now. */
static const char *
heard(void)
{
	ssize_t n = pread(file, said, sizeof said - 1, 0);

	said[n > 0 ? n : 0] = '\0';
	return said;
}

static int
teardown(void **state)
{
	(void)state;
	dup2(kept, STDERR_FILENO);
	close(kept);
	close(file);
	return 0;
}

static void
test_lines_by_level(void **state)
{
	(void)state;
	listen_to_it();
	log_init("prog", LOG_AT_WARN, false);
	log_error("broken %d", 1);
	log_warn("odd");
	log_notice("fine");
	log_debug("detail");
	assert_string_equal(heard(), "prog: broken 1\nprog: warning: odd\n");
}

static void
test_quiet_still_says_errors(void **state)
{
	(void)state;
	listen_to_it();
	log_init("prog", LOG_AT_QUIET, false);
	log_warn("odd");
	log_error("broken");
	assert_string_equal(heard(), "prog: broken\n");
}

static void
test_a_long_line_is_cut_and_ends(void **state)
{
	char text[5000];

	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	listen_to_it();
	log_init("prog", LOG_AT_NOTICE, false);
	log_notice("%s", text);
	log_notice("next");
	assert_true(strlen(heard()) < 2100);
	assert_non_null(strstr(heard(), "x\nprog: next\n"));
}

/* A line to a file on the frozen file system would wait for its own thaw. */
static void
test_a_hold_keeps_lines(void **state)
{
	(void)state;
	listen_to_it();
	log_init("prog", LOG_AT_NOTICE, true);
	log_hold();
	log_notice("one");
	log_error("two");
	log_progress("reading", 1, 2);
	assert_string_equal(heard(), "");
	log_release();
	assert_string_equal(heard(), "prog: one\nprog: two\n");
	log_notice("three");
	assert_string_equal(heard(), "prog: one\nprog: two\nprog: three\n");
}

static void
test_a_hold_says_what_it_lost(void **state)
{
	char text[1001];

	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	listen_to_it();
	log_init("prog", LOG_AT_NOTICE, false);
	log_hold();
	for (int i = 0; i < 20; i++)
		log_notice("%s", text);
	log_release();
	assert_non_null(strstr(
	    heard(), "prog: 4 more lines had no room during the hold\n"));
	log_hold();
	log_release();
	assert_null(strstr(strstr(heard(), "more lines") + 1, "more lines"));
}

static void
test_no_progress_unless_asked(void **state)
{
	(void)state;
	listen_to_it();
	log_init("prog", LOG_AT_NOTICE, false);
	log_progress("reading", 1, 2);
	log_progress_end();
	assert_string_equal(heard(), "");
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_lines_by_level),
	    TEST(test_quiet_still_says_errors),
	    TEST(test_a_long_line_is_cut_and_ends),
	    TEST(test_a_hold_keeps_lines),
	    TEST(test_a_hold_says_what_it_lost),
	    TEST(test_no_progress_unless_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

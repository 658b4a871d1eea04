/* SPDX-License-Identifier: Apache-2.0 */
/* The job's state: one backup at a time, and nothing lost or believed wrongly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/job/state.h"

static char dir[] = "/tmp/neap-state.XXXXXX";
static struct conf conf;

static int
setup(void **s)
{
	(void)s;
	if (mkdtemp(dir) == NULL)
		return -1;
	conf.state_dir = dir;
	return 0;
}

static int
teardown(void **s)
{
	struct err e = ERR_NONE;

	(void)s;
	return fs_remove_tree_at(AT_FDCWD, dir, &e);
}

static void
test_second_open_is_refused_with_the_pid(void **s)
{
	SCOPED_STATE struct state a, b;
	struct err e = ERR_NONE;
	char pid[32];

	(void)s;
	snprintf(pid, sizeof pid, "process %d", (int)getpid());
	assert_int_equal(state_open(&a, &conf, "one", &e), 0);
	assert_int_equal(state_open(&b, &conf, "one", &e), -EBUSY);
	assert_non_null(strstr(e.text, pid));
	assert_int_equal(b.lock_fd, -1);
	/* Another job is not in the way. */
	state_close(&b);
	assert_int_equal(state_open(&b, &conf, "two", &e), 0);
}

static void
test_what_is_saved_comes_back(void **s)
{
	SCOPED_STATE struct state a;
	struct err e = ERR_NONE;

	(void)s;
	assert_int_equal(state_open(&a, &conf, "keep", &e), 0);
	a.last_rehash_s = 1234567890123;
	a.rehash_object = 1ull << 60;
	a.rehash_block = 99;
	a.serial = 7;
	state_quarantine(&a, "btrfs-send", "/x, offset 4096");
	assert_int_equal(state_save(&a, &e), 0);
	state_close(&a);
	assert_int_equal(state_open(&a, &conf, "keep", &e), 0);
	assert_int_equal(a.last_rehash_s, 1234567890123);
	assert_int_equal(a.rehash_object, 1ull << 60);
	assert_int_equal(a.rehash_block, 99);
	assert_int_equal(a.serial, 7);
	assert_string_equal(a.quarantine, "btrfs-send");
	state_lift(&a);
	assert_int_equal(state_save(&a, &e), 0);
	state_close(&a);
	assert_int_equal(state_open(&a, &conf, "keep", &e), 0);
	assert_null(a.quarantine);
}

static void
test_a_run_that_did_not_end_is_seen(void **s)
{
	SCOPED_STATE struct state a;
	struct err e = ERR_NONE;

	(void)s;
	assert_int_equal(state_open(&a, &conf, "run", &e), 0);
	assert_false(a.interrupted);
	assert_int_equal(state_begin(&a, &e), 0);
	state_close(&a);
	assert_int_equal(state_open(&a, &conf, "run", &e), 0);
	assert_true(a.interrupted);
	assert_int_equal(state_end(&a, &e), 0);
	state_close(&a);
	assert_int_equal(state_open(&a, &conf, "run", &e), 0);
	assert_false(a.interrupted);
}

static void
test_a_damaged_document_is_a_lost_one(void **s)
{
	SCOPED_STATE struct state a;
	SCOPED_FREE char *path = NULL;
	struct err e = ERR_NONE;

	(void)s;
	assert_int_equal(state_open(&a, &conf, "torn", &e), 0);
	a.serial = 3;
	assert_int_equal(state_save(&a, &e), 0);
	path = fs_join(a.dir, "state.json");
	assert_int_equal(
	    fs_replace_at(AT_FDCWD, path, span_str("{\"serial\": 3"), 0600, &e),
	    0);
	state_close(&a);
	assert_int_equal(state_open(&a, &conf, "torn", &e), 0);
	assert_int_equal(a.serial, 0);
}

static void
test_the_last_line_of_the_history(void **s)
{
	SCOPED_STATE struct state a;
	struct err e = ERR_NONE;

	(void)s;
	assert_int_equal(state_open(&a, &conf, "hist", &e), 0);
	assert_null(state_history_last(&a));
	for (int i = 0; i < 3; i++) {
		SCOPED_JSON json_t *line = json_pack("{s:i}", "n", i);

		assert_int_equal(state_history_add(&a, line, &e), 0);
	}
	{
		SCOPED_JSON json_t *last = state_history_last(&a);

		assert_int_equal(jdoc_int(last, "n", -1), 2);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_second_open_is_refused_with_the_pid),
	    cmocka_unit_test(test_what_is_saved_comes_back),
	    cmocka_unit_test(test_a_run_that_did_not_end_is_seen),
	    cmocka_unit_test(test_a_damaged_document_is_a_lost_one),
	    cmocka_unit_test(test_the_last_line_of_the_history),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

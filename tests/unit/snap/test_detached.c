/* SPDX-License-Identifier: Apache-2.0 */
/* A mount that hangs nowhere: what keeps it from being made is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "kmod-free/snap/detached.h"

static void
need_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("needs root\n");
	skip();
}

static void
a_file_system_that_is_not_known_is_refused(void **state)
{
	const struct detached_how how = {
	    .type = "nosuchfs", .source = "none", .option = "a", .value = "b"};
	struct err e = ERR_NONE;

	(void)state;
	need_root();
	assert_true(detached_mount(&how, &e) < 0);
	assert_non_null(strstr(e.text, "mount none privately"));
}

static void
an_option_that_is_not_known_is_refused(void **state)
{
	const struct detached_how how = {.type = "tmpfs",
	    .source = "none",
	    .option = "nonsense",
	    .value = "1"};
	struct err e = ERR_NONE;

	(void)state;
	need_root();
	assert_int_equal(detached_mount(&how, &e), -EINVAL);
	assert_non_null(strstr(e.text, "mount none privately"));
	/* In the kernel's words. */
	assert_non_null(strstr(e.text, "nonsense"));
}

/* Seen by nobody, and as writable as was asked for. */
static void
it_is_reached_by_its_descriptor(void **state)
{
	struct detached_how how = {.type = "tmpfs",
	    .source = "none",
	    .option = "mode",
	    .value = "700"};
	struct err e = ERR_NONE;

	(void)state;
	need_root();
	for (int ro = 0; ro < 2; ro++) {
		SCOPED_FD int fd = -1, file = -1;

		how.read_only = ro;
		fd = detached_mount(&how, &e);
		assert_true(fd >= 0);
		file = openat(fd, "a", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (ro)
			assert_int_equal(errno, EROFS);
		else
			assert_true(file >= 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_file_system_that_is_not_known_is_refused),
	    cmocka_unit_test(an_option_that_is_not_known_is_refused),
	    cmocka_unit_test(it_is_reached_by_its_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

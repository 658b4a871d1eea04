/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: texts gather, never overflow, and have an exit status. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/core/err.h"

static void
test_set(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(err_set(&e, -EINVAL, "bad %s %d", "key", 7), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.text, "bad key 7");
	err_set(&e, -EIO, "later");
	assert_string_equal(e.text, "later");
}

static void
test_sys_names_the_errno(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(err_sys(&e, ENOSPC, "write %s", "f"), -ENOSPC);
	assert_int_equal(e.code, -ENOSPC);
	assert_string_equal(e.text, "write f: No space left on device");
}

/* strerrordesc_np has no text for these, and %s of NULL is a crash away. */
static void
test_sys_of_an_unknown_errno(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(err_sys(&e, 4321, "write"), -4321);
	assert_string_equal(e.text, "write: error 4321");
}

static void
test_wrap_and_hint(void **state)
{
	struct err e = ERR_NONE;

	(void)state;
	err_sys(&e, ENOENT, "open %s", "a");
	assert_int_equal(err_wrap(&e, "chunk %d", 3), -ENOENT);
	assert_int_equal(err_hint(&e, "make %s", "it"), -ENOENT);
	assert_string_equal(
	    e.text, "chunk 3: open a: No such file or directory (make it)");
}

/* However long the contexts, the cause must not be what is cut. */
static void
test_the_cause_survives_long_contexts(void **state)
{
	char deep[2000];
	struct err e = ERR_NONE;

	(void)state;
	memset(deep, 'd', sizeof deep - 1);
	deep[sizeof deep - 1] = '\0';
	err_set(&e, -EIO, "the cause");
	for (int i = 0; i < 3; i++)
		assert_int_equal(err_wrap(&e, "%s", deep), -EIO);
	assert_non_null(strstr(e.text, "the cause"));
}

static void
test_long_texts_are_cut(void **state)
{
	char deep[4000];
	struct err e = ERR_NONE;

	(void)state;
	memset(deep, 'd', sizeof deep - 1);
	deep[sizeof deep - 1] = '\0';
	err_set(&e, -EIO, "%s", deep);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	assert_int_equal(err_hint(&e, "%s", deep), -EIO);
	assert_int_equal(err_sys(&e, EIO, "%s", deep), -EIO);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
}

static void
test_clear_and_copy(void **state)
{
	struct err a = ERR_NONE, b = ERR_NONE;

	(void)state;
	err_set(&a, -EIO, "a");
	assert_int_equal(err_copy(&b, &a), -EIO);
	assert_string_equal(b.text, "a");
	assert_int_equal(err_clear(&a), 0);
	assert_int_equal(a.code, 0);
	assert_string_equal(a.text, "");
}

static void
test_exit_status(void **state)
{
	(void)state;
	assert_int_equal(err_exit_status(0), 0);
	assert_int_equal(err_exit_status(7), 0);
	assert_int_equal(err_exit_status(-EIO), 1);
	assert_int_equal(err_exit_status(-ENOENT), 1);
	assert_int_equal(err_exit_status(-ECANCELED), 1);
	assert_int_equal(err_exit_status(-EINVAL), 2);
	assert_int_equal(err_exit_status(-EPERM), 3);
	assert_int_equal(err_exit_status(-EBUSY), 3);
	assert_int_equal(err_exit_status(-EBADMSG), 4);
	assert_int_equal(err_exit_status(-EKEYREJECTED), 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_set),
	    cmocka_unit_test(test_sys_names_the_errno),
	    cmocka_unit_test(test_sys_of_an_unknown_errno),
	    cmocka_unit_test(test_wrap_and_hint),
	    cmocka_unit_test(test_the_cause_survives_long_contexts),
	    cmocka_unit_test(test_long_texts_are_cut),
	    cmocka_unit_test(test_clear_and_copy),
	    cmocka_unit_test(test_exit_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

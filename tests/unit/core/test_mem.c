/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations: zeroed, checked, and the end of the process when there is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/bytes.h"
#include "agent/core/mem.h"

/* The sanitizers' allocators end the process by default. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void
test_new_is_zeroed(void **state)
{
	SCOPED_FREE uint8_t *a = mem_new(1000);
	SCOPED_FREE uint8_t *b = mem_array(10, 100);
	SCOPED_FREE uint8_t *none = mem_array(0, 8);

	(void)state;
	assert_true(bytes_all_zero(a, 1000));
	assert_true(bytes_all_zero(b, 1000));
	assert_non_null(none);
}

static void
test_texts(void **state)
{
	SCOPED_FREE char *a = mem_str("abc");
	SCOPED_FREE char *b = mem_strn("abc", 2);
	SCOPED_FREE char *c = mem_printf("%s-%d", "x", 7);

	(void)state;
	assert_string_equal(a, "abc");
	assert_string_equal(b, "ab");
	assert_string_equal(c, "x-7");
}

static void
test_take_moves(void **state)
{
	SCOPED_FREE char *a = mem_str("abc");
	SCOPED_FREE char *b = TAKE(a);

	(void)state;
	assert_null(a);
	assert_string_equal(b, "abc");
}

static void
test_room_grows_and_keeps(void **state)
{
	int *v = NULL;
	size_t n = 0, cap = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		MEM_ROOM(v, n, cap);
		v[n++] = i;
	}
	for (int i = 0; i < 1000; i++)
		assert_int_equal(v[i], i);
	free(v);
}

static void
test_pages_are_aligned(void **state)
{
	SCOPED_FREE void *p = NULL;
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(mem_try_pages(&p, 12345, &e), 0);
	assert_int_equal((uintptr_t)p % 4096, 0);
}

static void
test_pages_that_there_are_not(void **state)
{
	struct err e = ERR_NONE;
	void *p = NULL;

	(void)state;
	assert_true(mem_try_pages(&p, (size_t)1 << 60, &e) < 0);
	assert_null(p);
	assert_non_null(strstr(e.text, "bytes of buffers"));
}

/* n * size does not fit: an overflow would give a small block instead. */
static void
test_out_of_memory_ends_with_a_message(void **state)
{
	volatile size_t huge = SIZE_MAX / 4;
	char text[4000];
	size_t n = 0;
	ssize_t k;
	int fd[2], st;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(fd), 0);
	pid = fork();
	if (pid == 0) {
		dup2(fd[1], STDERR_FILENO);
		free(mem_array(huge, 8));
		_exit(0);
	}
	close(fd[1]);
	while ((k = read(fd[0], text + n, sizeof text - 1 - n)) > 0)
		n += (size_t)k;
	text[n] = '\0';
	close(fd[0]);
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_true(WIFEXITED(st));
	assert_int_equal(WEXITSTATUS(st), 1);
	assert_non_null(strstr(text, "out of memory"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_new_is_zeroed),
	    cmocka_unit_test(test_texts),
	    cmocka_unit_test(test_take_moves),
	    cmocka_unit_test(test_room_grows_and_keeps),
	    cmocka_unit_test(test_pages_are_aligned),
	    cmocka_unit_test(test_pages_that_there_are_not),
	    cmocka_unit_test(test_out_of_memory_ends_with_a_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

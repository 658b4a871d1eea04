/* SPDX-License-Identifier: Apache-2.0 */
/* Being told to stop: once is a request, twice is an order. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/mem.h"
#include "agent/core/stop.h"

/* In a child, as the flag cannot be taken back: its wait status. */
static int
in_child(int (*f)(int), int sig)
{
	pid_t pid = fork();
	int st;

	if (pid == 0)
		_exit(f(sig));
	assert_int_equal(waitpid(pid, &st, 0), pid);
	return st;
}

static int
once(int sig)
{
	struct err e = ERR_NONE;

	stop_install();
	if (stop_requested() || stop_check(&e) != 0)
		return 1;
	raise(sig);
	if (!stop_requested() || stop_check(&e) != -ECANCELED)
		return 2;
	return e.text[0] == '\0';
}

static int
twice(int sig)
{
	stop_install();
	raise(sig);
	raise(sig);
	return 0;
}

static int
pipe_closed(int sig)
{
	int fd[2];

	(void)sig;
	stop_install();
	if (pipe(fd) < 0)
		return 1;
	close(fd[0]);
	return write(fd[1], "x", 1) == -1 && errno == EPIPE ? 0 : 2;
}

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

static void
test_one_signal_is_a_request(void **state)
{
	(void)state;
	for (size_t i = 0; i < MEM_COUNT(signals); i++)
		assert_int_equal(in_child(once, signals[i]), 0);
}

static void
test_two_signals_end_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < MEM_COUNT(signals); i++) {
		int st = in_child(twice, signals[i]);

		assert_true(WIFEXITED(st));
		assert_int_equal(WEXITSTATUS(st), 128 + signals[i]);
	}
}

static void
test_a_closed_pipe_is_an_error_not_a_death(void **state)
{
	(void)state;
	assert_int_equal(in_child(pipe_closed, 0), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_one_signal_is_a_request),
	    cmocka_unit_test(test_two_signals_end_it),
	    cmocka_unit_test(test_a_closed_pipe_is_an_error_not_a_death),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

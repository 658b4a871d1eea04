/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes: what they say, how they end, and that they do end. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"
#include "agent/core/process.h"

/* Far off: a test that reaches it has failed. */
#define LONG_MS 20000

static int64_t
later(void)
{
	return clock_mono_ms() + LONG_MS;
}

static void
start(struct process *p, const char *script)
{
	const char *argv[] = {"/bin/sh", "-c", script, NULL};
	struct process_how how = {.argv = argv, .uid = (uid_t)-1};
	struct err e = ERR_NONE;

	if (process_start(p, &how, &e) < 0)
		fail_msg("%s", e.text);
}

/* Its exit status. */
static int
run(struct process *p, const char *script)
{
	const char *argv[] = {"/bin/sh", "-c", script, NULL};
	struct process_how how = {.argv = argv, .uid = (uid_t)-1};
	struct err e = ERR_NONE;
	int status = -1;

	if (process_run(p, &how, LONG_MS, &status, &e) < 0)
		fail_msg("%s", e.text);
	return status;
}

static void
said(struct process *p, const char *want)
{
	assert_int_equal(p->stdout_text.len, strlen(want));
	assert_memory_equal(p->stdout_text.data, want, strlen(want));
}

static void
test_output_and_status(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;

	(void)state;
	assert_int_equal(run(&p, "echo out; echo err >&2; exit 7"), 7);
	said(&p, "out\n");
	assert_string_equal(process_complaint(&p), "err");
	assert_int_equal(p.pid, -1);
}

static void
test_status_of_a_signal(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;

	(void)state;
	assert_int_equal(run(&p, "kill -USR1 $$"), 128 + SIGUSR1);
}

static void
test_a_program_that_is_not_there(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *argv[] = {"/nonexistent/program", NULL};
	struct process_how how = {.argv = argv, .uid = (uid_t)-1};
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(process_start(&p, &how, &e), -ENOENT);
	assert_string_equal(
	    e.text, "start /nonexistent/program: No such file or directory");
	assert_int_equal(p.pid, -1);
}

static void
test_environment_is_added_and_wins(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *argv[] = {"/bin/sh", "-c", "echo $A $AB $KEPT", NULL};
	const char *add[] = {"A=new", NULL};
	struct process_how how = {
	    .argv = argv, .env_add = add, .uid = (uid_t)-1};
	struct err e = ERR_NONE;
	int status;

	(void)state;
	setenv("A", "old", 1);
	setenv("AB", "other", 1);
	setenv("KEPT", "kept", 1);
	assert_int_equal(process_run(&p, &how, LONG_MS, &status, &e), 0);
	said(&p, "new other kept\n");
}

/* Until fd has no writer any more; then who this thread is. */
static void *
user_of_thread(void *arg)
{
	char byte;

	while (read(*(int *)arg, &byte, 1) > 0)
		;
	return (void *)(uintptr_t)syscall(SYS_geteuid);
}

static void
test_folder_and_user(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	int fds[2];
	pthread_t thread;
	void *user;
	const char *argv[] = {
	    "/bin/sh", "-c", "pwd; id -u; id -g; id -G", NULL};
	struct process_how how = {
	    .argv = argv, .uid = 65534, .gid = 65533, .cwd = "/"};
	struct err e = ERR_NONE;
	int status;

	(void)state;
	if (geteuid() != 0) {
		print_message("skip: to change the user needs root\n");
		skip();
	}
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(
	    pthread_create(&thread, NULL, user_of_thread, &fds[0]), 0);
	assert_int_equal(process_run(&p, &how, LONG_MS, &status, &e), 0);
	said(&p, "/\n65534\n65533\n65533\n");
	/* The child became that user, and nobody else. */
	close(fds[1]);
	pthread_join(thread, &user);
	close(fds[0]);
	assert_null(user);
	assert_int_equal(geteuid(), 0);
}

static void
test_signals_reach_both(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	sigset_t blocked;

	(void)state;
	assert_int_equal(run(&p, "grep SigBlk /proc/self/status"), 0);
	said(&p, "SigBlk:\t0000000000000000\n");
	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	for (int sig = 1; sig < NSIG; sig++)
		assert_int_not_equal(sigismember(&blocked, sig), 1);
}

/* Behind a fork(), each page that is written is copied: a fault for each. */
static void
test_a_start_costs_no_copy_of_our_memory(void **state)
{
	enum { PAGES = 2048, PAGE = 4096 };
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	struct rusage before, after;
	char *memory = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(memory, MAP_FAILED);
	madvise(memory, (size_t)PAGES * PAGE, MADV_NOHUGEPAGE);
	memset(memory, 1, (size_t)PAGES * PAGE);
	getrusage(RUSAGE_THREAD, &before);
	start(&p, "exec sleep 60");
	memset(memory, 2, (size_t)PAGES * PAGE);
	getrusage(RUSAGE_THREAD, &after);
#ifndef __SANITIZE_THREAD__ /* which makes a fork of every vfork */
	assert_true(after.ru_minflt - before.ru_minflt < PAGES / 2);
#endif
	munmap(memory, (size_t)PAGES * PAGE);
}

/* As the hooks of a source tree below /root are for the engine's user. */
static void
test_a_program_that_the_user_cannot_reach(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	char dir[] = "/tmp/neap-process.XXXXXX";
	SCOPED_FREE char *program = NULL;
	const char *argv[] = {NULL, NULL};
	struct process_how how = {.argv = argv, .uid = 65534, .gid = 65533};
	struct err e = ERR_NONE;

	(void)state;
	if (geteuid() != 0) {
		print_message("skip: to change the user needs root\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	program = mem_printf("%s/true", dir);
	argv[0] = program;
	assert_int_equal(symlink("/bin/true", program), 0);
	assert_int_equal(process_start(&p, &how, &e), -EACCES);
	assert_non_null(strstr(e.text, "user id 65534"));
	assert_int_equal(unlink(program), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void
test_a_folder_that_is_not_there(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *argv[] = {"/bin/true", NULL};
	struct process_how how = {
	    .argv = argv, .uid = (uid_t)-1, .cwd = "/nonexistent"};
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(process_start(&p, &how, &e), -ENOENT);
}

static void
test_lines_one_by_one(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_FREE char *one = NULL, *two = NULL, *none = NULL;
	struct err e = ERR_NONE;

	(void)state;
	start(&p, "printf 'one\\n\\ntail'");
	assert_int_equal(process_line(&p, later(), &one, &e), 0);
	assert_string_equal(one, "one");
	assert_int_equal(process_line(&p, later(), &two, &e), 0);
	assert_string_equal(two, "");
	/* What has no newline is no line. */
	assert_int_equal(process_line(&p, later(), &none, &e), -EPIPE);
	assert_null(none);
}

static void
test_a_line_in_time_or_not_at_all(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_FREE char *line = NULL;
	struct err e = ERR_NONE;

	(void)state;
	start(&p, "exec sleep 60");
	assert_int_equal(
	    process_line(&p, clock_mono_ms() + 20, &line, &e), -ETIMEDOUT);
	assert_null(line);
}

static void
test_talk(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_FREE char *line = NULL;
	struct err e = ERR_NONE;
	int status;

	(void)state;
	start(&p, "read x; echo got $x; cat >/dev/null; exit 3");
	assert_int_equal(process_write(&p, "hello\n", 6, &e), 0);
	assert_int_equal(process_line(&p, later(), &line, &e), 0);
	assert_string_equal(line, "got hello");
	process_close_stdin(&p);
	assert_int_equal(process_wait(&p, later(), &status, &e), 0);
	assert_int_equal(status, 3);
	assert_int_equal(process_write(&p, "x", 1, &e), -EPIPE);
}

/* Either stream alone is more than its pipe holds. */
static void
test_much_output_on_both_streams(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;

	(void)state;
	assert_int_equal(run(&p, "head -c 1000000 /dev/zero >&2; "
				 "head -c 1000000 /dev/zero"),
	    0);
	assert_int_equal(p.stdout_text.len, 1000000);
	assert_int_equal(p.stderr_text.len, 1000000);
}

static void
test_output_has_a_limit(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;

	(void)state;
	assert_int_equal(run(&p, "head -c 9000000 /dev/zero; "
				 "head -c 9000000 /dev/zero >&2; "
				 "echo 'the cause' >&2"),
	    0);
	assert_int_equal(p.stdout_text.len, PROCESS_OUTPUT_MAX);
	assert_true(p.stderr_text.len <= PROCESS_OUTPUT_MAX);
	/* Its end is what says why. */
	assert_memory_equal(
	    p.stderr_text.data + p.stderr_text.len - 10, "the cause\n", 10);
}

static void
test_wait_until_the_deadline(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	struct err e = ERR_NONE;
	int status;

	(void)state;
	start(&p, "exec sleep 60");
	assert_int_equal(
	    process_wait(&p, clock_mono_ms() + 20, &status, &e), -ETIMEDOUT);
	/* Still there: the caller decides. */
	assert_int_equal(kill(p.pid, 0), 0);
}

/* As a command of lvm must: it is not killed by what it says. */
static void
test_one_that_outlives_us_is_not_ended_by_its_output(void **state)
{
	char dir[] = "/tmp/neap-process-XXXXXX";
	SCOPED_FREE char *made = NULL;
	SCOPED_FREE char *script = NULL;

	(void)state;
	assert_non_null(mkdtemp(dir));
	made = mem_printf("%s/made", dir);
	script = mem_printf("sleep 0.2; echo one; echo two; mkdir %s", made);
	for (int outlives = 0; outlives < 2; outlives++) {
		const char *argv[] = {"/bin/sh", "-c", script, NULL};
		struct process_how how = {
		    .argv = argv, .uid = (uid_t)-1, .outlives_us = outlives};
		struct process p = PROCESS_NONE;
		struct err e = ERR_NONE;
		pid_t pid;

		assert_int_equal(process_start(&p, &how, &e), 0);
		pid = p.pid;
		p.pid = -1; /* left to itself */
		process_fini(&p);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(access(made, F_OK), outlives ? 0 : -1);
	}
	rmdir(made);
	rmdir(dir);
}

/* Ended, but not read: the next wait has it all. */
static void
test_what_ended_at_the_deadline_is_still_read(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	struct err e = ERR_NONE;
	siginfo_t si;
	int status;

	(void)state;
	start(&p, "echo said; exit 5");
	waitid(P_PID, (id_t)p.pid, &si, WEXITED | WNOWAIT);
	assert_int_equal(
	    process_wait(&p, clock_mono_ms() - 1, &status, &e), -ETIMEDOUT);
	assert_int_equal(process_wait(&p, later(), &status, &e), 0);
	assert_int_equal(status, 5);
	said(&p, "said\n");
}

static void
test_run_ends_what_takes_too_long(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *argv[] = {"/bin/sleep", "60", NULL};
	struct process_how how = {.argv = argv, .uid = (uid_t)-1};
	struct err e = ERR_NONE;
	int status;

	(void)state;
	assert_int_equal(process_run(&p, &how, 20, &status, &e), -ETIMEDOUT);
	assert_int_equal(p.pid, -1);
	assert_non_null(strstr(e.text, "/bin/sleep: "));
}

/* A grandchild that keeps the pipes open is not waited for. */
static void
test_wait_does_not_wait_for_heirs_of_the_pipes(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	struct err e = ERR_NONE;
	int status;

	(void)state;
	start(&p, "sleep 30 & echo $!; exit 4");
	assert_int_equal(
	    process_wait(&p, clock_mono_ms() + 15000, &status, &e), 0);
	assert_int_equal(status, 4);
	buf_put_u8(&p.stdout_text, 0);
	kill((pid_t)strtol((char *)p.stdout_text.data, NULL, 10), SIGKILL);
}

static void
test_end_takes_the_whole_group(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_FREE char *line = NULL;
	struct err e = ERR_NONE;
	pid_t group;

	(void)state;
	start(&p, "sleep 60 & sleep 60 & echo ready; wait");
	assert_int_equal(process_line(&p, later(), &line, &e), 0);
	group = p.pid;
	process_end(&p, 5000);
	assert_int_equal(p.pid, -1);
	/* Those orphaned are reaped by init, in its own time. */
	for (int i = 0; i < 500 && kill(-group, 0) == 0; i++)
		usleep(10000);
	assert_int_equal(kill(-group, 0), -1);
	assert_int_equal(errno, ESRCH);
	process_end(&p, 0);
}

static void
test_end_of_one_that_will_not(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_FREE char *line = NULL;
	struct err e = ERR_NONE;

	(void)state;
	start(&p, "trap '' TERM; echo ready; while :; do sleep 1; done");
	assert_int_equal(process_line(&p, later(), &line, &e), 0);
	process_end(&p, 50);
	assert_int_equal(p.pid, -1);
}

static void
test_complaint_is_the_last_line(void **state)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_PROCESS struct process q = PROCESS_NONE;

	(void)state;
	run(&p, "printf 'first\\nlast\\n\\n' >&2");
	assert_string_equal(process_complaint(&p), "last");
	assert_string_equal(process_complaint(&p), "last");
	run(&q, "true");
	assert_string_equal(process_complaint(&q), "no message");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_output_and_status),
	    cmocka_unit_test(test_status_of_a_signal),
	    cmocka_unit_test(test_a_program_that_is_not_there),
	    cmocka_unit_test(test_environment_is_added_and_wins),
	    cmocka_unit_test(test_folder_and_user),
	    cmocka_unit_test(test_signals_reach_both),
	    cmocka_unit_test(test_a_start_costs_no_copy_of_our_memory),
	    cmocka_unit_test(test_a_program_that_the_user_cannot_reach),
	    cmocka_unit_test(test_a_folder_that_is_not_there),
	    cmocka_unit_test(test_lines_one_by_one),
	    cmocka_unit_test(test_a_line_in_time_or_not_at_all),
	    cmocka_unit_test(test_talk),
	    cmocka_unit_test(test_much_output_on_both_streams),
	    cmocka_unit_test(test_output_has_a_limit),
	    cmocka_unit_test(test_wait_until_the_deadline),
	    cmocka_unit_test(
		test_one_that_outlives_us_is_not_ended_by_its_output),
	    cmocka_unit_test(test_what_ended_at_the_deadline_is_still_read),
	    cmocka_unit_test(test_run_ends_what_takes_too_long),
	    cmocka_unit_test(test_wait_does_not_wait_for_heirs_of_the_pipes),
	    cmocka_unit_test(test_end_takes_the_whole_group),
	    cmocka_unit_test(test_end_of_one_that_will_not),
	    cmocka_unit_test(test_complaint_is_the_last_line),
	};

	/* A write to a child that is gone is an error to report. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hook's side of the contract: a hook of our own is asked as the agent
 * asks, with standard input, output and error in memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/contract.h"
#include "agent/hooks/report.h"
#include "agent/hooks/serve.h"

#define ARGS_MAX 16

/* ---- a hook that does as `answer` says ---- */

static int answer;             /* what its verbs return */
static const char *lost;       /* what it finds after a hold */
static struct serve was;       /* how it was asked */
static enum serve_end held_to; /* how its hold ended */

static int
verb(const struct serve *s, struct err *e)
{
	was = *s;
	return answer == 0 ? 0 : err_set(e, answer, "two\nlines");
}

static int
quiesce(const struct serve *s, struct err *e)
{
	json_t *position = json_pack("{s:s}", "lsn", "0/1");
	json_t *notes = json_pack("[s]", "a note");
	struct serve_hold h;

	was = *s;
	if (serve_hold(&h, s, "locked", position, notes, e) < 0)
		return e->code;
	held_to = h.end;
	return serve_released(&h, lost, json_object(), NULL, NULL, e);
}

static const struct serve_ops full = {.engine = "test",
    .probe = verb,
    .quiesce = quiesce,
    .validate = verb,
    .dump = verb,
    .thaw = verb};
static const struct serve_ops least = {
    .engine = "least", .probe = verb, .quiesce = quiesce};

/* ---- asking it ---- */

static char *said, *complaint;

static int
ask(const struct serve_ops *ops, int in, ...)
{
	char *argv[ARGS_MAX] = {(char *)"hook"};
	FILE *out = stdout, *err = stderr;
	size_t n;
	int argc = 1, status;
	va_list ap;

	va_start(ap, in);
	while ((argv[argc] = va_arg(ap, char *)) != NULL)
		argc++;
	va_end(ap);
	if (in >= 0)
		assert_int_equal(dup2(in, STDIN_FILENO), STDIN_FILENO);
	free(said);
	free(complaint);
	optind = 0; /* getopt: from the start */
	stdout = open_memstream(&said, &n);
	stderr = open_memstream(&complaint, &n);
	status = serve_main(argc, argv, ops);
	fclose(stdout);
	fclose(stderr);
	stdout = out;
	stderr = err;
	return status;
}

static int
setup(void **state)
{
	(void)state;
	setenv(HOOK_ENV, "{\"job\":\"a\",\"path\":\"/data\"}", 1);
	answer = 0;
	lost = NULL;
	held_to = SERVE_RELEASED;
	memset(&was, 0, sizeof was);
	return 0;
}

/* ---- the command line ---- */

static void
says_2_to_what_it_does_not_know(void **state)
{
	(void)state;
	assert_int_equal(ask(&full, -1, NULL), HOOK_USAGE);
	assert_int_equal(ask(&full, -1, "prove", NULL), HOOK_USAGE);
	assert_non_null(strstr(complaint, "prove: not a verb"));
	assert_int_equal(ask(&full, -1, "probe", "--what", NULL), HOOK_USAGE);
	assert_string_equal(complaint, "--what: not an option\n");
	assert_int_equal(ask(&full, -1, "probe", "-xy", NULL), HOOK_USAGE);
	assert_string_equal(complaint, "-x: not an option\n");
	assert_int_equal(ask(&full, -1, "probe", "more", NULL), HOOK_USAGE);
	assert_string_equal(complaint, "more: not an option\n");
	assert_int_equal(ask(&full, -1, "probe", "--clone", NULL), HOOK_USAGE);
	assert_string_equal(complaint, "--clone: its value is missing\n");
}

static void
says_2_to_impossible_values(void **state)
{
	static const char *const deadlines[] = {
	    "", "x", "1x", "0", "-5", "86400001", "99999999999999999999"};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(deadlines); i++) {
		assert_int_equal(
		    ask(&full, -1, "probe", "--hold-ms", deadlines[i], NULL),
		    HOOK_USAGE);
		assert_non_null(strstr(complaint, "not a number"));
	}
	assert_int_equal(
	    ask(&full, -1, "validate", "--clone", "/c", NULL), HOOK_USAGE);
	assert_string_equal(complaint, "--run is missing\n");
	assert_int_equal(
	    ask(&full, -1, "validate", "--clone", "c", "--run", "/r", NULL),
	    HOOK_USAGE);
	assert_non_null(strstr(complaint, "not an absolute path"));
	assert_int_equal(
	    ask(&full, -1, "dump", "--clone", "/c", "--run", "/r", NULL),
	    HOOK_USAGE);
	assert_string_equal(complaint, "--output is missing\n");
}

/* It comes back within JSON: found by fuzzing. */
static void
an_id_is_plain_text(void **state)
{
	(void)state;
	assert_int_equal(
	    ask(&full, -1, "probe", "--id", "a\377", NULL), HOOK_USAGE);
	assert_int_equal(ask(&full, -1, "probe", "--id", "", NULL), HOOK_USAGE);
	assert_int_equal(
	    ask(&full, -1, "probe", "--id", "my-db_1.x-20261122T191517Z", NULL),
	    HOOK_OK);
	assert_string_equal(was.id, "my-db_1.x-20261122T191517Z");
}

static void
hands_over_what_was_asked(void **state)
{
	(void)state;
	assert_int_equal(
	    ask(&full, -1, "dump", "--clone", "/c", "--run", "/r", "--output",
		"/o", "--database", "d", "--deadline-ms", "7", NULL),
	    HOOK_OK);
	assert_string_equal(was.verb, "dump");
	assert_string_equal(was.clone, "/c");
	assert_string_equal(was.run, "/r");
	assert_string_equal(was.output, "/o");
	assert_string_equal(was.database, "d");
	assert_int_equal(was.deadline_ms, 7);
}

static void
wants_settings_that_are_an_object(void **state)
{
	(void)state;
	setenv(HOOK_ENV, "{", 1);
	assert_int_equal(ask(&full, -1, "probe", NULL), HOOK_USAGE);
	setenv(HOOK_ENV, "[]", 1);
	assert_int_equal(ask(&full, -1, "probe", NULL), HOOK_USAGE);
	unsetenv(HOOK_ENV);
	assert_int_equal(ask(&full, -1, "probe", NULL), HOOK_USAGE);
	assert_non_null(strstr(complaint, HOOK_ENV " is not set"));
}

/* Else a broken configuration could keep a server held. */
static void
thaws_without_settings_where_there_is_nothing_to_do(void **state)
{
	(void)state;
	unsetenv(HOOK_ENV);
	assert_int_equal(ask(&least, -1, "thaw", NULL), HOOK_OK);
	assert_int_equal(ask(&full, -1, "thaw", NULL), HOOK_USAGE);
}

static void
says_69_to_what_its_engine_lacks(void **state)
{
	(void)state;
	assert_int_equal(ask(&least, -1, "validate", NULL), HOOK_UNSUPPORTED);
	assert_int_equal(ask(&least, -1, "dump", NULL), HOOK_UNSUPPORTED);
}

static void
turns_codes_into_exit_statuses_and_one_line(void **state)
{
	static const struct {
		int code, status;
	} all[] = {{0, HOOK_OK}, {-EBUSY, HOOK_BUSY}, {-EPERM, HOOK_REFUSED},
	    {-EOPNOTSUPP, HOOK_UNSUPPORTED}, {-EBADMSG, HOOK_DAMAGE},
	    {-ENODATA, HOOK_UNCHECKED}, {-EINVAL, HOOK_USAGE},
	    {-EIO, HOOK_FAILED}, {-ENOENT, HOOK_FAILED}};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(all); i++) {
		answer = all[i].code;
		assert_int_equal(ask(&full, -1, "probe", NULL), all[i].status);
		assert_string_equal(
		    complaint, answer == 0 ? "" : "two lines\n");
	}
}

/* ---- the hold ---- */

static int
input(const char *text)
{
	int fd = memfd_create("stdin", MFD_CLOEXEC);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	lseek(fd, 0, SEEK_SET);
	return fd;
}

/* Of the second line that it said. */
static void
must_have_released(bool still_held, const char *reason)
{
	const char *second = strchr(said, '\n') + 1;
	struct err e = ERR_NONE;
	SCOPED_JSON json_t *first =
	    jdoc_parse(SPAN(said, (size_t)(second - said)), &e);
	SCOPED_JSON json_t *j = jdoc_parse(span_str(second), &e);

	assert_string_equal(jdoc_str(first, "state", ""), "quiesced");
	assert_string_equal(jdoc_str(first, "level", ""), "locked");
	assert_string_equal(jdoc_str(first, "token", ""), "a-1");
	assert_string_equal(jdoc_str(j, "state", ""), "released");
	assert_int_equal(jdoc_bool(j, "still_held", !still_held), still_held);
	assert_string_equal(jdoc_str(j, "reason", ""), reason);
}

static int
hold(const char *text)
{
	SCOPED_FD int fd = input(text);

	return ask(&full, fd, "quiesce", "--id", "a-1", NULL);
}

static void
holds_until_it_is_released(void **state)
{
	(void)state;
	assert_int_equal(hold("RELEASE\n"), HOOK_OK);
	must_have_released(true, "");
	/* Other lines are of no meaning, however long. */
	assert_int_equal(hold("\nRELEASED\nrelease\n"
			      "a line of more than sixty-four bytes, which no "
			      "line of the contract ever is, and then\n"
			      "RELEASE\n"),
	    HOOK_OK);
	must_have_released(true, "");
}

static int
stay(const char *text)
{
	SCOPED_FD int fd = input(text);

	return ask(&full, fd, "stay", "--id", "a-1", NULL);
}

static void
stays_until_it_is_to_quiesce(void **state)
{
	(void)state;
	assert_int_equal(stay("RELEASE\nQUIESCE\nRELEASE\n"), HOOK_OK);
	assert_string_equal(was.verb, "stay");
	must_have_released(true, "");
	/* Nothing is held while it stays. */
	assert_int_equal(stay("RELEASE\n"), HOOK_OK);
	assert_string_equal(said, "");
	/* What is wrong with the instance is said at once. */
	answer = -EPERM;
	assert_int_equal(stay("QUIESCE\nRELEASE\n"), HOOK_REFUSED);
	assert_string_equal(said, "");
}

static void
end_of_file_lets_go(void **state)
{
	(void)state;
	assert_int_equal(hold("RELEASE"), HOOK_OK);
	must_have_released(false, "the agent is gone");
	assert_int_equal(held_to, SERVE_AGENT_GONE);
	assert_int_equal(hold(""), HOOK_OK);
	must_have_released(false, "the agent is gone");
}

static void
the_deadline_lets_go(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	assert_int_equal(ask(&full, fd[0], "quiesce", "--id", "a-1",
			     "--deadline-ms", "1", NULL),
	    HOOK_OK);
	must_have_released(false, "let go at the deadline");
	assert_int_equal(held_to, SERVE_DEADLINE);
	close(fd[0]);
	close(fd[1]);
}

/* What it finds on its connection outranks how the hold ended. */
static void
a_lost_hold_is_said(void **state)
{
	(void)state;
	lost = "the session is gone";
	assert_int_equal(hold("RELEASE\n"), HOOK_OK);
	must_have_released(false, "the session is gone");
}

/* ---- words ---- */

static void
a_path_is_absolute(void **state)
{
	struct serve s = {.config = json_pack("{s:s}", "path", "data")};
	struct err e = ERR_NONE;
	const char *path;

	(void)state;
	assert_int_equal(serve_path(&s, &path, &e), -EINVAL);
	json_object_del(s.config, "path");
	assert_int_equal(serve_path(&s, &path, &e), -EINVAL);
	json_object_set_new(s.config, "path", json_string("/data"));
	assert_int_equal(serve_path(&s, &path, &e), 0);
	assert_string_equal(path, "/data");
	assert_null(serve_connection(&s));
	json_object_set_new(s.config, "connection", json_string("x"));
	assert_null(serve_connection(&s));
	json_decref(s.config);
}

static void
an_owner_is_told_by_number_and_name(void **state)
{
	SCOPED_JSON json_t *owner = NULL;
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(serve_owner(&owner, "/nowhere/at/all", &e), -ENOENT);
	assert_int_equal(serve_owner(&owner, "/", &e), 0);
	assert_int_equal(jdoc_int(owner, "uid", -1), 0);
	assert_string_equal(jdoc_str(owner, "name", ""), "root");
}

/* ---- the report of validate ---- */

static int
verdict(const struct serve *s, struct err *e)
{
	SCOPED_REPORT struct report r;
	const struct err damage = {.code = -EBADMSG, .text = "page 7"};
	const struct err unable = {.code = -EIO, .text = "no such tool"};

	(void)s;
	report_init(&r, "test");
	report_start(&r);
	report_step(&r, "start", REPORT_PASSED, "in %d ms", 3);
	if (answer & 1)
		report_error(&r, "tool", &unable);
	if (answer & 2)
		report_error(&r, "pages", &damage);
	return report_end(&r, e);
}

/* Three answers; damage is damage, whatever else could not be looked at. */
static void
a_report_ends_in_one_of_three_verdicts(void **state)
{
	static const struct {
		int status;
		const char *result;
	} want[] = {{HOOK_OK, "passed"}, {HOOK_UNCHECKED, "could-not-check"},
	    {HOOK_DAMAGE, "failed"}, {HOOK_DAMAGE, "failed"}};
	const struct serve_ops ops = {.engine = "test",
	    .probe = verb,
	    .quiesce = quiesce,
	    .validate = verdict};

	(void)state;
	for (answer = 0; answer < 4; answer++) {
		struct err e = ERR_NONE;
		SCOPED_JSON json_t *j = NULL;

		assert_int_equal(ask(&ops, -1, "validate", "--clone", "/c",
				     "--run", "/r", NULL),
		    want[answer].status);
		j = jdoc_parse(span_str(said), &e);
		assert_string_equal(
		    jdoc_str(j, "state", ""), want[answer].result);
		assert_int_equal(complaint[0] == '\0', answer == 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(says_2_to_what_it_does_not_know, setup),
	    cmocka_unit_test_setup(says_2_to_impossible_values, setup),
	    cmocka_unit_test_setup(an_id_is_plain_text, setup),
	    cmocka_unit_test_setup(hands_over_what_was_asked, setup),
	    cmocka_unit_test_setup(wants_settings_that_are_an_object, setup),
	    cmocka_unit_test_setup(
		thaws_without_settings_where_there_is_nothing_to_do, setup),
	    cmocka_unit_test_setup(says_69_to_what_its_engine_lacks, setup),
	    cmocka_unit_test_setup(
		turns_codes_into_exit_statuses_and_one_line, setup),
	    cmocka_unit_test_setup(holds_until_it_is_released, setup),
	    cmocka_unit_test_setup(stays_until_it_is_to_quiesce, setup),
	    cmocka_unit_test_setup(end_of_file_lets_go, setup),
	    cmocka_unit_test_setup(the_deadline_lets_go, setup),
	    cmocka_unit_test_setup(a_lost_hold_is_said, setup),
	    cmocka_unit_test_setup(a_path_is_absolute, setup),
	    cmocka_unit_test_setup(an_owner_is_told_by_number_and_name, setup),
	    cmocka_unit_test_setup(
		a_report_ends_in_one_of_three_verdicts, setup),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	free(said);
	free(complaint);
	return rc;
}

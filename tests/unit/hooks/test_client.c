/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's side of the hook contract, against small scripts that behave and
 * misbehave. Each script writes "thaw" into a file when it is asked to thaw.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/client.h"

/* Long enough for a loaded machine: no test waits it out in full. */
#define LONG_MS 60000

struct fixture {
	char dir[64];
	char *script, *marks; /* the hook, and the file it notes things in */
	json_t *config;
	struct hook_how how;
};

static int
setup(void **state)
{
	struct fixture *f = mem_new(sizeof *f);

	signal(SIGPIPE, SIG_IGN); /* as stop_install does */
	strcpy(f->dir, "/tmp/neap-hooks-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->script = fs_join(f->dir, "hook");
	f->marks = fs_join(f->dir, "marks");
	f->config = json_pack("{s:s, s:s}", "job", "orders", "marks", f->marks);
	f->how = (struct hook_how){.program = f->script,
	    .config = f->config,
	    .uid = (uid_t)-1,
	    .gid = (gid_t)-1,
	    .id = "orders-1"};
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_NONE;

	fs_remove_tree_at(AT_FDCWD, f->dir, &e);
	json_decref(f->config);
	free(f->script);
	free(f->marks);
	free(f);
	return 0;
}

/*
 * A hook whose `quiesce` is `body`; probe, validate and dump are functions
 * that `body` may define in front of the call.
 */
static void
write_hook(struct fixture *f, const char *body)
{
	FILE *out = fopen(f->script, "we");

	assert_non_null(out);
	fprintf(out,
	    "#!/bin/bash\n"
	    "M=%s\n"
	    "Q='{\"state\":\"quiesced\",\"level\":\"locked\","
	    "\"position\":{\"at\":7}}'\n"
	    "R='{\"state\":\"released\",\"held_ms\":1,\"still_held\":true}'\n"
	    "if [ \"$1\" = thaw ]; then echo \"thaw $3\" >>$M; exit 0; fi\n"
	    "%s\n",
	    f->marks, body);
	fclose(out);
	assert_int_equal(chmod(f->script, 0755), 0);
}

/* What the hook noted; gives. */
static char *
marks(const struct fixture *f)
{
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	if (fs_read_at(AT_FDCWD, f->marks, 65536, &b, &e) < 0)
		return mem_str("");
	return mem_strn((char *)b.data, b.len);
}

/* The process id that the hook noted: never 0 or -1, which mean many. */
static pid_t
marked_pid(const struct fixture *f)
{
	SCOPED_FREE char *m = marks(f);
	long pid = strtol(m, NULL, 10);

	if (pid < 2)
		fail_msg("marks are \"%s\", not a process id", m);
	return (pid_t)pid;
}

static void
assert_marked(const struct fixture *f, const char *word, bool there)
{
	SCOPED_FREE char *m = marks(f);

	if ((strstr(m, word) != NULL) != there)
		fail_msg("marks are \"%s\", \"%s\" should%s be there", m, word,
		    there ? "" : " not");
}

/* The whole way: quiesce, then release where that went well. */
static int
use(struct fixture *f, int64_t acquire_ms, json_t **quiesced, json_t **released,
    struct err *e)
{
	struct hook_session *s = NULL;
	int rc = hook_quiesce(&s, &f->how, acquire_ms, LONG_MS, quiesced, e);

	return rc < 0 ? rc : hook_release(s, released, e);
}

static void
expect_failure(
    struct fixture *f, int64_t acquire_ms, int code, const char *text)
{
	SCOPED_JSON json_t *q = NULL;
	SCOPED_JSON json_t *r = NULL;
	struct err e = ERR_NONE;
	int rc = use(f, acquire_ms, &q, &r, &e);

	if (rc != code || strstr(e.text, text) == NULL)
		fail_msg(
		    "%d \"%s\", wanted %d and \"%s\"", rc, e.text, code, text);
	assert_marked(f, "thaw orders-1", true);
}

static void
test_quiesce_and_release(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *q = NULL;
	SCOPED_JSON json_t *r = NULL;
	struct err e = ERR_NONE;

	write_hook(f, "echo \"$@ $NEAP_HOOK_CONFIG\" >>$M\n"
		      "echo $Q; read line; echo \"$line\" >>$M; echo $R");
	if (use(f, LONG_MS, &q, &r, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(jdoc_int(json_object_get(q, "position"), "at", 0), 7);
	assert_true(jdoc_bool(r, "still_held", false));
	assert_marked(f, "quiesce --id orders-1 --deadline-ms 60000", true);
	assert_marked(f, "\"job\":\"orders\"", true);
	assert_marked(f, "RELEASE", true);
	/* Nothing failed, so nothing is thawed. */
	assert_marked(f, "thaw", false);
}

static void
test_busy_twice_then_well(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *q = NULL;
	SCOPED_JSON json_t *r = NULL;
	struct err e = ERR_NONE;

	write_hook(f, "echo try >>$M\n"
		      "[ $(grep -c try $M) -lt 3 ] && exit 75\n"
		      "echo $Q; read line; echo $R");
	if (use(f, LONG_MS, &q, &r, &e) < 0)
		fail_msg("%s", e.text);
	assert_marked(f, "try\ntry\ntry\n", true);
}

static void
test_busy_for_good(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "echo long transaction >&2; exit 75");
	expect_failure(f, 1500, -EBUSY, "long transaction");
}

static void
test_no_answer(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "echo waiting for a lock >&2; sleep 300");
	expect_failure(f, 500, -ETIMEDOUT, "waiting for a lock");
}

static void
test_no_answer_and_deaf_to_sigterm(void **state)
{
	struct fixture *f = *state;

	/* Ends only by SIGKILL, with its child: else the test hangs. */
	write_hook(f, "trap '' TERM; echo $$ >>$M; sleep 300");
	expect_failure(f, 500, -ETIMEDOUT, "no answer");
	assert_int_equal(kill(marked_pid(f), 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void
test_exit_without_answer(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "exit 0");
	expect_failure(f, LONG_MS, -EIO, "ended without an answer");
}

static void
test_failure_quotes_the_last_line(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "echo first >&2; echo wrong password >&2; exit 3");
	expect_failure(f, LONG_MS, -EIO, "exit status 3: wrong password");
}

static void
test_refusal(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "echo redo log is off >&2; exit 63");
	expect_failure(f, LONG_MS, -EPERM, "redo log is off");
}

static void
test_62_goes_on_unproven(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *q = NULL;
	SCOPED_JSON json_t *r = NULL;
	struct err e = ERR_NONE;

	write_hook(f, "echo server is down >&2; exit 62");
	if (use(f, LONG_MS, &q, &r, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(jdoc_str(q, "level", ""), "unproven");
	assert_string_equal(jdoc_str(q, "reason", ""), "server is down");
	assert_false(jdoc_bool(r, "still_held", true));
	assert_marked(f, "thaw", true);
}

static void
test_garbage(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "echo quiesced; read line");
	expect_failure(f, LONG_MS, -EIO, "not JSON");
}

static void
test_another_state(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "echo '{\"state\":\"ready\"}'; read line");
	expect_failure(f, LONG_MS, -EIO, "not \"quiesced\"");
}

static void
test_unknown_level(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "echo '{\"state\":\"quiesced\",\"level\":\"good\"}'; "
		      "read line");
	expect_failure(f, LONG_MS, -EIO, "\"good\"");
}

static void
test_endless_line(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "exec head -c 100000000 /dev/zero");
	expect_failure(f, LONG_MS, -EFBIG, "a line of more than");
}

static void
test_much_on_stderr(void **state)
{
	struct fixture *f = *state;

	/* More than is kept: the last line must survive. */
	write_hook(f, "head -c 9000000 /dev/zero | tr '\\0' x >&2\n"
		      "echo >&2; echo the end >&2; exit 1");
	expect_failure(f, LONG_MS, -EIO, "the end");
}

static void
test_dies_while_held(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "echo $Q; echo connection lost >&2; exit 0");
	expect_failure(f, LONG_MS, -EPERM, "connection lost");
}

static void
test_not_still_held(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *q = NULL;
	SCOPED_JSON json_t *r = NULL;
	struct err e = ERR_NONE;

	write_hook(f, "echo $Q; read line; echo '{\"state\":\"released\","
		      "\"still_held\":false,\"reason\":\"restarted\"}'");
	assert_int_equal(use(f, LONG_MS, &q, &r, &e), -EPERM);
	assert_non_null(strstr(e.text, "restarted"));
	/* What it said is there for the record of the failure. */
	assert_string_equal(jdoc_str(r, "reason", ""), "restarted");
	assert_marked(f, "thaw", true);
}

static void
test_held_longer_than_allowed(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *q = NULL;
	SCOPED_JSON json_t *r = NULL;
	struct hook_session *s = NULL;
	struct err e = ERR_NONE;

	/* It claims the best, but our own clock knows better. */
	write_hook(f, "echo $Q; read line; echo $R");
	assert_int_equal(hook_quiesce(&s, &f->how, LONG_MS, 1, &q, &e), 0);
	usleep(20000);
	assert_int_equal(hook_release(s, &r, &e), -EPERM);
	assert_marked(f, "thaw", true);
}

static void
test_bad_status_after_release(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "echo $Q; read line; echo $R; echo unlock >&2; exit 1");
	expect_failure(f, LONG_MS, -EIO, "unlock");
}

static void
test_grandchild_keeps_the_pipes(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *q = NULL;
	SCOPED_JSON json_t *r = NULL;
	struct err e = ERR_NONE;

	/* Waiting for the end of the pipes would be -ETIMEDOUT here. */
	write_hook(f, "sleep 300 & echo $! >>$M\n"
		      "echo $Q; read line; echo $R");
	if (use(f, LONG_MS, &q, &r, &e) < 0)
		fail_msg("%s", e.text);
	kill(marked_pid(f), SIGKILL);
}

static void
test_grandchild_of_a_dead_one(void **state)
{
	struct fixture *f = *state;

	write_hook(f, "sleep 300 & echo $! >>$M; echo broken >&2; exit 1");
	expect_failure(f, LONG_MS, -EIO, "exit status 1: broken");
	kill(marked_pid(f), SIGKILL);
}

static void
test_abandon_releases_and_thaws(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *q = NULL;
	struct hook_session *s = NULL;
	struct err e = ERR_NONE;

	write_hook(f, "echo $Q; read line || echo end >>$M");
	assert_int_equal(
	    hook_quiesce(&s, &f->how, LONG_MS, LONG_MS, &q, &e), 0);
	hook_abandon(s);
	assert_marked(f, "end\nthaw", true);
	hook_abandon(NULL);
}

static void
test_death_of_the_agent_releases(void **state)
{
	struct fixture *f = *state;
	pid_t agent;
	int st;

	write_hook(f, "echo $Q; read line || echo end >>$M");
	agent = fork();
	assert_true(agent >= 0);
	if (agent == 0) {
		struct hook_session *s = NULL;
		json_t *q;
		struct err e = ERR_NONE;

		if (hook_quiesce(&s, &f->how, LONG_MS, LONG_MS, &q, &e) < 0)
			_exit(1);
		raise(SIGKILL);
		_exit(2);
	}
	assert_int_equal(waitpid(agent, &st, 0), agent);
	assert_true(WIFSIGNALED(st));
	/* The hook is no child of ours: only its mark shows that it left. */
	for (int64_t until = clock_mono_ms() + LONG_MS;;) {
		SCOPED_FREE char *m = marks(f);

		if (strstr(m, "end") != NULL)
			break;
		assert_true(clock_mono_ms() < until);
		usleep(10000);
	}
}

static void
test_failing_thaw_is_told(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *q = NULL;
	struct hook_session *s = NULL;
	struct err e = ERR_NONE;
	FILE *out = fopen(f->script, "we");

	assert_non_null(out);
	fputs("#!/bin/sh\necho $1 no >&2\nexit 1\n", out);
	fclose(out);
	assert_int_equal(chmod(f->script, 0755), 0);
	assert_int_equal(
	    hook_quiesce(&s, &f->how, LONG_MS, LONG_MS, &q, &e), -EIO);
	assert_non_null(strstr(e.text, "quiesce no"));
	assert_non_null(strstr(e.text, "may still be held"));
	assert_int_equal(hook_thaw(&f->how, LONG_MS, &e), -EIO);
}

static void
expect_probe(struct fixture *f, const char *body, int code, const char *text)
{
	SCOPED_JSON json_t *doc = NULL;
	struct err e = ERR_NONE;
	int rc;

	write_hook(f, body);
	rc = hook_probe(&f->how, LONG_MS, &doc, &e);
	if (rc != code || strstr(e.text, text) == NULL)
		fail_msg("%s: %d \"%s\", wanted %d \"%s\"", body, rc, e.text,
		    code, text);
	assert_int_equal(doc != NULL, code == 0);
}

static void
test_probe(void **state)
{
	expect_probe(*state,
	    "echo '{\"engine\":\"x\",\"paths\":[{\"path\":\"/d\","
	    "\"role\":\"data\"}],\"refuse\":[]}'",
	    0, "");
	/* Of several lines, too: it is one document. */
	expect_probe(*state,
	    "printf '{\"engine\":\"x\",\\n\"paths\":[],\"refuse\":[\"no\"]}'",
	    0, "");
	expect_probe(*state, "echo '{\"engine\":\"x\",\"paths\":[]}'", -EIO,
	    "at least one path");
	expect_probe(*state,
	    "echo '{\"engine\":\"x\",\"paths\":[{\"path\":\"d\","
	    "\"role\":\"data\"}]}'",
	    -EIO, "no absolute");
	expect_probe(*state,
	    "echo '{\"engine\":\"x\",\"paths\":[{\"path\":\"/d\"}]}'", -EIO,
	    "no \"role\"");
	expect_probe(*state,
	    "echo '{\"engine\":\"x\",\"paths\":[{\"path\":\"/d\","
	    "\"role\":\"data\"}],\"refuse\":\"no\"}'",
	    -EIO, "lists of texts");
	expect_probe(*state, "echo '{\"paths\":[]}'", -EIO, "\"engine\"");
	expect_probe(*state, "echo '[]'", -EIO, "not a JSON object");
	expect_probe(*state, "exit 0", -EIO, "not JSON");
	expect_probe(*state, "echo no server >&2; exit 1", -EIO, "no server");
}

/* ---- staying ---- */

#define P "{\"engine\":\"x\",\"paths\":[{\"path\":\"/d\",\"role\":\"data\"}]}"

static int
stay(struct fixture *f, const char *body, int64_t timeout_ms,
    struct hook_session **s, struct err *e)
{
	SCOPED_JSON json_t *doc = NULL;
	int rc;

	write_hook(f, body);
	*s = NULL;
	rc = hook_stay(s, &f->how, timeout_ms, LONG_MS, &doc, e);
	assert_int_equal(doc != NULL, rc == 0);
	if (rc == 0)
		assert_string_equal(jdoc_str(doc, "engine", ""), "x");
	return rc;
}

static int
quiesce_and_release(struct fixture *f, struct hook_session **s, struct err *e)
{
	SCOPED_JSON json_t *q = NULL, *r = NULL;
	int rc = hook_quiesce(s, &f->how, LONG_MS, LONG_MS, &q, e);

	return rc == 0 ? hook_release(*s, &r, e) : rc;
}

/* One process from the probe to the release. */
static void
test_stays_for_the_quiesce(void **state)
{
	struct fixture *f = *state;
	struct hook_session *s;
	struct err e = ERR_NONE;

	assert_int_equal(stay(f,
			     "echo $1 >>$M; echo '" P "'; read w; echo $w >>$M;"
			     "echo $Q; read w; echo $w >>$M; echo $R",
			     LONG_MS, &s, &e),
	    0);
	assert_non_null(s);
	assert_int_equal(quiesce_and_release(f, &s, &e), 0);
	assert_marked(f, "stay\nQUIESCE\nRELEASE\n", true);
	assert_marked(f, "quiesce", false);
	assert_marked(f, "thaw", false);
}

static void
test_leaves_unasked(void **state)
{
	struct fixture *f = *state;
	struct hook_session *s;
	struct err e = ERR_NONE;

	assert_int_equal(
	    stay(f, "echo '" P "'; read w || echo left >>$M", LONG_MS, &s, &e),
	    0);
	hook_leave(s);
	assert_marked(f, "left", true);
	hook_leave(NULL);
}

/* Scripts of old know the single verbs only, and say so in many ways. */
static void
test_one_that_does_not_stay(void **state)
{
	static const char *const ways[] = {"exit 69", "exit 1", "exit 0"};
	struct fixture *f = *state;
	struct hook_session *s;
	struct err e = ERR_NONE;

	for (size_t i = 0; i < MEM_COUNT(ways); i++) {
		SCOPED_FREE char *body =
		    mem_printf("[ $1 != stay ] || %s\n"
			       "[ $1 != probe ] || { echo '" P "'; exit; }\n"
			       "echo $Q; read w; echo $R",
			ways[i]);

		assert_int_equal(stay(f, body, LONG_MS, &s, &e), 0);
		assert_null(s);
		assert_marked(f, "thaw orders-1", true);
		assert_int_equal(quiesce_and_release(f, &s, &e), 0);
		unlink(f->marks);
	}
	assert_int_equal(
	    stay(f, "echo $1: no server >&2; exit 1", LONG_MS, &s, &e), -EIO);
	assert_non_null(strstr(e.text, "probe: no server"));
	assert_int_equal(
	    stay(f, "echo $1: no >&2; exit 63", LONG_MS, &s, &e), -EPERM);
}

static void
test_silent_while_it_should_stay(void **state)
{
	struct fixture *f = *state;
	struct hook_session *s;
	struct err e = ERR_NONE;

	assert_int_equal(
	    stay(f, "echo $$ >>$M; echo hm >&2; exec sleep 100", 1000, &s, &e),
	    -ETIMEDOUT);
	assert_non_null(strstr(e.text, "it said: hm"));
	assert_int_equal(kill(marked_pid(f), 0), -1);
	assert_int_equal(
	    stay(f, "echo nonsense; read w", LONG_MS, &s, &e), -EIO);
	assert_non_null(strstr(e.text, "not JSON"));
}

/* Busy after all: it is started again, by the single verb. */
static void
test_stayed_and_is_busy(void **state)
{
	struct fixture *f = *state;
	struct hook_session *s;
	struct err e = ERR_NONE;

	assert_int_equal(
	    stay(f,
		"echo $1 $3 >>$M\n"
		"[ $1 != stay ] || { echo '" P "'; read w; exit 75; }\n"
		"echo $Q; read w; echo $R",
		LONG_MS, &s, &e),
	    0);
	f->how.id = "orders-2";
	assert_int_equal(quiesce_and_release(f, &s, &e), 0);
	assert_marked(f, "stay orders-1\nquiesce orders-2\n", true);
}

static void
test_gone_while_it_should_stay(void **state)
{
	struct fixture *f = *state;
	struct hook_session *s;
	struct err e = ERR_NONE;

	assert_int_equal(
	    stay(f, "echo '" P "'; echo bye >&2; exit 1", LONG_MS, &s, &e), 0);
	assert_int_equal(quiesce_and_release(f, &s, &e), -EIO);
	assert_non_null(strstr(e.text, "bye"));
	assert_null(s);
	assert_marked(f, "thaw", true);
}

static void
expect_validate(struct fixture *f, const char *body, int code, bool doc_too)
{
	SCOPED_JSON json_t *doc = NULL;
	struct err e = ERR_NONE;
	int rc;

	write_hook(f, body);
	rc = hook_validate(&f->how, "/c", "/r", LONG_MS, &doc, &e);
	if (rc != code || (doc != NULL) != doc_too)
		fail_msg("%s: %d \"%s\"", body, rc, e.text);
}

static void
test_validate_passes_only_where_all_agree(void **state)
{
	expect_validate(*state,
	    "[ \"$*\" = 'validate --id orders-1 --clone /c "
	    "--run /r' ] && echo '{\"state\":\"passed\"}'",
	    0, true);
	expect_validate(*state, "echo '{\"state\":\"failed\"}'", -EIO, true);
	expect_validate(*state, "echo '{}'", -EIO, true);
	expect_validate(*state, "true", -EIO, false);
	expect_validate(
	    *state, "echo '{\"state\":\"failed\"}'; exit 4", -EBADMSG, true);
	expect_validate(*state, "exit 4", -EBADMSG, false);
	expect_validate(*state,
	    "echo '{\"state\":\"could-not-check\"}'; exit 5", -EIO, true);
	/* "passed" does not outvote the exit status. */
	expect_validate(
	    *state, "echo '{\"state\":\"passed\"}'; exit 1", -EIO, true);
	expect_validate(
	    *state, "echo '{\"state\":\"passed\"}'; kill -9 $$", -EIO, true);
	expect_validate(*state, "exit 69", -EOPNOTSUPP, false);
}

static void
test_validate_in_time(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *doc = NULL;
	struct err e = ERR_NONE;

	write_hook(f, "sleep 300");
	assert_int_equal(
	    hook_validate(&f->how, "/c", "/r", 300, &doc, &e), -ETIMEDOUT);
	assert_null(doc);
	assert_int_equal(
	    hook_validate(&f->how, "c", "/r", 300, &doc, &e), -EINVAL);
}

static void
test_dump(void **state)
{
	struct fixture *f = *state;
	SCOPED_FREE char *out = fs_join(f->dir, "dump");
	struct err e = ERR_NONE;

	write_hook(f, "echo \"$@\" >>$M; echo sql >$9");
	if (hook_dump(&f->how, "/c", "/r", out, "db", LONG_MS, &e) < 0)
		fail_msg("%s", e.text);
	assert_marked(
	    f, "dump --id orders-1 --clone /c --run /r --output ", true);
	assert_marked(f, "--database db", true);
	/* Success without a file is none. */
	unlink(out);
	write_hook(f, "true");
	assert_int_equal(
	    hook_dump(&f->how, "/c", "/r", out, NULL, LONG_MS, &e), -EIO);
}

static void
test_find(void **state)
{
	struct fixture *f = *state;
	SCOPED_FREE char *a = NULL;
	SCOPED_FREE char *b = NULL;
	char *none = NULL;
	struct err e = ERR_NONE;

	write_hook(f, "true");
	assert_int_equal(hook_find(&a, "hook", f->dir, &e), 0);
	assert_string_equal(a, f->script);
	assert_int_equal(hook_find(&b, f->script, NULL, &e), 0);
	assert_int_equal(hook_find(&none, "nosuch", f->dir, &e), -ENOENT);
	assert_non_null(strstr(e.text, f->dir));
	assert_int_equal(hook_find(&none, "nosuch", NULL, &e), -ENOENT);
	assert_int_equal(hook_find(&none, "script", NULL, &e), -EINVAL);
	/* A name must not lead out of the folder. */
	assert_int_equal(hook_find(&none, "../hook", f->dir, &e), -EINVAL);
	assert_int_equal(chmod(f->script, 0644), 0);
	assert_int_equal(hook_find(&none, "hook", f->dir, &e), -EACCES);
	assert_null(none);
}

static void
test_not_a_program(void **state)
{
	struct fixture *f = *state;
	SCOPED_JSON json_t *q = NULL;
	struct hook_session *s = NULL;
	struct err e = ERR_NONE;

	assert_int_equal(
	    hook_quiesce(&s, &f->how, LONG_MS, LONG_MS, &q, &e), -ENOENT);
	assert_non_null(strstr(e.text, f->script));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_quiesce_and_release),
	    T(test_busy_twice_then_well),
	    T(test_busy_for_good),
	    T(test_no_answer),
	    T(test_no_answer_and_deaf_to_sigterm),
	    T(test_exit_without_answer),
	    T(test_failure_quotes_the_last_line),
	    T(test_refusal),
	    T(test_62_goes_on_unproven),
	    T(test_garbage),
	    T(test_another_state),
	    T(test_unknown_level),
	    T(test_endless_line),
	    T(test_much_on_stderr),
	    T(test_dies_while_held),
	    T(test_not_still_held),
	    T(test_held_longer_than_allowed),
	    T(test_bad_status_after_release),
	    T(test_grandchild_keeps_the_pipes),
	    T(test_grandchild_of_a_dead_one),
	    T(test_abandon_releases_and_thaws),
	    T(test_death_of_the_agent_releases),
	    T(test_failing_thaw_is_told),
	    T(test_probe),
	    T(test_stays_for_the_quiesce),
	    T(test_leaves_unasked),
	    T(test_one_that_does_not_stay),
	    T(test_silent_while_it_should_stay),
	    T(test_stayed_and_is_busy),
	    T(test_gone_while_it_should_stay),
	    T(test_validate_passes_only_where_all_agree),
	    T(test_validate_in_time),
	    T(test_dump),
	    T(test_find),
	    T(test_not_a_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

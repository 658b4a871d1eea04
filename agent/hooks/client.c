/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/client.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/core/process.h"
#include "agent/core/stop.h"
#include "agent/hooks/contract.h"

#define ARGS_MAX 16
#define BUSY_PAUSE_MS 1000
#define GRACE_MS 2000    /* between SIGTERM and SIGKILL */
#define EXIT_MS 5000     /* from a hook's last word to its end */
#define RELEASE_MS 10000 /* from RELEASE to "released" */
#define THAW_MS 30000

struct hook_session {
	struct hook_how how; /* a copy of its own, for thaw */
	struct process p;
	int64_t answered_ms, hold_ms;
	bool stays;    /* it has not been told to quiesce */
	bool unproven; /* it gave up with 62: there is no process */
};

static int
start(struct process *p, const struct hook_how *how, const char *const *args,
    bool die_with_us, struct err *e)
{
	SCOPED_FREE char *text = jdoc_line(how->config);
	SCOPED_FREE char *env = mem_printf(HOOK_ENV "=%s", text);
	const struct passwd *pw =
	    how->uid != (uid_t)-1 ? getpwuid(how->uid) : NULL;
	SCOPED_FREE char *home =
	    mem_printf("HOME=%s", pw != NULL ? pw->pw_dir : "/");
	const char *env_add[] = {env, pw != NULL ? home : NULL, NULL};
	const char *argv[ARGS_MAX + 2] = {how->program};
	struct process_how ph = {.argv = argv,
	    .env_add = env_add,
	    .uid = how->uid,
	    .gid = how->gid,
	    .cwd = "/",
	    .die_with_parent = die_with_us};
	size_t n = 0;

	while (args[n] != NULL) {
		assert(n < ARGS_MAX);
		argv[n + 1] = args[n];
		n++;
	}
	return process_start(p, &ph, e);
}

/* Text and code for an exit status that is not success. */
static int
exit_error(struct process *p, const struct hook_how *how, const char *verb,
    int status, struct err *e)
{
	const char *why = process_complaint(p);

	switch (status) {
	case HOOK_REFUSED:
		return err_set(e, -EPERM, "hook %s %s refuses: %s",
		    how->program, verb, why);
	case HOOK_BUSY:
		return err_set(
		    e, -EBUSY, "hook %s %s: busy: %s", how->program, verb, why);
	case HOOK_UNSUPPORTED:
		return err_set(e, -EOPNOTSUPP, "hook %s cannot %s: %s",
		    how->program, verb, why);
	default:
		break;
	}
	if (status > 128)
		return err_set(e, -EIO, "hook %s %s: ended by signal %d: %s",
		    how->program, verb, status - 128, why);
	return err_set(e, -EIO, "hook %s %s: exit status %d: %s", how->program,
	    verb, status, why);
}

/* How soon a signal that tells us to stop is noticed while a hook is silent. */
#define SLICE_MS 200

static int64_t
slice_end(int64_t deadline_ms)
{
	int64_t end = clock_mono_ms() + SLICE_MS;

	return end < deadline_ms ? end : deadline_ms;
}

/* process_line, -ECANCELED when we are told to stop. */
static int
line_or_stop(struct process *p, int64_t deadline_ms, char **line, struct err *e)
{
	for (;;) {
		int rc = stop_check(e);

		if (rc == 0)
			rc = process_line(p, slice_end(deadline_ms), line, e);
		if (rc != -ETIMEDOUT || clock_mono_ms() >= deadline_ms)
			return rc;
		err_clear(e);
	}
}

/* process_wait likewise. */
static int
end_or_stop(struct process *p, int64_t deadline_ms, int *status, struct err *e)
{
	for (;;) {
		int rc = stop_check(e);

		if (rc == 0)
			rc = process_wait(p, slice_end(deadline_ms), status, e);
		if (rc != -ETIMEDOUT || clock_mono_ms() >= deadline_ms)
			return rc;
		err_clear(e);
	}
}

/* Run to its end. 0 and the status; -ETIMEDOUT and the last line it said. */
static int
run(struct process *p, const struct hook_how *how, const char *const *args,
    int64_t timeout_ms, bool die_with_us, int *status, struct err *e)
{
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	int rc = start(p, how, args, die_with_us, e);

	if (rc < 0)
		return rc;
	process_close_stdin(p);
	/* What goes on without us is not to be stopped with us either. */
	rc = die_with_us ? end_or_stop(p, deadline_ms, status, e)
			 : process_wait(p, deadline_ms, status, e);
	if (rc == 0)
		return 0;
	process_end(p, GRACE_MS);
	if (rc == -ECANCELED)
		return err_wrap(e, "hook %s %s", how->program, args[0]);
	return err_set(e, rc,
	    "hook %s %s: not done after %lld ms, ended; it said: %s",
	    how->program, args[0], (long long)timeout_ms, process_complaint(p));
}

/* One JSON object; -EIO, because a hook that babbles is not corrupt data. */
static int
answer(json_t **doc, struct span text, const struct hook_how *how,
    const char *verb, struct err *e)
{
	SCOPED_JSON json_t *j = jdoc_parse(text, e);

	if (j == NULL) {
		e->code = -EIO;
		return err_wrap(e, "hook %s %s: its answer is not JSON",
		    how->program, verb);
	}
	if (!json_is_object(j))
		return err_set(e, -EIO,
		    "hook %s %s: its answer is not a JSON object", how->program,
		    verb);
	*doc = TAKE(j);
	return 0;
}

static int
find_in(char **program, const char *dir, const char *below, const char *name,
    struct err *e)
{
	SCOPED_FREE char *folder = fs_join(dir, below);
	SCOPED_FREE char *path = fs_join(folder, name);

	if (access(path, X_OK) < 0)
		return err_sys(e, errno, "hook %s", path);
	*program = TAKE(path);
	return 0;
}

static bool
plain_name(const char *s)
{
	if (*s == '\0' || *s == '-')
		return false;
	for (; *s != '\0'; s++)
		if (!isalnum((unsigned char)*s) && *s != '_' && *s != '-')
			return false;
	return true;
}

int
hook_find(
    char **program, const char *engine, const char *hooks_dir, struct err *e)
{
	SCOPED_FREE char *here = NULL;

	if (engine[0] == '/') {
		if (access(engine, X_OK) < 0)
			return err_sys(e, errno, "hook %s", engine);
		*program = mem_str(engine);
		return 0;
	}
	if (strcmp(engine, "script") == 0)
		return err_set(e, -EINVAL,
		    "engine script: give the absolute "
		    "path of your program as \"hook\"");
	if (!plain_name(engine))
		return err_set(e, -EINVAL,
		    "\"%s\" is neither an engine's name "
		    "nor an absolute path",
		    engine);
	/* Only what is not there is looked for elsewhere: a program that may
	 * not be run is a mistake to be told of. */
	if (hooks_dir != NULL &&
	    find_in(program, hooks_dir, "", engine, e) != -ENOENT)
		return e->code;
	here = fs_program_dir();
	if (find_in(program, here, "../libexec/neap", engine, e) == 0 ||
	    find_in(program, here, "hooks", engine, e) == 0)
		return 0;
	err_set(e, -ENOENT,
	    "engine %s: no hook %s/../libexec/neap/%s and no %s/hooks/%s",
	    engine, here, engine, here, engine);
	if (hooks_dir != NULL)
		err_hint(e, "nor is it in hooks_dir, %s", hooks_dir);
	return e->code;
}

/* A list of texts, or absent. */
static bool
texts(const json_t *j)
{
	size_t i;
	json_t *v;

	if (j != NULL && !json_is_array(j))
		return false;
	json_array_foreach (j, i, v)
		if (!json_is_string(v))
			return false;
	return true;
}

static int
check_probe(const json_t *doc, struct err *e)
{
	const json_t *paths = json_object_get(doc, "paths");
	const json_t *refuse = json_object_get(doc, "refuse");
	const char *text;
	size_t i;
	json_t *v;

	if (jdoc_get_str(doc, "engine", &text, e) < 0)
		return -EIO;
	if (!texts(refuse) || !texts(json_object_get(doc, "notes")))
		return err_set(
		    e, -EIO, "\"refuse\" and \"notes\" must be lists of texts");
	if (!json_is_array(paths) ||
	    (json_array_size(paths) == 0 && json_array_size(refuse) == 0))
		return err_set(
		    e, -EIO, "\"paths\" must name at least one path");
	json_array_foreach (paths, i, v) {
		if (jdoc_get_str(v, "path", &text, e) < 0 || text[0] != '/')
			return err_set(e, -EIO,
			    "paths[%zu]: no absolute "
			    "\"path\"",
			    i);
		if (jdoc_get_str(v, "role", &text, e) < 0)
			return err_set(e, -EIO, "paths[%zu]: no \"role\"", i);
	}
	return 0;
}

static int
probe_answer(
    json_t **doc, struct span text, const struct hook_how *how, struct err *e)
{
	SCOPED_JSON json_t *j = NULL;

	if (answer(&j, text, how, "probe", e) < 0)
		return e->code;
	if (check_probe(j, e) < 0) {
		e->code = -EIO;
		return err_wrap(e, "hook %s probe: its answer", how->program);
	}
	*doc = TAKE(j);
	return 0;
}

int
hook_probe(
    const struct hook_how *how, int64_t timeout_ms, json_t **doc, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *args[] = {"probe", NULL};
	int status, rc;

	rc = run(&p, how, args, timeout_ms, true, &status, e);
	if (rc < 0)
		return rc;
	if (status != HOOK_OK)
		return exit_error(&p, how, "probe", status, e);
	return probe_answer(doc, buf_span(&p.stdout_text), how, e);
}

int
hook_thaw(const struct hook_how *how, int64_t timeout_ms, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *args[] = {"thaw", "--id", how->id, NULL};
	int status, rc;

	/* It goes on when we die: letting a server go is worth finishing. */
	rc = run(&p, how, args, timeout_ms, false, &status, e);
	if (rc == 0 && status != HOOK_OK)
		rc = exit_error(&p, how, "thaw", status, e);
	return rc;
}

/* After a failure: whatever the hook held, let it go; say so if that failed. */
static int
thaw_after(const struct hook_how *how, struct err *e)
{
	struct err t = ERR_NONE;

	if (hook_thaw(how, THAW_MS, &t) < 0)
		err_hint(e, "and the server may still be held: %s", t.text);
	return e->code;
}

/* ---- quiesce and release ---- */

static void
session_free(struct hook_session *s)
{
	process_fini(&s->p);
	free((char *)s->how.program);
	free((char *)s->how.id);
	json_decref((json_t *)s->how.config);
	free(s);
}

static struct hook_session *
session_new(const struct hook_how *how, int64_t hold_ms)
{
	struct hook_session *s = mem_new(sizeof *s);

	s->how = *how;
	s->how.program = mem_str(how->program);
	s->how.id = mem_str(how->id);
	s->how.config = json_deep_copy(how->config);
	s->p = (struct process)PROCESS_NONE;
	s->hold_ms = hold_ms;
	return s;
}

static int
check_quiesced(const json_t *doc, struct err *e)
{
	static const char *const known[] = {
	    "cold", "atomic", "protocol", "locked", "unproven"};
	const char *level = jdoc_str(doc, "level", "");

	if (strcmp(jdoc_str(doc, "state", ""), "quiesced") != 0)
		return err_set(e, -EIO, "\"state\" is not \"quiesced\"");
	for (size_t i = 0; i < MEM_COUNT(known); i++)
		if (strcmp(level, known[i]) == 0)
			return 0;
	return err_set(e, -EIO,
	    "\"level\" is \"%s\": none of cold, atomic, "
	    "protocol, locked, unproven",
	    level);
}

/* It ended without an answer: its exit status is the answer. */
static int
gave_up(struct hook_session *s, json_t **doc, struct err *e)
{
	int status, rc;

	rc = process_wait(&s->p, clock_mono_ms() + EXIT_MS, &status, e);
	if (rc < 0)
		return err_wrap(
		    e, "hook %s quiesce: closed its output", s->how.program);
	if (status == HOOK_OK)
		return err_set(e, -EIO,
		    "hook %s quiesce: ended without an "
		    "answer: %s",
		    s->how.program, process_complaint(&s->p));
	if (status != HOOK_UNPROVEN)
		return exit_error(&s->p, &s->how, "quiesce", status, e);
	/* It may have failed half way: leave nothing held behind. */
	rc = hook_thaw(&s->how, THAW_MS, e);
	if (rc < 0)
		return rc;
	s->unproven = true;
	*doc = json_pack("{s:s, s:s, s:o}", "state", "quiesced", "level",
	    "unproven", "reason", jdoc_new_str(process_complaint(&s->p)));
	return 0;
}

static int
start_session(struct hook_session *s, const char *verb, struct err *e)
{
	SCOPED_FREE char *hold = mem_printf("%lld", (long long)s->hold_ms);
	const char *args[] = {
	    verb, "--id", s->how.id, "--deadline-ms", hold, NULL};

	/* It lets go, and ends, when we die and its input with us. */
	return start(&s->p, &s->how, args, false, e);
}

static int
attempt(
    struct hook_session *s, int64_t deadline_ms, json_t **doc, struct err *e)
{
	SCOPED_FREE char *line = NULL;
	SCOPED_JSON json_t *j = NULL;
	int rc = s->stays ? process_write(&s->p, "QUIESCE\n", 8, e)
			  : start_session(s, "quiesce", e);

	/* Of one that is gone its exit status tells. */
	if (s->stays && rc == -EPIPE)
		rc = err_clear(e);
	s->stays = false;
	if (rc < 0)
		return rc;
	rc = line_or_stop(&s->p, deadline_ms, &line, e);
	if (rc == -EPIPE)
		return gave_up(s, doc, e);
	if (rc < 0) {
		process_end(&s->p, GRACE_MS);
		err_hint(e, "it said: %s", process_complaint(&s->p));
		return err_wrap(e, "hook %s quiesce", s->how.program);
	}
	s->answered_ms = clock_mono_ms();
	rc = answer(&j, span_str(line), &s->how, "quiesce", e);
	if (rc < 0)
		return rc;
	rc = check_quiesced(j, e);
	if (rc < 0)
		return err_wrap(e, "hook %s quiesce", s->how.program);
	*doc = TAKE(j);
	return 0;
}

void
hook_leave(struct hook_session *s)
{
	struct err ignored = ERR_NONE;
	int status;

	if (s == NULL)
		return;
	assert(s->stays);
	process_close_stdin(&s->p);
	process_wait(&s->p, clock_mono_ms() + EXIT_MS, &status, &ignored);
	session_free(s); /* which ends one that does not go */
}

/* Its first line. -EPIPE: it ended, or is not one of those that stay. */
static int
stay(struct hook_session *s, int64_t timeout_ms, json_t **doc, struct err *e)
{
	SCOPED_FREE char *line = NULL;
	int rc = start_session(s, "stay", e);

	s->stays = true;
	if (rc == 0)
		rc =
		    line_or_stop(&s->p, clock_mono_ms() + timeout_ms, &line, e);
	if (rc == -EPIPE)
		return rc;
	if (rc == 0)
		return probe_answer(doc, span_str(line), &s->how, e);
	process_end(&s->p, GRACE_MS);
	if (rc == -ETIMEDOUT)
		err_set(e, rc,
		    "hook %s stay: no answer after %lld ms, ended; it said: %s",
		    s->how.program, (long long)timeout_ms,
		    process_complaint(&s->p));
	return rc == -ETIMEDOUT ? rc
				: err_wrap(e, "hook %s stay", s->how.program);
}

int
hook_stay(struct hook_session **out, const struct hook_how *how,
    int64_t timeout_ms, int64_t hold_ms, json_t **doc, struct err *e)
{
	struct hook_session *s = session_new(how, hold_ms);
	struct err ignored = ERR_NONE;
	int rc = stay(s, timeout_ms, doc, e);

	if (rc == 0) {
		*out = s;
		return 0;
	}
	session_free(s);
	if (rc != -EPIPE)
		return rc;
	err_clear(e);
	hook_thaw(how, THAW_MS, &ignored);
	return hook_probe(how, timeout_ms, doc, e);
}

int
hook_quiesce(struct hook_session **session, const struct hook_how *how,
    int64_t acquire_ms, int64_t hold_ms, json_t **doc, struct err *e)
{
	int64_t deadline = clock_mono_ms() + acquire_ms;
	struct hook_session *s = TAKE(*session);
	int tries = 0, rc;

	if (s == NULL) {
		s = session_new(how, hold_ms);
	} else {
		free((char *)s->how.id);
		s->how.id = mem_str(how->id);
	}

	for (;;) {
		rc = attempt(s, deadline, doc, e);
		tries++;
		if (rc != -EBUSY || clock_mono_ms() + BUSY_PAUSE_MS >= deadline)
			break;
		process_fini(&s->p);
		s->p = (struct process)PROCESS_NONE;
		usleep(BUSY_PAUSE_MS * 1000); /* a signal ends it */
	}
	if (rc == 0) {
		*session = s;
		return 0;
	}
	if (rc == -EBUSY)
		err_hint(
		    e, "%d tries in %lld ms", tries, (long long)acquire_ms);
	process_end(&s->p, GRACE_MS);
	thaw_after(&s->how, e);
	session_free(s);
	return e->code;
}

/* What it says about the hold, against what we saw ourselves. */
static int
check_released(const struct hook_session *s, const json_t *doc, int64_t held,
    struct err *e)
{
	if (strcmp(jdoc_str(doc, "state", ""), "released") != 0)
		return err_set(e, -EIO,
		    "hook %s: after RELEASE its \"state\" "
		    "is not \"released\"",
		    s->how.program);
	if (!jdoc_bool(doc, "still_held", false))
		return err_set(e, -EPERM,
		    "hook %s: the hold was lost before "
		    "the snapshot was done: %s",
		    s->how.program,
		    jdoc_str(doc, "reason", "\"still_held\" is not true"));
	if (held > s->hold_ms)
		return err_set(e, -EPERM,
		    "hook %s: the snapshot took %lld ms, "
		    "the hold was for %lld",
		    s->how.program, (long long)held, (long long)s->hold_ms);
	return 0;
}

static int
release(struct hook_session *s, json_t **doc, struct err *e)
{
	int64_t now = clock_mono_ms(), held = now - s->answered_ms;
	SCOPED_FREE char *line = NULL;
	int status, rc;

	/* One that is gone may have left its last line: read it anyway. */
	rc = process_write(&s->p, "RELEASE\n", 8, e);
	if (rc < 0 && rc != -EPIPE)
		return err_wrap(e, "hook %s", s->how.program);
	rc = process_line(&s->p, now + RELEASE_MS, &line, e);
	if (rc == -ETIMEDOUT)
		return err_set(e, rc,
		    "hook %s: no answer to RELEASE within "
		    "%d ms: %s",
		    s->how.program, RELEASE_MS, process_complaint(&s->p));
	if (rc == -EPIPE)
		return err_set(e, -EPERM,
		    "hook %s: ended while it held, so "
		    "the hold was lost: %s",
		    s->how.program, process_complaint(&s->p));
	if (rc < 0)
		return err_wrap(e, "hook %s", s->how.program);
	rc = answer(doc, span_str(line), &s->how, "release", e);
	if (rc < 0)
		return rc;
	rc = check_released(s, *doc, held, e);
	if (rc < 0)
		return rc;
	process_close_stdin(&s->p);
	rc = process_wait(&s->p, clock_mono_ms() + EXIT_MS, &status, e);
	if (rc < 0)
		return err_wrap(e, "hook %s, released", s->how.program);
	if (status != HOOK_OK)
		return exit_error(&s->p, &s->how, "quiesce", status, e);
	return 0;
}

int
hook_release(struct hook_session *s, json_t **doc, struct err *e)
{
	SCOPED_JSON json_t *j = NULL;
	int rc = 0;

	if (s->unproven) {
		*doc = json_pack("{s:s, s:i, s:b}", "state", "released",
		    "held_ms", 0, "still_held", 0);
		session_free(s);
		return 0;
	}
	rc = release(s, &j, e);
	if (rc < 0) {
		process_end(&s->p, GRACE_MS);
		thaw_after(&s->how, e);
	}
	if (rc == 0 || rc == -EPERM)
		*doc = TAKE(j);
	session_free(s);
	return rc;
}

void
hook_abandon(struct hook_session *s)
{
	struct err e = ERR_NONE;
	int status;

	if (s == NULL)
		return;
	if (!s->unproven) {
		/* End of file is the release that needs no answer. */
		process_close_stdin(&s->p);
		if (process_wait(
			&s->p, clock_mono_ms() + EXIT_MS, &status, &e) < 0)
			process_end(&s->p, GRACE_MS);
		hook_thaw(&s->how, THAW_MS, &e);
	}
	session_free(s);
}

/* ---- on a restored copy ---- */

static int
need_absolute(const char *what, const char *path, struct err *e)
{
	if (path[0] != '/')
		return err_set(
		    e, -EINVAL, "%s %s: not an absolute path", what, path);
	return 0;
}

/* Passed only where both the exit status and the report say so. */
static int
verdict(struct process *p, const struct hook_how *how, int status, json_t **doc,
    struct err *e)
{
	struct span text = buf_span(&p->stdout_text);
	struct err said = ERR_NONE;
	const char *state;

	if (answer(doc, text, how, "validate", &said) < 0 && status == HOOK_OK)
		return err_copy(e, &said);
	state = jdoc_str(*doc, "state", "");
	if (status == HOOK_DAMAGE)
		return err_set(e, -EBADMSG, "hook %s validate: damaged: %s",
		    how->program, process_complaint(p));
	if (status == HOOK_UNCHECKED)
		return err_set(e, -EIO, "hook %s validate: could not check: %s",
		    how->program, process_complaint(p));
	if (status != HOOK_OK)
		return exit_error(p, how, "validate", status, e);
	if (strcmp(state, "passed") != 0)
		return err_set(e, -EIO,
		    "hook %s validate: exit status 0, but "
		    "its report says \"%s\", not \"passed\"",
		    how->program, state);
	return 0;
}

int
hook_validate(const struct hook_how *how, const char *clone,
    const char *run_dir, int64_t timeout_ms, json_t **doc, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_JSON json_t *j = NULL;
	const char *args[] = {"validate", "--id", how->id, "--clone", clone,
	    "--run", run_dir, NULL};
	int status, rc;

	if (need_absolute("--clone", clone, e) < 0 ||
	    need_absolute("--run", run_dir, e) < 0)
		return e->code;
	rc = run(&p, how, args, timeout_ms, true, &status, e);
	if (rc < 0)
		return rc;
	rc = verdict(&p, how, status, &j, e);
	if (j != NULL)
		*doc = TAKE(j);
	return rc;
}

int
hook_dump(const struct hook_how *how, const char *clone, const char *run_dir,
    const char *output, const char *database, int64_t timeout_ms, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *args[] = {"dump", "--id", how->id, "--clone", clone,
	    "--run", run_dir, "--output", output,
	    database != NULL ? "--database" : NULL, database, NULL};
	int status, rc;

	if (need_absolute("--clone", clone, e) < 0 ||
	    need_absolute("--run", run_dir, e) < 0 ||
	    need_absolute("--output", output, e) < 0)
		return e->code;
	rc = run(&p, how, args, timeout_ms, true, &status, e);
	if (rc < 0)
		return rc;
	if (status != HOOK_OK)
		return exit_error(&p, how, "dump", status, e);
	if (access(output, F_OK) < 0)
		return err_set(e, -EIO,
		    "hook %s dump: exit status 0, but "
		    "there is no %s",
		    how->program, output);
	return 0;
}

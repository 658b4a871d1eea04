/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking the hook: which program, as whom, with what settings; its thaw, then
 * its probe. A hook is started in some 30 ms, most of them for its libraries:
 * the agent opens the store meanwhile, and a built-in hook stays for the
 * quiesce. Of users' programs few will know how to.
 */
#include "agent/job/plan_ask.h"

#include <errno.h>
#include <pthread.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/freeze.h"

#define PROBE_TIMEOUT_MS 60000
#define THAW_TIMEOUT_MS 30000

/* The thread's until it is joined; the plan's program and settings do not
 * change meanwhile. */
struct asking {
	pthread_t thread;
	struct hook_how how;
	bool stays;
	int64_t hold_ms;
	struct hook_session *session;
	json_t *probe;
	struct err e;
};

static int
find_user(struct plan *p, struct err *e)
{
	const struct conf_job *j = p->job;
	const char *name = j->run_as;
	struct passwd *pw;
	struct stat st;

	p->uid = (uid_t)-1;
	p->gid = (gid_t)-1;
	if (geteuid() != 0)
		return 0;
	if (name == NULL && strcmp(j->engine, "postgresql") == 0)
		name = "postgres"; /* Debian's; run_as names another */
	if (name == NULL && strcmp(j->engine, "sqlite") == 0 &&
	    stat(j->path, &st) == 0) {
		p->uid = st.st_uid;
		p->gid = st.st_gid;
		return 0;
	}
	if (name == NULL)
		return 0;
	errno = 0;
	pw = getpwnam(name);
	if (pw == NULL)
		return err_set(e, -EINVAL,
		    "job %s: no user %s on this host (set run_as to the "
		    "engine's OS user)",
		    j->name, name);
	p->uid = pw->pw_uid;
	p->gid = pw->pw_gid;
	return 0;
}

struct hook_how
plan_hook(const struct plan *p, const char *id)
{
	return (struct hook_how){.program = p->program,
	    .config = p->config,
	    .uid = p->uid,
	    .gid = p->gid,
	    .id = id};
}

static void *
ask(void *arg)
{
	struct asking *a = arg;
	struct err ignored = ERR_NONE;

	if (a->stays) {
		hook_stay(&a->session, &a->how, PROBE_TIMEOUT_MS, a->hold_ms,
		    &a->probe, &a->e);
		return NULL;
	}
	/* An earlier agent may have died while it held the engine. A thaw that
	 * fails because that is down is said by the probe, better. */
	hook_thaw(&a->how, THAW_TIMEOUT_MS, &ignored);
	hook_probe(&a->how, PROBE_TIMEOUT_MS, &a->probe, &a->e);
	return NULL;
}

static int
start(struct plan *p, struct err *e)
{
	struct asking *a = mem_new(sizeof *a);
	int errnum;

	a->how = plan_hook(p, p->job->name);
	a->stays = strcmp(p->job->engine, "script") != 0;
	a->hold_ms = p->job->hold_ms;
	a->e = (struct err)ERR_NONE;
	errnum = pthread_create(&a->thread, NULL, ask, a);
	if (errnum != 0) {
		free(a);
		return err_sys(e, errnum, "start a thread");
	}
	p->asking = a;
	return 0;
}

int
plan_ask(struct plan *p, const struct conf *c, const struct conf_job *j,
    struct err *e)
{
	int rc;

	*p = (struct plan){.job = j, .uid = (uid_t)-1, .gid = (gid_t)-1};
	/* The agent before this one may have been killed in a freeze. */
	rc = geteuid() == 0 ? freeze_recover(e) : 0;
	if (rc < 0)
		return err_wrap(e, "job %s", j->name);
	if (rc > 0)
		log_warn("%d volumes were still frozen by a run that was "
			 "killed with its guard: they go on now",
		    rc);
	if (strcmp(j->engine, "script") == 0)
		p->program = mem_str(j->hook);
	else if (hook_find(&p->program, j->engine, c->hooks_dir, e) < 0)
		return err_wrap(e, "job %s", j->name);
	p->config = conf_hook_json(j);
	rc = find_user(p, e);
	return rc < 0 ? rc : start(p, e);
}

int
plan_answer(struct plan *p, struct err *e)
{
	struct asking *a = p->asking;
	int rc;

	pthread_join(a->thread, NULL);
	p->probe = a->probe;
	p->session = a->session;
	rc = a->e.code < 0 ? err_copy(e, &a->e) : 0;
	free(TAKE(p->asking));
	return rc;
}

void
plan_hush(struct plan *p)
{
	struct err ignored = ERR_NONE;

	if (p->asking != NULL)
		plan_answer(p, &ignored);
}

/*
 * The agent's side of the hook contract (neap-hook(7)): start one program per
 * use, talk JSON lines, hold every wait to a deadline, and never leave a
 * server held. Used by agent/job (probe, quiesce, thaw) and by the restore
 * tool (validate, dump).
 *
 * A hook gets its settings in the environment variable NEAP_HOOK_CONFIG as one
 * JSON document: {"job":…, "engine":…, "path":…, "connection":{…}, …}.
 */
#ifndef NEAP_HOOKS_CLIENT_H
#define NEAP_HOOKS_CLIENT_H

#include <jansson.h>
#include <sys/types.h>

#include "agent/core/err.h"

struct hook_how {
	const char *program;  /* absolute path */
	const json_t *config; /* becomes NEAP_HOOK_CONFIG */
	uid_t uid;            /* (uid_t)-1: as we are */
	gid_t gid;
	const char *id; /* names this use: "JOB-TIME"; [A-Za-z0-9_.-] */
};

/* Built-in name ("postgresql") or path → program; looks in `hooks_dir`, else
 * beside the running program (../libexec/neap, then hooks/). Gives. */
int hook_find(
    char **program, const char *engine, const char *hooks_dir, struct err *e);

/* HOOK probe: gives the document, whose "engine", "paths", "refuse" and "notes"
 * have been checked for shape. -EIO: the hook failed, with its last line of
 * stderr; -EPERM, -EBUSY: it refuses, or asks to come again. */
int hook_probe(const struct hook_how *how, int64_t timeout_ms, json_t **doc,
    struct err *e);

struct hook_session;
/*
 * HOOK stay: as thaw and hook_probe, in one process that then waits for
 * hook_quiesce. A hook that does not stay (*out is NULL) has been asked by the
 * single verbs, and so is one that fails, for what it says then.
 */
int hook_stay(struct hook_session **out, const struct hook_how *how,
    int64_t timeout_ms, int64_t hold_ms, json_t **doc, struct err *e);
/* It need not wait any more; frees. NULL is fine. */
void hook_leave(struct hook_session *s);
/*
 * HOOK quiesce, or that word to a hook that stays (*session; else NULL there):
 * tries until `acquire_ms` is over while it answers 75 (busy). Exit 62 → success
 * with level "unproven" in the document. Gives the session and the
 * {"state":"quiesced"} document. On every failure thaw has been run, and
 * *session is NULL. The hook releases by itself `hold_ms` after it answered.
 */
int hook_quiesce(struct hook_session **session, const struct hook_how *how,
    int64_t acquire_ms, int64_t hold_ms, json_t **doc, struct err *e);
/*
 * Release and end the session (frees it). The {"state":"released"} document
 * through *doc. -ETIMEDOUT / -EPERM: the hold was not there any more
 * ("still_held" false, it died, it took longer than hold_ms, or no answer):
 * what was snapshot meanwhile is unproven; with -EPERM *doc is set too where
 * the hook said something. On every failure thaw has been run.
 */
int hook_release(struct hook_session *s, json_t **doc, struct err *e);
/* For exits on errors: release without asking for proof, then thaw. */
void hook_abandon(struct hook_session *s); /* NULL is fine */

int hook_thaw(const struct hook_how *how, int64_t timeout_ms, struct err *e);

/*
 * HOOK validate --clone DIR --run DIR / HOOK dump … --output FILE
 * [--database NAME]: already inside the sandbox. The report document of
 * validate comes through *doc also when it fails with -EBADMSG (a check found
 * damage); -EIO: could not check.
 */
int hook_validate(const struct hook_how *how, const char *clone,
    const char *run, int64_t timeout_ms, json_t **doc, struct err *e);
int hook_dump(const struct hook_how *how, const char *clone, const char *run,
    const char *output, const char *database, int64_t timeout_ms,
    struct err *e);

#endif

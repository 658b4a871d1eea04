/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/health.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/conf/conf_schedule.h"
#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/job/state.h"

static const struct {
	const char *word;
	int status;
	int weight; /* which of two is worse */
} kinds[] = {
    [HEALTH_OK] = {"ok", 0, 0},
    [HEALTH_UNPROVEN] = {"unproven", 5, 1},
    [HEALTH_PROBLEM] = {"problem", 1, 2},
    [HEALTH_CORRUPT] = {"corrupt", 4, 3},
};

const char *
health_word(enum health h)
{
	return kinds[h].word;
}

int
health_exit_status(enum health h)
{
	return kinds[h].status;
}

static void __attribute__((format(printf, 4, 5)))
problem(json_t *doc, enum health *worst, enum health h, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	json_array_append_new(
	    json_object_get(doc, "problems"), jdoc_new_str(text));
	if (kinds[h].weight > kinds[*worst].weight)
		*worst = h;
}

/* Two scheduled times went by without a backup. */
static void
judge_age(
    const struct conf_job *j, int64_t last_s, json_t *doc, enum health *worst)
{
	int64_t next = last_s, now = clock_now_s();
	struct err e = ERR_NONE;

	if (j->schedule == NULL)
		return;
	for (int i = 0; i < 2; i++)
		if (conf_schedule_next(j->schedule, next, &next, &e) < 0)
			return;
	if (next < now)
		problem(doc, worst, HEALTH_PROBLEM,
		    "the last backup is %lld s old, though the schedule is "
		    "\"%s\"",
		    (long long)(now - last_s), j->schedule);
}

static int
judge_backup(const struct conf_job *j, const struct store *s, json_t *doc,
    enum health *worst, struct err *e)
{
	SCOPED_CATALOG struct catalog_list l = {0};
	SCOPED_JSON json_t *record = NULL;
	const struct catalog_entry *last;
	int rc = catalog_list(s->repo, j->name, &l, e);

	if (rc < 0)
		return rc;
	json_object_set_new(doc, "backups", json_integer((json_int_t)l.n));
	if (l.n == 0) {
		problem(doc, worst, HEALTH_PROBLEM, "there is no backup");
		return 0;
	}
	last = &l.v[l.n - 1];
	json_object_set_new(doc, "last_backup", json_string(last->time));
	json_object_set_new(doc, "last_backup_age_s",
	    json_integer(clock_now_s() - last->utc_s));
	judge_age(j, last->utc_s, doc, worst);
	rc = catalog_get(s->repo, &s->keys, j->name, last->time, &record, e);
	if (rc < 0) {
		problem(doc, worst, HEALTH_CORRUPT,
		    "the last backup's record: %s", e->text);
		return err_clear(e);
	}
	json_object_set_new(doc, "consistency",
	    json_string(jdoc_str(record, "consistency", "?")));
	json_object_set(doc, "tracker", json_object_get(record, "tracker"));
	json_object_set(doc, "stats", json_object_get(record, "stats"));
	return 0;
}

static int
judge_proof(const struct conf_job *j, const struct store *s, json_t *doc,
    enum health *worst, struct err *e)
{
	SCOPED_JSON json_t *proof = NULL;
	const char *result;
	int rc =
	    catalog_last_proof(s->repo, &s->keys, j->name, NULL, &proof, e);

	if (rc < 0) {
		problem(
		    doc, worst, HEALTH_CORRUPT, "the last proof: %s", e->text);
		return err_clear(e);
	}
	if (rc == 0) {
		problem(doc, worst, HEALTH_UNPROVEN,
		    "no restore was ever proven: run `neap-restore check "
		    "%s/latest`",
		    j->name);
		return 0;
	}
	json_object_set(doc, "last_proof", proof);
	result = jdoc_str(proof, "result", "?");
	if (strcmp(result, "failed") == 0)
		problem(doc, worst, HEALTH_CORRUPT,
		    "the last restore check FAILED (%s of %s)",
		    jdoc_str(proof, "checked", "?"),
		    jdoc_str(proof, "backup", "?"));
	else if (strcmp(result, "passed") != 0)
		problem(doc, worst, HEALTH_UNPROVEN,
		    "the last restore check could not check (%s of %s)",
		    jdoc_str(proof, "checked", "?"),
		    jdoc_str(proof, "backup", "?"));
	return 0;
}

static void
judge_state(const struct conf *c, const struct conf_job *j, json_t *doc,
    enum health *worst)
{
	SCOPED_STATE struct state st;
	SCOPED_JSON json_t *last = NULL;
	struct err ignored = ERR_NONE;

	state_peek(&st, c, j->name, &ignored);
	last = state_history_last(&st);
	if (last != NULL) {
		json_object_set(doc, "last_run", last);
		if (!jdoc_bool(last, "ok", true))
			problem(doc, worst, HEALTH_PROBLEM,
			    "the last run (%s) failed: %s",
			    jdoc_str(last, "at", "?"),
			    jdoc_str(last, "error", "?"));
	}
	if (st.quarantine != NULL) {
		json_object_set_new(
		    doc, "quarantine", json_string(st.quarantine));
		problem(doc, worst, HEALTH_PROBLEM,
		    "tracker %s is in quarantine, it missed a changed block "
		    "(%s): every backup hashes everything; lift it by `neap "
		    "backup %s --trust-tracker`",
		    st.quarantine, st.quarantine_why ? st.quarantine_why : "?",
		    j->name);
	}
}

int
health_of(const struct conf *c, const struct conf_job *j, const struct store *s,
    json_t **doc, enum health *worst, struct err *e)
{
	json_t *d = json_pack("{s:s, s:s, s:[]}", "job", j->name, "engine",
	    j->engine, "problems");
	int rc;

	*worst = HEALTH_OK;
	rc = judge_backup(j, s, d, worst, e);
	if (rc == 0)
		rc = judge_proof(j, s, d, worst, e);
	if (rc < 0) {
		json_decref(d);
		return rc;
	}
	judge_state(c, j, d, worst);
	json_object_set_new(d, "health", json_string(health_word(*worst)));
	*doc = d;
	return 0;
}

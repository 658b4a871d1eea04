/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instant of a backup: quiesce, snapshot every volume, release. Between
 * quiesced and released nothing is logged and nothing is waited for but the
 * snapshots themselves. Where what the engine writes lies on several volumes,
 * those are frozen together, for half of what the engine may be held at most.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/job/run.h"
#include "kmod-free/snap/freeze.h"

/* engines.md R6: tries of 2 s, 30 of them, 10 s apart, is the patience of a
 * nightly job; the hook's own limits are shorter. */
#define ACQUIRE_MS 300000

/* How often snapshots are asked whether they need more room while they are read. */
#define WATCH_MS 2000

void
instant_snapshot_name(
    char out[RUN_SNAPSHOT_MAX], const char *job, const char *time)
{
	snprintf(out, RUN_SNAPSHOT_MAX, SNAP_PREFIX "%s-%s", job, time);
}

/*
 * The backup's name is its instant. Names go up even where the clock does not:
 * a backup of the same second waits for the next one, and a clock that was set
 * back gives the second after the last backup.
 */
static int
choose_time(struct run *r, struct err *e)
{
	SCOPED_CATALOG struct catalog_list l = {0};
	int64_t last = 0;
	int rc = catalog_list(r->store.repo, r->job->name, &l, e);

	if (rc < 0)
		return rc;
	if (l.n > 0)
		last = l.v[l.n - 1].utc_s;
	while (clock_now_s() == last)
		usleep(20000);
	r->utc_s = clock_now_s();
	if (r->utc_s < last) {
		log_warn("job %s: the clock is %lld s behind the last backup; "
			 "this one is named one second after it",
		    r->job->name, (long long)(last - r->utc_s));
		r->utc_s = last + 1;
	}
	clock_name(r->time, r->utc_s);
	instant_snapshot_name(r->snapshot, r->job->name, r->time);
	return 0;
}

static int
snapshot(struct run *r, size_t i, struct err *e)
{
	int rc = snap_create(r->plan.volume[i].v, r->snapshot, e);

	if (rc == 0)
		r->plan.volume[i].taken = true;
	return rc;
}

/* All that can be looked at, refused, made and written out while the engine still
 * goes on. Gives the freeze, NULL where one volume is all. */
static int
get_ready(
    struct run *r, struct snap_volume **v, struct freeze **f, struct err *e)
{
	size_t n = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < r->plan.volumes; i++) {
		struct plan_volume *pv = &r->plan.volume[i];

		/* Something of it may be there from here on. */
		pv->taken = pv->frozen;
		rc = snap_ready(pv->v, r->snapshot, pv->frozen, e);
		if (pv->frozen)
			v[n++] = pv->v;
	}
	return rc == 0 && n > 0 ? freeze_prepare(f, v, n, e) : rc;
}

/* Of the moment in which all are frozen but one, whose snapshot is taken
 * first; of each of the others while it still is. */
static int
snapshot_frozen(struct run *r, struct freeze *f, struct err *e)
{
	struct err late = ERR_NONE;
	size_t k = 0;
	int rc = freeze_begin(f, r->job->hold_ms / 2, e), end;

	if (rc < 0)
		return rc;
	for (size_t i = 0; rc == 0 && i < r->plan.volumes; i++)
		if (r->plan.volume[i].several && !r->plan.volume[i].frozen)
			rc = snapshot(r, i, e);
	for (size_t i = 0; rc == 0 && i < r->plan.volumes; i++) {
		if (!r->plan.volume[i].frozen)
			continue;
		rc = freeze_holds(f, k++, e);
		if (rc == 0)
			rc = snapshot(r, i, e);
	}
	end = freeze_end(f, &r->freeze_ms, &late);
	return rc == 0 && end < 0 ? err_copy(e, &late) : rc;
}

static int
snapshot_all(struct run *r, struct freeze *f, struct err *e)
{
	int rc = f != NULL ? snapshot_frozen(r, f, e) : 0;

	for (size_t i = 0; rc == 0 && i < r->plan.volumes; i++)
		if (!r->plan.volume[i].several)
			rc = snapshot(r, i, e);
	return rc;
}

/* Holds the engine for as long as the snapshots take. */
static int
hold_and_snapshot(struct run *r, struct freeze *f, struct err *e)
{
	SCOPED_FREE char *id = mem_printf("%s-%s", r->job->name, r->time);
	struct hook_how how = plan_hook(&r->plan, id);
	struct hook_session *s = TAKE(r->plan.session);
	int64_t from;
	int rc = hook_quiesce(
	    &s, &how, ACQUIRE_MS, r->job->hold_ms, &r->quiesced, e);

	if (rc < 0)
		return err_wrap(e, "quiesce");
	log_hold();
	from = clock_mono_ms();
	rc = snapshot_all(r, f, e);
	if (rc < 0)
		hook_abandon(s);
	else
		rc = hook_release(s, &r->released, e);
	r->hold_ms = clock_mono_ms() - from;
	log_release();
	return rc < 0 ? err_wrap(e, "snapshot") : 0;
}

int
instant_take(struct run *r, struct err *e)
{
	SCOPED_FREE struct snap_volume **v =
	    mem_array(r->plan.volumes, sizeof *v);
	struct freeze *f = NULL;
	int rc = choose_time(r, e);

	if (rc == 0)
		rc = get_ready(r, v, &f, e);
	if (rc == 0)
		rc = hold_and_snapshot(r, f, e);
	freeze_free(f);
	if (rc < 0) {
		instant_undo(r);
		return rc;
	}
	r->hold_ms = jdoc_int(r->released, "held_ms", r->hold_ms);
	r->level = jdoc_str(r->quiesced, "level", "unproven");
	for (size_t i = 0; i < r->plan.paths; i++)
		if (r->plan.volume[r->plan.path[i].volume].live &&
		    strcmp(r->plan.path[i].role, "config") != 0)
			r->level = "unproven";
	return 0;
}

int
instant_watch(void *arg, struct err *e)
{
	struct run *r = arg;
	int64_t now_ms = clock_mono_ms();
	int rc = 0;

	if (now_ms - r->watched_ms < WATCH_MS)
		return 0;
	for (size_t i = 0; rc == 0 && i < r->plan.volumes; i++) {
		SCOPED_FREE char *said = NULL;

		if (r->plan.volume[i].taken)
			rc = snap_watch(
			    r->plan.volume[i].v, r->snapshot, &said, e);
		if (said != NULL)
			log_notice("job %s: %s", r->job->name, said);
	}
	r->watched_ms = clock_mono_ms();
	return rc;
}

static void
drop(const struct run *r, size_t volume, const char *name)
{
	struct err e = ERR_NONE;

	if (snap_remove(r->plan.volume[volume].v, name, &e) < 0)
		log_warn("job %s: snapshot %s stays: %s; the next backup "
			 "removes it",
		    r->job->name, name, e.text);
	else
		log_debug("removed snapshot %s", name);
}

/* Nothing of ours is open on the views any more: a device in use cannot be
 * removed. */
static void
close_views(struct run *r)
{
	sweep_leave(r->sweep);
	tree_leave(&r->tree);
}

void
instant_read(struct run *r)
{
	close_views(r);
	for (size_t i = 0; i < r->plan.volumes; i++) {
		struct snap_volume *v = r->plan.volume[i].v;
		const struct tracker_ops *t;
		struct err e = ERR_NONE;

		if (!r->plan.volume[i].taken ||
		    (v->ops->caps & SNAP_COSTLY) == 0 ||
		    (tracker_pick(&t, r->job->tracker, v, &e) == 0 &&
			t->compares))
			continue;
		drop(r, i, r->snapshot);
	}
}

void
instant_undo(struct run *r)
{
	close_views(r);
	for (size_t i = 0; i < r->plan.volumes; i++) {
		if (r->plan.volume[i].taken)
			drop(r, i, r->snapshot);
		r->plan.volume[i].taken = false;
	}
}

struct reap {
	struct run *run;
	const char *keep;
	char **name;
	size_t n, cap;
};

static int
on_snapshot(void *arg, const char *name)
{
	struct reap *p = arg;
	SCOPED_FREE char *prefix =
	    mem_printf(SNAP_PREFIX "%s-", p->run->job->name);
	size_t n = strlen(prefix);
	int64_t utc_s;

	/* The time behind the name tells job "a" from a job "a-b". */
	if (strncmp(name, prefix, n) != 0 ||
	    clock_parse_name(&utc_s, name + n) < 0)
		return 0;
	if (p->keep != NULL && strcmp(name, p->keep) == 0)
		return 0;
	MEM_ROOM(p->name, p->n, p->cap);
	p->name[p->n++] = mem_str(name);
	return 0;
}

void
instant_reap(struct run *r, const char *keep)
{
	for (size_t i = 0; i < r->plan.volumes; i++) {
		struct reap p = {.run = r, .keep = keep};
		struct err e = ERR_NONE;

		if (snap_list(r->plan.volume[i].v, on_snapshot, &p, &e) < 0)
			log_warn("job %s: %s", r->job->name, e.text);
		for (size_t k = 0; k < p.n; k++) {
			drop(r, i, p.name[k]);
			free(p.name[k]);
		}
		free(p.name);
	}
}

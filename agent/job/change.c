/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changed: ask the tracker of each volume, and do not believe it.
 * Every doubt ends in "everything is hashed", said aloud with its reason.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/job/run.h"

/* Every 16th backup asks the other way of comparing too. */
#define SECOND_OPINION_EVERY 16u

/* A live volume beside snapshots (configuration files) is read whole every
 * time, and says nothing about how the backup was tracked. */
bool
change_counts(const struct run *r, size_t volume)
{
	if (!r->plan.volume[volume].live)
		return true;
	for (size_t i = 0; i < r->plan.volumes; i++)
		if (!r->plan.volume[i].live)
			return false;
	return true;
}

static void
everything(struct run *r, size_t volume, const char *why)
{
	tracker_answer_fini(&r->named[volume]);
	r->named[volume] = (struct tracker_answer){.everything = true};
	extents_settle(&r->named[volume].ranges);
	if (why != NULL && r->everything_why == NULL &&
	    change_counts(r, volume))
		r->everything_why = mem_str(why);
}

/* Why a tracker is not even asked; NULL: ask. */
static const char *
unaskable(const struct run *r, size_t volume)
{
	if (r->how->full_scan)
		return "a full scan was asked for";
	if (r->previous == NULL)
		return r->everything_why ? r->everything_why
					 : "this is the first backup";
	if (r->plan.volume[volume].live)
		return "the volume is read without a snapshot";
	if (r->state.quarantine != NULL)
		return "the tracker is in quarantine";
	return NULL;
}

struct seek {
	const char *name;
	bool found;
};

static int
on_name(void *arg, const char *name)
{
	struct seek *s = arg;

	s->found = s->found || strcmp(name, s->name) == 0;
	return 0;
}

/* A volume's image in the last backup; zeros: it has none. */
static struct unused_image
old_image(const struct run *r, const struct snap_volume *v)
{
	struct unused_image old = {0};
	const json_t *evidence = json_object_get(r->parent_record, "evidence");
	const json_t *one;
	size_t i;

	json_array_foreach (json_object_get(evidence, "volumes"), i, one)
		if (strcmp(jdoc_str(one, "id", ""), v->id) == 0) {
			const json_t *image = json_object_get(one, "image");

			old.size = (uint64_t)jdoc_int(image, "size", 0);
			old.unused = (uint64_t)jdoc_int(image, "unused", 0);
		}
	return old;
}

static int
ask_one(struct run *r, size_t i, const char *anchor, struct err *e)
{
	struct snap_volume *v = r->plan.volume[i].v;
	struct unused_image old = old_image(r, v);
	struct tracker_pair pair = {v, anchor, r->snapshot, old.size};
	const struct tracker_ops *t;
	struct seek seek = {anchor, false};
	int rc = tracker_pick(&t, r->job->tracker, v, e);

	if (rc == 0 && t->compares)
		rc = snap_list(v, on_name, &seek, e);
	if (rc == 0 && t->compares && !seek.found) {
		everything(r, i, "the snapshot of the last backup is missing");
		return 0;
	}
	if (rc == 0)
		rc = tracker_changed(t, &pair, &r->named[i], e);
	if (rc == 0 && !r->named[i].everything)
		rc = unused_compare(r, i, anchor, &old, e);
	if (rc < 0) {
		if (rc == -ECANCELED)
			return rc;
		log_warn("job %s: the tracker cannot vouch (%s): everything "
			 "is hashed",
		    r->job->name, e->text);
		everything(r, i, e->text);
		return err_clear(e);
	}
	/* Of several volumes some may be compared, and others scanned. */
	if (t->compares || strcmp(r->tracker, "scan") == 0)
		r->tracker = t->name;
	if (r->named[i].everything)
		everything(r, i, NULL);
	return 0;
}

/* The other way of comparing; a failure only means that there is none. */
static void
ask_second(struct run *r, const char *anchor)
{
	for (size_t i = 0; i < r->plan.volumes; i++) {
		struct snap_volume *v = r->plan.volume[i].v;
		struct tracker_pair pair = {
		    v, anchor, r->snapshot, old_image(r, v).size};
		const struct tracker_ops *t;
		struct err e = ERR_NONE;

		if (r->named[i].everything ||
		    tracker_pick(&t, r->job->tracker, v, &e) < 0 ||
		    t->second == NULL)
			continue;
		if (tracker_pick(&t, t->second, v, &e) < 0 ||
		    tracker_changed(t, &pair, &r->second[i], &e) < 0)
			log_notice("job %s: no second opinion: %s",
			    r->job->name, e.text);
		extents_settle(&r->second[i].ranges);
	}
}

int
change_ask(struct run *r, struct err *e)
{
	char anchor[RUN_SNAPSHOT_MAX];
	bool all = true;
	int rc = unused_find(r, e);

	if (rc < 0)
		return rc;
	r->named = mem_array(r->plan.volumes, sizeof *r->named);
	r->second = mem_array(r->plan.volumes, sizeof *r->second);
	for (size_t i = 0; i < r->plan.volumes; i++)
		extents_settle(&r->second[i].ranges);
	r->tracker = "scan";
	instant_snapshot_name(anchor, r->job->name, r->parent);
	for (size_t i = 0; i < r->plan.volumes; i++) {
		const char *why = unaskable(r, i);

		rc = 0;
		if (why != NULL)
			everything(r, i, why);
		else
			rc = ask_one(r, i, anchor, e);
		if (rc < 0)
			return rc;
		all = all && (r->named[i].everything || !change_counts(r, i));
	}
	if (all && r->everything_why == NULL)
		r->everything_why = mem_str("the tracker names everything");
	if (!all && (r->state.serial + 1) % SECOND_OPINION_EVERY == 0)
		ask_second(r, anchor);
	return 0;
}

int
change_check(struct run *r, struct err *e)
{
	struct crosscheck *x = &r->check;
	int rc;

	*x = (struct crosscheck){.tree = &r->tree,
	    .sweep = r->sweep,
	    .named = r->named,
	    .second = r->second,
	    .state = &r->state,
	    .sample_percent = r->job->sample_percent,
	    .rolling_days = r->job->rolling_days,
	    .now_s = clock_now_s()};
	rc = crosscheck_run(x, e);
	if (rc < 0 || x->wrong_blocks == 0)
		return rc;
	log_warn("job %s: ALERT: the tracker %s did not name %llu of %llu "
		 "checked blocks that changed (first: %s): it is put in "
		 "quarantine, everything is hashed now and in every backup "
		 "until `neap backup %s --trust-tracker`; earlier backups may "
		 "hold older bytes there",
	    r->job->name, r->tracker, (unsigned long long)x->wrong_blocks,
	    (unsigned long long)(x->sampled_blocks + x->rehashed_blocks +
				 x->second_blocks),
	    x->wrong_where, r->job->name);
	state_quarantine(&r->state, r->tracker, x->wrong_where);
	rc = state_save(&r->state, e);
	if (rc < 0)
		return rc;
	r->escalated = true;
	for (size_t i = 0; i < r->plan.volumes; i++)
		everything(r, i, "the cross-check found a wrong block");
	return 0;
}

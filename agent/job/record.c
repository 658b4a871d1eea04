/* SPDX-License-Identifier: Apache-2.0 */
/* What is written down of a backup: its record, and the result for people. */
#include <string.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/job/run.h"

static json_t *
tracker_json(const struct run *r)
{
	uint64_t named = 0;
	bool all = false;

	for (size_t i = 0; i < r->plan.volumes; i++) {
		named += extents_bytes(&r->named[i].ranges);
		all = all || (change_counts(r, i) && r->named[i].everything);
	}
	return json_pack("{s:s, s:b, s:s*, s:I, s:I, s:I, s:I, s:I, s:s*, s:b}",
	    "name", r->tracker, "everything", all, "why", r->everything_why,
	    "named_bytes", (json_int_t)named, "sampled_blocks",
	    (json_int_t)r->check.sampled_blocks, "rehashed_blocks",
	    (json_int_t)r->check.rehashed_blocks, "second_opinion_blocks",
	    (json_int_t)r->check.second_blocks, "wrong_blocks",
	    (json_int_t)r->check.wrong_blocks, "wrong_where",
	    r->check.wrong_where, "escalated", r->escalated);
}

static uint64_t
stored_bytes(const struct run *r)
{
	return r->stored.stored_bytes + r->stored.index_bytes + r->map_bytes +
	       r->record_bytes;
}

static double
seconds(const struct run *r)
{
	return (double)(clock_mono_ms() - r->started_ms) / 1000;
}

static json_t *
stats_json(const struct run *r)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
			 "s:I, s:f}",
	    "logical_bytes", (json_int_t)r->tree.bytes, "unused_bytes",
	    (json_int_t)unused_bytes(r), "left_out_files",
	    (json_int_t)r->tree.left_out, "left_out_bytes",
	    (json_int_t)r->tree.left_out_bytes, "objects",
	    (json_int_t)r->tree.objects, "files", (json_int_t)r->tree.files,
	    "read_bytes", (json_int_t)sweep_read_bytes(r->sweep),
	    "changed_bytes", (json_int_t)r->copy.changed_bytes, "new_bytes",
	    (json_int_t)r->stored.new_bytes, "stored_bytes",
	    (json_int_t)stored_bytes(r), "hold_ms", (json_int_t)r->hold_ms,
	    "seconds", seconds(r));
}

/* Several volumes of one instant; NULL: there was one. */
static json_t *
freeze_json(const struct run *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->plan.volumes; i++)
		n += r->plan.volume[i].several;
	return n == 0 ? NULL
		      : json_pack("{s:I, s:I, s:I}", "volumes", (json_int_t)n,
			    "held_ms", (json_int_t)r->freeze_ms, "limit_ms",
			    (json_int_t)r->job->hold_ms / 2);
}

/* What became of the hook's word about the log; NULL: it said none. */
static json_t *
log_json(const struct run *r)
{
	const struct needed *n = &r->tree.needed;

	if (!n->told && n->why_all == NULL)
		return NULL;
	return json_pack("{s:b, s:s*}", "left_out", n->told, "why", n->why_all);
}

json_t *
record_make(const struct run *r)
{
	SCOPED_FREE char *name = mem_printf("%s/%s", r->job->name, r->time);
	char host[256] = "";
	json_t *evidence;

	if (gethostname(host, sizeof host - 1) < 0)
		host[0] = '\0';
	evidence = json_pack("{s:o, s:I, s:o*, s:o*, s:O*, s:O*}", "volumes",
	    plan_volumes_json(&r->plan, r->snapshot), "hold_ms",
	    (json_int_t)r->hold_ms, "freeze", freeze_json(r), "log",
	    log_json(r), "quiesced", r->quiesced, "released", r->released);
	return json_pack("{s:i, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:o, s:O, "
			 "s:o, s:o, s:I, s:s?, s:o, s:o}",
	    "format", 1, "backup", name, "job", r->job->name, "time", r->time,
	    "host", jdoc_new_str(host), "neap_version", NEAP_VERSION, "engine",
	    r->job->engine, "consistency", r->level, "evidence", evidence,
	    "probe", r->plan.probe, "paths", plan_paths_json(&r->plan), "maps",
	    catalog_maps_json(r->maps, r->maps_n), "next_object",
	    (json_int_t)r->tree.next_object, "parent",
	    r->parent[0] ? r->parent : NULL, "tracker", tracker_json(r),
	    "stats", stats_json(r));
}

json_t *
record_result(const struct run *r)
{
	SCOPED_FREE char *name = mem_printf("%s/%s", r->job->name, r->time);
	json_t *j =
	    json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?}", "backup", name, "job",
		r->job->name, "engine", r->job->engine, "consistency", r->level,
		"tracker", r->tracker, "everything_why", r->everything_why);
	json_t *stats = stats_json(r), *t = tracker_json(r);

	json_object_update(j, stats);
	for (const char *const *k = (const char *const[]){"named_bytes",
		 "sampled_blocks", "rehashed_blocks", "second_opinion_blocks",
		 "wrong_blocks", "escalated", NULL};
	     *k != NULL; k++)
		json_object_set(j, *k, json_object_get(t, *k));
	if (r->freeze_ms > 0)
		json_object_set_new(
		    j, "freeze_ms", json_integer((json_int_t)r->freeze_ms));
	json_object_set_new(j, "dry_run", json_boolean(r->how->dry_run));
	json_decref(stats);
	json_decref(t);
	return j;
}

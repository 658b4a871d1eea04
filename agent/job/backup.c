/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/backup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/core/stop.h"
#include "agent/job/run.h"
#include "agent/job/untouched.h"

/* ---- before the instant ------------------------------------------------------ */

static int
open_store(struct run *r, struct err *e)
{
	const struct conf *c = r->conf;
	struct store_how how = {.url = c->repo_url,
	    .key_path = !c->encryption ? NULL
			: c->host_key  ? c->host_key
				       : c->recovery_key};

	return store_open(&r->store, &how, e);
}

static int
open_index(struct run *r, struct err *e)
{
	int rc = store_index(&r->store, e);

	if (rc == -EBADMSG)
		err_hint(e, "move a damaged file of index/ out of the "
			    "repository: the next backup finds its chunks in "
			    "the packs again");
	return rc;
}

/*
 * Packs are immutable and nothing here deletes them, but hands and disks do. A
 * backup that names a chunk of such a pack cannot be restored, so what is built
 * upon may not need one: neither the index (it leaves absent packs out) nor the
 * parent's maps. Once all was stored again, the same absent packs do not matter
 * to this job any more.
 */
static int
look_at_packs(struct run *r, struct err *e)
{
	int rc = index_recover(r->store.index, e);
	struct index_absent absent;
	char name[64];

	if (rc < 0)
		return rc;
	if (rc > 0)
		log_notice("job %s: %d packs %s are used", r->job->name, rc,
		    r->state.interrupted ? "of an interrupted backup"
					 : "that the index lacked");
	absent = index_absent(r->store.index);
	r->absent_mark = absent.mark;
	if (absent.packs == 0)
		return 0;
	pack_name(name, absent.first);
	log_warn("job %s: repository %s: packs are missing (%llu), such as %s: "
		 "earlier backups may need them. Bring them back from a copy; "
		 "`neap-restore check` tells whether a backup is hurt",
	    r->job->name, r->store.repo->url, (unsigned long long)absent.packs,
	    name);
	if (absent.mark != r->state.absent_mark && r->everything_why == NULL)
		r->everything_why = mem_printf(
		    "packs are missing from the repository, such as %s", name);
	return 0;
}

/*
 * A block map belongs to the content of one backup, so it remembers more of it
 * than the time: "TIME.MAP", where MAP begins the id of the newest of its maps.
 * Another host of the same name (a clone) can commit a backup of the very same
 * second, and a record must not vouch for hashes of something else. Where
 * nothing changed, both may have the same maps: then the content is the same.
 */
static void
chain_name(char out[RUN_CHAIN_MAX], const char *time,
    const struct map_ref *maps, size_t n)
{
	char hex[13];

	bytes_hex(hex, maps[n - 1].id, 6);
	snprintf(out, RUN_CHAIN_MAX, "%.*s.%s", CLOCK_NAME_LEN, time, hex);
}

/* The record and maps of the backup that a block map's name means. -ENOENT:
 * there is none, or the one of that time has another content. */
static int
get_chain(struct run *r, const char *chain, json_t **record,
    struct map_ref **maps, size_t *n, struct err *e)
{
	SCOPED_FREE char *time = mem_strn(chain, strcspn(chain, "."));
	SCOPED_JSON json_t *doc = NULL;
	SCOPED_FREE struct map_ref *v = NULL;
	char is[RUN_CHAIN_MAX];
	size_t count;
	int rc = catalog_get(
	    r->store.repo, &r->store.keys, r->job->name, time, &doc, e);

	if (rc == 0)
		rc = catalog_maps(doc, &v, &count, e);
	if (rc < 0)
		return rc;
	chain_name(is, time, v, count);
	if (strcmp(is, chain) != 0)
		return err_set(e, -ENOENT,
		    "the backup %s/%s in the repository was made by another "
		    "host or run",
		    r->job->name, time);
	*record = TAKE(doc);
	*maps = TAKE(v);
	*n = count;
	return 0;
}

/* The block map asks whether the backup of a half-finished update exists. */
static int
was_committed(void *arg, const char *chain)
{
	struct run *r = arg;
	SCOPED_JSON json_t *record = NULL;
	SCOPED_FREE struct map_ref *maps = NULL;
	struct err e = ERR_NONE;
	size_t n;
	int rc = get_chain(r, chain, &record, &maps, &n, &e);

	if (rc == 0)
		return 1;
	return rc == -ENOENT ? 0 : rc;
}

/* Chain on to the backup that the block map describes, if it is whole. */
static int
open_parent(struct run *r, struct err *e)
{
	const char *chain = blockmap_backup(r->blockmap);
	int rc;

	if (chain[0] == '\0')
		return 0;
	rc = get_chain(r, chain, &r->parent_record, &r->maps, &r->maps_n, e);
	if (rc == 0)
		rc = map_view_open(&r->previous, r->store.repo, &r->store.keys,
		    r->maps, r->maps_n, e);
	if (rc == 0) {
		snprintf(r->parent, sizeof r->parent, "%.*s",
		    (int)strcspn(chain, "."), chain);
		return 0;
	}
	log_warn("job %s: the last backup %.16s cannot be built upon (%s): "
		 "everything is hashed and a new base map written",
	    r->job->name, chain, e->text);
	r->everything_why = mem_printf("the last backup: %s", e->text);
	r->maps_n = 0;
	return err_clear(e);
}

static int
open_blockmap(struct run *r, struct err *e)
{
	SCOPED_FREE char *dir = fs_join(r->state.dir, "blockmap");
	struct blockmap_owner who = {.job = r->job->name};
	int rc;

	memcpy(who.repo_id, r->store.keys.repo_id, sizeof who.repo_id);
	rc = untouched_check(&r->state, dir, e);
	/* Hashes of blocks that are to be stored again are of no use. */
	if (r->everything_why != NULL)
		rc = -ENOENT;
	if (rc == 0)
		rc =
		    blockmap_open(&r->blockmap, dir, &who, was_committed, r, e);
	if (rc < 0 && rc != -ENOENT) {
		log_warn("job %s: the block map is of no use (%s): everything "
			 "is hashed and it is built anew",
		    r->job->name, e->text);
		r->everything_why = mem_printf("the block map: %s", e->text);
	}
	if (rc < 0) {
		err_clear(e);
		rc = blockmap_create(&r->blockmap, dir, &who, e);
		if (rc == 0) {
			untouched_note(&r->state, dir, false);
			rc = state_save(&r->state, e);
		}
	}
	return rc < 0 ? rc : open_parent(r, e);
}

/* Object numbers are never used twice within a job, whatever was lost. */
static int
first_object(struct run *r, struct err *e)
{
	SCOPED_CATALOG struct catalog_list l = {0};
	uint64_t next = MAP_ROOT_OBJECT + 1;
	int rc = catalog_list(r->store.repo, r->job->name, &l, e);

	if (rc < 0)
		return rc;
	if (r->parent_record != NULL)
		rc = jdoc_get_u64(r->parent_record, "next_object", &next, e);
	else if (l.n > 0)
		/* A number that no earlier chain can have reached: 2^20
		 * objects for each second since 1970. */
		next = (uint64_t)clock_now_s() << 20;
	r->tree.next_object = next;
	return rc;
}

/*
 * Snapshots of runs that came to nothing. The last backup's stays, even where
 * this run cannot build upon that: it goes after the new one is durable, not
 * before (law 2).
 */
static int
reap_leftovers(struct run *r, struct err *e)
{
	SCOPED_CATALOG struct catalog_list l = {0};
	char keep[RUN_SNAPSHOT_MAX];
	int rc = 0;

	if (r->parent[0] == '\0')
		rc = catalog_list(r->store.repo, r->job->name, &l, e);
	if (rc < 0)
		return rc;
	instant_snapshot_name(
	    keep, r->job->name, l.n > 0 ? l.v[l.n - 1].time : r->parent);
	instant_reap(r, keep);
	return 0;
}

static int
prepare(struct run *r, struct err *e)
{
	int rc = state_open(&r->state, r->conf, r->job->name, e);

	if (rc == 0)
		rc = open_store(r, e);
	/* The hook is at work meanwhile, until its answer is asked for. */
	if (rc == 0)
		rc = plan_ask(&r->plan, r->conf, r->job, e);
	if (rc == 0)
		rc = open_index(r, e);
	if (rc == 0 && !r->how->dry_run)
		rc = look_at_packs(r, e);
	if (rc == 0)
		rc = plan_make(&r->plan, e);
	if (rc == 0)
		rc = plan_check(&r->plan, e);
	/* May begin anew, which is not for a backup that is refused. */
	if (rc == 0)
		rc = open_blockmap(r, e);
	if (rc == 0)
		rc = first_object(r, e);
	if (rc < 0)
		return rc;
	if (r->how->trust_tracker && r->state.quarantine != NULL) {
		state_lift(&r->state);
		rc = state_save(&r->state, e);
	}
	if (rc == 0)
		rc = reap_leftovers(r, e);
	if (rc < 0)
		return rc;
	return r->how->dry_run ? 0 : state_begin(&r->state, e);
}

/* ---- after the instant ---------------------------------------------------------- */

static int
open_update(struct run *r, struct err *e)
{
	int rc = blockmap_begin(r->blockmap, e);

	if (rc == 0)
		rc = map_builder_new(&r->tree.map, r->store.repo,
		    &r->store.keys, r->state.dir, e);
	r->tree.blockmap = r->blockmap;
	r->tree.previous = r->previous;
	if (rc == 0)
		rc = tree_open(&r->tree, &r->plan, r->snapshot, e);
	if (rc == 0)
		rc = needed_read(
		    &r->tree.needed, r->released, &r->plan, r->tree.view, e);
	return rc;
}

/*
 * Damage of what the last backup left, its block map or its maps, is no damage
 * of this one: -ESTALE, and the run starts over without it.
 */
static int
doubt(int rc, struct err *e)
{
	return rc == -EBADMSG ? (e->code = -ESTALE) : rc;
}

static int
find_changes(struct run *r, struct err *e)
{
	int rc = open_update(r, e);

	if (rc == 0)
		rc = change_ask(r, e);
	if (rc == 0)
		rc = tree_walk(&r->tree, e);
	if (rc == 0)
		rc = sweep_new(&r->sweep, &r->tree, true, e);
	if (rc < 0)
		return doubt(rc, e);
	sweep_tick(r->sweep, instant_watch, r);
	if (sweep_notice(r->sweep) != NULL)
		log_notice("job %s: %s", r->job->name, sweep_notice(r->sweep));
	return doubt(change_check(r, e), e);
}

static int
copy_changes(struct run *r, struct err *e)
{
	struct ingest_how how = {.repo = r->store.repo,
	    .keys = &r->store.keys,
	    .index = r->store.index,
	    .zstd_level = r->conf->zstd_level,
	    .workers = r->conf->threads,
	    .done = copy_chunk_done,
	    .arg = &r->tree};
	int rc = ingest_start(&r->ingest, &how, e);

	if (rc < 0)
		return rc;
	r->copy = (struct copy){.tree = &r->tree,
	    .sweep = r->sweep,
	    .gather = {.ingest = r->ingest},
	    .named = r->named,
	    .job = r->job->name};
	rc = copy_run(&r->copy, e);
	if (rc < 0) {
		gather_drop(&r->copy.gather);
		return rc;
	}
	/* Packs, then index: durable before any map names their chunks. */
	return ingest_finish(TAKE(r->ingest), &r->stored, e);
}

static int
write_maps(struct run *r, struct err *e)
{
	struct map_ref *now;
	int rc = 0;

	now = mem_array(r->maps_n + 1, sizeof *now);
	if (r->maps_n > 0)
		memcpy(now, r->maps, r->maps_n * sizeof *now);
	free(r->maps);
	r->maps = now;
	/* "Nothing changed" adds no map: the record names the old ones. */
	if (map_builder_count(r->tree.map) == 0 && r->maps_n > 0) {
		map_builder_abort(TAKE(r->tree.map));
		return 0;
	}
	rc = map_builder_finish(TAKE(r->tree.map), &now[r->maps_n], e);
	if (rc < 0)
		return rc;
	r->map_bytes += now[r->maps_n++].len;
	rc = map_compact(
	    r->store.repo, &r->store.keys, now, &r->maps_n, &r->map_bytes, e);
	return rc < 0 ? doubt(rc, e) : repo_sync(r->store.repo, e);
}

/* A snapshot with too little room for what is overwritten is lost while it is
 * read: what was read since may be of any time. */
static int
views_intact(const struct run *r, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < r->plan.volumes; i++)
		if (r->plan.volume[i].taken)
			rc = snap_intact(r->plan.volume[i].v, r->snapshot, e);
	return rc;
}

static int
leave_views(struct run *r, struct err *e)
{
	int rc = views_intact(r, e);

	if (rc == 0)
		instant_read(r);
	return rc;
}

/*
 * The commit. Before it, the update of the block map is on disk beside the old
 * one; after it, it takes its place, or the next run puts it there.
 */
static int
commit(struct run *r, struct err *e)
{
	SCOPED_JSON json_t *record = NULL;
	struct err later = ERR_NONE;
	SCOPED_FREE char *dir = fs_join(r->state.dir, "blockmap");
	char chain[RUN_CHAIN_MAX];
	int rc;

	chain_name(chain, r->time, r->maps, r->maps_n);
	rc = blockmap_prepare(r->blockmap, chain, e);
	if (rc == 0)
		rc = stop_check(e);
	if (rc < 0)
		return rc;
	record = record_make(r);
	rc = catalog_put(
	    r->store.repo, &r->store.keys, r->job->name, r->time, record, e);
	if (rc < 0)
		return rc;
	if (repo_sync(r->store.repo, e) < 0)
		return err_hint(e,
		    "backup %s/%s is listed, but may be gone after a loss of "
		    "power: look after the repository's disk, then back up "
		    "again",
		    r->job->name, r->time);
	/* From here on the backup exists; what fails now is said, and mended
	 * by the next run. */
	if (blockmap_commit(r->blockmap, &later) < 0)
		log_warn("job %s: the block map: %s", r->job->name, later.text);
	instant_reap(r, r->snapshot);
	r->state.serial++;
	r->state.absent_mark = r->absent_mark;
	untouched_note(&r->state, dir, true);
	if (state_save(&r->state, &later) < 0)
		log_warn("job %s: %s", r->job->name, later.text);
	return 0;
}

/* A record's length, for the bill. */
static void
count_record(struct run *r)
{
	SCOPED_FREE char *name =
	    mem_printf("backups/%s/%s", r->job->name, r->time);
	struct err ignored = ERR_NONE;

	if (repo_size(r->store.repo, name, &r->record_bytes, &ignored) < 0)
		r->record_bytes = 0;
}

static void
say_history(struct run *r, const json_t *result, const struct err *failure)
{
	json_t *line = result ? json_deep_copy(result) : json_object();
	struct err e = ERR_NONE;
	char now[CLOCK_NAME_LEN + 1];

	clock_name(now, clock_now_s());
	json_object_set_new(line, "at", json_string(now));
	json_object_set_new(line, "ok", json_boolean(result != NULL));
	if (result == NULL)
		json_object_set_new(line, "error", jdoc_new_str(failure->text));
	if (state_history_add(&r->state, line, &e) < 0)
		log_warn("job %s: history: %s", r->job->name, e.text);
	json_decref(line);
}

static int
work(struct run *r, struct err *e)
{
	int rc = prepare(r, e);

	if (rc == 0)
		rc = instant_take(r, e);
	if (rc == 0)
		rc = find_changes(r, e);
	if (rc < 0 || r->how->dry_run)
		return rc;
	rc = copy_changes(r, e);
	if (rc == 0)
		rc = leave_views(r, e);
	if (rc == 0)
		rc = write_maps(r, e);
	if (rc == 0)
		rc = commit(r, e);
	if (rc == 0)
		count_record(r);
	return rc;
}

static void
run_fini(struct run *r)
{
	ingest_abort(r->ingest);
	sweep_free(r->sweep);
	map_builder_abort(r->tree.map);
	tree_close(&r->tree);
	for (size_t i = 0; i < r->plan.volumes; i++) {
		if (r->named != NULL)
			tracker_answer_fini(&r->named[i]);
		if (r->second != NULL)
			tracker_answer_fini(&r->second[i]);
	}
	free(r->named);
	free(r->second);
	crosscheck_fini(&r->check);
	map_view_close(r->previous);
	blockmap_close(r->blockmap);
	json_decref(r->parent_record);
	json_decref(r->quiesced);
	json_decref(r->released);
	free(r->maps);
	free(r->everything_why);
	plan_fini(&r->plan);
	store_close(&r->store);
	state_close(&r->state);
}

/* A full disk is explained before the unfinished files that fill it are given
 * back. */
static int
attempt(struct run *r, struct err *e)
{
	int rc = work(r, e);
	struct err lost = ERR_NONE;

	/* Behind a read error there is a better reason. */
	if (rc == -EIO && views_intact(r, &lost) == -EIO)
		rc = err_copy(e, &lost);
	return rc < 0 ? state_explain(&r->state, e) : rc;
}

/* Once more, with nothing of the last backup but its chunks. */
static void
start_over(struct run *r, const struct err *e)
{
	struct run fresh = {.conf = r->conf,
	    .job = r->job,
	    .how = r->how,
	    .started_ms = r->started_ms,
	    .level = "unproven",
	    .tracker = "scan"};

	log_progress_end();
	log_warn("job %s: what the last backup left is damaged (%s): "
		 "everything is hashed, and it is built anew",
	    r->job->name, e->text);
	fresh.state.lock_fd = -1;
	fresh.everything_why = mem_str(e->text);
	instant_undo(r);
	run_fini(r);
	*r = fresh;
}

int
backup_run(const struct conf *c, const struct conf_job *j,
    const struct backup_how *how, json_t **result, struct err *e)
{
	struct run r = {.conf = c,
	    .job = j,
	    .how = how,
	    .started_ms = clock_mono_ms(),
	    .level = "unproven",
	    .tracker = "scan"};
	struct err later = ERR_NONE;
	int rc;

	r.state.lock_fd = -1;
	rc = attempt(&r, e);
	if (rc == -ESTALE) {
		start_over(&r, e);
		rc = attempt(&r, e);
	}
	log_progress_end();
	/* The snapshot of a backup that is not there is of no use. */
	if (rc < 0 || how->dry_run)
		instant_undo(&r);
	if (rc == 0) {
		*result = record_result(&r);
		if (!how->dry_run)
			say_history(&r, *result, e);
	} else if (r.state.lock_fd >= 0) {
		say_history(&r, NULL, e);
	}
	/* Packs of a failed run are to be found by the next one, so its mark
	 * stays. */
	if (rc == 0 && !how->dry_run && state_end(&r.state, &later) < 0)
		log_warn("job %s: %s", j->name, later.text);
	run_fini(&r);
	return rc < 0 && strncmp(e->text, "job ", 4) != 0
		   ? err_wrap(e, "job %s", j->name)
		   : rc;
}

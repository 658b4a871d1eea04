/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neap-scale CONFIG JOB PATH SEED: PATH, of which the newest backup of JOB has
 * the first SEED bytes, has grown to its present size by clones of them.
 * Writes what a backup of all of it would leave; prints the backup's TIME and
 * what was written as JSON. Its snapshot is the caller's to make.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/job/untouched.h"
#include "tools/scale/scale.h"

static int
find_parent(struct scale *s, struct err *e)
{
	SCOPED_CATALOG struct catalog_list l = {0};
	SCOPED_FREE struct map_ref *maps = NULL;
	size_t n;
	int rc = catalog_list(s->store.repo, s->job->name, &l, e);

	if (rc == 0 && l.n == 0)
		rc = err_set(e, -ENOENT, "there is no backup yet");
	if (rc < 0)
		return rc;
	memcpy(s->parent, l.v[l.n - 1].time, sizeof s->parent);
	clock_name(s->time, l.v[l.n - 1].utc_s + 1);
	rc = catalog_get(s->store.repo, &s->store.keys, s->job->name, s->parent,
	    &s->record, e);
	if (rc == 0)
		rc = catalog_maps(s->record, &maps, &n, e);
	if (rc == 0 && n != 1)
		rc = err_set(e, -EINVAL, "the last backup is not the first");
	if (rc == 0)
		s->old_map = maps[0];
	return rc;
}

static int
find_object(struct scale *s, struct err *e)
{
	struct map_view *v;
	int rc =
	    map_view_open(&v, s->store.repo, &s->store.keys, &s->old_map, 1, e);

	if (rc < 0)
		return rc;
	rc = map_view_path(v, s->path, &s->object, e);
	map_view_close(v);
	if (rc == 0)
		rc = err_set(e, -ENOENT, "%s: not in the last backup", s->path);
	return rc < 0 ? rc : 0;
}

static int
put_record(struct scale *s, struct err *e)
{
	SCOPED_FREE char *name = mem_printf("%s/%s", s->job->name, s->time);
	json_t *stats = json_object_get(s->record, "stats");

	json_object_set_new(s->record, "backup", json_string(name));
	json_object_set_new(s->record, "time", json_string(s->time));
	json_object_set_new(s->record, "parent", json_string(s->parent));
	json_object_set_new(s->record, "maps", catalog_maps_json(&s->map, 1));
	json_object_set_new(
	    stats, "logical_bytes", json_integer((json_int_t)s->size));
	return catalog_put(
	    s->store.repo, &s->store.keys, s->job->name, s->time, s->record, e);
}

static int
no_question(void *arg, const char *time)
{
	(void)arg;
	(void)time;
	return -EBUSY;
}

static int
grow_blockmap(struct scale *s, struct err *e)
{
	SCOPED_FREE char *dir = fs_join(s->state.dir, "blockmap");
	struct blockmap_owner who = {.job = s->job->name};
	struct blockmap *b;
	int rc;

	memcpy(who.repo_id, s->store.keys.repo_id, sizeof who.repo_id);
	rc = blockmap_open(&b, dir, &who, no_question, NULL, e);
	if (rc < 0)
		return rc;
	rc = scale_prepare(s, b, e);
	if (rc == 0)
		rc = put_record(s, e);
	if (rc == 0)
		rc = blockmap_commit(b, e);
	if (rc == 0)
		rc = scale_hashes(s, b, e);
	blockmap_close(b);
	if (rc < 0)
		return rc;
	untouched_note(&s->state, dir, true);
	return state_save(&s->state, e);
}

static int
work(struct scale *s, struct err *e)
{
	struct store_how how = {
	    .url = s->conf->repo_url, .key_path = s->conf->host_key};
	struct stat st;
	int rc = state_open(&s->state, s->conf, s->job->name, e);

	if (rc == 0 && stat(s->path, &st) < 0)
		rc = err_sys(e, errno, "look at %s", s->path);
	if (rc < 0)
		return rc;
	s->size = (uint64_t)st.st_size;
	if (s->seed == 0 || s->size % s->seed != 0)
		return err_set(e, -EINVAL,
		    "%s: its size has to be a multiple of the seed", s->path);
	rc = store_open(&s->store, &how, e);
	if (rc == 0)
		rc = find_parent(s, e);
	if (rc == 0)
		rc = find_object(s, e);
	if (rc == 0)
		rc = scale_index(s, e);
	if (rc == 0)
		rc = scale_map(s, e);
	if (rc == 0)
		rc = repo_sync(s->store.repo, e);
	return rc < 0 ? rc : grow_blockmap(s, e);
}

int
main(int argc, char **argv)
{
	SCOPED_CONF struct conf conf = {0};
	struct scale s = {.state = {.lock_fd = -1}};
	struct err e = ERR_NONE;
	int rc;

	if (argc != 5) {
		fprintf(stderr, "usage: neap-scale CONFIG JOB PATH SEED\n");
		return 2;
	}
	s.path = argv[3];
	s.seed = strtoull(argv[4], NULL, 10);
	rc = conf_load(&conf, argv[1], &e);
	if (rc == 0) {
		s.conf = &conf;
		s.job = conf_job(&conf, argv[2], &e);
		rc = s.job != NULL ? work(&s, &e) : e.code;
	}
	if (rc < 0)
		fprintf(stderr, "neap-scale: %s\n", e.text);
	else
		printf("{\"time\": \"%s\", \"map_bytes\": %llu, "
		       "\"index_bytes\": %llu, \"hash_bytes\": %llu, "
		       "\"packs\": %llu}\n",
		    s.time, (unsigned long long)s.map.len,
		    (unsigned long long)s.index_bytes,
		    (unsigned long long)s.hash_bytes,
		    (unsigned long long)s.packs);
	json_decref(s.record);
	store_close(&s.store);
	state_close(&s.state);
	return rc < 0 ? err_exit_status(rc) : 0;
}

/*
 * What the tests of trees and of the cross-check share: a folder that is
 * backed up by hand, as agent/job/backup.c does it, but without chunks: names
 * and attributes go into a map, hashes into a block map.
 */
#ifndef NEAP_TESTS_JOB_WORLD_H
#define NEAP_TESTS_JOB_WORLD_H

#include "tests/unit/store/scratch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/job/tree.h"
#include "agent/store/store.h"

#define WORLD_BLOCK 4096u
#define WORLD_MAPS_MAX 64

struct world {
	char *dir, *data; /* all of it; what is backed up */
	char *map_dir;
	struct store store;
	struct blockmap *blockmap;
	struct plan_volume volume;
	struct plan_path path;
	struct plan plan;

	/* the backups so far */
	struct map_ref map[WORLD_MAPS_MAX];
	size_t maps;
	uint64_t next_object;

	/* the one that is being made */
	struct tree tree;
	struct map_view *previous;
};

static inline void
world_begin(struct world *w, const char *scratch)
{
	const struct blockmap_owner who = {.job = "docs"};
	SCOPED_FREE char *repo = NULL;
	struct store_how how = {0};
	struct err e = ERR_NONE;

	*w = (struct world){.next_object = MAP_ROOT_OBJECT + 1};
	w->dir = fs_real(scratch, &e);
	assert_non_null(w->dir);
	w->data = fs_join(w->dir, "data");
	w->map_dir = fs_join(w->dir, "map");
	repo = fs_join(w->dir, "repo");
	assert_int_equal(mkdir(w->data, 0755), 0);
	OK(store_init(repo, false, NULL, NULL, NULL, &e));
	how.url = repo;
	OK(store_open(&w->store, &how, &e));
	OK(blockmap_create(&w->blockmap, w->map_dir, &who, &e));
	OK(snap_open(&w->volume.v, "none", w->data, &e));
	w->volume.number = 7;
	w->path.path = w->data;
	w->path.role = (char *)"data";
	OK(snap_locate(w->volume.v, w->data, &w->path.rel, &e));
	w->plan.volume = &w->volume;
	w->plan.volumes = 1;
	w->plan.path = &w->path;
	w->plan.paths = 1;
}

static inline void
world_end(struct world *w)
{
	blockmap_close(w->blockmap);
	store_close(&w->store);
	snap_close(w->volume.v);
	free(w->path.rel);
	free(w->map_dir);
	free(w->data);
	free(w->dir);
}

/* Start a backup: the names are walked, the update of the block map has begun.
 */
static inline void
world_walk(struct world *w)
{
	struct tree *t = &w->tree;
	struct err e = ERR_NONE;

	assert_true(w->maps < WORLD_MAPS_MAX);
	*t = (struct tree){
	    .blockmap = w->blockmap, .next_object = w->next_object};
	w->previous = NULL;
	if (w->maps > 0)
		OK(map_view_open(&w->previous, w->store.repo, &w->store.keys,
		    w->map, w->maps, &e));
	t->previous = w->previous;
	OK(map_builder_new(&t->map, w->store.repo, &w->store.keys, w->dir, &e));
	OK(blockmap_begin(w->blockmap, &e));
	OK(tree_open(t, &w->plan, "neap-docs-x", &e));
	OK(tree_walk(t, &e));
}

static inline void
world_hash_file(struct world *w, const struct tree_file *f)
{
	uint64_t blocks = (f->size + WORLD_BLOCK - 1) / WORLD_BLOCK;
	SCOPED_FD int fd = f->image ? dup(w->tree.view[f->volume])
				    : openat(w->tree.view[0], f->rel, O_RDONLY);
	struct err e = ERR_NONE;

	assert_true(fd >= 0);
	for (uint64_t b = 0; b < blocks; b++) {
		uint8_t data[WORLD_BLOCK] = {0};
		uint8_t hash[1][BLOCKMAP_HASH_LEN];

		assert_true(
		    pread(fd, data, sizeof data, (off_t)(b * WORLD_BLOCK)) > 0);
		blockmap_hash(w->blockmap, data, 1, hash);
		OK(blockmap_put(w->blockmap, f->slot, b, 1, hash, &e));
	}
}

/* Commit it. Returns how many entries its map has. */
static inline uint64_t
world_commit(struct world *w)
{
	struct tree *t = &w->tree;
	struct err e = ERR_NONE;
	char time[20];

	for (size_t i = 0; i < t->files; i++)
		world_hash_file(w, &t->file[i]);
	OK(map_builder_finish(t->map, &w->map[w->maps], &e));
	w->next_object = t->next_object;
	tree_close(t);
	snprintf(time, sizeof time, "20261122T1915%02zuZ", w->maps);
	OK(blockmap_prepare(w->blockmap, time, &e));
	OK(blockmap_commit(w->blockmap, &e));
	map_view_close(w->previous);
	return w->map[w->maps++].count;
}

static inline void
world_abandon(struct world *w)
{
	map_builder_abort(w->tree.map);
	tree_close(&w->tree);
	blockmap_abandon(w->blockmap);
	map_view_close(w->previous);
}

static inline uint64_t
world_backup(struct world *w)
{
	world_walk(w);
	return world_commit(w);
}

/* Blocks [from, from + n) of DATA/name, of noise that `seed` chooses. */
static inline void
world_write(
    struct world *w, const char *name, uint64_t from, size_t n, uint64_t seed)
{
	SCOPED_FREE char *path = fs_join(w->data, name);
	SCOPED_FREE uint8_t *noise = mem_new(n * WORLD_BLOCK);
	SCOPED_FD int fd = open(path, O_CREAT | O_WRONLY, 0644);
	ssize_t len = (ssize_t)(n * WORLD_BLOCK);

	assert_true(fd >= 0);
	scratch_noise(noise, n * WORLD_BLOCK, seed);
	assert_int_equal(
	    pwrite(fd, noise, (size_t)len, (off_t)(from * WORLD_BLOCK)), len);
}

#endif

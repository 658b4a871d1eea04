/* SPDX-License-Identifier: Apache-2.0 */
/* An update, from begin until it is prepared: nothing here touches what the
 * committed state uses. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/track/blockmap_internal.h"

#define NOT_OLD SIZE_MAX

void
blockmap_update_free(struct blockmap_update *u)
{
	if (u == NULL)
		return;
	blockmap_redo_end(&u->redo);
	blockmap_runs_fini(&u->runs);
	blockmap_table_fini(&u->next);
	free(u->v);
	free(u->old);
	free(u->taken);
	free(u);
}

int
blockmap_begin(struct blockmap *b, struct err *e)
{
	struct blockmap_update *u;
	int rc;

	assert(b->update == NULL);
	if (b->committing)
		return err_set(e, -ESTALE,
		    "block map %s: its last commit did not end", b->at.dir);
	u = mem_new(sizeof *u);
	u->redo.tmp = (struct tmpfile)TMPFILE_NONE;
	u->taken = mem_array(b->table.n, sizeof *u->taken);
	rc = blockmap_runs_init(&u->runs, &b->table, e);
	if (rc == 0)
		rc = blockmap_redo_begin(&u->redo, b->at.dirfd, e);
	if (rc < 0) {
		blockmap_update_free(u);
		return err_wrap(e, "block map %s", b->at.dir);
	}
	b->update = u;
	return 0;
}

static size_t
append(struct blockmap_update *u, const struct blockmap_object *now, size_t old)
{
	assert(!u->prepared && now->size <= INT64_MAX);
	MEM_ROOM(u->v, u->n, u->cap);
	if (u->old_cap != u->cap) {
		u->old_cap = u->cap;
		u->old = mem_grow(u->old, u->cap, sizeof *u->old);
	}
	u->v[u->n] = *now;
	u->old[u->n] = old;
	return u->n++;
}

size_t
blockmap_add(struct blockmap *b, const struct blockmap_object *now)
{
	struct blockmap_update *u = b->update;
	struct blockmap_object o = *now;

	assert(u != NULL);
	o.run_pages = blockmap_pages_of(o.size);
	o.run_page =
	    o.run_pages ? blockmap_runs_take(&u->runs, o.run_pages) : 0;
	return append(u, &o, NOT_OLD);
}

/* A power of two: an object that grows block by block moves, and copies its
 * pages, only each time it has doubled. Pages never used cost no disk. */
static uint64_t
roomy(uint64_t pages)
{
	uint64_t room = 1;

	while (room < pages)
		room *= 2;
	return room;
}

/* Room for `need` pages: behind its own run where that is free, else anew. */
static void
grow_run(struct blockmap_runs *r, struct blockmap_object *o, uint64_t need)
{
	uint64_t room = roomy(need), end = o->run_page + o->run_pages;

	if (o->run_pages > 0) {
		if (blockmap_runs_extend(r, end, room - o->run_pages)) {
			o->run_pages = room;
			return;
		}
		if (blockmap_runs_extend(r, end, need - o->run_pages)) {
			o->run_pages = need;
			return;
		}
	}
	o->run_page = blockmap_runs_take(r, room);
	o->run_pages = room;
}

size_t
blockmap_keep(struct blockmap *b, const struct blockmap_object *old,
    const struct blockmap_object *now)
{
	struct blockmap_update *u = b->update;
	struct blockmap_object o = *now;
	uint64_t need = blockmap_pages_of(o.size);
	size_t i = (size_t)(old - b->table.v);

	assert(u != NULL && i < b->table.n && !u->taken[i]);
	u->taken[i] = true;
	o.run_page = old->run_page;
	o.run_pages = old->run_pages;
	if (need > o.run_pages)
		grow_run(&u->runs, &o, need);
	return append(u, &o, i);
}

const struct blockmap_object *
blockmap_new_at(const struct blockmap *b, size_t i)
{
	assert(b->update != NULL && i < b->update->n);
	return &b->update->v[i];
}

size_t
blockmap_new_objects(const struct blockmap *b)
{
	assert(b->update != NULL);
	return b->update->n;
}

int
blockmap_put(struct blockmap *b, size_t i, uint64_t block, unsigned count,
    const uint8_t (*hash)[BLOCKMAP_HASH_LEN], struct err *e)
{
	struct blockmap_update *u = b->update;
	const struct blockmap_object *o;
	uint64_t blocks;

	assert(u != NULL && i < u->n && !u->prepared);
	o = &u->v[i];
	blocks = blockmap_blocks_of(o->size);
	while (count > 0 && block < blocks) {
		unsigned slot = (unsigned)(block % BLOCKMAP_PAGE_HASHES);
		unsigned n = BLOCKMAP_PAGE_HASHES - slot;
		int rc;

		n = n < count ? n : count;
		n = n < blocks - block ? n : (unsigned)(blocks - block);
		rc = blockmap_redo_put(&u->redo,
		    o->run_page + block / BLOCKMAP_PAGE_HASHES, slot, n, hash,
		    e);
		if (rc < 0)
			return err_wrap(e, "block map %s", b->at.dir);
		block += n;
		hash += n;
		count -= n;
	}
	/* Behind the end all is zero already; anything else is a mistake. */
	if (count > 0 &&
	    !bytes_all_zero(hash, (size_t)count * BLOCKMAP_HASH_LEN))
		return err_set(e, -EINVAL,
		    "block map %s: a hash for block %llu, behind the end of "
		    "object %llu of %llu bytes",
		    b->at.dir, (unsigned long long)block,
		    (unsigned long long)o->object, (unsigned long long)o->size);
	return 0;
}

/* Pages that object i needs to find zero: its run if that is new, the piece
 * that the run gained, what lies behind a smaller size. */
static struct blockmap_move
clear_for(const struct blockmap *b, const struct blockmap_update *u, size_t i)
{
	const struct blockmap_object *o = &u->v[i], *was;
	struct blockmap_move m = {.kind = BLOCKMAP_CLEAR};
	uint64_t need = blockmap_pages_of(o->size), had;

	m.a = o->run_page;
	m.n = o->run_pages;
	if (u->old[i] == NOT_OLD)
		return m;
	was = &b->table.v[u->old[i]];
	if (was->run_page != o->run_page || was->run_pages == 0)
		return m;
	had = blockmap_pages_of(was->size);
	m.a += need < had ? need : was->run_pages;
	m.n = (need < had ? had : o->run_pages) - (m.a - o->run_page);
	return m;
}

static int
log_clears(struct blockmap *b, struct blockmap_update *u, struct err *e)
{
	for (size_t i = 0; i < u->n; i++) {
		struct blockmap_move m = clear_for(b, u, i);
		int rc;

		if (m.n == 0)
			continue;
		rc = blockmap_redo_move(&u->redo, m, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Copies of moved runs, and what a smaller size leaves in its last page. */
static int
log_copies(struct blockmap *b, struct blockmap_update *u, struct err *e)
{
	for (size_t i = 0; i < u->n; i++) {
		const struct blockmap_object *o = &u->v[i], *was;
		struct blockmap_move m = {.kind = 0};
		uint64_t blocks = blockmap_blocks_of(o->size), had;
		int rc;

		if (u->old[i] == NOT_OLD)
			continue;
		was = &b->table.v[u->old[i]];
		had = blockmap_blocks_of(was->size);
		if (was->run_page != o->run_page && had > 0)
			m = (struct blockmap_move){BLOCKMAP_COPY, was->run_page,
			    o->run_page, blockmap_pages_of(was->size)};
		else if (blocks < had && blocks % BLOCKMAP_PAGE_HASHES != 0)
			m = (struct blockmap_move){BLOCKMAP_TAIL,
			    o->run_page + blocks / BLOCKMAP_PAGE_HASHES,
			    blocks % BLOCKMAP_PAGE_HASHES, 0};
		if (m.kind == 0)
			continue;
		rc = blockmap_redo_move(&u->redo, m, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int
make_next(struct blockmap *b, struct blockmap_update *u, const char *time,
    struct err *e)
{
	struct blockmap_table *t = &u->next;

	if (u->runs.full)
		return err_set(e, -EFBIG, "more blocks than it can hold");
	memset(t->time, 0, sizeof t->time);
	memcpy(t->time, time, strlen(time));
	memcpy(t->secret, b->table.secret, sizeof t->secret);
	t->pages = u->runs.end;
	t->n = u->n;
	free(t->v);
	t->v = mem_dup(u->v, u->n * sizeof *u->v);
	qsort(t->v, t->n, sizeof *t->v, blockmap_table_order);
	for (size_t i = 1; i < t->n; i++)
		if (blockmap_table_order(&t->v[i - 1], &t->v[i]) == 0)
			return err_set(e, -EINVAL,
			    "inode %llu of volume %u is listed twice",
			    (unsigned long long)t->v[i].ino, t->v[i].volume);
	return 0;
}

static int
log_moves(struct blockmap *b, struct blockmap_update *u, struct err *e)
{
	struct blockmap_redo_head *h = &u->redo.head;
	int rc = log_clears(b, u, e);

	if (rc == 0)
		rc = log_copies(b, u, e);
	if (rc < 0)
		return rc;
	memcpy(h->time, u->next.time, sizeof h->time);
	memcpy(h->before, b->table.time, sizeof h->before);
	memcpy(h->from, b->table.sum, sizeof h->from);
	memcpy(h->to, u->next.sum, sizeof h->to);
	return blockmap_redo_store(&u->redo, b->at.dirfd, BLOCKMAP_REDO_NEW, e);
}

int
blockmap_prepare(struct blockmap *b, const char *time, struct err *e)
{
	struct blockmap_update *u = b->update;
	int rc;

	assert(u != NULL && !u->prepared);
	assert(time[0] != '\0' && strlen(time) < BLOCKMAP_TIME_BYTES);
	rc = make_next(b, u, time, e);
	/* Now, before the backup is committed: a file system that cannot hold
	 * a file of that length says so. */
	if (rc == 0)
		rc = blockmap_commit_stretch(b, u->next.pages, e);
	if (rc == 0)
		rc = blockmap_table_store(
		    &u->next, &b->at, BLOCKMAP_OBJECTS_NEW, e);
	if (rc == 0)
		rc = log_moves(b, u, e);
	if (rc == 0)
		rc = fs_sync_dir_at(b->at.dirfd, ".", e);
	if (rc < 0)
		return err_wrap(e, "prepare block map %s", b->at.dir);
	u->prepared = true;
	return 0;
}

void
blockmap_abandon(struct blockmap *b)
{
	struct err ignored = ERR_NONE;

	if (b->update == NULL)
		return;
	blockmap_update_free(b->update);
	b->update = NULL;
	/* Files that stay are dropped by the next open, which asks the
	 * repository and hears that there is no such backup. */
	if (!b->committing)
		blockmap_commit_drop(&b->at, &ignored);
}

int
blockmap_commit(struct blockmap *b, struct err *e)
{
	struct blockmap_update *u = b->update;
	int rc;

	assert(u != NULL && u->prepared);
	rc = blockmap_commit_finish(b, &u->next, e);
	blockmap_update_free(u);
	b->update = NULL;
	if (rc < 0)
		return err_wrap(e, "commit block map %s", b->at.dir);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a prepared update to the new state, and what a crash left on the way.
 *
 *	redo.new, objects.new	prepared; the old state is whole
 *	redo, objects.new	begun: `hashes` is neither, it must be finished
 *	redo, objects (new)	done, but for giving back space
 *
 * Once `redo` has its name there is no way back, whatever has become of the
 * backup itself; until then nothing of the old state has been touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "kmod-free/track/blockmap_internal.h"

static int
drop_file(const struct blockmap_place *at, const char *name, struct err *e)
{
	if (unlinkat(at->dirfd, name, 0) < 0 && errno != ENOENT)
		return err_sys(e, errno, "remove %s/%s", at->dir, name);
	return 0;
}

static int
rename_in(const struct blockmap_place *at, const char *from, const char *to,
    struct err *e)
{
	if (renameat(at->dirfd, from, at->dirfd, to) < 0)
		return err_sys(
		    e, errno, "rename %s/%s to %s", at->dir, from, to);
	return fs_sync_dir_at(at->dirfd, ".", e);
}

/* redo first: alone, objects.new means nothing. */
int
blockmap_commit_drop(const struct blockmap_place *at, struct err *e)
{
	int rc = drop_file(at, BLOCKMAP_REDO_NEW, e);

	return rc < 0 ? rc : drop_file(at, BLOCKMAP_OBJECTS_NEW, e);
}

/* ---- space that the new state does not use ---- */

/* All of it best effort: a run is cleared again before another object gets it,
 * and a `redo` that has been done is known by the object table it led to. */
static void
give_back_rest(struct blockmap *b)
{
	struct err ignored = ERR_NONE;

	int rc =
	    ftruncate(b->hashes, (off_t)(b->table.pages * BLOCKMAP_PAGE_BYTES));

	(void)rc;
	drop_file(&b->at, BLOCKMAP_REDO, &ignored);
}

/* Runs of `old` that are dropped or moved; both tables are in key order. */
static void
give_back_runs(struct blockmap *b, const struct blockmap_table *old)
{
	struct err ignored = ERR_NONE;
	size_t j = 0;

	for (size_t i = 0; i < old->n; i++) {
		const struct blockmap_object *o = &old->v[i];
		const struct blockmap_object *v = b->table.v;

		while (j < b->table.n && blockmap_table_order(&v[j], o) < 0)
			j++;
		if (o->run_pages == 0 ||
		    (j < b->table.n && blockmap_table_order(&v[j], o) == 0 &&
			v[j].run_page == o->run_page &&
			v[j].run_pages >= o->run_pages))
			continue;
		blockmap_pages_clear(
		    &b->pages, o->run_page, o->run_pages, &ignored);
	}
}

static void
give_back_gaps(struct blockmap *b)
{
	struct err ignored = ERR_NONE;
	struct blockmap_runs r;

	if (blockmap_runs_init(&r, &b->table, &ignored) < 0)
		return;
	for (size_t i = 0; i < r.n; i++)
		blockmap_pages_clear(
		    &b->pages, r.gap[i].page, r.gap[i].pages, &ignored);
	blockmap_runs_fini(&r);
}

/* ---- forward ---- */

/* Long enough for `pages`. After a power cut the length that prepare gave it
 * may be gone again; what is added reads zeros. */
int
blockmap_commit_stretch(const struct blockmap *b, uint64_t pages, struct err *e)
{
	uint64_t want = pages * BLOCKMAP_PAGE_BYTES;
	struct stat st;

	if (fstat(b->hashes, &st) < 0 ||
	    ((uint64_t)st.st_size < want &&
		ftruncate(b->hashes, (off_t)want) < 0))
		return err_sys(e, errno,
		    "make %s/" BLOCKMAP_HASHES " %llu bytes long", b->at.dir,
		    (unsigned long long)want);
	return 0;
}

/* `hashes` becomes that of `next`; may be repeated from the start. */
static int
apply(struct blockmap *b, const struct blockmap_table *next, struct err *e)
{
	struct blockmap_redo_head h;
	int rc;

	rc = blockmap_redo_load(&h, &b->at, BLOCKMAP_REDO, e);
	if (rc == 0)
		rc = blockmap_redo_check(&h, &b->at, BLOCKMAP_REDO, e);
	if (rc < 0)
		return rc;
	if (memcmp(h.from, b->table.sum, sizeof h.from) != 0 ||
	    memcmp(h.to, next->sum, sizeof h.to) != 0)
		return err_set(e, -ESTALE,
		    "block map %s/" BLOCKMAP_REDO
		    ": it does not belong to the object tables beside it",
		    b->at.dir);
	rc = blockmap_commit_stretch(b, next->pages, e);
	if (rc < 0)
		return rc;
	blockmap_pages_forget(&b->pages);
	rc = blockmap_redo_apply(
	    &h, &b->at, BLOCKMAP_REDO, &b->pages, next->pages, e);
	if (rc < 0)
		return rc;
	if (fdatasync(b->hashes) < 0)
		return err_sys(e, errno, "sync %s/" BLOCKMAP_HASHES, b->at.dir);
	return 0;
}

/* `redo` has its name: on to the end. */
static int
go_on(struct blockmap *b, struct blockmap_table *next, struct err *e)
{
	struct blockmap_table old = b->table;
	int rc;

	rc = apply(b, next, e);
	if (rc == 0)
		rc = rename_in(
		    &b->at, BLOCKMAP_OBJECTS_NEW, BLOCKMAP_OBJECTS, e);
	if (rc < 0)
		return rc;
	b->table = *next;
	*next = (struct blockmap_table){0};
	b->committing = false;
	give_back_runs(b, &old);
	give_back_rest(b);
	blockmap_table_fini(&old);
	return 0;
}

int
blockmap_commit_finish(
    struct blockmap *b, struct blockmap_table *next, struct err *e)
{
	int rc;

	b->committing = true;
	rc = rename_in(&b->at, BLOCKMAP_REDO_NEW, BLOCKMAP_REDO, e);
	return rc < 0 ? rc : go_on(b, next, e);
}

/* ---- after a crash ---- */

static bool
there(const struct blockmap_place *at, const char *name)
{
	return faccessat(at->dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* objects.new, and that it belongs to `h` and to us. */
static int
load_next(const struct blockmap *b, const struct blockmap_redo_head *h,
    struct blockmap_table *next, struct err *e)
{
	int rc = blockmap_table_load(next, &b->at, BLOCKMAP_OBJECTS_NEW, e);

	if (rc < 0)
		return rc;
	if (memcmp(next->sum, h->to, sizeof h->to) == 0 &&
	    memcmp(b->table.sum, h->from, sizeof h->from) == 0 &&
	    memcmp(next->secret, b->table.secret, sizeof next->secret) == 0 &&
	    strcmp(next->time, h->time) == 0)
		return 0;
	blockmap_table_fini(next);
	return err_set(e, -ESTALE,
	    "block map %s/" BLOCKMAP_OBJECTS_NEW
	    ": it does not belong to the update beside it",
	    b->at.dir);
}

static int
recover_begun(struct blockmap *b, struct err *e)
{
	struct blockmap_table next = {0};
	struct blockmap_redo_head h;
	int rc = blockmap_redo_load(&h, &b->at, BLOCKMAP_REDO, e);

	if (rc < 0)
		return rc;
	if (memcmp(h.to, b->table.sum, sizeof h.to) == 0) {
		give_back_gaps(b);
		give_back_rest(b);
		return 0;
	}
	rc = load_next(b, &h, &next, e);
	if (rc == 0)
		rc = go_on(b, &next, e);
	blockmap_table_fini(&next);
	/* Half old and half new, and no means to tell which: as good as
	 * lost, under whatever code. */
	if (rc == -ENOENT)
		e->code = rc = -ESTALE;
	return rc;
}

/* The backup that was being prepared, from whichever header can be read. */
static void
time_of(const struct blockmap *b, char time[BLOCKMAP_TIME_BYTES])
{
	struct blockmap_redo_head h;
	struct err none = ERR_NONE;

	if (blockmap_redo_load(&h, &b->at, BLOCKMAP_REDO_NEW, &none) == 0)
		memcpy(time, h.time, BLOCKMAP_TIME_BYTES);
	else
		blockmap_table_time(time, &b->at, BLOCKMAP_OBJECTS_NEW);
}

static int
finish_prepared(struct blockmap *b, const char *time, struct err *e)
{
	struct blockmap_table next = {0};
	struct blockmap_redo_head h;
	int rc = blockmap_redo_load(&h, &b->at, BLOCKMAP_REDO_NEW, e);

	if (rc == 0)
		rc = blockmap_redo_check(&h, &b->at, BLOCKMAP_REDO_NEW, e);
	if (rc == 0)
		rc = load_next(b, &h, &next, e);
	if (rc < 0) {
		e->code = -ESTALE;
		return err_wrap(e,
		    "the update for backup %s, which is committed, is lost",
		    time);
	}
	rc = blockmap_commit_finish(b, &next, e);
	blockmap_table_fini(&next);
	return rc;
}

/*
 * Where no header can be read, it is dropped unasked: the old state is whole
 * and says which backup it describes, so nothing wrong comes of it.
 */
static int
recover_prepared(struct blockmap *b, blockmap_committed_fn *committed,
    void *arg, struct err *e)
{
	char time[BLOCKMAP_TIME_BYTES];
	int rc = 0;

	time_of(b, time);
	if (time[0] != '\0')
		rc = committed(arg, time);
	if (rc < 0)
		return err_set(e, rc,
		    "block map %s: whether backup %s is committed could not "
		    "be found out",
		    b->at.dir, time);
	if (rc > 0)
		return finish_prepared(b, time, e);
	return blockmap_commit_drop(&b->at, e);
}

int
blockmap_commit_recover(struct blockmap *b, blockmap_committed_fn *committed,
    void *arg, struct err *e)
{
	if (there(&b->at, BLOCKMAP_REDO)) {
		int rc = recover_begun(b, e);

		if (rc < 0)
			return rc;
	}
	if (there(&b->at, BLOCKMAP_REDO_NEW) ||
	    there(&b->at, BLOCKMAP_OBJECTS_NEW))
		return recover_prepared(b, committed, arg, e);
	return 0;
}

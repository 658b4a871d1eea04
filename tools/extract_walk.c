/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "tools/extract_parts.h"

#define BATCH 128
#define EXTENTS_AT_ONCE 4096 /* blocks asked of the map in one go: 16 MiB */

/* A folder on the way down. It is made when something in it is wanted. */
struct level {
	struct level *up;
	const char *name;
	char *path; /* in the backup; "" is the root */
	uint64_t object;
	bool chosen; /* it and all below are wanted */
	bool ours;   /* at or below a backed-up path: extras may go */
	bool made;   /* by us, now */
	struct extract_dir *dir;
};

struct links { /* first names of objects with several */
	struct {
		uint64_t object;
		char *path;
	} * v;
	size_t n, cap;
};

struct extent_batch {
	struct map_extent v[EXTENTS_AT_ONCE];
	size_t n;
};

struct walk {
	struct extract *x;
	struct links links;
	struct extent_batch *extents; /* of the file in hand */
	/* folders whose mode would lock us out, to be applied at the end */
	struct {
		char *path;
		uint64_t object;
	} * late;
	size_t lates, lates_cap;
};

struct batch {
	struct {
		char *name;
		uint64_t object;
	} v[BATCH];
	size_t n;
};

static int
on_name(void *arg, const char *name, uint64_t object)
{
	struct batch *b = arg;

	b->v[b->n].name = mem_str(name);
	b->v[b->n].object = object;
	return ++b->n == BATCH;
}

/* ---- folders ------------------------------------------------------------- */

static int
open_folder(struct walk *w, struct level *l, struct err *e)
{
	const int how = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int at = l->up->dir->fd;
	struct stat st;
	int fd;

	if (w->x->how->delta && l->ours &&
	    fstatat(at, l->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !S_ISDIR(st.st_mode) && unlinkat(at, l->name, 0) < 0)
		return err_sys(
		    e, errno, "remove %s%s", w->x->how->target, l->path);
	if (mkdirat(at, l->name, 0700) == 0)
		l->made = true;
	else if (errno != EEXIST)
		return err_sys(
		    e, errno, "make folder %s%s", w->x->how->target, l->path);
	fd = openat(at, l->name, how);
	if (fd < 0)
		return err_sys(
		    e, errno, "open folder %s%s", w->x->how->target, l->path);
	l->dir = extract_dir_new(fd, l->path);
	return 0;
}

/* The folder and those above it exist from now on. */
static int
need_folder(struct walk *w, struct level *l, struct err *e)
{
	SCOPED_OBJECT struct object o = {0};
	int rc;

	if (l->dir != NULL)
		return 0;
	rc = need_folder(w, l->up, e);
	if (rc == 0)
		rc = open_folder(w, l, e);
	if (rc < 0)
		return rc;
	w->x->stats.folders++;
	if (l->made && map_view_object(w->x->view, l->object, &o, e) == 1)
		object_apply_early(&o, l->dir->fd);
	return err_clear(e);
}

/* Existing folders above the backed-up paths are not ours to change. */
static int
leave_folder(struct walk *w, struct level *l, struct err *e)
{
	SCOPED_OBJECT struct object o = {0};
	int rc;

	if (l->up == NULL || (!l->made && !(l->ours && l->chosen)))
		return 0;
	rc = map_view_object(w->x->view, l->object, &o, e);
	if (rc <= 0)
		return rc;
	/* Workers still go through it, by their open descriptors: without
	 * search permission only root could. Immutable would stop everybody. */
	if ((o.mode & 0700) != 0700 || o.flags != 0) {
		MEM_ROOM(w->late, w->lates, w->lates_cap);
		w->late[w->lates].path = mem_str(l->path);
		w->late[w->lates++].object = l->object;
		return 0;
	}
	return extract_apply(w->x, &o, l->up->dir->fd, l->name, l->path, e);
}

static int
apply_late(struct walk *w, struct err *e)
{
	for (size_t i = 0; i < w->lates; i++) {
		SCOPED_OBJECT struct object o = {0};
		int rc;

		/* In the order of leaving: what is below comes first. */
		rc = map_view_object(w->x->view, w->late[i].object, &o, e);
		if (rc == 1)
			rc = extract_apply(w->x, &o, w->x->target_fd,
			    w->late[i].path + 1, w->late[i].path, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* In place: names that the backup has not go. */
static int
remove_extras(struct walk *w, struct level *l, struct err *e)
{
	int fd = openat(l->dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	uint64_t object;
	int rc = 0;

	if (d == NULL)
		return err_sys(
		    e, errno, "list %s%s", w->x->how->target, l->path);
	while (rc == 0 && (de = readdir(d)) != NULL) {
		if (strcmp(de->d_name, ".") == 0 ||
		    strcmp(de->d_name, "..") == 0)
			continue;
		rc = map_view_lookup(
		    w->x->view, l->object, de->d_name, &object, e);
		if (rc == 1) {
			rc = 0;
		} else if (rc == 0) {
			rc = fs_remove_tree_at(l->dir->fd, de->d_name, e);
			w->x->stats.removed++;
		}
	}
	closedir(d);
	return rc;
}

/* ---- files --------------------------------------------------------------- */

static int
on_extent(void *arg, const struct map_extent *at)
{
	struct extent_batch *b = arg;

	b->v[b->n++] = *at;
	return 0;
}

static int
put_content(
    struct walk *w, struct extract_file *f, uint64_t object, struct err *e)
{
	uint64_t blocks = f->o.size / CHUNK_BLOCK_BYTES +
			  (f->o.size % CHUNK_BLOCK_BYTES != 0);
	struct extent_batch *b = w->extents;
	uint64_t zero_from = 0;
	int rc = 0;

	for (uint64_t at = 0; rc >= 0 && at < blocks; at += EXTENTS_AT_ONCE) {
		uint64_t n = blocks - at;

		b->n = 0;
		rc = map_view_extents(w->x->view, object, at,
		    n < EXTENTS_AT_ONCE ? n : EXTENTS_AT_ONCE, on_extent, b, e);
		for (size_t i = 0; rc >= 0 && i < b->n; i++) {
			const struct map_extent *m = &b->v[i];

			if (m->block > zero_from)
				rc = extract_put_zero(w->x, f,
				    zero_from * CHUNK_BLOCK_BYTES,
				    (m->block - zero_from) * CHUNK_BLOCK_BYTES,
				    e);
			if (rc >= 0)
				rc = extract_put(w->x, f, m, e);
			zero_from = m->block + m->count;
		}
	}
	if (rc >= 0 && zero_from < blocks)
		rc = extract_put_zero(w->x, f, zero_from * CHUNK_BLOCK_BYTES,
		    (blocks - zero_from) * CHUNK_BLOCK_BYTES, e);
	return rc < 0 ? rc : 0;
}

static int
do_file(struct walk *w, struct level *l, const char *name, uint64_t object,
    struct object *o, struct err *e)
{
	struct extract_file *f;
	int rc;

	w->x->stats.files++;
	w->x->stats.bytes += o->size;
	rc = extract_file_open(w->x, l->dir, name, o, &f, e);
	if (rc < 0)
		return rc;
	rc = put_content(w, f, object, e);
	extract_file_put(w->x, f);
	return rc;
}

/* ---- links and all else --------------------------------------------------- */

/* 1: it is there now, as a further name of an earlier one. */
static int
link_to_first(struct walk *w, struct level *l, const char *name,
    uint64_t object, struct err *e)
{
	const char *first = NULL;
	struct stat a, b;
	int at = w->x->target_fd;

	for (size_t i = 0; first == NULL && i < w->links.n; i++)
		if (w->links.v[i].object == object)
			first = w->links.v[i].path + 1;
	if (first == NULL) {
		MEM_ROOM(w->links.v, w->links.n, w->links.cap);
		w->links.v[w->links.n].object = object;
		w->links.v[w->links.n++].path =
		    mem_printf("%s/%s", l->path, name);
		return 0;
	}
	if (fstatat(l->dir->fd, name, &a, AT_SYMLINK_NOFOLLOW) == 0) {
		if (fstatat(at, first, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
		    a.st_dev == b.st_dev && a.st_ino == b.st_ino)
			return 1;
		if (fs_remove_tree_at(l->dir->fd, name, e) < 0)
			return e->code;
	}
	if (linkat(at, first, l->dir->fd, name, 0) < 0)
		return err_sys(e, errno, "link %s%s/%s to %s",
		    w->x->how->target, l->path, name, first);
	w->x->stats.others++;
	return 1;
}

static mode_t
node_type(enum object_type t)
{
	return t == OBJECT_FIFO     ? S_IFIFO
	       : t == OBJECT_SOCKET ? S_IFSOCK
	       : t == OBJECT_CHAR   ? S_IFCHR
				    : S_IFBLK;
}

static int
do_other(struct walk *w, struct level *l, const char *name,
    const struct object *o, struct err *e)
{
	SCOPED_FREE char *path = mem_printf("%s/%s", l->path, name);
	int at = l->dir->fd, rc = 0;

	w->x->stats.others++;
	if (w->x->how->delta)
		rc = fs_remove_tree_at(at, name, e);
	if (rc < 0)
		return rc;
	if (o->type == OBJECT_SYMLINK)
		rc = symlinkat(o->target ? o->target : "", at, name);
	else
		rc = mknodat(at, name, node_type(o->type) | 0600,
		    makedev(o->rdev_major, o->rdev_minor));
	if (rc < 0)
		return err_sys(e, errno, "make %s%s", w->x->how->target, path);
	return extract_apply(w->x, o, at, name, path, e);
}

/* ---- the walk -------------------------------------------------------------- */

static bool
is_ours(const struct walk *w, const char *path)
{
	const char *p;

	for (size_t i = 0; (p = backup_path(w->x->how->backup, i)) != NULL; i++)
		if (fs_below(path, p))
			return true;
	return false;
}

static int do_folder(struct walk *w, struct level *l, struct err *e);

static int
do_name(struct walk *w, struct level *up, const char *name, uint64_t object,
    struct err *e)
{
	struct extract *x = w->x;
	SCOPED_FREE char *path = mem_printf("%s/%s", up->path, name);
	SCOPED_OBJECT struct object o = {0};
	bool chosen = pattern_chooses(x->how->patterns, path) || up->chosen;
	int rc = map_view_object(x->view, object, &o, e);

	if (rc < 0)
		return rc;
	if (rc == 0)
		return err_set(e, -EBADMSG,
		    "%s: the backup has its name but "
		    "not its record",
		    path);
	if (o.type == OBJECT_DIR) {
		struct level l = {.up = up,
		    .name = name,
		    .path = path,
		    .object = object,
		    .chosen = chosen,
		    .ours = up->ours || is_ours(w, path)};

		if (!chosen && !pattern_may_be_below(x->how->patterns, path))
			return 0;
		rc = do_folder(w, &l, e);
		extract_dir_put(l.dir);
		return rc;
	}
	if (!chosen)
		return 0;
	rc = need_folder(w, up, e);
	if (rc == 0 && o.nlink > 1)
		rc = link_to_first(w, up, name, object, e);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (object_has_content(o.type))
		return do_file(w, up, name, object, &o, e);
	return do_other(w, up, name, &o, e);
}

static int
do_batch(struct walk *w, struct level *l, struct batch *b, char **after,
    struct err *e)
{
	int rc = extract_failed(w->x, e);

	for (size_t i = 0; i < b->n; i++) {
		if (rc == 0)
			rc = do_name(w, l, b->v[i].name, b->v[i].object, e);
		free(*after);
		*after = b->v[i].name;
	}
	b->n = 0;
	return rc;
}

static int
do_folder(struct walk *w, struct level *l, struct err *e)
{
	SCOPED_FREE struct batch *b = mem_new(sizeof *b);
	SCOPED_FREE char *after = NULL;
	bool more = true;
	int rc = 0;

	if (l->chosen)
		rc = need_folder(w, l, e);
	if (rc == 0 && l->chosen && l->ours && !l->made && w->x->how->delta)
		rc = remove_extras(w, l, e);
	while (rc == 0 && more) {
		rc =
		    map_view_names(w->x->view, l->object, after, on_name, b, e);
		if (rc < 0)
			return rc;
		more = b->n == BATCH;
		rc = do_batch(w, l, b, &after, e);
	}
	if (rc == 0 && l->dir != NULL)
		rc = leave_folder(w, l, e);
	return rc;
}

int
extract_walk(struct extract *x, struct err *e)
{
	struct walk w = {.x = x, .extents = mem_new(sizeof *w.extents)};
	char nothing[] = "";
	struct level root = {
	    .name = ".", .path = nothing, .object = MAP_ROOT_OBJECT};
	int rc;

	root.chosen = pattern_chooses(x->how->patterns, "");
	root.dir = extract_dir_new(dup(x->target_fd), "");
	rc = do_folder(&w, &root, e);
	/* Workers need the folders as they are until they are done. */
	if (rc == 0)
		rc = extract_finish(x, e);
	else {
		struct err ignored = ERR_NONE;

		extract_fail(x, e);
		extract_finish(x, &ignored);
	}
	if (rc == 0)
		rc = apply_late(&w, e);
	extract_dir_put(root.dir);
	free(w.extents);
	for (size_t i = 0; i < w.links.n; i++)
		free(w.links.v[i].path);
	free(w.links.v);
	for (size_t i = 0; i < w.lates; i++)
		free(w.late[i].path);
	free(w.late);
	return rc;
}

int
extract_walk_device(struct extract *x, struct err *e)
{
	struct walk w = {.x = x, .extents = mem_new(sizeof *w.extents)};
	struct extract_file *f = extract_file_device(x);
	struct err ignored = ERR_NONE;
	int rc;

	x->stats.files = 1;
	x->stats.bytes = x->device_bytes;
	rc = put_content(&w, f, x->device_object, e);
	extract_file_put(x, f);
	if (rc < 0)
		extract_fail(x, e);
	rc = extract_finish(x, rc < 0 ? &ignored : e);
	free(w.extents);
	return rc;
}

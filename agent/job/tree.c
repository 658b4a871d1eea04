/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/tree.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "agent/core/fs.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/core/stop.h"
#include "agent/job/tree_image.h"
#include "agent/store/object.h"

#define DEPTH_MAX 1000u
/* The block map's volume number of folders above the backed-up paths. */
#define VOLUME_HOST UINT32_MAX

/* ---- small sets ---------------------------------------------------------- */

struct child {
	char *name;
	uint64_t object;
};

struct children {
	struct child *v;
	size_t n, cap;
};

static void
children_free(struct children *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->v[i].name);
	free(c->v);
	*c = (struct children){0};
}
#define SCOPED_CHILDREN __attribute__((cleanup(children_free)))

static void
children_add(struct children *c, const char *name, uint64_t object)
{
	MEM_ROOM(c->v, c->n, c->cap);
	c->v[c->n++] = (struct child){mem_str(name), object};
}

static int
by_name(const void *a, const void *b)
{
	const struct child *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Files with several names, so that each is one object. */
struct links {
	struct link_entry {
		uint32_t volume;
		uint64_t ino, object;
	} * v;
	size_t n, cap; /* cap is a power of two */
};

static struct link_entry *
links_at(struct links *l, uint32_t volume, uint64_t ino)
{
	size_t i =
	    (size_t)(ino * 0x9e3779b97f4a7c15ull ^ volume) & (l->cap - 1);

	while (l->v[i].object != 0 &&
	       (l->v[i].volume != volume || l->v[i].ino != ino))
		i = (i + 1) & (l->cap - 1);
	return &l->v[i];
}

static void
links_add(struct links *l, uint32_t volume, uint64_t ino, uint64_t object)
{
	if (2 * (l->n + 1) > l->cap) {
		struct links big = {0};

		big.cap = l->cap ? l->cap * 2 : 64;
		big.v = mem_array(big.cap, sizeof *big.v);
		for (size_t i = 0; i < l->cap; i++)
			if (l->v[i].object != 0)
				*links_at(&big, l->v[i].volume, l->v[i].ino) =
				    l->v[i];
		free(l->v);
		big.n = l->n;
		*l = big;
	}
	*links_at(l, volume, ino) = (struct link_entry){volume, ino, object};
	l->n++;
}

/* ---- the walk -------------------------------------------------------------- */

struct walk {
	struct tree *t;
	dev_t dev; /* of the path being walked: one volume, one device */
	struct links links;
	bool *imaged;   /* for each volume: its image is in the tree */
	uint64_t *kept; /* object numbers that live on */
	size_t kepts, kept_cap;
	/* Folders above the paths, with the children that we gave them. */
	struct above {
		char *path;
		uint64_t object;
		bool old;
		struct children children;
	} * above;
	size_t aboves, above_cap;
};

/* The attributes' digest, without the time of last reading. */
static void
digest_of(const struct object *o, uint8_t out[16])
{
	SCOPED_BUF struct buf b = {0};
	struct object plain = *o;
	XXH128_canonical_t c;

	plain.atime_s = 0;
	plain.atime_ns = 0;
	object_encode(&plain, &b);
	XXH128_canonicalFromHash(&c, XXH3_128bits(b.data, b.len));
	memcpy(out, c.digest, 16);
}

/*
 * One object into the update, and into the map where it is new or its
 * attributes changed. Returns it through *object; *was_there: the previous
 * backup had it.
 */
static int
put_object(struct walk *w, const struct blockmap_object *key,
    const struct object *o, uint64_t *object, size_t *slot,
    const struct blockmap_object **old, struct err *e)
{
	struct tree *t = w->t;
	struct blockmap_object now = *key;

	*old = t->previous
		   ? blockmap_find(t->blockmap, key->volume, key->ino, key->gen)
		   : NULL;
	digest_of(o, now.attributes);
	now.size = object_has_content(o->type) ? o->size : 0;
	now.object = *old ? (*old)->object : *object;
	if (now.object == 0)
		now.object = t->next_object++;
	*slot = *old ? blockmap_keep(t->blockmap, *old, &now)
		     : blockmap_add(t->blockmap, &now);
	*object = now.object;
	t->objects++;
	MEM_ROOM(w->kept, w->kepts, w->kept_cap);
	w->kept[w->kepts++] = now.object;
	if (*old && memcmp((*old)->attributes, now.attributes, 16) == 0)
		return 0;
	return map_builder_object(t->map, now.object, o, e);
}

struct name_diff {
	struct walk *w;
	uint64_t folder;
	const struct children *now;
	size_t at;
	struct err *e;
};

/* Called with the previous names in byte order: merge with today's. */
static int
on_old_name(void *arg, const char *name, uint64_t object)
{
	struct name_diff *d = arg;
	struct tree *t = d->w->t;
	int rc = 0;

	while (rc == 0 && d->at < d->now->n &&
	       strcmp(d->now->v[d->at].name, name) < 0) {
		rc = map_builder_name(t->map, d->folder, d->now->v[d->at].name,
		    d->now->v[d->at].object, d->e);
		d->at++;
	}
	if (rc < 0)
		return rc;
	if (d->at < d->now->n && strcmp(d->now->v[d->at].name, name) == 0) {
		uint64_t is = d->now->v[d->at].object;

		d->at++;
		return is == object ? 0
				    : map_builder_name(
					  t->map, d->folder, name, is, d->e);
	}
	return map_builder_name(t->map, d->folder, name, 0, d->e);
}

/* The names of a folder: what differs from the previous backup. */
static int
put_names(struct walk *w, uint64_t folder, bool old, struct children *c,
    struct err *e)
{
	struct name_diff d = {w, folder, c, 0, e};
	int rc = 0;

	if (c->n > 1)
		qsort(c->v, c->n, sizeof *c->v, by_name);
	if (old)
		rc = map_view_names(
		    w->t->previous, folder, NULL, on_old_name, &d, e);
	for (; rc == 0 && d.at < c->n; d.at++)
		rc = map_builder_name(
		    w->t->map, folder, c->v[d.at].name, c->v[d.at].object, e);
	return rc;
}

/* The inode generation, 0 where the file system has none to tell. */
static uint64_t
generation_of(int dirfd, const char *name, mode_t mode)
{
	SCOPED_FD int fd = -1;
	long gen = 0;

	if (!S_ISREG(mode) && !S_ISDIR(mode))
		return 0;
	fd = openat(dirfd, name,
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME);
	if (fd < 0)
		fd = openat(dirfd, name,
		    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, FS_IOC_GETVERSION, &gen) < 0)
		return 0;
	/* The kernel writes 32 bits through this ioctl. */
	return (uint32_t)gen;
}

static int visit(struct walk *w, size_t volume, int dirfd, const char *name,
    const char *rel, unsigned depth, uint64_t *object, struct err *e);

/* What the engine would not read again, and says so. */
static bool
leave_out(
    struct tree *t, size_t volume, int dirfd, const char *rel, const char *name)
{
	struct stat st;

	if (!needed_not(&t->needed, volume, rel, name) ||
	    fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return false;
	t->left_out++;
	t->left_out_bytes += (uint64_t)st.st_size;
	return true;
}

/* A view holds neither our own snapshots nor other volumes' content. */
static int
walk_folder(struct walk *w, size_t volume, int dirfd, const char *name,
    const char *rel, unsigned depth, uint64_t object, bool old, struct err *e)
{
	SCOPED_CHILDREN struct children c = {0};
	struct dirent *de;
	int fd, rc = 0;
	DIR *d;

	if (depth > DEPTH_MAX)
		return err_set(e, -ELOOP, "%s: folders nest deeper than %u",
		    rel, DEPTH_MAX);
	fd = openat(
	    dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (d == NULL) {
		rc = err_sys(e, errno, "open folder %s", rel);
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == 0 && (errno = 0, de = readdir(d)) != NULL) {
		SCOPED_FREE char *sub = NULL;
		uint64_t child = 0;

		if (strcmp(de->d_name, ".") == 0 ||
		    strcmp(de->d_name, "..") == 0)
			continue;
		if (leave_out(w->t, volume, fd, rel, de->d_name))
			continue;
		sub = rel[0] ? mem_printf("%s/%s", rel, de->d_name)
			     : mem_str(de->d_name);
		rc =
		    visit(w, volume, fd, de->d_name, sub, depth + 1, &child, e);
		if (rc == 0 && child != 0)
			children_add(&c, de->d_name, child);
	}
	if (rc == 0 && errno != 0)
		rc = err_sys(e, errno, "list folder %s", rel);
	closedir(d);
	return rc < 0 ? rc : put_names(w, object, old, &c, e);
}

static void
add_file(struct tree *t, size_t volume, const char *rel, uint64_t ino,
    uint64_t object, uint64_t size, size_t slot,
    const struct blockmap_object *old)
{
	MEM_ROOM(t->file, t->files, t->cap);
	t->file[t->files++] = (struct tree_file){.rel = mem_str(rel),
	    .volume = volume,
	    .ino = ino,
	    .object = object,
	    .size = size,
	    .slot = slot,
	    .old = old};
	t->bytes += size;
}

/* *object stays 0 where the file went away under a live walk. */
static int
visit(struct walk *w, size_t volume, int dirfd, const char *name,
    const char *rel, unsigned depth, uint64_t *object, struct err *e)
{
	struct tree *t = w->t;
	const struct plan_volume *pv = &t->plan->volume[volume];
	SCOPED_OBJECT struct object o = {0};
	const struct blockmap_object *old = NULL;
	struct blockmap_object key = {.volume = pv->number};
	struct stat st;
	size_t slot;
	int rc = stop_check(e);

	if (rc < 0)
		return rc;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT || !pv->live)
			return err_sys(e, errno, "stat %s", rel);
		t->vanished++;
		return 0;
	}
	/* plan.c refuses these by name; here it would be a late comer. */
	if (depth > 0 && st.st_dev != w->dev)
		return err_set(e, -EPERM,
		    "%s is a volume of its own (a mount or nested "
		    "subvolume): give it a job of its own",
		    rel);
	w->dev = st.st_dev;
	if (st.st_nlink > 1 && !S_ISDIR(st.st_mode) && w->links.cap > 0 &&
	    links_at(&w->links, pv->number, st.st_ino)->object != 0) {
		*object = links_at(&w->links, pv->number, st.st_ino)->object;
		return 0;
	}
	rc = object_read(&o, dirfd, name, e);
	if (rc == -ENOENT && pv->live) {
		t->vanished++;
		return err_clear(e);
	}
	if (rc < 0)
		return err_wrap(e, "%s", rel);
	key.ino = st.st_ino;
	/* The type is part of it: where there are no generations, a number may
	 * be a file, then a link, then a file again. As one object the first
	 * file's blocks would show through the holes of the second. */
	key.gen =
	    (uint64_t)o.type << 32 | generation_of(dirfd, name, st.st_mode);
	rc = put_object(w, &key, &o, object, &slot, &old, e);
	if (rc < 0)
		return rc;
	if (st.st_nlink > 1 && !S_ISDIR(st.st_mode))
		links_add(&w->links, pv->number, st.st_ino, *object);
	if (o.type == OBJECT_FILE)
		add_file(t, volume, rel, st.st_ino, *object, o.size, slot, old);
	if (o.type == OBJECT_DIR)
		return walk_folder(w, volume, dirfd, name, rel, depth, *object,
		    old != NULL, e);
	return 0;
}

/* ---- the folders above ------------------------------------------------------ */

/* One that lies within TREE_IMAGE_DIR is ours, not the host's. */
static int
read_above(struct object *o, const char *path, struct err *e)
{
	if (!fs_below(path, TREE_IMAGE_DIR))
		return object_read(o, AT_FDCWD, path, e);
	tree_image_folder(o);
	return 0;
}

/* The index in w->above of an absolute folder; makes it and all above it. */
static int
above_of(struct walk *w, const char *path, size_t *out, struct err *e)
{
	SCOPED_OBJECT struct object o = {0};
	const struct blockmap_object *old = NULL;
	struct blockmap_object key = {
	    .volume = VOLUME_HOST, .ino = XXH3_64bits(path, strlen(path))};
	const char *slash = strrchr(path, '/');
	uint64_t object = slash[1] == '\0' ? MAP_ROOT_OBJECT : 0;
	size_t parent = 0, slot;
	int rc;

	for (size_t i = 0; i < w->aboves; i++)
		if (strcmp(w->above[i].path, path) == 0) {
			*out = i;
			return 0;
		}
	if (object == 0) {
		SCOPED_FREE char *dir =
		    mem_strn(path, slash == path ? 1 : (size_t)(slash - path));

		rc = above_of(w, dir, &parent, e);
		if (rc < 0)
			return rc;
	}
	rc = read_above(&o, path, e);
	if (rc == 0)
		rc = put_object(w, &key, &o, &object, &slot, &old, e);
	if (rc < 0)
		return err_wrap(e, "%s", path);
	if (object != MAP_ROOT_OBJECT)
		children_add(&w->above[parent].children, slash + 1, object);
	MEM_ROOM(w->above, w->aboves, w->above_cap);
	w->above[w->aboves] = (struct above){
	    .path = mem_str(path), .object = object, .old = old != NULL};
	*out = w->aboves++;
	return 0;
}

/* Two names of volumes may be one when their slashes are dashes. */
static int
check_alone(const struct above *dir, const char *name, struct err *e)
{
	for (size_t i = 0; i < dir->children.n; i++)
		if (strcmp(dir->children.v[i].name, name) == 0)
			return err_set(e, -EPERM,
			    "two volumes would both be " TREE_IMAGE_DIR
			    "/%s: give one of them a job of its own",
			    name);
	return 0;
}

/* All of a volume, as one object, with the folders down to where a restore
 * can mount it. */
static int
put_image(struct walk *w, size_t volume, struct err *e)
{
	struct tree *t = w->t;
	const struct plan_volume *pv = &t->plan->volume[volume];
	SCOPED_OBJECT struct object o = {0};
	SCOPED_FREE char *name = tree_image_name(pv->v);
	SCOPED_FREE char *point = tree_image_mount_point(pv->v);
	struct blockmap_object key = {
	    .volume = pv->number, .gen = (uint64_t)OBJECT_IMAGE << 32};
	const struct blockmap_object *old;
	uint64_t object = 0;
	size_t slot, above;
	int rc;

	if (w->imaged[volume])
		return 0;
	w->imaged[volume] = true;
	rc = point != NULL ? above_of(w, point, &above, e) : 0;
	if (rc == 0)
		rc = above_of(w, TREE_IMAGE_DIR, &above, e);
	if (rc == 0)
		rc = check_alone(&w->above[above], name, e);
	if (rc < 0)
		return rc;
	tree_image_object(&o, pv->v);
	rc = put_object(w, &key, &o, &object, &slot, &old, e);
	if (rc < 0)
		return rc;
	children_add(&w->above[above].children, name, object);
	add_file(t, volume, "", 0, object, o.size, slot, old);
	t->file[t->files - 1].image = true;
	return 0;
}

static int
walk_path(struct walk *w, const struct plan_path *pp, struct err *e)
{
	const char *slash = strrchr(pp->path, '/');
	SCOPED_FREE char *dir = NULL;
	int view = w->t->view[pp->volume];
	uint64_t object = 0;
	struct stat st;
	size_t above;
	int rc;

	if (tree_image_is(w->t->plan->volume[pp->volume].v))
		return put_image(w, pp->volume, e);
	if (pp->optional &&
	    fstatat(view, pp->rel, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno == ENOENT)
		return 0;
	dir = mem_strn(
	    pp->path, slash == pp->path ? 1 : (size_t)(slash - pp->path));
	rc = above_of(w, dir, &above, e);
	if (rc < 0)
		return rc;
	if (slash[1] == '\0')
		return err_set(e, -EPERM,
		    "the path / as a whole cannot be a job; name folders");
	rc = visit(w, pp->volume, view, pp->rel[0] ? pp->rel : ".", pp->rel, 0,
	    &object, e);
	if (rc < 0)
		return rc;
	if (object != 0)
		children_add(&w->above[above].children, slash + 1, object);
	return 0;
}

/* ---- what is gone ------------------------------------------------------------ */

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int
drop_gone(struct walk *w, struct err *e)
{
	struct tree *t = w->t;

	if (t->previous == NULL)
		return 0;
	assert(w->kept != NULL); /* the root at least */
	qsort(w->kept, w->kepts, sizeof *w->kept, by_number);
	for (size_t i = 0; i < blockmap_objects(t->blockmap); i++) {
		uint64_t o = blockmap_at(t->blockmap, i)->object;
		int rc;

		if (bsearch(&o, w->kept, w->kepts, sizeof o, by_number))
			continue;
		rc = map_builder_object(t->map, o, NULL, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int
tree_walk(struct tree *t, struct err *e)
{
	struct walk w = {
	    .t = t, .imaged = mem_array(t->plan->volumes, sizeof *w.imaged)};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < t->plan->paths; i++) {
		rc = walk_path(&w, &t->plan->path[i], e);
		if (rc < 0)
			err_wrap(e, "%s", t->plan->path[i].path);
	}
	for (size_t i = 0; rc == 0 && i < w.aboves; i++)
		rc = put_names(&w, w.above[i].object, w.above[i].old,
		    &w.above[i].children, e);
	if (rc == 0)
		rc = drop_gone(&w, e);
	for (size_t i = 0; i < w.aboves; i++) {
		free(w.above[i].path);
		children_free(&w.above[i].children);
	}
	free(w.above);
	free(w.links.v);
	free(w.kept);
	free(w.imaged);
	return rc;
}

int
tree_open(
    struct tree *t, const struct plan *p, const char *snapshot, struct err *e)
{
	t->plan = p;
	pthread_mutex_init(&t->map_lock, NULL);
	t->view = mem_array(p->volumes, sizeof *t->view);
	for (size_t i = 0; i < p->volumes; i++)
		t->view[i] = -1;
	for (size_t i = 0; i < p->volumes; i++) {
		t->view[i] = snap_view(p->volume[i].v, snapshot, e);
		if (t->view[i] < 0)
			return e->code;
	}
	return 0;
}

const struct extents *
tree_used(const struct tree *t, const struct tree_file *f)
{
	if (!f->image || t->used == NULL || t->used[f->volume].n == 0)
		return NULL;
	return &t->used[f->volume];
}

void
tree_leave(struct tree *t)
{
	for (size_t i = 0; t->view && i < t->plan->volumes; i++)
		if (t->view[i] >= 0)
			close(t->view[i]);
	free(t->view);
	t->view = NULL;
}

void
tree_close(struct tree *t)
{
	tree_leave(t);
	needed_fini(&t->needed);
	for (size_t i = 0; t->used && i < t->plan->volumes; i++)
		extents_fini(&t->used[i]);
	free(t->used);
	t->used = NULL;
	for (size_t i = 0; i < t->files; i++)
		free(t->file[i].rel);
	free(t->file);
	t->file = NULL;
	t->files = 0;
}

char *
tree_path(const struct tree *t, const struct tree_file *f)
{
	const struct snap_volume *v = t->plan->volume[f->volume].v;

	if (f->image)
		return strcmp(v->image.name, v->root) == 0
			   ? mem_str(v->root)
			   : mem_printf(
				 "%s (image of %s)", v->image.name, v->root);
	for (size_t i = 0; i < t->plan->paths; i++) {
		const struct plan_path *pp = &t->plan->path[i];
		size_t n = strlen(pp->rel);

		if (pp->volume == f->volume &&
		    strncmp(f->rel, pp->rel, n) == 0 &&
		    (n == 0 || f->rel[n] == '/' || f->rel[n] == '\0'))
			return mem_printf(
			    "%s%s%s", pp->path, n == 0 ? "/" : "", f->rel + n);
	}
	return mem_str(f->rel);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/overlay.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "agent/core/mem.h"
#include "tools/backup.h"
#include "tools/overlay_parts.h"

/* ---- the table of nodes ---------------------------------------------- */

static size_t
bucket_of(const struct overlay *ov, uint64_t ino)
{
	return (size_t)(ino * 0x9e3779b97f4a7c15ull >> 20) % ov->buckets;
}

static void
grow(struct overlay *ov)
{
	struct overlay_node **old = ov->bucket;
	size_t n = ov->buckets;

	ov->buckets = n * 2;
	ov->bucket = mem_array(ov->buckets, sizeof *ov->bucket);
	for (size_t i = 0; i < n; i++) {
		while (old[i] != NULL) {
			struct overlay_node *x = old[i];
			size_t b = bucket_of(ov, x->ino);

			old[i] = x->chain;
			x->chain = ov->bucket[b];
			ov->bucket[b] = x;
		}
	}
	free(old);
}

struct overlay_node *
overlay_find(struct overlay *ov, uint64_t ino)
{
	struct overlay_node *x = ov->bucket[bucket_of(ov, ino)];

	while (x != NULL && x->ino != ino)
		x = x->chain;
	return x;
}

struct overlay_node *
overlay_add(struct overlay *ov, uint64_t ino)
{
	struct overlay_node *x = mem_new(sizeof *x);
	size_t b;

	if (ov->nodes >= ov->buckets)
		grow(ov);
	b = bucket_of(ov, ino);
	x->ino = ino;
	x->chain = ov->bucket[b];
	ov->bucket[b] = x;
	ov->nodes++;
	return x;
}

static void
free_node(struct overlay_node *x)
{
	object_fini(&x->o);
	names_fini(&x->names);
	cow_free(atomic_load(&x->cow));
	free(x);
}

void
overlay_drop(struct overlay *ov, struct overlay_node *n)
{
	struct overlay_node **at = &ov->bucket[bucket_of(ov, n->ino)];

	while (*at != n)
		at = &(*at)->chain;
	*at = n->chain;
	ov->nodes--;
	free_node(n);
}

void
overlay_settle(struct overlay *ov, struct overlay_node *n)
{
	if (n->opens > 0)
		return;
	if (n->o.nlink == 0 || !n->changed)
		overlay_drop(ov, n);
}

struct overlay *
overlay_new(const struct overlay_how *how)
{
	struct overlay *ov = mem_new(sizeof *ov);

	ov->how = *how;
	pthread_rwlock_init(&ov->lock, NULL);
	ov->buckets = 256;
	ov->bucket = mem_array(ov->buckets, sizeof *ov->bucket);
	ov->next_ino = OVERLAY_FIRST_NEW;
	return ov;
}

void
overlay_free(struct overlay *ov)
{
	if (ov == NULL)
		return;
	for (size_t i = 0; i < ov->buckets; i++) {
		while (ov->bucket[i] != NULL) {
			struct overlay_node *x = ov->bucket[i];

			ov->bucket[i] = x->chain;
			free_node(x);
		}
	}
	free(ov->bucket);
	pthread_rwlock_destroy(&ov->lock);
	free(ov);
}

bool
overlay_writable(const struct overlay *ov)
{
	return ov->how.scratch_fd >= 0;
}

uint64_t
overlay_scratch_bytes(struct overlay *ov)
{
	uint64_t sum = 0;

	pthread_rwlock_rdlock(&ov->lock);
	for (size_t i = 0; i < ov->buckets; i++) {
		struct overlay_node *x = ov->bucket[i];

		for (; x != NULL; x = x->chain) {
			struct cow *c = atomic_load(&x->cow);

			if (c != NULL)
				sum += cow_scratch_bytes(c);
		}
	}
	pthread_rwlock_unlock(&ov->lock);
	return sum;
}

int
overlay_statvfs(struct overlay *ov, struct statvfs *out)
{
	struct statvfs s;

	if (!overlay_writable(ov))
		return 0;
	if (fstatvfs(ov->how.scratch_fd, &s) < 0)
		return -errno;
	out->f_bfree = s.f_bavail * (s.f_frsize / CHUNK_BLOCK_BYTES);
	if (s.f_frsize < CHUNK_BLOCK_BYTES)
		out->f_bfree = s.f_bavail / (CHUNK_BLOCK_BYTES / s.f_frsize);
	out->f_bavail = out->f_bfree;
	out->f_files = out->f_ffree = s.f_favail;
	return 0;
}

int
overlay_fail(
    struct overlay *ov, uint64_t ino, uint64_t off, const struct err *e)
{
	char *path;

	switch (-e->code) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
	case EMFILE:
	case ENFILE:
		return e->code; /* the scratch's own; the writer is told */
	default:
		break;
	}
	path = ino > 0 && ino < OVERLAY_FIRST_NEW
		   ? backup_path_of(ov->how.view, ino)
		   : NULL;
	ov->how.report(ov->how.arg, path, off, e);
	free(path);
	return -EIO;
}

/* ---- objects and nodes as stat ---------------------------------------- */

static mode_t
type_bits(enum object_type t)
{
	switch (t) {
	case OBJECT_FILE:
	case OBJECT_IMAGE:
		return S_IFREG;
	case OBJECT_DIR:
		return S_IFDIR;
	case OBJECT_SYMLINK:
		return S_IFLNK;
	case OBJECT_FIFO:
		return S_IFIFO;
	case OBJECT_SOCKET:
		return S_IFSOCK;
	case OBJECT_CHAR:
		return S_IFCHR;
	case OBJECT_BLOCK:
		return S_IFBLK;
	}
	return S_IFREG;
}

static void
fill(uint64_t ino, const struct object *o, struct stat *st)
{
	memset(st, 0, sizeof *st);
	st->st_ino = ino;
	st->st_mode = type_bits(o->type) | (o->mode & 07777);
	/* A folder's 1 says "unknown": 2 would tell find(1) that no folder
	 * is in it. */
	st->st_nlink = o->type == OBJECT_DIR ? 1 : o->nlink;
	st->st_uid = o->uid;
	st->st_gid = o->gid;
	st->st_size = (off_t)o->size;
	if (o->type == OBJECT_SYMLINK && o->target != NULL)
		st->st_size = (off_t)strlen(o->target);
	st->st_blksize = CHUNK_BLOCK_BYTES;
	st->st_rdev = makedev(o->rdev_major, o->rdev_minor);
	st->st_mtim.tv_sec = o->mtime_s;
	st->st_mtim.tv_nsec = o->mtime_ns;
	st->st_atim.tv_sec = o->atime_s;
	st->st_atim.tv_nsec = o->atime_ns;
	st->st_ctim = st->st_mtim;
	st->st_blocks = (blkcnt_t)((st->st_size + 511) / 512);
}

void
overlay_fill(const struct overlay_node *n, struct stat *st)
{
	const struct cow *c = atomic_load(&n->cow);

	fill(n->ino, &n->o, st);
	if (c != NULL) {
		st->st_size = (off_t)cow_size(c);
		st->st_blocks = (blkcnt_t)((st->st_size + 511) / 512);
	}
	if (n->changed)
		st->st_ctim = n->ctime;
}

void
overlay_now(struct timespec *ts)
{
	clock_gettime(CLOCK_REALTIME, ts);
}

/* From the maps; -ENOENT: no such object. */
static int
base_object(struct overlay *ov, uint64_t ino, struct object *o)
{
	struct err e = ERR_NONE;
	int rc;

	if (ino >= OVERLAY_FIRST_NEW)
		return -ENOENT;
	rc = map_view_object(ov->how.view, ino, o, &e);
	if (rc < 0)
		return overlay_fail(ov, ino, 0, &e);
	/* A volume's image is shown, and changed, as any file is. */
	if (rc == 1 && o->type == OBJECT_IMAGE)
		o->type = OBJECT_FILE;
	return rc == 0 ? -ENOENT : 0;
}

int
overlay_node(struct overlay *ov, uint64_t ino, struct overlay_node **out)
{
	struct overlay_node *n = overlay_find(ov, ino);
	struct object o;
	int rc;

	if (n == NULL) {
		rc = base_object(ov, ino, &o);
		if (rc < 0)
			return rc;
		n = overlay_add(ov, ino);
		n->o = o;
		n->in_backup = true;
		if (n->o.nlink == 0)
			n->o.nlink = 1;
	}
	*out = n;
	return 0;
}

static int
stat_locked(struct overlay *ov, uint64_t ino, struct stat *st)
{
	struct overlay_node *n = overlay_find(ov, ino);
	struct object o;
	int rc;

	if (n != NULL) {
		overlay_fill(n, st);
		return 0;
	}
	rc = base_object(ov, ino, &o);
	if (rc < 0)
		return rc;
	fill(ino, &o, st);
	if (st->st_nlink == 0)
		st->st_nlink = 1;
	object_fini(&o);
	return 0;
}

int
overlay_stat(struct overlay *ov, uint64_t ino, struct stat *st)
{
	int rc;

	pthread_rwlock_rdlock(&ov->lock);
	rc = stat_locked(ov, ino, st);
	pthread_rwlock_unlock(&ov->lock);
	return rc;
}

int
overlay_child(
    struct overlay *ov, uint64_t folder, const char *name, uint64_t *ino)
{
	struct overlay_node *n = overlay_find(ov, folder);
	const struct names_entry *x = n ? names_find(&n->names, name) : NULL;
	struct err e = ERR_NONE;
	int rc;

	if (x != NULL) {
		*ino = x->ino;
		return x->ino != 0;
	}
	if (folder >= OVERLAY_FIRST_NEW || strlen(name) > 255)
		return 0;
	rc = map_view_lookup(ov->how.view, folder, name, ino, &e);
	return rc < 0 ? overlay_fail(ov, folder, 0, &e) : rc;
}

int
overlay_lookup(
    struct overlay *ov, uint64_t folder, const char *name, struct stat *st)
{
	uint64_t ino = 0;
	int rc;

	if (strlen(name) > 255)
		return -ENAMETOOLONG;
	pthread_rwlock_rdlock(&ov->lock);
	rc = overlay_child(ov, folder, name, &ino);
	if (rc == 1)
		rc = stat_locked(ov, ino, st);
	else if (rc == 0)
		rc = -ENOENT;
	pthread_rwlock_unlock(&ov->lock);
	return rc;
}

/* ---- reading attributes ----------------------------------------------- */

/* Run `fn` on the object, changed or not. */
static int
with_object(struct overlay *ov, uint64_t ino,
    int (*fn)(const struct object *o, const char *name, void *out),
    const char *name, void *out)
{
	struct overlay_node *n;
	struct object o;
	int rc;

	pthread_rwlock_rdlock(&ov->lock);
	n = overlay_find(ov, ino);
	if (n != NULL) {
		rc = fn(&n->o, name, out);
	} else {
		rc = base_object(ov, ino, &o);
		if (rc == 0) {
			rc = fn(&o, name, out);
			object_fini(&o);
		}
	}
	pthread_rwlock_unlock(&ov->lock);
	return rc;
}

static int
target_of(const struct object *o, const char *name, void *out)
{
	(void)name;
	if (o->type != OBJECT_SYMLINK || o->target == NULL)
		return -EINVAL;
	*(char **)out = mem_str(o->target);
	return 0;
}

static int
value_of(const struct object *o, const char *name, void *out)
{
	for (size_t i = 0; i < o->xattrs; i++) {
		if (strcmp(o->xattr[i].name, name) != 0)
			continue;
		buf_put(out, o->xattr[i].value, o->xattr[i].value_len);
		return 0;
	}
	return -ENODATA;
}

static int
names_of(const struct object *o, const char *name, void *out)
{
	(void)name;
	for (size_t i = 0; i < o->xattrs; i++)
		buf_put(out, o->xattr[i].name, strlen(o->xattr[i].name) + 1);
	return 0;
}

int
overlay_readlink(struct overlay *ov, uint64_t ino, char **target)
{
	return with_object(ov, ino, target_of, NULL, target);
}

int
overlay_getxattr(
    struct overlay *ov, uint64_t ino, const char *name, struct buf *out)
{
	return with_object(ov, ino, value_of, name, out);
}

int
overlay_listxattr(struct overlay *ov, uint64_t ino, struct buf *out)
{
	return with_object(ov, ino, names_of, NULL, out);
}

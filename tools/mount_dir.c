/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/mem.h"
#include "tools/mount_ops.h"

/*
 * An open folder. Offsets count entries: 1 is behind ".", 2 behind "..", then
 * the names in byte order. The kernel goes on at the end of the last reply, or
 * somewhere within it where its caller's buffer was full: so the names of the
 * last reply are kept. Anywhere else means counting from the start.
 *
 * Going on by name, not by number, makes a listing stable while names come and
 * go: what stays is seen exactly once.
 */
struct folder {
	pthread_mutex_t lock;
	char **name; /* name[i] has the offset first + i */
	size_t n, cap;
	uint64_t first; /* >= 3 */
};

static void
forget_names(struct folder *d, uint64_t first)
{
	for (size_t i = 0; i < d->n; i++)
		free(d->name[i]);
	d->n = 0;
	d->first = first;
}

void
mount_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct folder *d = mem_new(sizeof *d);

	(void)ino;
	pthread_mutex_init(&d->lock, NULL);
	d->first = 3;
	fi->fh = (uint64_t)(uintptr_t)d;
	if (fuse_reply_open(req, fi) == -ENOENT)
		free(d);
}

void
mount_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct folder *d = (struct folder *)(uintptr_t)fi->fh;

	(void)ino;
	forget_names(d, 3);
	free(d->name);
	pthread_mutex_destroy(&d->lock);
	free(d);
	fuse_reply_err(req, 0);
}

struct listing {
	fuse_req_t req;
	struct folder *folder;
	bool plus;
	char *buf;
	size_t len, cap;
	uint64_t off; /* of the last entry put */
	int rc;
};

/* 1: it does not fit any more. */
static int
put(struct listing *l, const char *name, const struct stat *st)
{
	struct fuse_entry_param p = {.attr_timeout = MOUNT_TIMEOUT_S,
	    .entry_timeout = MOUNT_TIMEOUT_S,
	    .ino = st->st_ino,
	    .attr = *st};
	size_t left = l->cap - l->len, n;

	/* "." and ".." are not looked-up names: the kernel wants inode 0. */
	if (name[0] == '.' &&
	    (name[1] == '\0' || (name[1] == '.' && name[2] == '\0')))
		p.ino = 0;
	if (l->plus)
		n = fuse_add_direntry_plus(l->req, l->buf + l->len, left, name,
		    &p, (off_t)(l->off + 1));
	else
		n = fuse_add_direntry(l->req, l->buf + l->len, left, name, st,
		    (off_t)(l->off + 1));
	if (n > left)
		return 1;
	l->len += n;
	l->off++;
	return 0;
}

static int
on_name(void *arg, const char *name, uint64_t ino)
{
	struct listing *l = arg;
	struct folder *d = l->folder;
	struct stat st;
	int rc;

	rc = overlay_stat(mount_overlay(l->req), ino, &st);
	if (rc == -ENOENT)
		return 0; /* removed since: it has no place in the list */
	if (rc < 0) {
		l->rc = rc;
		return 1;
	}
	if (put(l, name, &st) != 0)
		return 1;
	MEM_ROOM(d->name, d->n, d->cap);
	d->name[d->n++] = mem_str(name);
	return 0;
}

struct skip {
	uint64_t left;
	char *last;
};

static int
on_skip(void *arg, const char *name, uint64_t ino)
{
	struct skip *s = arg;

	(void)ino;
	free(s->last);
	s->last = mem_str(name);
	return --s->left == 0;
}

/* The name behind which offset `off` goes on; gives; NULL: from the first. */
static char *
name_before(struct overlay *ov, uint64_t ino, struct folder *d, uint64_t off)
{
	struct skip s = {.left = off - 2};

	assert(off >= 2);
	if (off == 2)
		return NULL;
	if (off >= d->first && off < d->first + d->n)
		return mem_str(d->name[off - d->first]);
	overlay_list(ov, ino, NULL, on_skip, &s);
	return s.last;
}

static int
list(struct listing *l, fuse_ino_t ino, uint64_t off)
{
	struct stat st = {.st_ino = ino, .st_mode = S_IFDIR};
	SCOPED_FREE char *after = NULL;
	int rc;

	l->off = off;
	if (l->off == 0 && put(l, ".", &st) != 0)
		return 0;
	if (l->off == 1 && put(l, "..", &st) != 0)
		return 0;
	after = name_before(mount_overlay(l->req), ino, l->folder, l->off);
	forget_names(l->folder, l->off + 1);
	rc = overlay_list(mount_overlay(l->req), ino, after, on_name, l);
	/* What was put already must be told: each counts as a look-up. */
	if (l->len > 0)
		return 0;
	return rc < 0 ? rc : l->rc;
}

static void
serve(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
    struct fuse_file_info *fi, bool plus)
{
	struct folder *d = (struct folder *)(uintptr_t)fi->fh;
	struct listing l = {.req = req, .folder = d, .plus = plus, .cap = size};
	int rc;

	l.buf = mem_new(size > 0 ? size : 1);
	pthread_mutex_lock(&d->lock);
	rc = list(&l, ino, off < 0 ? 0 : (uint64_t)off);
	pthread_mutex_unlock(&d->lock);
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_buf(req, l.buf, l.len);
	free(l.buf);
}

void
mount_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
    struct fuse_file_info *fi)
{
	serve(req, ino, size, off, fi, false);
}

void
mount_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
    struct fuse_file_info *fi)
{
	serve(req, ino, size, off, fi, true);
}

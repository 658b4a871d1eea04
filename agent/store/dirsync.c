/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/dirsync.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

/* A sync is a flush of the disk, some milliseconds, even where there is nothing
 * to write; the kernel makes one flush of those that wait at the same time. */
#define AT_ONCE 8

void
dirsync_init(struct dirsync *d, int dirfd)
{
	*d = (struct dirsync){.dirfd = dirfd};
	pthread_mutex_init(&d->syncing, NULL);
	pthread_mutex_init(&d->lock, NULL);
}

void
dirsync_fini(struct dirsync *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->folder[i]->path);
		free(d->folder[i]);
	}
	free(d->folder);
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->syncing);
}

/* ---- which ---------------------------------------------------------------- */

/* With the lock held. What is above the repository is not ours to sync. */
static struct dirsync_folder *
folder_at(struct dirsync *d, const char *path)
{
	struct dirsync_folder *f;

	for (size_t i = 0; i < d->n; i++)
		if (strcmp(d->folder[i]->path, path) == 0)
			return d->folder[i];
	MEM_ROOM(d->folder, d->n, d->cap);
	f = d->folder[d->n++] = mem_new(sizeof *f);
	*f = (struct dirsync_folder){
	    .path = mem_str(path), .named = strcmp(path, ".") == 0};
	return f;
}

/* Cuts the last component off: "packs/3f" from "packs/3f/3f20…", then "packs",
 * then ".". */
static const char *
above(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash == NULL)
		return ".";
	*slash = '\0';
	return path;
}

void
dirsync_touch(struct dirsync *d, const char *name)
{
	SCOPED_FREE char *at = mem_str(name);
	struct dirsync_folder *f;

	pthread_mutex_lock(&d->lock);
	do {
		f = folder_at(d, above(at));
		f->touched = true;
	} while (!f->named);
	pthread_mutex_unlock(&d->lock);
}

void
dirsync_made(struct dirsync *d, const char *name)
{
	SCOPED_FREE char *at = mem_str(name);
	const char *path;

	pthread_mutex_lock(&d->lock);
	while (strcmp(path = above(at), ".") != 0)
		folder_at(d, path)->named = false;
	pthread_mutex_unlock(&d->lock);
}

/* ---- sync ------------------------------------------------------------------- */

struct crew {
	int dirfd;
	struct dirsync_folder **v;
	size_t n;
	atomic_size_t next;
	pthread_mutex_t lock; /* for what follows */
	int rc;
	struct err *e;
};

static void *
sync_some(void *arg)
{
	struct crew *c = arg;
	size_t i;

	while ((i = atomic_fetch_add(&c->next, 1)) < c->n) {
		struct err e = ERR_NONE;
		int rc = fs_sync_dir_at(c->dirfd, c->v[i]->path, &e);

		pthread_mutex_lock(&c->lock);
		if (rc < 0 && c->rc == 0)
			c->rc = err_copy(c->e, &e);
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

/* Where no thread can be had, the caller syncs them one after the other. */
static int
sync_all(struct crew *c)
{
	pthread_t helper[AT_ONCE - 1];
	size_t n = 0;

	pthread_mutex_init(&c->lock, NULL);
	while (n < MEM_COUNT(helper) && n + 1 < c->n &&
	       pthread_create(&helper[n], NULL, sync_some, c) == 0)
		n++;
	sync_some(c);
	while (n > 0)
		pthread_join(helper[--n], NULL);
	pthread_mutex_destroy(&c->lock);
	return c->rc;
}

/* Those that were touched, who are not any more. */
static size_t
take_touched(struct dirsync *d, struct dirsync_folder ***out)
{
	size_t n = 0;

	pthread_mutex_lock(&d->lock);
	*out = mem_array(d->n, sizeof **out);
	for (size_t i = 0; i < d->n; i++)
		if (d->folder[i]->touched) {
			d->folder[i]->touched = false;
			(*out)[n++] = d->folder[i];
		}
	pthread_mutex_unlock(&d->lock);
	return n;
}

/* Of a folder whose name was not durable, the one above it was synced too. One
 * that was touched again may have been made anew meanwhile. */
static void
note_named(struct dirsync *d, struct dirsync_folder **v, size_t n)
{
	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < n; i++)
		if (!v[i]->touched)
			v[i]->named = true;
	pthread_mutex_unlock(&d->lock);
}

int
dirsync_run(struct dirsync *d, struct err *e)
{
	SCOPED_FREE struct dirsync_folder **v = NULL;
	struct crew c = {.dirfd = d->dirfd, .e = e};
	int rc;

	pthread_mutex_lock(&d->syncing);
	/* The kernel reports a lost write once; a second fsync would succeed
	 * and mean nothing. So a failed sync stays failed. */
	if (d->failed < 0) {
		rc = err_set(e, d->failed,
		    "an earlier sync failed: what was written is not safe");
	} else {
		c.n = take_touched(d, &v);
		c.v = v;
		rc = d->failed = sync_all(&c);
		if (rc == 0)
			note_named(d, v, c.n);
	}
	pthread_mutex_unlock(&d->syncing);
	return rc;
}

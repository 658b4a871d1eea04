/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folders below the first are read by several threads: a backup looks at the
 * names of all packs, in 256 folders, 150,000 of them for 10 TB, and what is not
 * in the cache is read from the disk one block after the other.
 */
#include "agent/store/repo_dir_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/mem.h"

/* packs/XX/ID and proofs/JOB/TIME/CHECKED are the deepest; more is a mistake
 * (a link to a folder above itself), and is not followed for ever. */
#define DEPTH_MAX 8

#define THREADS 8u

struct crowd {
	int fd;
	const struct repo_dir_walk *how;

	pthread_mutex_t lock; /* of all below, and of how->fn */
	struct buf folders;   /* below the first: names, each with its NUL */
	size_t taken;         /* of these bytes */
	int rc;               /* the first that is not 0 ends it all */
	struct err e;
};

/* One thread's. */
struct walk {
	struct crowd *crowd;
	char name[REPO_NAME_MAX + 1]; /* of the folder or file we are at */
	unsigned depth;
	struct buf files; /* of a folder: u64 length, name with its NUL */
};

static int walk_folder(struct walk *w, size_t len, struct err *e);

static void
found(struct walk *w, uint64_t len)
{
	buf_put_le64(&w->files, len);
	buf_put(&w->files, w->name, strlen(w->name) + 1);
}

static int
found_folder(struct walk *w, struct err *e)
{
	struct crowd *c = w->crowd;

	if (w->depth > 1)
		return walk_folder(w, strlen(w->name), e);
	/* Of the first: nobody else is there yet. */
	buf_put(&c->folders, w->name, strlen(w->name) + 1);
	return 0;
}

/* One entry of the folder in w->name; `len` is that name's length. */
static int
walk_entry(struct walk *w, size_t len, const struct dirent *de, struct err *e)
{
	const struct crowd *c = w->crowd;
	const char *entry = de->d_name;
	size_t n = strlen(entry);
	struct stat st;
	int rc = 0;

	/* Hidden files are temporary ones, NFS's, or not ours at all. */
	if (entry[0] == '.' || len + 1 + n > REPO_NAME_MAX)
		return 0;
	if (len > 0)
		w->name[len] = '/';
	memcpy(w->name + len + (len > 0), entry, n + 1);
	/* The folder says what it is; to stat costs 10 µs each, when it is not
	 * in the cache: a second for the packs of some terabytes. */
	if (de->d_type == DT_DIR) {
		rc = found_folder(w, e);
	} else if (c->how->names && de->d_type == DT_REG) {
		found(w, 0);
	} else if (fstatat(c->fd, w->name, &st, 0) < 0) {
		if (errno != ENOENT) /* it may be removed meanwhile */
			rc = err_sys(e, errno, "stat %s", w->name);
	} else if (S_ISDIR(st.st_mode)) {
		rc = found_folder(w, e);
	} else if (S_ISREG(st.st_mode)) {
		found(w, (uint64_t)st.st_size);
	}
	w->name[len] = '\0';
	return rc;
}

static int
read_folder(struct walk *w, DIR *d, size_t len, struct err *e)
{
	struct dirent *de;
	int rc = 0;

	do {
		errno = 0;
		de = readdir(d);
		if (de != NULL)
			rc = walk_entry(w, len, de, e);
		else if (errno != 0)
			rc = err_sys(e, errno, "list folder %s", w->name);
	} while (rc == 0 && de != NULL);
	return rc;
}

/* Hand out w->files. Under the lock. */
static int
tell(struct walk *w, struct err *e)
{
	const struct repo_dir_walk *how = w->crowd->how;
	const uint8_t *at = w->files.data, *end = at + w->files.len;
	int rc = 0;

	while (rc == 0 && at < end) {
		const char *name = (const char *)at + 8;

		rc = how->fn(how->arg, name, bytes_le64(at), e);
		at += 8 + strlen(name) + 1;
	}
	buf_clear(&w->files);
	return rc;
}

/* Below the folder that a thread has taken, one at a time: what is kept is of one
 * folder, and an end is noticed. */
static int
tell_so_far(struct walk *w, struct err *e)
{
	struct crowd *c = w->crowd;
	int rc;

	pthread_mutex_lock(&c->lock);
	rc = c->rc != 0 ? c->rc : tell(w, e);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

/* The folder in w->name, `len` bytes; its files come to be in w->files. */
static int
walk_folder(struct walk *w, size_t len, struct err *e)
{
	int fd, rc;
	DIR *d;

	if (w->depth == DEPTH_MAX)
		return err_set(e, -ELOOP, "%s: folders too deep", w->name);
	fd = openat(w->crowd->fd, len > 0 ? w->name : ".",
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT
			   ? 0
			   : err_sys(e, errno, "open folder %s", w->name);
	d = fdopendir(fd);
	if (d == NULL) {
		rc = err_sys(e, errno, "list folder %s", w->name);
		close(fd);
		return rc;
	}
	w->depth++;
	rc = read_folder(w, d, len, e);
	w->depth--;
	closedir(d);
	return rc == 0 && w->depth > 1 ? tell_so_far(w, e) : rc;
}

/* The next folder into w->name. Under the lock. */
static bool
take(struct walk *w)
{
	struct crowd *c = w->crowd;
	const char *name = (const char *)c->folders.data + c->taken;
	size_t n;

	if (c->rc != 0 || c->taken == c->folders.len)
		return false;
	n = strlen(name) + 1;
	memcpy(w->name, name, n); /* it came from one as long */
	c->taken += n;
	return true;
}

static void *
help(void *arg)
{
	struct crowd *c = arg;
	struct walk w = {.crowd = c};

	pthread_mutex_lock(&c->lock);
	while (take(&w)) {
		struct err e = ERR_NONE;
		int rc;

		pthread_mutex_unlock(&c->lock);
		w.depth = 1;
		rc = walk_folder(&w, strlen(w.name), &e);
		pthread_mutex_lock(&c->lock);
		if (rc == 0 && c->rc == 0)
			rc = tell(&w, &e);
		if (rc != 0 && c->rc == 0) {
			c->rc = rc;
			c->e = e;
		}
	}
	pthread_mutex_unlock(&c->lock);
	buf_free(&w.files);
	return NULL;
}

/* The first folder itself. */
static int
begin(struct crowd *c, struct err *e)
{
	struct walk w = {.crowd = c};
	int rc;

	snprintf(w.name, sizeof w.name, "%s", c->how->prefix);
	rc = walk_folder(&w, strlen(w.name), e);
	if (rc == 0)
		rc = tell(&w, e);
	buf_free(&w.files);
	return rc;
}

static size_t
count(const struct buf *names)
{
	size_t n = 0;

	for (size_t i = 0; i < names->len; i++)
		n += names->data[i] == '\0';
	return n;
}

int
repo_dir_walk(int fd, const struct repo_dir_walk *how, struct err *e)
{
	struct crowd c = {.fd = fd, .how = how, .e = ERR_NONE};
	pthread_t thread[THREADS];
	unsigned n = 0;

	pthread_mutex_init(&c.lock, NULL);
	c.rc = begin(&c, e);
	if (c.rc == 0 && c.folders.len > 0) {
		size_t folders = count(&c.folders);

		/* This one takes part: where no other can be had, it does all. */
		while (n < THREADS && n + 1 < folders &&
		       pthread_create(&thread[n], NULL, help, &c) == 0)
			n++;
		help(&c);
		for (unsigned i = 0; i < n; i++)
			pthread_join(thread[i], NULL);
		if (c.rc < 0)
			err_copy(e, &c.e);
	}
	pthread_mutex_destroy(&c.lock);
	buf_free(&c.folders);
	return c.rc;
}

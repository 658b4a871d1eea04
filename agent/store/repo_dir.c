/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/repo_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/tmpfile.h"
#include "agent/store/dirsync.h"
#include "agent/store/fdcache.h"
#include "agent/store/repo_dir_walk.h"

#define FOLDER_MODE 0700
#define FILE_MODE 0600

/* Write-back is started this often while a file grows, so that the fsync at
 * its commit finds most of it on disk. */
#define WRITEBACK_BYTES (8u << 20)

struct repo_dir {
	struct repo base; /* first */
	char *path;
	int fd;
	atomic_bool reaped; /* leftovers of killed processes were looked for */
	struct fdcache open;
	struct dirsync sync;
};

struct put {
	struct repo_put base; /* first */
	struct tmpfile tmp;
	uint64_t started; /* write-back was asked for up to here */
};

static struct repo_dir *
dir_of(struct repo *r)
{
	return (struct repo_dir *)r;
}

/* ---- open --------------------------------------------------------------- */

static int
make_root(const char *path, struct err *e)
{
	SCOPED_FREE char *parent = NULL;
	struct stat st;
	int rc;

	if (stat(path, &st) == 0)
		return 0;
	rc = fs_mkdirs(path, FOLDER_MODE, e);
	if (rc < 0)
		return rc;
	parent = fs_join(path, "..");
	return fs_sync_dir_at(AT_FDCWD, parent, e);
}

static int
dir_open(struct repo **out, const char *url, bool create, struct err *e)
{
	const char *path = strncmp(url, "dir://", 6) == 0 ? url + 6 : url;
	struct repo_dir *r;
	int fd;

	if (path[0] == '\0')
		return err_set(e, -EINVAL, "it names no folder");
	if (create && make_root(path, e) < 0)
		return e->code;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open folder %s", path);
	r = mem_new(sizeof *r);
	r->base = (struct repo){&repo_dir_ops, mem_str(url)};
	r->path = mem_str(path);
	r->fd = fd;
	fdcache_init(&r->open, fd);
	dirsync_init(&r->sync, fd);
	*out = &r->base;
	return 0;
}

static void
dir_close(struct repo *base)
{
	struct repo_dir *r = dir_of(base);

	fdcache_fini(&r->open);
	dirsync_fini(&r->sync);
	close(r->fd);
	free(r->path);
	free(r->base.url);
	free(r);
}

/* ---- put ---------------------------------------------------------------- */

static int
space_hint(const struct repo_dir *r, struct err *e)
{
	if (e->code == -ENOSPC || e->code == -EDQUOT)
		return err_hint(e,
		    "the file system that holds %s is full: prune, or give it "
		    "more space",
		    r->path);
	return e->code;
}

static int
dir_put_begin(struct repo *base, struct repo_put **out, struct err *e)
{
	struct repo_dir *r = dir_of(base);
	struct put *p = mem_new(sizeof *p);
	struct err ignored = ERR_NONE;

	if (!atomic_exchange(&r->reaped, true))
		tmpfile_reap(r->fd, ".", &ignored); /* only untidy */

	p->base.repo = base;
	if (tmpfile_open(&p->tmp, r->fd, ".", FILE_MODE, e) < 0) {
		free(p);
		return space_hint(r, e);
	}
	*out = &p->base;
	return 0;
}

static int
dir_put_write(struct repo_put *base, struct span bytes, struct err *e)
{
	struct put *p = (struct put *)base;

	if (tmpfile_write(&p->tmp, bytes.data, bytes.len, e) < 0)
		return space_hint(dir_of(base->repo), e);
	if (p->tmp.len - p->started >= WRITEBACK_BYTES) {
		/* A hint; what fails here fails again at the fsync. */
		(void)sync_file_range(p->tmp.fd, (off_t)p->started,
		    (off_t)(p->tmp.len - p->started), SYNC_FILE_RANGE_WRITE);
		p->started = p->tmp.len;
	}
	return 0;
}

static void
dir_put_abort(struct repo_put *base)
{
	struct put *p = (struct put *)base;

	tmpfile_close(&p->tmp);
	free(p);
}

static int
make_folder_of(struct repo_dir *r, const char *name, struct err *e)
{
	SCOPED_FREE char *folder = mem_str(name);
	char *slash = strrchr(folder, '/');
	struct stat st;

	if (slash == NULL)
		return 0;
	*slash = '\0';
	if (fstatat(r->fd, folder, &st, 0) == 0)
		return 0;
	if (fs_mkdirs_at(r->fd, folder, FOLDER_MODE, e) < 0)
		return e->code;
	dirsync_made(&r->sync, name);
	return 0;
}

static int
dir_put_commit(struct repo_put *base, const char *name, struct err *e)
{
	struct put *p = (struct put *)base;
	struct repo_dir *r = dir_of(base->repo);
	int rc = make_folder_of(r, name, e);

	if (rc == 0)
		rc = tmpfile_commit(&p->tmp, r->fd, name, e);
	/* Also where the name was taken: the caller may rely on that file, and
	 * who put it may have been killed before its sync. */
	if (rc == 0 || rc == -EEXIST)
		dirsync_touch(&r->sync, name);
	dir_put_abort(base);
	return rc < 0 ? space_hint(r, e) : 0;
}

/* ---- get ---------------------------------------------------------------- */

static int
dir_get(struct repo *base, const char *name, uint64_t off, void *to, size_t len,
    struct err *e)
{
	struct repo_dir *r = dir_of(base);
	struct fdcache_loan loan;
	int rc = fdcache_get(&r->open, name, &loan, e);

	if (rc < 0)
		return rc;
	rc = fs_pread(loan.fd, to, len, off, e);
	fdcache_put(&r->open, loan);
	return rc;
}

static int
dir_size(struct repo *base, const char *name, uint64_t *len, struct err *e)
{
	struct repo_dir *r = dir_of(base);
	struct stat st;

	if (fstatat(r->fd, name, &st, 0) < 0)
		return err_sys(e, errno, "stat");
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "not a regular file");
	/* Who asks for a file's length is about to rely on it, and its writer
	 * may have been killed before the sync: a pack found by index_recover
	 * must not be named by a segment before its own name is durable. */
	dirsync_touch(&r->sync, name);
	*len = (uint64_t)st.st_size;
	return 0;
}

static int
dir_remove(struct repo *base, const char *name, struct err *e)
{
	struct repo_dir *r = dir_of(base);

	if (unlinkat(r->fd, name, 0) < 0)
		return err_sys(e, errno, "remove");
	fdcache_forget(&r->open, name);
	dirsync_touch(&r->sync, name);
	return 0;
}

/* ---- list --------------------------------------------------------------- */

static int
walk(struct repo *base, const struct repo_dir_walk *how, struct err *e)
{
	struct repo_dir *r = dir_of(base);
	struct stat st;

	/* A folder that is not there yet has no files; a repository that is not
	 * there any more is an error, never an empty list. */
	if (fstat(r->fd, &st) < 0)
		return err_sys(e, errno, "stat");
	if (st.st_nlink == 0)
		return err_set(e, -ENOENT, "the repository's folder is gone");
	return repo_dir_walk(r->fd, how, e);
}

static int
dir_list(struct repo *base, const char *prefix, repo_list_fn *fn, void *arg,
    struct err *e)
{
	return walk(base,
	    &(struct repo_dir_walk){.prefix = prefix, .fn = fn, .arg = arg}, e);
}

static int
dir_list_names(struct repo *base, const char *prefix, repo_list_fn *fn,
    void *arg, struct err *e)
{
	return walk(base,
	    &(struct repo_dir_walk){
		.prefix = prefix, .names = true, .fn = fn, .arg = arg},
	    e);
}

static int
dir_sync(struct repo *base, struct err *e)
{
	struct repo_dir *r = dir_of(base);

	return dirsync_run(&r->sync, e) < 0 ? space_hint(r, e) : 0;
}

const struct repo_ops repo_dir_ops = {
    .scheme = "dir",
    .summary = "a folder: /path, or dir:///path",
    .open = dir_open,
    .close = dir_close,
    .put_begin = dir_put_begin,
    .put_write = dir_put_write,
    .put_commit = dir_put_commit,
    .put_abort = dir_put_abort,
    .get = dir_get,
    .size = dir_size,
    .list = dir_list,
    .list_names = dir_list_names,
    .remove = dir_remove,
    .sync = dir_sync,
};

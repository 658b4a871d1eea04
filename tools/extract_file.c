/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "tools/extract_parts.h"

struct extract_dir *
extract_dir_new(int fd, const char *path)
{
	struct extract_dir *d = mem_new(sizeof *d);

	d->fd = fd;
	d->path = mem_str(path);
	atomic_init(&d->refs, 1);
	return d;
}

void
extract_dir_put(struct extract_dir *d)
{
	if (d == NULL || atomic_fetch_sub(&d->refs, 1) != 1)
		return;
	close(d->fd);
	free(d->path);
	free(d);
}

int
extract_apply(struct extract *x, const struct object *o, int dirfd,
    const char *name, const char *path, struct err *e)
{
	struct err ae = ERR_NONE;
	int rc = object_apply(o, dirfd, name, &ae);
	bool tell;

	if (rc >= 0)
		return 0;
	if (rc != -EOPNOTSUPP && rc != -EPERM) {
		err_copy(e, &ae);
		return err_wrap(e, "set the attributes of %s", path);
	}
	pthread_mutex_lock(&x->lock);
	x->stats.unset++;
	tell = !x->unset_told;
	x->unset_told = true;
	pthread_mutex_unlock(&x->lock);
	if (tell)
		log_warn("%s: %s; the same is not told again for other paths%s",
		    path, ae.text,
		    geteuid() == 0 ? "" : "; only root can restore owners");
	return 0;
}

/* ---- files --------------------------------------------------------------- */

/*
 * Can the file that is there be changed in place? One with several names may be
 * another file of the backup too, or somebody else's outside the target; and
 * some flags are taken by empty files only. Those are replaced.
 */
static int
open_existing(
    int dirfd, const char *name, const struct object *o, int *fd, struct err *e)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "stat");
	if (S_ISREG(st.st_mode) && st.st_nlink == 1) {
		*fd = openat(
		    dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
		if (*fd < 0)
			return err_sys(e, errno, "open");
		if (object_can_become(o, *fd))
			return 1;
		close(*fd);
		*fd = -1;
	}
	return fs_remove_tree_at(dirfd, name, e);
}

static int
open_or_make(struct extract *x, struct extract_file *f, struct err *e)
{
	int rc = 0;

	if (x->how->delta)
		rc = open_existing(f->dir->fd, f->name, &f->o, &f->fd, e);
	if (rc < 0)
		return rc;
	f->existed = rc == 1;
	if (!f->existed) {
		f->fd = openat(f->dir->fd, f->name,
		    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (f->fd < 0)
			return err_sys(e, errno, "make");
		object_apply_early(&f->o, f->fd);
	}
	if (f->o.size > INT64_MAX)
		return err_set(e, -EBADMSG, "its size in the backup is %llu",
		    (unsigned long long)f->o.size);
	if (ftruncate(f->fd, (off_t)f->o.size) < 0)
		return err_sys(e, errno, "set the size to %llu",
		    (unsigned long long)f->o.size);
	return 0;
}

static int
wait_for_place(struct extract *x, struct err *e)
{
	bool full;
	int rc;

	pthread_mutex_lock(&x->lock);
	full = x->open_files >= x->open_files_max;
	pthread_mutex_unlock(&x->lock);
	/* What we hold back ourselves may be what keeps them open. */
	if (full && (rc = extract_flush(x, e)) < 0)
		return rc;
	pthread_mutex_lock(&x->lock);
	while (x->open_files >= x->open_files_max)
		pthread_cond_wait(&x->file_closed, &x->lock);
	x->open_files++;
	pthread_mutex_unlock(&x->lock);
	return 0;
}

static void
forget(struct extract *x, struct extract_file *f)
{
	if (f->fd >= 0 && !f->device)
		close(f->fd);
	pthread_mutex_lock(&x->lock);
	x->open_files--;
	pthread_cond_signal(&x->file_closed);
	pthread_mutex_unlock(&x->lock);
	extract_dir_put(f->dir);
	pthread_mutex_destroy(&f->writing);
	object_fini(&f->o);
	free(f->name);
	free(f);
}

int
extract_file_open(struct extract *x, struct extract_dir *dir, const char *name,
    struct object *o, struct extract_file **out, struct err *e)
{
	struct extract_file *f;
	int rc = wait_for_place(x, e);

	if (rc < 0)
		return rc;
	f = mem_new(sizeof *f);
	atomic_fetch_add(&dir->refs, 1);
	f->dir = dir;
	f->name = mem_str(name);
	f->o = *o;
	memset(o, 0, sizeof *o);
	f->fd = -1;
	atomic_init(&f->refs, 1);
	pthread_mutex_init(&f->writing, NULL);
	rc = open_or_make(x, f, e);
	if (rc < 0) {
		err_wrap(e, "%s/%s/%s", x->how->target, dir->path, name);
		forget(x, f);
		return e->code;
	}
	*out = f;
	return 0;
}

struct extract_file *
extract_file_device(struct extract *x)
{
	struct extract_file *f = mem_new(sizeof *f);

	f->dir = extract_dir_new(dup(x->target_fd), "");
	f->name = mem_str(x->how->target + strspn(x->how->target, "/"));
	f->o.size = x->device_bytes;
	f->fd = x->target_fd;
	f->device = true;
	f->existed = x->how->delta;
	atomic_init(&f->refs, 1);
	pthread_mutex_init(&f->writing, NULL);
	pthread_mutex_lock(&x->lock);
	x->open_files++;
	pthread_mutex_unlock(&x->lock);
	return f;
}

void
extract_file_get(struct extract_file *f)
{
	atomic_fetch_add(&f->refs, 1);
}

void
extract_file_put(struct extract *x, struct extract_file *f)
{
	SCOPED_FREE char *path = NULL;
	struct err e = ERR_NONE;

	if (atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	path = mem_printf("%s/%s", f->dir->path, f->name);
	if (!f->device && extract_failed(x, &e) == 0 &&
	    extract_apply(x, &f->o, f->dir->fd, f->name, path, &e) < 0)
		extract_fail(x, &e);
	forget(x, f);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One open file of a reader: how it is opened, and when it may be closed. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/io/reader_internal.h"

/*
 * O_NOATIME is for the owner and root only; O_DIRECT is refused at open by
 * file systems that have no such path. Each is dropped alone.
 */
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NOATIME)

static int
open_best(int dirfd, const char *name, int flags, bool *direct)
{
	for (;;) {
		int fd = openat(dirfd, name, flags | (*direct ? O_DIRECT : 0));

		if (fd >= 0)
			return fd;
		if (errno == EPERM && (flags & O_NOATIME) != 0)
			flags &= ~O_NOATIME;
		else if (errno == EINVAL && *direct)
			*direct = false;
		else if (errno != EINTR)
			return -errno;
	}
}

static int
size_of(int fd, const struct stat *st, const char *label, uint64_t *out,
    struct err *e)
{
	*out = (uint64_t)st->st_size;
	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, out) < 0)
		return err_sys(e, errno, "size of %s", label);
	return 0;
}

static const char *
odd_type(mode_t mode)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return NULL;
	return S_ISLNK(mode) ? "a symbolic link"
			     : "neither a regular file nor a block device";
}

static void
enlist(struct reader *r, struct reader_file *f)
{
	f->r = r;
	f->next = r->files;
	if (f->next != NULL)
		f->next->prev = f;
	r->files = f;
}

/* Takes `fd` over, on success. */
static int
take(struct reader *r, int *fd, bool direct, const char *label,
    struct reader_file **out, struct err *e)
{
	struct reader_file *f;
	struct stat st;
	uint64_t size;
	int rc;

	if (fstat(*fd, &st) < 0)
		return err_sys(e, errno, "stat %s", label);
	rc = size_of(*fd, &st, label, &size, e);
	if (rc < 0)
		return rc;
	f = mem_new(sizeof *f);
	f->fd = *fd;
	*fd = -1; /* now the file's */
	f->label = mem_str(label);
	f->size = size;
	f->slot = -1;
	f->direct = direct;
	enlist(r, f);
	*out = f;
	return 0;
}

int
reader_open(struct reader *r, int dirfd, const char *name, const char *label,
    struct reader_file **out, struct err *e)
{
	SCOPED_FD int fd = -1;
	bool direct = !r->buffered;
	struct stat st;

	/* Before the open: that of a FIFO would wait, that of a tape wind. */
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "open %s", label);
	if (odd_type(st.st_mode) != NULL)
		return err_set(e, -EINVAL, "open %s: it is %s", label,
		    odd_type(st.st_mode));
	fd = open_best(dirfd, name, OPEN_FLAGS | O_NOFOLLOW, &direct);
	if (fd < 0)
		return err_sys(e, -fd, "open %s", label);
	return take(r, &fd, direct, label, out, e);
}

int
reader_open_fd(struct reader *r, int given, const char *label,
    struct reader_file **out, struct err *e)
{
	SCOPED_FREE char *link = mem_printf("/proc/self/fd/%d", given);
	SCOPED_FD int fd = -1;
	bool direct = !r->buffered;
	struct stat st;

	if (fstat(given, &st) < 0)
		return err_sys(e, errno, "open %s", label);
	if (odd_type(st.st_mode) != NULL)
		return err_set(e, -EINVAL, "open %s: it is %s", label,
		    odd_type(st.st_mode));
	/* Not the same open file: another may be reading by its offset and
	 * flags. The link of /proc is meant to be followed. */
	fd = open_best(AT_FDCWD, link, OPEN_FLAGS, &direct);
	if (fd < 0)
		return err_sys(e, -fd, "open %s", label);
	return take(r, &fd, direct, label, out, e);
}

static void
destroy(struct reader_file *f)
{
	struct reader *r = f->r;

	if (r != NULL) {
		reader_ring_drop_file(r, f);
		if (f->prev != NULL)
			f->prev->next = f->next;
		else
			r->files = f->next;
		if (f->next != NULL)
			f->next->prev = f->prev;
	}
	close(f->fd);
	free(f->label);
	free(f);
}

void
reader_close(struct reader_file *f)
{
	if (f == NULL)
		return;
	assert(!f->closed);
	f->closed = true;
	if (f->users == 0)
		destroy(f);
}

int
reader_file_fd(const struct reader_file *f)
{
	return f->fd;
}

void
reader_file_use(struct reader_file *f)
{
	f->users++;
	/* A place in the ring's table costs a system call to give and one to
	 * take back; a small file does not live long enough to earn it. */
	if (f->asked < READER_SLOT_AFTER && ++f->asked == READER_SLOT_AFTER)
		reader_ring_add_file(f->r, f);
}

void
reader_file_unuse(struct reader_file *f)
{
	assert(f->users > 0);
	if (--f->users == 0 && f->closed)
		destroy(f);
}

/* The caller has still to close it. */
void
reader_file_detach(struct reader_file *f)
{
	struct reader *r = f->r;

	assert(r->files == f && f->users == 0);
	r->files = f->next;
	if (f->next != NULL)
		f->next->prev = NULL;
	f->r = NULL;
	f->next = NULL;
	f->slot = -1;
}

void
reader_file_undirect(struct reader_file *f)
{
	int flags = fcntl(f->fd, F_GETFL);

	f->direct = false;
	if (flags >= 0)
		fcntl(f->fd, F_SETFL, flags & ~O_DIRECT);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the kernel for the difference of two held snapshots: BTRFS_IOC_SEND
 * without file data. It skips what both trees share, so its cost follows the
 * change. Paths in the answer are those of the moment in the stream
 * (send_names.h); a file is known by the inode that its path leads to in the
 * older snapshot. What is new by the stream is left out: the newer snapshot
 * has no older file of the same inode and generation for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/stop.h"
#include "kmod-free/track/btrfs_pair.h"
#include "kmod-free/track/send_names.h"
#include "kmod-free/track/send_stream.h"
#include "kmod-free/track/tracker_all.h"

#define BLOCK 4096u
#define READ_BYTES (256u << 10)
#define PIPE_BYTES (1u << 20)

/* ---- what the stream means ---- */

struct reading {
	const struct btrfs_pair *pair;
	struct extents *out;
	struct send_names *names;
	bool begun; /* the SNAPSHOT command came */
	/* The file of the last range: ranges of one file come in a row. */
	struct buf path, base;
	bool known, is_new;
	uint64_t ino, old_size;
};

static void
reading_fini(struct reading *r)
{
	send_names_free(r->names);
	buf_free(&r->path);
	buf_free(&r->base);
}

static bool
is_uuid(struct span s, const struct btrfs_util_subvolume_info *i)
{
	return s.len == 16 && (memcmp(s.data, i->uuid, 16) == 0 ||
				  memcmp(s.data, i->received_uuid, 16) == 0);
}

/* The stream must be from the one to the other, not a full one. */
static int
begin(struct reading *r, const struct send_command *c, struct err *e)
{
	struct span to, from;
	int rc;

	if (c->op != SEND_SNAPSHOT || r->begun)
		return err_set(e, -ESTALE,
		    "send stream at byte %llu: command %u where it must not "
		    "be",
		    (unsigned long long)c->at, c->op);
	rc = send_stream_attr(c, SEND_A_UUID, &to, e);
	if (rc >= 0)
		rc = send_stream_attr(c, SEND_A_CLONE_UUID, &from, e);
	if (rc < 0)
		return rc;
	if (!is_uuid(to, &r->pair->b) || !is_uuid(from, &r->pair->a))
		return err_set(e, -ESTALE,
		    "the send stream is not between these two snapshots");
	r->begun = true;
	return 0;
}

static int
rename_path(struct reading *r, const struct send_command *c, struct err *e)
{
	struct span from, to;
	int rc = send_stream_attr(c, SEND_A_PATH, &from, e);

	if (rc >= 0)
		rc = send_stream_attr(c, SEND_A_PATH_TO, &to, e);
	return rc < 0 ? rc : send_names_rename(r->names, from, to, e);
}

static int
link_path(struct reading *r, const struct send_command *c, struct err *e)
{
	struct span path, target;
	int rc = send_stream_attr(c, SEND_A_PATH, &path, e);

	if (rc >= 0)
		rc = send_stream_attr(c, SEND_A_PATH_LINK, &target, e);
	return rc < 0 ? rc : send_names_link(r->names, path, target, e);
}

static int
change_names(struct reading *r, const struct send_command *c, struct err *e)
{
	struct span path;
	int rc;

	r->known = false;
	if (c->op == SEND_RENAME)
		return rename_path(r, c, e);
	if (c->op == SEND_LINK)
		return link_path(r, c, e);
	rc = send_stream_attr(c, SEND_A_PATH, &path, e);
	if (rc < 0)
		return rc;
	if (c->op == SEND_UNLINK || c->op == SEND_RMDIR)
		return send_names_remove(r->names, path, e);
	return send_names_make(r->names, path, e);
}

/* The older snapshot's file at `base`, over no link and no mount. */
static int
look_up(struct reading *r, const char *base, struct err *e)
{
	struct open_how how = {
	    .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	SCOPED_FD int fd =
	    (int)syscall(SYS_openat2, r->pair->from, base, &how, sizeof how);
	struct stat st;

	if (fd < 0)
		return err_set(e, -ESTALE,
		    "the send stream changes \"%s\", which the older snapshot "
		    "does not have: %s",
		    base, strerrordesc_np(errno));
	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "look at \"%s\"", base);
	if (!S_ISREG(st.st_mode) || st.st_size < 0)
		return err_set(e, -ESTALE,
		    "the send stream changes data of \"%s\", which is no "
		    "file",
		    base);
	r->ino = st.st_ino;
	r->old_size = (uint64_t)st.st_size;
	return 0;
}

/* Which file a command's path leads to, into ino and old_size, or is_new. */
static int
resolve(struct reading *r, const struct send_command *c, struct err *e)
{
	struct span path;
	int rc = send_stream_attr(c, SEND_A_PATH, &path, e);

	if (rc < 0)
		return rc;
	if (r->known && span_cmp(path, buf_span(&r->path)) == 0)
		return 0;
	r->known = false;
	rc = send_names_resolve(r->names, path, &r->base, e);
	if (rc < 0)
		return rc;
	r->is_new = rc == 0;
	if (!r->is_new) {
		rc = look_up(r, (const char *)r->base.data, e);
		if (rc < 0)
			return rc;
	}
	buf_clear(&r->path);
	buf_put(&r->path, path.data, path.len);
	r->known = true;
	return 0;
}

/* The attribute that holds the length of what a command changes. */
static unsigned
length_of(unsigned op)
{
	switch (op) {
	case SEND_CLONE:
		return SEND_A_CLONE_LEN;
	case SEND_ENCODED_WRITE:
		return SEND_A_UNENCODED_FILE_LEN;
	default:
		return SEND_A_SIZE;
	}
}

/* The size comes without a command of its own where the last range ends at it.
 * The older one may lag behind what the file held (without NO_HOLES), and what
 * lay between the two already is named by nobody: a range behind the older size
 * is taken from there on. */
static void
add_range(struct reading *r, uint64_t off, uint64_t len)
{
	uint64_t end = r->old_size & ~(uint64_t)(BLOCK - 1);

	if (off > end)
		extents_add(r->out, r->ino, end, off - end);
	extents_add(r->out, r->ino, off, len);
}

static int
change_range(struct reading *r, const struct send_command *c, struct err *e)
{
	struct span data;
	uint64_t off, len;
	int rc = resolve(r, c, e);

	if (rc < 0)
		return rc;
	rc = send_stream_u64(c, SEND_A_FILE_OFFSET, &off, e);
	if (rc < 0)
		return rc;
	if (c->op == SEND_WRITE) {
		rc = send_stream_attr(c, SEND_A_DATA, &data, e);
		len = rc < 0 ? 0 : data.len;
	} else {
		rc = send_stream_u64(c, length_of(c->op), &len, e);
	}
	if (rc < 0)
		return rc;
	if (!r->is_new)
		add_range(r, off, len);
	return 0;
}

/* Between the old size and the new one; of the block in which either lies
 * nobody says what became of the rest. */
static int
change_size(struct reading *r, const struct send_command *c, struct err *e)
{
	uint64_t size, from, to;
	int rc = resolve(r, c, e);

	if (rc < 0)
		return rc;
	rc = send_stream_u64(c, SEND_A_SIZE, &size, e);
	if (rc < 0 || r->is_new)
		return rc;
	from = size < r->old_size ? size : r->old_size;
	to = size < r->old_size ? r->old_size : size;
	from &= ~(uint64_t)(BLOCK - 1);
	extents_add(r->out, r->ino, from, to - from);
	return 0;
}

static int
handle(void *arg, const struct send_command *c, struct err *e)
{
	struct reading *r = arg;

	if (!r->begun)
		return begin(r, c, e);
	switch (c->op) {
	case SEND_MKFILE:
	case SEND_MKDIR:
	case SEND_MKNOD:
	case SEND_MKFIFO:
	case SEND_MKSOCK:
	case SEND_SYMLINK:
	case SEND_RENAME:
	case SEND_LINK:
	case SEND_UNLINK:
	case SEND_RMDIR:
		return change_names(r, c, e);
	case SEND_WRITE:
	case SEND_CLONE:
	case SEND_UPDATE_EXTENT:
	case SEND_FALLOCATE:
	case SEND_ENCODED_WRITE:
		return change_range(r, c, e);
	case SEND_TRUNCATE:
		return change_size(r, c, e);
	case SEND_SET_XATTR:
	case SEND_REMOVE_XATTR:
	case SEND_CHMOD:
	case SEND_CHOWN:
	case SEND_UTIMES:
	case SEND_FILEATTR:
	case SEND_ENABLE_VERITY:
	case SEND_END:
		return 0; /* not of bytes or names */
	default:
		/* Also a second begin. */
		return err_set(e, -ESTALE,
		    "send stream at byte %llu: command %u is not known",
		    (unsigned long long)c->at, c->op);
	}
}

/* ---- where it comes from ---- */

/* The call writes until all is read, so it runs beside the reading. */
struct sender {
	pthread_t thread;
	int fd; /* of the newer snapshot */
	int to; /* the pipe's end that it writes to; it closes it */
	uint64_t parent;
	int errnum; /* its result, when joined */
};

static void *
send_main(void *arg)
{
	struct sender *s = arg;
	/* No clone sources: ranges that are clones of the older snapshot then
	 * come as changed, which they are. The kernel looks for each new extent
	 * in the newer snapshot all the same. */
	struct btrfs_ioctl_send_args a = {
	    .send_fd = s->to,
	    .parent_root = s->parent,
	    .flags = BTRFS_SEND_FLAG_NO_FILE_DATA,
	};

	s->errnum = ioctl(s->fd, BTRFS_IOC_SEND, &a) < 0 ? errno : 0;
	close(s->to);
	return NULL;
}

/* All signals stay with the other threads; SIGPIPE, when the reader gives up,
 * is pending for this one and goes with it. */
static int
sender_start(struct sender *s, struct err *e)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&s->thread, NULL, send_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return err_sys(e, rc, "start a thread for btrfs send");
	return 0;
}

static int
read_stream(int fd, struct reading *r, struct err *e)
{
	SCOPED_SEND_STREAM struct send_stream s = {0};
	SCOPED_FREE uint8_t *buf = mem_new(READ_BYTES);

	for (;;) {
		ssize_t n = read(fd, buf, READ_BYTES);
		int rc;

		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n < 0)
			return err_sys(e, errno, "read the send stream");
		else if (n == 0)
			return send_stream_finish(&s, e);
		rc = stop_check(e);
		if (rc >= 0)
			rc = send_stream_feed(&s, buf, (size_t)n, handle, r, e);
		if (rc < 0)
			return rc;
	}
}

/* The kernel's refusal explains a stream that stops early. */
static int
judge(int rc, const struct sender *s, struct err *e)
{
	if (rc < 0 && s->errnum == EPIPE)
		return rc; /* we stopped reading */
	if (rc == -ECANCELED || s->errnum == 0)
		return rc;
	err_sys(e, s->errnum, "btrfs send");
	return e->code = -ESTALE;
}

static int
compare(const struct btrfs_pair *p, struct extents *out, struct err *e)
{
	struct reading r
	    __attribute__((cleanup(reading_fini))) = {.pair = p, .out = out};
	struct sender s = {.fd = p->to, .parent = p->a.id};
	int ends[2], rc;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, errno, "make a pipe for btrfs send");
	fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES); /* only for speed */
	s.to = ends[1];
	r.names = send_names_new();
	rc = sender_start(&s, e);
	if (rc < 0) {
		close(ends[0]);
		close(ends[1]);
		return rc;
	}
	rc = read_stream(ends[0], &r, e);
	close(ends[0]);
	pthread_join(s.thread, NULL);
	return judge(rc, &s, e);
}

static int
send_changed(
    const struct tracker_pair *p, struct tracker_answer *out, struct err *e)
{
	return btrfs_pair_compare(p, compare, out, e);
}

const struct tracker_ops tracker_btrfs_send = {
    .name = "btrfs-send",
    .second = "btrfs-extents",
    .summary = "asks the kernel for the difference of two btrfs snapshots",
    .compares = true,
    .probe = btrfs_pair_probe,
    .changed = send_changed,
};

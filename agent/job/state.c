/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/core/tmpfile.h"

#define HISTORY_BYTES_MAX (8u << 20) /* about 10,000 lines */
/* With less than this, what a backup could not write did not fit. */
#define FULL_BYTES (1u << 20)

static char *
state_path(const struct state *s, const char *name)
{
	return fs_join(s->dir, name);
}

static int
take_lock(struct state *s, const char *job, struct err *e)
{
	SCOPED_FREE char *path = state_path(s, "lock");
	char pid[32] = "";
	int n;

	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock_fd < 0)
		return err_sys(e, errno, "open %s", path);
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return err_sys(e, errno, "lock %s", path);
		if (pread(s->lock_fd, pid, sizeof pid - 1, 0) < 0)
			pid[0] = '\0';
		pid[strcspn(pid, "\n")] = '\0';
		close(s->lock_fd);
		s->lock_fd = -1;
		return err_set(e, -EBUSY,
		    "job %s: another backup of it is running (process %s); "
		    "wait for it or end it",
		    job, pid[0] ? pid : "unknown");
	}
	n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
	if (ftruncate(s->lock_fd, 0) < 0 ||
	    pwrite(s->lock_fd, pid, (size_t)n, 0) != n)
		return err_sys(e, errno, "write %s", path);
	return 0;
}

static char *
member(const json_t *j, const char *key)
{
	const char *v = jdoc_str(j, key, NULL);

	return v ? mem_str(v) : NULL;
}

/* What a killed run was about to rename: of no use, and only untidy. */
static void
reap(const struct state *s)
{
	SCOPED_FREE char *blockmap = state_path(s, "blockmap");
	struct err ignored = ERR_NONE;

	tmpfile_reap(AT_FDCWD, s->dir, &ignored);
	tmpfile_reap(AT_FDCWD, blockmap, &ignored);
}

/* A document that cannot be read is a lost one: the work starts afresh. */
static void
load(struct state *s)
{
	SCOPED_FREE char *path = state_path(s, "state.json");
	SCOPED_BUF struct buf b = {0};
	SCOPED_JSON json_t *j = NULL;
	struct err e = ERR_NONE;

	if (fs_read_at(AT_FDCWD, path, 1u << 20, &b, &e) < 0)
		return;
	j = jdoc_parse(buf_span(&b), &e);
	if (j == NULL)
		return;
	s->last_rehash_s = jdoc_int(j, "last_rehash_s", 0);
	s->rehash_object = (uint64_t)jdoc_int(j, "rehash_object", 0);
	s->rehash_block = (uint64_t)jdoc_int(j, "rehash_block", 0);
	s->serial = (uint64_t)jdoc_int(j, "serial", 0);
	s->absent_mark = (uint64_t)jdoc_int(j, "absent_mark", 0);
	s->map_identity = member(j, "map_identity");
	s->map_moment = member(j, "map_moment");
	s->quarantine = member(j, "quarantine");
	s->quarantine_why = member(j, "quarantine_why");
	s->quarantine_s = jdoc_int(j, "quarantine_s", 0);
}

int
state_peek(
    struct state *s, const struct conf *c, const char *job, struct err *e)
{
	SCOPED_FREE char *running = NULL;

	(void)e;
	*s = (struct state){.lock_fd = -1};
	s->dir = mem_printf("%s/jobs/%s", c->state_dir, job);
	running = state_path(s, "running");
	s->interrupted = access(running, F_OK) == 0;
	load(s);
	return 0;
}

int
state_open(
    struct state *s, const struct conf *c, const char *job, struct err *e)
{
	SCOPED_FREE char *running = NULL;
	int rc;

	*s = (struct state){.lock_fd = -1};
	s->dir = mem_printf("%s/jobs/%s", c->state_dir, job);
	rc = fs_mkdirs(s->dir, 0700, e);
	if (rc < 0)
		return err_wrap(e, "job %s", job);
	rc = take_lock(s, job, e);
	if (rc < 0)
		return rc;
	reap(s);
	running = state_path(s, "running");
	s->interrupted = access(running, F_OK) == 0;
	load(s);
	return 0;
}

int
state_explain(const struct state *s, struct err *e)
{
	SCOPED_FREE char *dir = NULL;
	struct statvfs v;
	char *slash;

	if ((e->code != -ENOSPC && e->code != -EDQUOT) || s->dir == NULL ||
	    strstr(e->text, "is full") != NULL)
		return e->code;
	/* It may not even have come to be made. */
	dir = mem_str(s->dir);
	while (statvfs(dir, &v) < 0) {
		slash = strrchr(dir, '/');
		if (slash == NULL || slash == dir)
			return e->code;
		*slash = '\0';
	}
	if (e->code == -EDQUOT || v.f_favail == 0 ||
	    (uint64_t)v.f_bavail * v.f_frsize < FULL_BYTES)
		err_hint(e,
		    "the file system that holds %s is full: make room there",
		    s->dir);
	return e->code;
}

int
state_save(struct state *s, struct err *e)
{
	SCOPED_JSON json_t *j =
	    json_pack("{s:I, s:I, s:I, s:I, s:I, s:s*, s:s*, s:s*, s:s*, s:I}",
		"last_rehash_s", (json_int_t)s->last_rehash_s, "rehash_object",
		(json_int_t)s->rehash_object, "rehash_block",
		(json_int_t)s->rehash_block, "serial", (json_int_t)s->serial,
		"absent_mark", (json_int_t)s->absent_mark, "map_identity",
		s->map_identity, "map_moment", s->map_moment, "quarantine",
		s->quarantine, "quarantine_why", s->quarantine_why,
		"quarantine_s", (json_int_t)s->quarantine_s);
	SCOPED_FREE char *path = state_path(s, "state.json");
	SCOPED_FREE char *text = jdoc_text(j);

	return fs_replace_at(AT_FDCWD, path, span_str(text), 0600, e);
}

int
state_begin(struct state *s, struct err *e)
{
	SCOPED_FREE char *path = state_path(s, "running");

	return fs_replace_at(AT_FDCWD, path, span_str("running\n"), 0600, e);
}

int
state_end(struct state *s, struct err *e)
{
	SCOPED_FREE char *path = state_path(s, "running");

	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(e, errno, "remove %s", path);
	return 0;
}

void
state_quarantine(struct state *s, const char *tracker, const char *why)
{
	state_lift(s);
	s->quarantine = mem_str(tracker);
	s->quarantine_why = mem_str(why);
	s->quarantine_s = clock_now_s();
}

void
state_lift(struct state *s)
{
	free(TAKE(s->quarantine));
	free(TAKE(s->quarantine_why));
	s->quarantine_s = 0;
}

/* Halve a history that has grown over its limit, at a line's start. */
static int
trim_history(const char *path, struct err *e)
{
	SCOPED_BUF struct buf b = {0};
	const uint8_t *mid, *nl;
	struct stat st;
	int rc;

	if (stat(path, &st) < 0 || st.st_size < (off_t)HISTORY_BYTES_MAX)
		return 0;
	rc = fs_read_at(AT_FDCWD, path, 4 * HISTORY_BYTES_MAX, &b, e);
	if (rc < 0)
		return rc;
	mid = b.data + b.len / 2;
	nl = memchr(mid, '\n', b.len - b.len / 2);
	if (nl == NULL)
		return 0;
	return fs_replace_at(AT_FDCWD, path,
	    SPAN(nl + 1, (size_t)(b.data + b.len - nl - 1)), 0600, e);
}

/* The whole line or nothing: half of one would spoil the next as well. */
static int
append(int fd, const char *path, const char *text, struct err *e)
{
	SCOPED_FREE char *line = mem_printf("%s\n", text);
	size_t n = strlen(line);
	struct stat st;
	ssize_t done;
	int errnum;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "look at %s", path);
	done = write(fd, line, n);
	if (done == (ssize_t)n)
		return 0;
	errnum = done < 0 ? errno : ENOSPC;
	if (done > 0 && ftruncate(fd, st.st_size) < 0)
		errnum = errno;
	return err_sys(e, errnum, "write %s", path);
}

int
state_history_add(struct state *s, const json_t *line, struct err *e)
{
	SCOPED_FREE char *path = state_path(s, "history.jsonl");
	SCOPED_FREE char *text = jdoc_line(line);
	SCOPED_FD int fd = -1;
	int rc = trim_history(path, e);

	if (rc < 0)
		return rc;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, errno, "open %s", path);
	return append(fd, path, text, e);
}

json_t *
state_history_last(const struct state *s)
{
	SCOPED_FREE char *path = state_path(s, "history.jsonl");
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;
	const uint8_t *at;

	if (fs_read_at(AT_FDCWD, path, 4 * HISTORY_BYTES_MAX, &b, &e) < 0)
		return NULL;
	while (b.len > 0 && b.data[b.len - 1] == '\n')
		b.len--;
	if (b.len == 0)
		return NULL;
	at = memrchr(b.data, '\n', b.len);
	at = at ? at + 1 : b.data;
	return jdoc_parse(SPAN(at, (size_t)(b.data + b.len - at)), &e);
}

void
state_close(struct state *s)
{
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->dir);
	free(s->map_identity);
	free(s->map_moment);
	free(s->quarantine);
	free(s->quarantine_why);
	*s = (struct state){.lock_fd = -1};
}

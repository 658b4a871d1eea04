/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/freeze.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core/bytes.h"
#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/dm.h"
#include "kmod-free/snap/dm_suspend.h"
#include "kmod-free/snap/freeze_guard.h"

/* Emptied by a restart, as is what the notes are about. */
#define NOTES "/run/neap"
#define NOTE_PREFIX "frozen."
#define NOTE_MAX 65536

/* From the word to the answer: to resume is milliseconds. */
#define ANSWER_MS 30000

struct freeze {
	struct snap_volume *const *volume; /* lent */
	char **uuid;
	size_t n;
	int control;
	char *note; /* path; NULL: there is none */
	pid_t guard;
	int guard_fd; /* -1: nothing is frozen */
	int64_t limit_ms, begun_ms;
};

/* ---- what can be frozen ----------------------------------------------------- */

static int
uuid_of(struct snap_volume *v, char **out, struct err *e)
{
	if (v->ops->freezes == NULL)
		return err_set(e, -EOPNOTSUPP,
		    "snapshots of %s are made by %s, which takes none of what "
		    "is frozen",
		    v->root, v->ops->name);
	*out = v->ops->freezes(v);
	return 0;
}

/* To take a snapshot, programs are loaded and their settings read: on a device
 * that is suspended, that would wait until the limit. */
static int
check_not_needed(const struct snap_volume *v, const char *uuid, struct err *e)
{
	static const char *const needed[] = {"/", "/usr", "/usr/sbin", "/lib",
	    "/etc", "/etc/lvm", "/run", "/run/lock", "/dev", "/proc/self/exe"};
	dev_t dev;
	int rc = dm_device(uuid, &dev, e);

	for (size_t i = 0; rc == 0 && i < MEM_COUNT(needed); i++) {
		struct stat st;

		if (stat(needed[i], &st) == 0 && st.st_dev == dev)
			return err_set(e, -EOPNOTSUPP,
			    "%s (%s) holds %s, which is needed meanwhile",
			    v->root, v->image.name, needed[i]);
	}
	return rc;
}

int
freeze_check(struct snap_volume *v, struct err *e)
{
	SCOPED_FREE char *uuid = NULL;
	int rc = uuid_of(v, &uuid, e);

	return rc < 0 ? rc : check_not_needed(v, uuid, e);
}

static int
write_out(const struct snap_volume *v, struct err *e)
{
	SCOPED_FD int fd = open(v->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || syncfs(fd) < 0)
		return err_sys(e, errno, "write out %s", v->root);
	return 0;
}

static int
prepare_one(struct freeze *f, size_t i, struct err *e)
{
	int rc = uuid_of(f->volume[i], &f->uuid[i], e);

	if (rc < 0)
		return rc;
	rc = dm_suspended(f->control, f->uuid[i]);
	if (rc < 0)
		return err_sys(e, -rc, "device-mapper: state of %s",
		    f->volume[i]->image.name);
	if (rc > 0) {
		err_set(e, -EBUSY, "somebody has suspended %s",
		    f->volume[i]->image.name);
		return err_hint(e, "see whether it is at work; dmsetup resume");
	}
	return write_out(f->volume[i], e);
}

int
freeze_prepare(
    struct freeze **out, struct snap_volume *const *v, size_t n, struct err *e)
{
	struct freeze *f = mem_new(sizeof *f);
	int rc = 0;

	*f = (struct freeze){.volume = v, .n = n, .guard_fd = -1};
	f->uuid = mem_array(n, sizeof *f->uuid);
	f->control = dm_control_open(e);
	if (f->control < 0)
		rc = f->control;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = prepare_one(f, i, e);
	if (rc < 0) {
		freeze_free(f);
		return rc;
	}
	*out = f;
	return 0;
}

/* ---- the note of what is frozen ------------------------------------------------ */

/* One line for each device; locked as long as somebody minds them. Gives the
 * descriptor. */
static int
write_note(struct freeze *f, struct err *e)
{
	SCOPED_BUF struct buf b = {0};
	SCOPED_FD int fd = -1;
	int rc = fs_mkdirs(NOTES, 0755, e);

	if (rc < 0)
		return rc;
	f->note = mem_printf(NOTES "/" NOTE_PREFIX "%d", (int)getpid());
	fd = open(
	    f->note, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_sys(e, errno, "make note %s", f->note);
	for (size_t i = 0; i < f->n; i++) {
		buf_put(&b, f->uuid[i], strlen(f->uuid[i]));
		buf_put(&b, "\n", 1);
	}
	rc = fs_pwrite(fd, b.data, b.len, 0, e);
	if (rc < 0)
		return err_wrap(e, "write note %s", f->note);
	rc = fd;
	fd = -1;
	return rc;
}

/* Gives how many of its devices were suspended. */
static int
recover_one(int control, int dir, const char *name, struct err *e)
{
	SCOPED_FD int fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	SCOPED_BUF struct buf b = {0};
	char *save = NULL;
	int n = 0, rc;

	/* Gone, or its guard lives. */
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return 0;
	rc = fs_read_at(dir, name, NOTE_MAX, &b, e);
	if (rc < 0)
		return rc;
	buf_put_u8(&b, 0);
	for (char *uuid = strtok_r((char *)b.data, "\n", &save); uuid != NULL;
	     uuid = strtok_r(NULL, "\n", &save)) {
		if (dm_suspended(control, uuid) != 1)
			continue;
		rc = dm_resume(control, uuid);
		if (rc < 0)
			return err_sys(
			    e, -rc, "device-mapper: resume %s", uuid);
		n++;
	}
	unlinkat(dir, name, 0);
	return n;
}

int
freeze_recover(struct err *e)
{
	SCOPED_FD int control = -1;
	DIR *d = opendir(NOTES);
	struct dirent *de;
	int n = 0, rc = 0;

	if (d == NULL)
		return 0;
	while (rc >= 0 && (de = readdir(d)) != NULL) {
		if (strncmp(de->d_name, NOTE_PREFIX, strlen(NOTE_PREFIX)) != 0)
			continue;
		if (control < 0)
			control = dm_control_open(e);
		rc = control < 0
			 ? control
			 : recover_one(control, dirfd(d), de->d_name, e);
		n += rc > 0 ? rc : 0;
	}
	closedir(d);
	return rc < 0 ? rc : n;
}

/* ---- the freeze ---------------------------------------------------------------- */

static int
start_guard(struct freeze *f, struct err *e)
{
	SCOPED_FD int note_fd = write_note(f, e);
	struct freeze_guard_how how = {.control = f->control,
	    .uuid = f->uuid,
	    .n = f->n,
	    .note = f->note,
	    .note_fd = note_fd};

	if (note_fd < 0)
		return note_fd;
	f->begun_ms = clock_mono_ms();
	how.deadline_ms = f->begun_ms + f->limit_ms;
	f->guard = freeze_guard_start(&how, &f->guard_fd, e);
	if (f->guard >= 0)
		return 0;
	unlink(f->note);
	return f->guard;
}

static int
too_late(const struct freeze *f, struct err *e)
{
	err_set(e, -ETIMEDOUT,
	    "the volumes were frozen for %lld ms, the limit, and let go before "
	    "all snapshots were there",
	    (long long)f->limit_ms);
	return err_hint(e, "raise hold_limit, half of which is the limit, or "
			   "back up when less is written");
}

int
freeze_begin(struct freeze *f, int64_t limit_ms, struct err *e)
{
	int64_t ignored_ms;
	struct err ignored = ERR_NONE;
	int rc;

	f->limit_ms = limit_ms;
	rc = start_guard(f, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; rc == 0 && i < f->n; i++) {
		rc = dm_suspend(f->control, f->uuid[i]);
		if (rc < 0)
			err_sys(e, -rc, "freeze %s", f->volume[i]->image.name);
		else if (clock_mono_ms() - f->begun_ms >= f->limit_ms)
			rc = too_late(f, e);
	}
	if (rc < 0)
		freeze_end(f, &ignored_ms, &ignored);
	return rc;
}

int
freeze_holds(const struct freeze *f, size_t i, struct err *e)
{
	int rc = dm_suspended(f->control, f->uuid[i]);

	if (rc == 1)
		return 0;
	if (clock_mono_ms() - f->begun_ms >= f->limit_ms)
		return too_late(f, e);
	if (rc < 0)
		return err_sys(e, -rc, "device-mapper: state of %s",
		    f->volume[i]->image.name);
	return err_set(e, -ESTALE,
	    "somebody let %s go on while it was frozen (another command of lvm "
	    "or dmsetup?)",
	    f->volume[i]->image.name);
}

static int
ask_guard(const struct freeze *f, struct freeze_guard_answer *a)
{
	struct pollfd p = {.fd = f->guard_fd, .events = POLLIN};
	char byte = FREEZE_GUARD_THAW;

	if (write(f->guard_fd, &byte, 1) != 1 || poll(&p, 1, ANSWER_MS) != 1 ||
	    read(f->guard_fd, a, sizeof *a) != (ssize_t)sizeof *a)
		return -1;
	return 0;
}

int
freeze_end(struct freeze *f, int64_t *held_ms, struct err *e)
{
	struct freeze_guard_answer a = {0};
	bool answered = ask_guard(f, &a) == 0;

	/* Whoever ended it. */
	for (size_t i = 0; !answered && i < f->n; i++)
		dm_resume(f->control, f->uuid[i]);
	if (!answered)
		a.thawed_ms = clock_mono_ms();
	close(f->guard_fd);
	f->guard_fd = -1;
	if (answered)
		waitpid(f->guard, NULL, 0);
	*held_ms = a.thawed_ms - f->begun_ms;
	if (!answered)
		return err_set(e, -EIO,
		    "the guard of the freeze (process %d) was lost; "
		    "the volumes have been let go",
		    (int)f->guard);
	return a.expired ? too_late(f, e) : 0;
}

void
freeze_free(struct freeze *f)
{
	struct err ignored = ERR_NONE;
	int64_t held_ms;

	if (f == NULL)
		return;
	if (f->guard_fd >= 0)
		freeze_end(f, &held_ms, &ignored);
	for (size_t i = 0; i < f->n; i++)
		free(f->uuid[i]);
	if (f->control >= 0)
		close(f->control);
	free(f->uuid);
	free(f->note);
	free(f);
}

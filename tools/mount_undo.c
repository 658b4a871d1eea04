/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/process.h"
#include "tools/mount.h"
#include "tools/mount_image.h"
#include "tools/mount_presence.h"

/* Does a link of /proc ("cwd", "fd/3") lead into `dir`? */
static bool
leads_into(int at, const char *link, const char *dir)
{
	char to[4096];
	ssize_t n = readlinkat(at, link, to, sizeof to - 1);

	if (n <= 0)
		return false;
	to[n] = '\0';
	return fs_below(to, dir);
}

static bool
holds(const char *pid, const char *dir)
{
	char path[64];
	bool yes = false;
	struct dirent *de;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%.20s/cwd", pid);
	if (leads_into(AT_FDCWD, path, dir))
		return true;
	snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
	d = opendir(path);
	if (d == NULL)
		return false;
	while (!yes && (de = readdir(d)) != NULL)
		yes = leads_into(dirfd(d), de->d_name, dir);
	closedir(d);
	return yes;
}

/* "postgres (812), bash (900)": at most five of those who use `dir`. */
static void
name_holders(const char *dir, char *out, size_t cap)
{
	DIR *d = opendir("/proc");
	struct dirent *de;
	size_t at = 0, n = 0;

	out[0] = '\0';
	while (d != NULL && n < 5 && (de = readdir(d)) != NULL) {
		SCOPED_BUF struct buf comm = {0};
		struct err e = ERR_NONE;
		char path[64];
		int k;

		if (!isdigit((unsigned char)de->d_name[0]) ||
		    !holds(de->d_name, dir))
			continue;
		snprintf(path, sizeof path, "/proc/%.20s/comm", de->d_name);
		if (fs_read_at(AT_FDCWD, path, 64, &comm, &e) < 0)
			buf_put(&comm, "?\n", 2);
		k = snprintf(out + at, cap - at, "%s%.*s (%.20s)",
		    n > 0 ? ", " : "", (int)(comm.len > 0 ? comm.len - 1 : 0),
		    (const char *)comm.data, de->d_name);
		if (k < 0 || (size_t)k >= cap - at)
			break;
		at += (size_t)k;
		n++;
	}
	if (d != NULL)
		closedir(d);
}

static int
busy(const char *dir, struct err *e)
{
	char who[256];

	name_holders(dir, who, sizeof who);
	err_set(e, -EBUSY, "unmount %s: it is in use by %s", dir,
	    who[0] != '\0' ? who : "a process that cannot be named here");
	return err_hint(e, "end or leave it, then try again");
}

static int
unmount_as_user(const char *dir, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	const char *argv[] = {"/usr/bin/fusermount3", "-u", "--", dir, NULL};
	struct process_how how = {
	    .argv = argv, .uid = (uid_t)-1, .gid = (gid_t)-1};
	int status = 0, rc;

	rc = process_run(&p, &how, 30000, &status, e);
	if (rc < 0)
		return err_wrap(e, "unmount %s", dir);
	if (status == 0)
		return 0;
	if (strstr(process_complaint(&p), "busy") != NULL)
		return busy(dir, e);
	return err_set(e, -EIO, "unmount %s: %s", dir, process_complaint(&p));
}

/* A loop device lets go of the image in it a moment after it was unmounted. */
#define BUSY_TRIES 100
#define BUSY_WAIT_US 20000

static int
unmount_as_root(const char *dir, bool dead, struct err *e)
{
	SCOPED_FREE char *where = NULL;
	bool images = mount_image_there(dir);
	int rc;

	/* Nobody finds the way to what is mounted below a server that died:
	 * all goes at once, and what still uses it gets errors already. */
	if (dead && images && umount2(dir, UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
		return 0;
	rc = mount_image_end(dir, false, &where, e);
	if (rc == -EBUSY)
		return busy(where, e);
	if (rc < 0)
		return rc;
	for (int i = 0; i < (images ? BUSY_TRIES : 1); i++) {
		if (umount2(dir, UMOUNT_NOFOLLOW) == 0)
			return 0;
		if (errno != EBUSY)
			return err_sys(e, errno, "unmount %s", dir);
		if (images)
			usleep(BUSY_WAIT_US);
	}
	return busy(dir, e);
}

int
mount_undo(const char *dir, struct err *e)
{
	SCOPED_FREE char *at = mount_presence_path(dir);
	SCOPED_FD int server = -1;
	int rc;

	if (!mount_presence_mounted(at))
		return err_set(e, -ENOENT,
		    "unmount %s: no backup of neap is "
		    "mounted there",
		    at);
	server = mount_presence_connect(at);
	if (geteuid() == 0)
		rc = unmount_as_root(at, server < 0, e);
	else
		rc = unmount_as_user(at, e);
	if (rc < 0 || server < 0)
		return rc;
	if (mount_presence_wait(server, 30000) < 0)
		return err_set(e, -ETIMEDOUT,
		    "%s is unmounted, but its server "
		    "process has not ended within 30 s",
		    at);
	return 0;
}

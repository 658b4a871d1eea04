/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "tools/extract_parts.h"

/* Somebody writes below `dir`? Their id, or 0. */
static long
opened_below(const char *pid, const char *dir)
{
	char path[64], to[4096];
	struct dirent *de;
	long found = 0;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
	d = opendir(path);
	if (d == NULL)
		return 0;
	while (found == 0 && (de = readdir(d)) != NULL) {
		ssize_t n = readlinkat(dirfd(d), de->d_name, to, sizeof to - 1);

		if (n <= 0)
			continue;
		to[n] = '\0';
		if (fs_below(to, dir))
			found = strtol(pid, NULL, 10);
	}
	closedir(d);
	return found;
}

/* A server works in its data folder while no file may be open just now. */
static long
postmaster_of(const char *dir)
{
	SCOPED_FREE char *path = fs_join(dir, "postmaster.pid");
	SCOPED_BUF struct buf text = {0};
	struct err e = ERR_NONE;
	struct stat here, there;
	char cwd[64];
	long pid;

	if (fs_read_at(AT_FDCWD, path, 4096, &text, &e) < 0)
		return 0;
	buf_put_u8(&text, 0);
	pid = strtol((const char *)text.data, NULL, 10);
	snprintf(cwd, sizeof cwd, "/proc/%ld/cwd", pid);
	/* A restored copy holds the pid file of its source: only a process
	 * that lives in *this* folder counts. */
	if (pid > 0 && stat(cwd, &there) == 0 && stat(dir, &here) == 0 &&
	    there.st_dev == here.st_dev && there.st_ino == here.st_ino)
		return pid;
	return 0;
}

static long
user_of(const char *dir)
{
	DIR *d = opendir("/proc");
	long found = postmaster_of(dir);
	struct dirent *de;

	while (d != NULL && found == 0 && (de = readdir(d)) != NULL)
		if (isdigit((unsigned char)de->d_name[0]) &&
		    strtol(de->d_name, NULL, 10) != (long)getpid())
			found = opened_below(de->d_name, dir);
	if (d != NULL)
		closedir(d);
	return found;
}

int
extract_guard(const struct extract_how *how, struct err *e)
{
	const char *p;

	for (size_t i = 0; (p = backup_path(how->backup, i)) != NULL; i++) {
		SCOPED_FREE char *joined = fs_join(how->target, p);
		SCOPED_FREE char *real = realpath(joined, NULL);
		long pid = real != NULL ? user_of(real) : 0;

		if (pid == 0)
			continue;
		err_set(e, -EPERM, "%s is in use by process %ld", real, pid);
		return err_hint(e, "restoring under a running server destroys "
				   "it; stop it first");
	}
	return 0;
}

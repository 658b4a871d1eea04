/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/tmpfile.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"

#define TMP_PREFIX ".tmp-"

/*
 * The boot id tells a process id of this boot of this machine from another
 * machine's on a shared folder; eight digits of it are plenty for that.
 */
static void
boot_tag(char out[9])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memcpy(out, "00000000", 9);
	if (fd < 0)
		return;
	if (read(fd, out, 8) != 8)
		memcpy(out, "00000000", 9);
	close(fd);
}

static int
open_named(struct tmpfile *t, mode_t mode, struct err *e)
{
	char boot[9];

	boot_tag(boot);
	for (int try = 0; try < 16; try++) {
		uint64_t r;
		int rc = clock_random(&r, sizeof r, e);

		if (rc < 0)
			return rc;
		snprintf(t->name, sizeof t->name, TMP_PREFIX "%s-%d-%016llx",
		    boot, (int)getpid(), (unsigned long long)r);
		t->fd = openat(t->dirfd, t->name,
		    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
		if (t->fd >= 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	t->name[0] = '\0';
	return err_sys(e, errno, "make a temporary file");
}

int
tmpfile_open(
    struct tmpfile *t, int dirfd, const char *dir, mode_t mode, struct err *e)
{
	int rc = 0;

	*t = (struct tmpfile)TMPFILE_NONE;
	t->dirfd = openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dirfd < 0)
		return err_sys(e, errno, "open folder %s", dir);
	t->fd = openat(t->dirfd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, mode);
	if (t->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR ||
			     errno == EINVAL || errno == ENOENT))
		rc = open_named(t, mode, e);
	else if (t->fd < 0)
		rc = err_sys(e, errno, "make a temporary file");
	if (rc < 0)
		return err_wrap(e, "in folder %s", dir);
	return 0;
}

int
tmpfile_write(struct tmpfile *t, const void *p, size_t n, struct err *e)
{
	int rc = fs_pwrite(t->fd, p, n, t->len, e);

	if (rc == 0)
		t->len += n;
	return rc;
}

static int
link_to(struct tmpfile *t, int dirfd, const char *path)
{
	char self[64];

	if (t->name[0] != '\0')
		return linkat(t->dirfd, t->name, dirfd, path, 0);
	snprintf(self, sizeof self, "/proc/self/fd/%d", t->fd);
	return linkat(AT_FDCWD, self, dirfd, path, AT_SYMLINK_FOLLOW);
}

int
tmpfile_commit(struct tmpfile *t, int dirfd, const char *path, struct err *e)
{
	assert(t->fd >= 0);
	if (fsync(t->fd) < 0)
		return err_sys(e, errno, "sync %s", path);
	if (link_to(t, dirfd, path) < 0)
		return err_sys(e, errno, "name %s", path);
	tmpfile_close(t);
	return 0;
}

int
tmpfile_replace(struct tmpfile *t, int dirfd, const char *path, struct err *e)
{
	char tmp[80];
	uint64_t r;
	int rc;

	assert(t->fd >= 0);
	if (fsync(t->fd) < 0)
		return err_sys(e, errno, "sync %s", path);
	/* rename(2) needs a name on both sides. */
	if (t->name[0] == '\0') {
		char boot[9];

		boot_tag(boot);
		rc = clock_random(&r, sizeof r, e);
		if (rc < 0)
			return rc;
		snprintf(tmp, sizeof tmp, TMP_PREFIX "%s-%d-%016llx", boot,
		    (int)getpid(), (unsigned long long)r);
		if (link_to(t, t->dirfd, tmp) < 0)
			return err_sys(e, errno, "name %s", tmp);
		memcpy(t->name, tmp, sizeof t->name);
	}
	if (renameat(t->dirfd, t->name, dirfd, path) < 0)
		return err_sys(e, errno, "rename to %s", path);
	t->name[0] = '\0';
	tmpfile_close(t);
	return 0;
}

void
tmpfile_close(struct tmpfile *t)
{
	if (t->name[0] != '\0')
		unlinkat(t->dirfd, t->name, 0);
	if (t->fd >= 0)
		close(t->fd);
	if (t->dirfd >= 0)
		close(t->dirfd);
	*t = (struct tmpfile)TMPFILE_NONE;
}

int
tmpfile_reap(int dirfd, const char *dir, struct err *e)
{
	char want[32], boot[9];
	struct dirent *de;
	int fd, gone = 0;
	DIR *d;

	fd = openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open folder %s", dir);
	d = fdopendir(fd);
	if (d == NULL) {
		close(fd);
		return err_sys(e, errno, "list folder %s", dir);
	}
	boot_tag(boot);
	snprintf(want, sizeof want, TMP_PREFIX "%s-%%d-%%*x%%n", boot);
	while ((de = readdir(d)) != NULL) {
		int pid = 0, used = 0;

		if (sscanf(de->d_name, want, &pid, &used) != 1 || pid <= 0 ||
		    used == 0 || de->d_name[used] != '\0')
			continue;
		if (kill(pid, 0) == 0 || errno != ESRCH)
			continue;
		if (unlinkat(fd, de->d_name, 0) == 0)
			gone++;
	}
	closedir(d);
	return gone;
}

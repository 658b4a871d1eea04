/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/fs.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/mem.h"
#include "agent/core/tmpfile.h"

void
fs_close_scope(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

int
fs_pread(int fd, void *p, size_t n, uint64_t off, struct err *e)
{
	char *at = p;

	while (n > 0) {
		ssize_t k = pread(fd, at, n, (off_t)off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_sys(e, errno, "read %zu bytes at %llu", n,
			    (unsigned long long)off);
		if (k == 0)
			return err_set(e, -EBADMSG,
			    "read %zu bytes at %llu: the file ends first", n,
			    (unsigned long long)off);
		at += k;
		n -= (size_t)k;
		off += (uint64_t)k;
	}
	return 0;
}

int
fs_pwrite(int fd, const void *p, size_t n, uint64_t off, struct err *e)
{
	const char *at = p;

	while (n > 0) {
		ssize_t k = pwrite(fd, at, n, (off_t)off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_sys(e, errno, "write %zu bytes at %llu", n,
			    (unsigned long long)off);
		at += k;
		n -= (size_t)k;
		off += (uint64_t)k;
	}
	return 0;
}

int
fs_read_at(
    int dirfd, const char *path, size_t max, struct buf *out, struct err *e)
{
	SCOPED_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	size_t from = out->len;

	if (fd < 0)
		return err_sys(e, errno, "open %s", path);
	for (;;) {
		uint8_t *to = buf_room(out, 65536);
		ssize_t k = read(fd, to, 65536);

		if (k < 0 && errno == EINTR)
			continue;
		if (k == 0)
			return 0;
		if (k > 0)
			out->len += (size_t)k;
		if (k > 0 && out->len - from <= max)
			continue;
		out->len = from;
		if (k < 0)
			return err_sys(e, errno, "read %s", path);
		return err_set(e, -EFBIG,
		    "read %s: larger than the %zu bytes it may have", path,
		    max);
	}
}

/* The folder part of a path into `dir`; "." where it has none. */
static void
parent_of(char dir[PATH_MAX], const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	if (slash == path)
		n = 1;
	if (n >= PATH_MAX)
		n = PATH_MAX - 1;
	if (slash == NULL)
		snprintf(dir, PATH_MAX, ".");
	else
		snprintf(dir, PATH_MAX, "%.*s", (int)n, path);
}

int
fs_replace_at(
    int dirfd, const char *path, struct span body, mode_t mode, struct err *e)
{
	SCOPED_TMPFILE struct tmpfile tmp = TMPFILE_NONE;
	char dir[PATH_MAX];
	int rc;

	parent_of(dir, path);
	rc = tmpfile_open(&tmp, dirfd, dir, mode, e);
	if (rc < 0)
		return err_wrap(e, "write %s", path);
	rc = tmpfile_write(&tmp, body.data, body.len, e);
	if (rc < 0)
		return err_wrap(e, "write %s", path);
	rc = tmpfile_replace(&tmp, dirfd, path, e);
	if (rc < 0)
		return err_wrap(e, "write %s", path);
	return fs_sync_dir_at(dirfd, dir, e);
}

/* A link to a folder is one. Leaves errno as it was: EEXIST. */
static bool
is_folder(int dirfd, const char *path)
{
	struct stat st;
	int kept = errno;
	bool is = fstatat(dirfd, path, &st, 0) == 0 && S_ISDIR(st.st_mode);

	errno = kept;
	return is;
}

int
fs_mkdirs_at(int dirfd, const char *path, mode_t mode, struct err *e)
{
	SCOPED_FREE char *p = mem_str(path);

	assert(*path != '\0');
	for (char *s = p + 1;; s++) {
		char c = *s;

		if (c != '/' && c != '\0')
			continue;
		*s = '\0';
		if (mkdirat(dirfd, p, mode) < 0 &&
		    (errno != EEXIST || !is_folder(dirfd, p)))
			return err_sys(e, errno, "make folder %s", p);
		*s = c;
		if (c == '\0')
			return 0;
	}
}

int
fs_mkdirs(const char *path, mode_t mode, struct err *e)
{
	return fs_mkdirs_at(AT_FDCWD, path, mode, e);
}

int
fs_sync_dir_at(int dirfd, const char *path, struct err *e)
{
	SCOPED_FD int fd =
	    openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, errno, "open folder %s", path);
	if (fsync(fd) < 0)
		return err_sys(e, errno, "sync folder %s", path);
	return 0;
}

/*
 * Something is mounted here. The device number alone does not tell: a bind
 * mount of the same file system has the same one, and below it lies what
 * somebody else still needs. (STATX_ATTR_MOUNT_ROOT: Linux 5.8.)
 */
static bool
mounted(int fd)
{
	struct statx x;

	return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_TYPE, &x) ==
		   0 &&
	       (x.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

static int remove_below(int fd, dev_t dev, struct err *e);

static int
remove_folder(int dirfd, const char *name, dev_t dev, struct err *e)
{
	int fd = openat(
	    dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return err_sys(e, errno, "open %s", name);
	if (mounted(fd)) {
		close(fd);
		return err_set(
		    e, -EXDEV, "%s: something is mounted there", name);
	}
	rc = remove_below(fd, dev, e);
	if (rc < 0)
		return err_wrap(e, "%s", name);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
		return err_sys(e, errno, "remove %s", name);
	return 0;
}

static int
remove_entry(int dirfd, const char *name, dev_t dev, struct err *e)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "stat %s", name);
	if (st.st_dev != dev)
		return err_set(e, -EXDEV, "%s: another file system", name);
	if (S_ISDIR(st.st_mode))
		return remove_folder(dirfd, name, dev, e);
	if (unlinkat(dirfd, name, 0) < 0)
		return err_sys(e, errno, "remove %s", name);
	return 0;
}

/* Takes over `fd`, the open folder. */
static int
remove_below(int fd, dev_t dev, struct err *e)
{
	DIR *d = fdopendir(fd);
	struct dirent *de;
	int rc = 0;

	if (d == NULL) {
		rc = err_sys(e, errno, "list folder");
		close(fd);
		return rc;
	}
	while (rc == 0 && (errno = 0, de = readdir(d)) != NULL) {
		if (strcmp(de->d_name, ".") == 0 ||
		    strcmp(de->d_name, "..") == 0)
			continue;
		rc = remove_entry(fd, de->d_name, dev, e);
	}
	if (rc == 0 && errno != 0)
		rc = err_sys(e, errno, "list folder");
	closedir(d);
	return rc;
}

int
fs_remove_tree_at(int dirfd, const char *path, struct err *e)
{
	struct stat st;

	if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT)
			return 0;
		return err_sys(e, errno, "stat %s", path);
	}
	if (remove_entry(dirfd, path, st.st_dev, e) < 0)
		return err_wrap(e, "remove");
	return 0;
}

char *
fs_join(const char *a, const char *b)
{
	size_t n = strlen(a);

	while (n > 0 && a[n - 1] == '/')
		n--;
	while (*b == '/')
		b++;
	return mem_printf("%.*s/%s", (int)n, a, b);
}

char *
fs_real(const char *path, struct err *e)
{
	char *real = realpath(path, NULL);

	if (real == NULL)
		err_sys(e, errno, "resolve %s", path);
	return real;
}

bool
fs_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n > 0 && dir[n - 1] == '/')
		n--;
	return strncmp(path, dir, n) == 0 &&
	       (path[n] == '\0' || path[n] == '/');
}

char *
fs_program_dir(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
	char *slash;

	if (n <= 0)
		return mem_str(".");
	path[n] = '\0';
	slash = strrchr(path, '/');
	if (slash != NULL)
		*slash = '\0';
	return mem_str(path);
}

const char *
fs_size_text(char out[32], uint64_t bytes)
{
	static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 999.95 && i + 1 < MEM_COUNT(unit)) {
		v /= 1000;
		i++;
	}
	snprintf(out, 32, i == 0 ? "%.0f %s" : "%.1f %s", v, unit[i]);
	return out;
}

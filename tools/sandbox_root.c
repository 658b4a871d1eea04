/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/sandbox_root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"

/* What programs need of the host. Symlinks (merged /usr) come as such. */
static const char *const host_folders[] = {"/usr", "/bin", "/sbin", "/lib",
    "/lib32", "/lib64", "/libx32", "/etc", "/opt"};

static const char *const host_devices[] = {"/dev/null", "/dev/zero",
    "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};

/*
 * Paths below the copy or the new root are opened without following any link:
 * links in a copy are absolute and lead to live data, here, before the root is
 * changed. An O_PATH descriptor, to be mounted by its name in /proc.
 */
static int
open_plain(int dirfd, const char *path, struct err *e)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
	    .resolve =
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	long fd;

	while (*path == '/')
		path++;
	fd = syscall(SYS_openat2, dirfd, *path ? path : ".", &how, sizeof how);
	if (fd < 0)
		return err_sys(e, errno, "open /%s%s", path,
		    errno == ELOOP ? ", a symbolic link in the copy" : "");
	return (int)fd;
}

/* Make what lacks of the folders of `path`, and its last part. */
static int
make_place(int root, const char *path, bool folder, struct err *e)
{
	SCOPED_FREE char *part = mem_str(path);
	SCOPED_FD int at = dup(root);

	for (char *p = part + strspn(part, "/"); at >= 0 && *p != '\0';) {
		size_t n = strcspn(p, "/");
		bool last = p[n + strspn(p + n, "/")] == '\0';
		int next, fd;

		p[n] = '\0';
		if (!last || folder) {
			if (mkdirat(at, p, 0755) < 0 && errno != EEXIST)
				return err_sys(e, errno, "make %s", path);
		} else if (faccessat(at, p, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
			fd = openat(at, p,
			    O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
			if (fd < 0)
				return err_sys(e, errno, "make %s", path);
			close(fd);
		}
		next = open_plain(at, p, e);
		if (next < 0)
			return err_wrap(e, "make place for %s", path);
		close(at);
		at = next;
		p += n + (last ? 0 : 1 + strspn(p + n + 1, "/"));
	}
	if (at < 0)
		return err_sys(e, errno, "make %s", path);
	return fcntl(at, F_DUPFD_CLOEXEC, 0);
}

static int
set_read_only(const char *at, struct err *e)
{
	const unsigned long flags =
	    MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV;

	if (mount(NULL, at, NULL, flags, NULL) < 0)
		return err_sys(e, errno, "make %s read-only", at);
	return 0;
}

/* What `from` is open on appears at `to` of the new root. */
static int
bind_fd(const struct sandbox_how *how, int from, const char *to, bool read_only,
    struct err *e)
{
	SCOPED_FREE char *at = fs_join(how->root, to);
	SCOPED_FD int root = open(how->root, O_PATH | O_CLOEXEC);
	SCOPED_FD int place = -1;
	char a[48], b[48];
	struct stat st;

	if (root < 0 || fstat(from, &st) < 0)
		return err_sys(e, errno, "bind %s", to);
	place = make_place(root, to, S_ISDIR(st.st_mode), e);
	if (place < 0)
		return e->code;
	snprintf(a, sizeof a, "/proc/self/fd/%d", from);
	snprintf(b, sizeof b, "/proc/self/fd/%d", place);
	if (mount(a, b, NULL, MS_BIND, NULL) < 0)
		return err_sys(e, errno, "bind %s", to);
	return read_only ? set_read_only(at, e) : 0;
}

/* `from` of the host, a path that we trust, likewise. */
static int
bind(const struct sandbox_how *how, const char *from, const char *to,
    bool read_only, struct err *e)
{
	SCOPED_FD int fd = open(from, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, errno, "open %s", from);
	return bind_fd(how, fd, to, read_only, e);
}

static int
copy_link(const struct sandbox_how *how, const char *path, struct err *e)
{
	SCOPED_FREE char *at = fs_join(how->root, path);
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof target - 1);

	if (n < 0)
		return err_sys(e, errno, "read link %s", path);
	target[n] = '\0';
	if (symlink(target, at) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make link %s", at);
	return 0;
}

static bool
backup_below(const struct sandbox_how *how, const char *dir)
{
	for (size_t i = 0; how->paths[i] != NULL; i++)
		if (fs_below(how->paths[i], dir))
			return true;
	return false;
}

/* Is there a mount to come exactly here? Then the host's is not needed. */
static bool
is_backup_path(const struct sandbox_how *how, const char *path)
{
	for (size_t i = 0; how->paths[i] != NULL; i++)
		if (strcmp(how->paths[i], path) == 0)
			return true;
	return false;
}

/*
 * One of the host's folders. Where a path of the backup lies below, its mount
 * point cannot be made in a read-only bind: then the folder is a new one with
 * each of the host's entries bound into it.
 */
static int
host_entry(const struct sandbox_how *how, const char *path, struct err *e)
{
	SCOPED_FREE char *at = fs_join(how->root, path);
	struct dirent *de;
	struct stat st;
	int rc = 0;
	DIR *d;

	if (lstat(path, &st) < 0)
		return 0; /* this host has none */
	if (S_ISLNK(st.st_mode))
		return copy_link(how, path, e);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return 0;
	if (is_backup_path(how, path))
		return 0;
	if (!backup_below(how, path) || !S_ISDIR(st.st_mode))
		return bind(how, path, path, true, e);
	if (fs_mkdirs(at, 0755, e) < 0)
		return e->code;
	d = opendir(path);
	if (d == NULL)
		rc = err_sys(e, errno, "list %s", path);
	while (rc == 0 && (de = readdir(d)) != NULL) {
		SCOPED_FREE char *sub = fs_join(path, de->d_name);

		if (strcmp(de->d_name, ".") != 0 &&
		    strcmp(de->d_name, "..") != 0)
			rc = host_entry(how, sub, e);
	}
	if (d != NULL)
		closedir(d);
	return rc;
}

static int
mount_new(const struct sandbox_how *how, const char *type, const char *to,
    const char *options, struct err *e)
{
	SCOPED_FREE char *at = fs_join(how->root, to);

	if (fs_mkdirs(at, 0755, e) < 0)
		return e->code;
	if (mount(type, at, type, MS_NOSUID, options) < 0)
		return err_sys(e, errno, "mount %s on %s", type, to);
	return 0;
}

static int
make_dev(const struct sandbox_how *how, struct err *e)
{
	SCOPED_FREE char *fd = fs_join(how->root, "/dev/fd");
	SCOPED_FREE char *ptmx = fs_join(how->root, "/dev/ptmx");
	int rc = mount_new(how, "tmpfs", "/dev", "mode=755,size=1m", e);

	for (size_t i = 0; rc == 0 && i < MEM_COUNT(host_devices); i++)
		if (access(host_devices[i], F_OK) == 0)
			rc = bind(
			    how, host_devices[i], host_devices[i], false, e);
	if (rc == 0)
		rc = mount_new(how, "tmpfs", "/dev/shm", "mode=1777", e);
	if (rc == 0)
		rc = mount_new(
		    how, "devpts", "/dev/pts", "newinstance,ptmxmode=0666", e);
	if (rc < 0)
		return rc;
	if (symlink("/proc/self/fd", fd) < 0 || symlink("pts/ptmx", ptmx) < 0)
		return err_sys(e, errno, "fill /dev");
	return 0;
}

static int
make_fresh(const struct sandbox_how *how, struct err *e)
{
	int rc = mount_new(how, "proc", "/proc", NULL, e);

	if (rc == 0)
		rc = mount_new(how, "tmpfs", "/tmp", "mode=1777", e);
	if (rc == 0)
		rc = mount_new(how, "tmpfs", "/run", "mode=755", e);
	if (rc == 0)
		rc = mount_new(how, "tmpfs", "/var/tmp", "mode=1777", e);
	return rc;
}

static int
bind_copy(const struct sandbox_how *how, const char *source, const char *path,
    struct err *e)
{
	SCOPED_FD int clone = open(how->clone, O_PATH | O_CLOEXEC);
	SCOPED_FD int fd = -1;

	if (clone < 0)
		return err_sys(e, errno, "open the copy");
	fd = open_plain(clone, source, e);
	/* Optional paths (a socket's folder) may be absent. */
	if (fd == -ENOENT)
		return err_clear(e);
	return fd < 0 ? fd : bind_fd(how, fd, path, false, e);
}

static int
bind_ours(const struct sandbox_how *how, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && how->paths[i] != NULL; i++)
		rc = bind_copy(how, how->sources[i], how->paths[i], e);
	if (rc == 0)
		rc = bind(how, how->program, how->program, true, e);
	if (rc == 0)
		rc = bind(how, how->run, how->run_at, false, e);
	if (rc == 0 && how->out != NULL)
		rc = bind(how, how->out, how->out_at, false, e);
	return rc;
}

static int
enter(const struct sandbox_how *how, struct err *e)
{
	if (chdir(how->root) < 0)
		return err_sys(e, errno, "enter %s", how->root);
	/* Both names are ".": the old root is stacked on the new one and then
	 * taken away (pivot_root(2), NOTES). */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return err_sys(e, errno, "pivot_root");
	if (umount2(".", MNT_DETACH) < 0)
		return err_sys(e, errno, "take the old root away");
	if (chdir("/") < 0)
		return err_sys(e, errno, "enter the new root");
	return 0;
}

static int
no_private(struct err *e)
{
	bool plain_chroot = errno == EINVAL; /* also by pivot_root */

	err_sys(e, errno, "make mounts private");
	if (plain_chroot)
		err_hint(e, "the root folder has to be a mount point, which it "
			    "is not in a plain chroot: before entering it, "
			    "`mount --bind DIR DIR`");
	return e->code;
}

int
sandbox_root(const struct sandbox_how *how, struct err *e)
{
	int rc = 0;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return no_private(e);
	if (mount("tmpfs", how->root, "tmpfs", MS_NOSUID, "mode=755") < 0)
		return err_sys(e, errno, "mount tmpfs on %s", how->root);
	for (size_t i = 0; rc == 0 && i < MEM_COUNT(host_folders); i++)
		rc = host_entry(how, host_folders[i], e);
	if (rc == 0)
		rc = make_dev(how, e);
	if (rc == 0)
		rc = make_fresh(how, e);
	if (rc == 0)
		rc = bind_ours(how, e);
	return rc < 0 ? rc : enter(how, e);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/sandbox_root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

/* Make a mount point at `at`, below the new root. */
static int
make_place(const char *at, bool folder, struct err *e)
{
	SCOPED_FREE char *up = mem_str(at);
	char *slash = strrchr(up, '/');
	int fd;

	*slash = '\0';
	if (fs_mkdirs(folder ? at : up, 0755, e) < 0)
		return e->code;
	if (folder)
		return 0;
	fd = open(at, O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_sys(e, errno, "make %s", at);
	close(fd);
	return 0;
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

/* `from` of the old root appears at `to` of the new one. */
static int
bind(const struct sandbox_how *how, const char *from, const char *to,
    bool read_only, struct err *e)
{
	SCOPED_FREE char *at = fs_join(how->root, to);
	struct stat st;
	int rc;

	if (stat(from, &st) < 0)
		return err_sys(e, errno, "stat %s", from);
	rc = make_place(at, S_ISDIR(st.st_mode), e);
	if (rc < 0)
		return rc;
	if (mount(from, at, NULL, MS_BIND, NULL) < 0)
		return err_sys(e, errno, "bind %s to %s", from, to);
	return read_only ? set_read_only(at, e) : 0;
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
	for (size_t i = 0; how->programs[i] != NULL; i++)
		if (fs_below(how->programs[i], dir))
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
	rc = make_place(at, true, e);
	d = opendir(path);
	if (rc == 0 && d == NULL)
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
bind_ours(const struct sandbox_how *how, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && how->paths[i] != NULL; i++) {
		SCOPED_FREE char *from = fs_join(how->clone, how->paths[i]);

		/* Optional paths (a socket's folder) may be absent. */
		if (access(from, F_OK) == 0)
			rc = bind(how, from, how->paths[i], false, e);
	}
	for (size_t i = 0; rc == 0 && how->programs[i] != NULL; i++)
		rc = bind(how, how->programs[i], how->programs[i], true, e);
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

int
sandbox_root(const struct sandbox_how *how, struct err *e)
{
	int rc = 0;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, errno, "make mounts private");
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

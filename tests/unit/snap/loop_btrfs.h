/*
 * A btrfs of its own for a test, on a loop device over a sparse file. It is
 * mounted in a mount namespace of the test's own and its image has no name, so
 * that it is gone with the process however that ends; only an empty folder in
 * $TMPDIR can stay behind.
 */
#ifndef NEAP_TESTS_LOOP_BTRFS_H
#define NEAP_TESTS_LOOP_BTRFS_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct loop_btrfs {
	char dir[200]; /* where it is mounted; "" : it is not */
	char why[120]; /* not */
};

/* A command that must succeed: its status. */
static inline int __attribute__((format(printf, 1, 2)))
loop_run(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	return system(cmd);
}

/* Others may take the loop device that mount has just found free. */
static inline bool
loop_btrfs_mount(const char *image, const char *dir, const char *options)
{
	for (int try = 0; try < 5; try++) {
		if (loop_run("mount -o loop,%s %s %s", options, image, dir) ==
		    0)
			return true;
		usleep(200000);
	}
	return false;
}

static inline void
loop_btrfs_open(
    struct loop_btrfs *l, unsigned mib, const char *mkfs, const char *options)
{
	const char *tmp = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	char image[256];
	int fd;

	memset(l, 0, sizeof *l);
	if (geteuid() != 0) {
		snprintf(l->why, sizeof l->why, "not root");
		return;
	}
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		snprintf(l->why, sizeof l->why, "no mount namespace: %s",
		    strerror(errno));
		return;
	}
	snprintf(l->dir, sizeof l->dir, "%.150s/neap-btrfs-XXXXXX", tmp);
	if (mkdtemp(l->dir) == NULL) {
		snprintf(l->why, sizeof l->why, "no folder in %s", tmp);
		l->dir[0] = '\0';
		return;
	}
	snprintf(image, sizeof image, "%s.image", l->dir);
	fd = open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0 && ftruncate(fd, (off_t)mib << 20) == 0 &&
	    loop_run("mkfs.btrfs -q -f %s %s >/dev/null", mkfs, image) == 0 &&
	    loop_btrfs_mount(image, l->dir, options)) {
		unlink(image); /* the loop device holds it */
		close(fd);
		return;
	}
	snprintf(l->why, sizeof l->why, "no btrfs on a loop device here");
	if (fd >= 0)
		close(fd);
	unlink(image);
	rmdir(l->dir);
	l->dir[0] = '\0';
}

static inline void
loop_btrfs_close(struct loop_btrfs *l)
{
	if (l->dir[0] == '\0')
		return;
	if (umount(l->dir) < 0)
		umount2(l->dir, MNT_DETACH);
	rmdir(l->dir);
}

#endif

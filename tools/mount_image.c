/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mount_image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/core/mounts.h"

/* Another program may take the free loop device first. */
#define LOOP_TRIES 64

/*
 * Without writing, a journal cannot be replayed: then the file system is shown
 * as it was on the disk, which for what was being changed in that instant may
 * be inconsistent. xfs: a copy has the UUID of its source (Documentation/
 * admin-guide/xfs.rst; filesystems/ext4; btrfs(5)).
 */
static const struct {
	const char *type, *read_only, *writable;
} options[] = {
    {"xfs", "norecovery,nouuid", "nouuid"},
    {"ext4", "noload", NULL},
    {"ext3", "noload", NULL},
    {"btrfs", "rescue=nologreplay", NULL},
};

static const char *
options_of(const struct image *im, bool writable)
{
	for (size_t i = 0; i < MEM_COUNT(options); i++)
		if (strcmp(options[i].type, im->fs_type) == 0)
			return writable ? options[i].writable
					: options[i].read_only;
	return NULL;
}

/* Below `dir`, through no link: what a backup holds is not to be trusted. */
static int
open_below(const char *dir, const char *path, uint64_t flags, struct err *e)
{
	SCOPED_FD int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct open_how how = {.flags = flags | O_CLOEXEC,
	    .resolve =
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	long fd;

	if (at < 0)
		return err_sys(e, errno, "open %s", dir);
	fd = syscall(SYS_openat2, at, path + 1, &how, sizeof how);
	return fd < 0 ? err_sys(e, errno, "open %s%s", dir, path) : (int)fd;
}

/* ---- loop devices --------------------------------------------------------- */

/* 1: configured; 0: somebody else has taken it. */
static int
configure(
    int loop, int file, const struct image *im, bool writable, struct err *e)
{
	struct loop_config c = {.fd = (uint32_t)file, .block_size = im->sector};

	c.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO |
			  (writable ? 0 : LO_FLAGS_READ_ONLY);
	snprintf((char *)c.info.lo_file_name, sizeof c.info.lo_file_name, "%s",
	    im->path);
	if (ioctl(loop, LOOP_CONFIGURE, &c) == 0)
		return 1;
	/* Sectors that it does not do, or not direct. */
	if (errno == EINVAL) {
		c.info.lo_flags &= ~(uint32_t)LO_FLAGS_DIRECT_IO;
		if (ioctl(loop, LOOP_CONFIGURE, &c) == 0)
			return 1;
	}
	return errno == EBUSY ? 0 : err_sys(e, errno, "set up a loop device");
}

/* Gives the open device, which clears itself with its last user; its path into
 * `name`. */
static int
attach(int file, const struct image *im, bool writable, char name[32],
    struct err *e)
{
	SCOPED_FD int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	if (control < 0) {
		err_sys(e, errno, "open /dev/loop-control");
		return err_hint(e, "the kernel's loop driver is needed");
	}
	for (int i = 0; i < LOOP_TRIES; i++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE), loop, rc;

		if (n < 0)
			return err_sys(e, errno, "find a free loop device");
		snprintf(name, 32, "/dev/loop%d", n);
		loop = open(name, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
		if (loop < 0)
			return err_sys(e, errno, "open %s", name);
		rc = configure(loop, file, im, writable, e);
		if (rc == 1)
			return loop;
		close(loop);
		if (rc < 0)
			return rc;
	}
	return err_set(e, -EBUSY, "no loop device is to be had");
}

/* ---- mounting ------------------------------------------------------------- */

/* btrfs knows its devices by UUID alone: the copy of one that is mounted here
 * would be taken for another device of it. */
static int
check_alone(const struct image *im, struct err *e)
{
	SCOPED_FREE char *live = mem_printf("/sys/fs/btrfs/%s", im->fs_uuid);

	if (strcmp(im->fs_type, "btrfs") != 0 || im->fs_uuid[0] == '\0' ||
	    access(live, F_OK) < 0)
		return 0;
	err_set(e, -EPERM,
	    "the btrfs %s of %s is in use on this host, and the kernel would "
	    "confuse the two",
	    im->fs_uuid, im->path);
	return err_hint(e, "mount the backup on another host, or without file "
			   "systems (--images-only)");
}

/* 1: mounted; 0: this kernel has no such file system. */
static int
mount_one(const struct image *im, const char *dir, bool writable, struct err *e)
{
	SCOPED_FD int file = -1, loop = -1, place = -1;
	char device[32], at[48];
	int rc = check_alone(im, e);

	if (rc < 0)
		return rc;
	file = open_below(dir, im->path, writable ? O_RDWR : O_RDONLY, e);
	if (file < 0)
		return file;
	place = open_below(dir, im->at, O_PATH | O_DIRECTORY, e);
	if (place < 0)
		return place;
	loop = attach(file, im, writable, device, e);
	if (loop < 0)
		return loop;
	snprintf(at, sizeof at, "/proc/self/fd/%d", place);
	if (mount(device, at, im->fs_type,
		MS_NOSUID | MS_NODEV | (writable ? 0 : MS_RDONLY),
		options_of(im, writable)) == 0)
		return 1;
	if (errno == ENODEV) {
		log_warn("%s holds %s, which this kernel does not know: it is "
			 "shown as a file only",
		    im->path, im->fs_type);
		return 0;
	}
	err_sys(e, errno, "mount the %s of %s on %s%s", im->fs_type, im->path,
	    dir, im->at);
	return err_hint(e, "--images-only shows the image as a file");
}

int
mount_image_all(
    const struct images *l, const char *dir, bool writable, struct err *e)
{
	int n = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct err ignored = ERR_NONE;
		int rc;

		if (l->v[i].at == NULL)
			continue;
		rc = mount_one(&l->v[i], dir, writable, e);
		if (rc < 0) {
			mount_image_end(dir, true, NULL, &ignored);
			return rc;
		}
		n += rc;
	}
	return n;
}

/* ---- and back ------------------------------------------------------------- */

static bool
hangs_on(const struct mounts *m, const struct mounts_row *r, uint64_t top)
{
	/* Parents form a tree; the bound is for a table that changes. */
	for (size_t depth = 0; r != NULL && depth < m->n; depth++) {
		if (r->parent == top)
			return true;
		r = r->parent == r->id ? NULL : mounts_by_id(m, r->parent);
	}
	return false;
}

/*
 * The last mount that hangs on the backup mounted at `dir`; gives, NULL where
 * there is none. By the mounts' ids: `dir` may hide mounts of the host that are
 * none of our business.
 */
static char *
last_below(const char *dir)
{
	SCOPED_MOUNTS struct mounts m = {0};
	struct err ignored = ERR_NONE;
	const char *last = NULL;
	uint64_t top = 0;

	mounts_load(&m, &ignored); /* as far as it could be read */
	for (size_t i = 0; i < m.n; i++)
		if (strcmp(m.v[i].type, "fuse.neap") == 0 &&
		    strcmp(m.v[i].point, dir) == 0)
			top = m.v[i].id;
	for (size_t i = 0; top != 0 && i < m.n; i++)
		if (hangs_on(&m, &m.v[i], top))
			last = m.v[i].point;
	return last == NULL ? NULL : mem_str(last);
}

bool
mount_image_there(const char *dir)
{
	SCOPED_FREE char *at = last_below(dir);

	return at != NULL;
}

int
mount_image_end(const char *dir, bool lazy, char **where, struct err *e)
{
	for (;;) {
		SCOPED_FREE char *at = last_below(dir);
		int flags = UMOUNT_NOFOLLOW, rc;

		if (at == NULL)
			return 0;
		rc = umount2(at, flags);
		if (rc < 0 && errno == EBUSY && lazy)
			rc = umount2(at, flags | MNT_DETACH);
		if (rc == 0)
			continue;
		err_sys(e, errno, "unmount %s", at);
		if (where != NULL)
			*where = TAKE(at);
		return e->code;
	}
}

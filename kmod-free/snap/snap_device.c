/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No snapshot: a block device as it is, as one image. For one that nobody
 * writes to, and the plain member of the providers of images for tests. It is
 * held open exclusively as long as the volume is open, so that nothing can
 * mount it meanwhile; one that is mounted read-only already stays so.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/mounts.h"
#include "kmod-free/snap/image.h"
#include "kmod-free/snap/snap_all.h"

struct device {
	struct snap_volume base;
	int fd;
	char number[32]; /* "7:0", as the mount table has it */
};

static void
device_close(struct snap_volume *base)
{
	struct device *d = (struct device *)base;

	fs_close_scope(&d->fd);
	image_fini(&base->image);
	free(base->id);
	free(base->fs_uuid);
	free(base->fs_type);
	free(base->root);
	free(d);
}

static void
close_scope(struct device **d)
{
	if (*d != NULL)
		device_close(&(*d)->base);
}

/* By the kernel's name of it: /dev/block is udev's and not everywhere. */
static int
device_of_number(const char *number, char **out, struct err *e)
{
	SCOPED_FREE char *link = mem_printf("/sys/dev/block/%s", number);
	SCOPED_FREE char *real = fs_real(link, e);
	SCOPED_FREE char *path = NULL, *is = NULL;
	struct stat st;

	if (real == NULL)
		return e->code;
	path = mem_printf("/dev/%s", strrchr(real, '/') + 1);
	for (char *c = path; *c != '\0'; c++)
		if (*c == '!') /* how sysfs writes a slash */
			*c = '/';
	if (stat(path, &st) < 0)
		return err_sys(e, errno, "look up device %s", number);
	is = mem_printf("%u:%u", major(st.st_rdev), minor(st.st_rdev));
	if (!S_ISBLK(st.st_mode) || strcmp(is, number) != 0)
		return err_set(
		    e, -EOPNOTSUPP, "%s is not the device %s", path, number);
	*out = TAKE(path);
	return 0;
}

/* The device below a folder, as a path of /dev; gives. */
static int
device_below(const char *path, char **out, struct err *e)
{
	SCOPED_MOUNTS struct mounts m = {0};
	SCOPED_FREE char *dir = NULL;
	const struct mounts_row *r;
	struct mounts_place p;
	int rc = mounts_folder(path, &dir, &p, e);

	if (rc == 0)
		rc = mounts_load(&m, e);
	if (rc < 0)
		return rc;
	r = mounts_by_id(&m, p.mount);
	if (r == NULL || strncmp(r->dev, "0:", 2) == 0)
		return err_set(e, -EOPNOTSUPP,
		    "%s is no block device, and its file system is on none",
		    path);
	return device_of_number(r->dev, out, e);
}

/*
 * Whoever has mounted it, maps it or runs it as swap holds it exclusively. The
 * only such user that is no danger is a mount that cannot write.
 */
static int
why_busy(const struct device *d, const char *path, struct err *e)
{
	SCOPED_MOUNTS struct mounts m = {0};
	bool mounted = false;
	int rc = mounts_load(&m, e);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < m.n; i++) {
		if (strcmp(m.v[i].dev, d->number) != 0)
			continue;
		mounted = true;
		if (mounts_row_read_only(&m.v[i]))
			continue;
		err_set(e, -EPERM, "%s is in use: it is mounted at %s", path,
		    m.v[i].point);
		return err_hint(e, "unmount it or mount it read-only; a device "
				   "that is written to needs a snapshot");
	}
	if (mounted)
		return 0;
	err_set(e, -EPERM, "%s is in use by the kernel or a program", path);
	return err_hint(e, "LVM, RAID, swap, a mounted partition or another "
			   "backup may hold it; lsblk shows the first four");
}

static int
claim(struct device *d, const char *path, struct err *e)
{
	int flags = O_RDONLY | O_CLOEXEC, rc;

	d->fd = open(path, flags | O_EXCL);
	if (d->fd < 0 && errno == EBUSY) {
		rc = why_busy(d, path, e);
		if (rc < 0)
			return rc;
		d->fd = open(path, flags);
	}
	if (d->fd < 0 && errno == EACCES)
		return err_set(
		    e, -EPERM, "reading the device %s needs root", path);
	if (d->fd < 0)
		return err_sys(e, errno, "open %s", path);
	return 0;
}

/* What people call it: "vg-lv" rather than "dm-3". Gives. */
static char *
name_of(const struct device *d, const char *path)
{
	SCOPED_FREE char *file =
	    mem_printf("/sys/dev/block/%s/dm/name", d->number);
	SCOPED_BUF struct buf name = {0};
	struct err e = ERR_NONE;

	if (fs_read_at(AT_FDCWD, file, NAME_MAX, &name, &e) < 0 || name.len < 2)
		return mem_str(strrchr(path, '/') + 1);
	return mem_strn(
	    (const char *)name.data, name.len - 1); /* the newline */
}

/* Where the root of its file system is, if it is mounted. */
static int
find_mount(struct device *d, struct err *e)
{
	SCOPED_MOUNTS struct mounts m = {0};
	int rc = mounts_load(&m, e);

	for (size_t i = 0; rc == 0 && i < m.n; i++) {
		const struct mounts_row *r = &m.v[i];

		if (strcmp(r->dev, d->number) != 0 || strcmp(r->root, "/") != 0)
			continue;
		d->base.image.mounted_at = mem_str(r->point);
		break;
	}
	return rc;
}

static int
device_open(struct snap_volume **out, const char *path, struct err *e)
{
	struct device *d __attribute__((cleanup(close_scope))) = NULL;
	SCOPED_FREE char *dev = NULL;
	struct stat st;
	int rc = 0;

	if (stat(path, &st) < 0)
		return err_sys(e, errno, "stat %s", path);
	if (S_ISBLK(st.st_mode))
		dev = mem_str(path);
	else
		rc = device_below(path, &dev, e);
	if (rc < 0)
		return rc;
	if (stat(dev, &st) < 0)
		return err_sys(e, errno, "stat %s", dev);
	if (!S_ISBLK(st.st_mode))
		return err_set(e, -EOPNOTSUPP, "%s is no block device", dev);
	d = mem_new(sizeof *d);
	d->fd = -1;
	d->base.ops = &snap_device;
	snprintf(d->number, sizeof d->number, "%u:%u", major(st.st_rdev),
	    minor(st.st_rdev));
	rc = claim(d, dev, e);
	if (rc == 0)
		rc = image_probe(&d->base, d->fd, e);
	if (rc == 0)
		rc = find_mount(d, e);
	if (rc < 0)
		return err_wrap(e, "%s", dev);
	d->base.image.name = name_of(d, dev);
	/* Not the file system's UUID: a copy of the device has it too, and
	 * two devices of one job must not become one volume. */
	d->base.id = mem_printf("device:%s", d->base.image.name);
	d->base.root = TAKE(dev);
	*out = &TAKE(d)->base;
	return 0;
}

static int
device_nothing(struct snap_volume *v, const char *name, struct err *e)
{
	(void)v;
	(void)name;
	(void)e;
	return 0;
}

static int
device_view(struct snap_volume *v, const char *name, struct err *e)
{
	const struct device *d = (const struct device *)v;
	int fd = fcntl(d->fd, F_DUPFD_CLOEXEC, 0);

	(void)name;
	return fd < 0 ? err_sys(e, errno, "open %s", v->root) : fd;
}

static int
device_list(struct snap_volume *v, snap_list_fn *fn, void *arg, struct err *e)
{
	(void)v;
	(void)fn;
	(void)arg;
	(void)e;
	return 0;
}

static int
device_locate(
    struct snap_volume *v, const char *path, char **rel, struct err *e)
{
	const struct device *d = (const struct device *)v;
	const char *at = v->image.mounted_at;
	SCOPED_FREE char *dev = NULL;
	struct err ignored = ERR_NONE;
	struct stat st;

	if (strcmp(path, v->root) == 0) {
		*rel = mem_str("");
		return 0;
	}
	if (at != NULL && fs_below(path, at) && stat(path, &st) == 0 &&
	    !S_ISBLK(st.st_mode) && device_below(path, &dev, &ignored) == 0 &&
	    dev != NULL && strcmp(dev, v->root) == 0) {
		path += strcmp(at, "/") == 0 ? 0 : strlen(at);
		*rel = mem_str(path + strspn(path, "/"));
		return 0;
	}
	return err_set(e, -EXDEV, "%s does not lie on the device %s (%s)", path,
	    v->root, d->number);
}

const struct snap_ops snap_device = {
    .name = "device",
    .summary = "a block device that nobody writes to, as one image",
    .caps = SNAP_IMAGE,
    .open = device_open,
    .close = device_close,
    .create = device_nothing,
    .view = device_view,
    .list = device_list,
    .remove = device_nothing,
    .locate = device_locate,
};

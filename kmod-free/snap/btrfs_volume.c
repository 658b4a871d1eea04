/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/btrfs_volume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/mounts.h"
#include "kmod-free/snap/btrfs_place.h"
#include "kmod-free/snap/detached.h"

void
btrfs_volume_close(struct btrfs_volume *v)
{
	struct snap_volume *base = &v->base;

	fs_close_scope(&v->live);
	fs_close_scope(&v->top);
	fs_close_scope(&v->mount);
	free(base->id);
	free(base->fs_uuid);
	free(base->fs_type);
	free(base->root);
	free(v);
}

static void
close_scope(struct btrfs_volume **v)
{
	if (*v != NULL)
		btrfs_volume_close(*v);
}

static int
check_type(const char *path, struct err *e)
{
	SCOPED_FREE char *what = NULL;
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return err_sys(e, errno, "look up the file system of %s", path);
	if ((unsigned long)fs.f_type == BTRFS_SUPER_MAGIC)
		return geteuid() == 0 ? 0
				      : err_set(e, -EPERM,
					    "%s is on btrfs, but taking a "
					    "snapshot of it needs "
					    "root",
					    path);
	what = mounts_describe(path);
	return err_set(
	    e, -EOPNOTSUPP, "%s lies on %s, not on btrfs", path, what);
}

/* Some device of the file system, whichever is there: the mount table's may be
 * an alias that is not in /dev. */
static int
find_device(int fd, char out[BTRFS_DEVICE_PATH_NAME_MAX], struct err *e)
{
	struct btrfs_ioctl_fs_info_args info = {0};

	if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
		return err_sys(e, errno, "ask btrfs for its devices");
	for (uint64_t id = 0; id <= info.max_id && id < 65536; id++) {
		struct btrfs_ioctl_dev_info_args dev = {.devid = id};

		if (ioctl(fd, BTRFS_IOC_DEV_INFO, &dev) < 0)
			continue;
		snprintf(out, BTRFS_DEVICE_PATH_NAME_MAX, "%.*s",
		    BTRFS_DEVICE_PATH_NAME_MAX - 1, (const char *)dev.path);
		if (out[0] == '/' && access(out, F_OK) == 0)
			return 0;
	}
	return err_set(e, -EOPNOTSUPP,
	    "no device of this btrfs can be reached by its name in /dev");
}

static int
mount_top(struct btrfs_volume *v, int fd, struct err *e)
{
	char device[BTRFS_DEVICE_PATH_NAME_MAX];
	struct detached_how how = {
	    .type = "btrfs",
	    .source = device,
	    .option = "subvolid",
	    .value = "5",
	    .read_only = v->read_only,
	};
	uint8_t fsid[16];
	int rc;

	rc = find_device(fd, device, e);
	if (rc < 0)
		return rc;
	v->mount = detached_mount(&how, e);
	if (v->mount < 0)
		return v->mount;
	v->top = openat(v->mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v->top < 0)
		return err_sys(e, errno, "open the top level of the btrfs");
	rc = btrfs_place_fsid(v->top, fsid, e);
	if (rc < 0)
		return rc;
	if (memcmp(fsid, v->fsid, 16) != 0)
		return err_set(e, -EOPNOTSUPP,
		    "%s belongs to another btrfs by now", device);
	return 0;
}

/* The root of the subvolume, whatever part of it the user has mounted. */
static int
open_live(struct btrfs_volume *v, struct err *e)
{
	struct btrfs_util_subvolume_info info;
	SCOPED_FREE char *path = NULL;
	enum btrfs_util_error u;

	u = btrfs_util_subvolume_path_fd(v->top, v->base.subvolume, &path);
	if (u != BTRFS_UTIL_OK)
		return btrfs_place_util(e, u, "tell the subvolume's path");
	v->live = openat(v->top, path[0] ? path : ".",
	    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (v->live < 0)
		return err_sys(e, errno, "open subvolume %s", path);
	u = btrfs_util_subvolume_info_fd(v->live, 0, &info);
	if (u != BTRFS_UTIL_OK)
		return btrfs_place_util(e, u, "look at the subvolume");
	if (info.id != v->base.subvolume)
		return err_set(e, -EBUSY,
		    "subvolume %s is being replaced at this moment", path);
	memcpy(v->uuid, info.uuid, 16);
	return 0;
}

static int
learn_mount(struct btrfs_volume *v, const char *dir, struct err *e)
{
	SCOPED_MOUNTS struct mounts m = {0};
	const struct mounts_row *r;
	struct mounts_place p;
	int rc;

	rc = mounts_place(dir, &p, e);
	if (rc < 0)
		return rc;
	rc = mounts_load(&m, e);
	if (rc < 0)
		return rc;
	r = mounts_by_id(&m, p.mount);
	v->read_only = r != NULL && mounts_row_read_only(r);
	return mounts_top(dir, &v->base.root, e);
}

static void
name_volume(struct btrfs_volume *v)
{
	char fs[BTRFS_PLACE_UUID_TEXT], sub[BTRFS_PLACE_UUID_TEXT];

	btrfs_place_uuid_text(fs, v->fsid);
	btrfs_place_uuid_text(sub, v->uuid);
	v->base.fs_uuid = mem_str(fs);
	v->base.fs_type = mem_str("btrfs");
	v->base.id = mem_printf("btrfs:%s:%s", fs, sub);
}

int
btrfs_volume_open(struct btrfs_volume **out, const char *path, struct err *e)
{
	struct btrfs_volume *v __attribute__((cleanup(close_scope))) = NULL;
	SCOPED_FREE char *dir = NULL;
	SCOPED_FD int fd = -1;
	struct mounts_place p;
	enum btrfs_util_error u;
	int rc;

	rc = mounts_folder(path, &dir, &p, e);
	if (rc < 0)
		return rc;
	rc = check_type(dir, e);
	if (rc < 0)
		return rc;
	v = mem_new(sizeof *v);
	v->mount = v->top = v->live = -1;
	rc = learn_mount(v, dir, e);
	if (rc < 0)
		return rc;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open %s", dir);
	rc = btrfs_place_fsid(fd, v->fsid, e);
	if (rc < 0)
		return rc;
	u = btrfs_util_subvolume_id_fd(fd, &v->base.subvolume);
	if (u != BTRFS_UTIL_OK)
		return btrfs_place_util(e, u, "tell the subvolume's id");
	rc = mount_top(v, fd, e);
	if (rc < 0)
		return rc;
	rc = open_live(v, e);
	if (rc < 0)
		return rc;
	name_volume(v);
	*out = TAKE(v);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/object_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include "agent/core/mem.h"

#define XATTR_LIST_TRIES 8

const struct object_sys_flag object_sys_flags[] = {
    {FS_NOCOW_FL, "flag C, no copy-on-write"},
    {FS_COMPR_FL, "flag c, compression"},
    {FS_NOCOMP_FL, "flag m, no compression"},
    {FS_NODUMP_FL, "flag d, no dump"},
    {FS_NOATIME_FL, "flag A, no access times"},
    {FS_SYNC_FL, "flag S, synchronous"},
    {FS_DIRSYNC_FL, "flag D, synchronous folder"},
    {FS_APPEND_FL, "flag a, append only"},
    {FS_IMMUTABLE_FL, "flag i, immutable"},
    {0, NULL},
};

uint32_t
object_sys_settable(void)
{
	uint32_t all = 0;

	for (size_t i = 0; object_sys_flags[i].bit != 0; i++)
		all |= object_sys_flags[i].bit;
	return all;
}

void
object_sys_path(char out[OBJECT_SYS_PATH_LEN], int fd)
{
	snprintf(out, OBJECT_SYS_PATH_LEN, "/proc/self/fd/%d", fd);
}

int
object_sys_open_path(int dirfd, const char *name, struct err *e)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? err_sys(e, errno, "open") : fd;
}

int
object_sys_open(int path_fd)
{
	char path[OBJECT_SYS_PATH_LEN];
	int how = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
	int fd;

	object_sys_path(path, path_fd);
	fd = open(path, how | O_NOATIME);
	if (fd < 0 && errno == EPERM) /* O_NOATIME is the owner's and root's */
		fd = open(path, how);
	return fd < 0 ? -errno : fd;
}

/* The ioctls are declared with long but move an int; some FUSE servers do
 * write a long, so the memory behind it is ours. */
int
object_sys_get_flags(int fd, uint32_t *flags)
{
	union {
		long room;
		uint32_t v;
	} u = {0};

	if (ioctl(fd, FS_IOC_GETFLAGS, &u) < 0)
		return -errno;
	*flags = u.v;
	return 0;
}

int
object_sys_set_flags(int fd, uint32_t flags)
{
	union {
		long room;
		uint32_t v;
	} u = {0};

	u.v = flags;
	return ioctl(fd, FS_IOC_SETFLAGS, &u) < 0 ? -errno : 0;
}

int
object_sys_type(mode_t mode, enum object_type *type)
{
	static const struct {
		mode_t ifmt;
		enum object_type type;
	} types[] = {{S_IFREG, OBJECT_FILE}, {S_IFDIR, OBJECT_DIR},
	    {S_IFLNK, OBJECT_SYMLINK}, {S_IFIFO, OBJECT_FIFO},
	    {S_IFSOCK, OBJECT_SOCKET}, {S_IFCHR, OBJECT_CHAR},
	    {S_IFBLK, OBJECT_BLOCK}};

	for (size_t i = 0; i < MEM_COUNT(types); i++) {
		if ((mode & S_IFMT) != types[i].ifmt)
			continue;
		*type = types[i].type;
		return 0;
	}
	return -EINVAL;
}

int
object_sys_xattrs(const char *path, struct buf *out, struct err *e)
{
	for (int i = 0; i < XATTR_LIST_TRIES; i++) {
		ssize_t n = listxattr(path, NULL, 0), got;

		if (n < 0 && errno == EOPNOTSUPP)
			return 0;
		if (n < 0)
			return err_sys(e, errno, "list extended attributes");
		if (n == 0)
			return 0;
		got = listxattr(
		    path, (char *)buf_room(out, (size_t)n), (size_t)n);
		if (got >= 0) {
			out->len = (size_t)got;
			return 0;
		}
		if (errno != ERANGE)
			return err_sys(e, errno, "list extended attributes");
	}
	return err_set(e, -EBUSY, "its extended attributes keep changing");
}

int
object_sys_xattr_order(const void *a, const void *b)
{
	const struct object_xattr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

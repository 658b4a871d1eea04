/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/detached.h"

#include <errno.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/core/fs.h"

/* By number: glibc has had wrappers only since 2.36, and its <sys/mount.h>
 * cannot be included together with the kernel's headers of btrfs. */
static int
configure(int fs, unsigned cmd, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs, cmd, key, value, 0);
}

/* The kernel's own words about the last failure ("e btrfs: …"), if any. */
static int
complain(struct err *e, int errnum, int fs, const struct detached_how *how)
{
	char said[256];
	ssize_t n = read(fs, said, sizeof said - 1);

	if (n <= 2)
		return err_sys(e, errnum, "mount %s privately", how->source);
	said[n] = '\0';
	return err_sys(
	    e, errnum, "mount %s privately: %s", how->source, said + 2);
}

static int
set_options(int fs, const struct detached_how *how)
{
	int rc = configure(fs, FSCONFIG_SET_STRING, "source", how->source);

	if (rc == 0 && how->option != NULL)
		rc =
		    configure(fs, FSCONFIG_SET_STRING, how->option, how->value);
	for (const char *const *f = how->flags;
	     rc == 0 && f != NULL && *f != NULL; f++)
		rc = configure(fs, FSCONFIG_SET_FLAG, *f, NULL);
	if (rc == 0 && how->read_only)
		rc = configure(fs, FSCONFIG_SET_FLAG, "ro", NULL);
	return rc;
}

int
detached_mount(const struct detached_how *how, struct err *e)
{
	SCOPED_FD int fs = (int)syscall(SYS_fsopen, how->type, FSOPEN_CLOEXEC);
	unsigned attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME;
	int fd;

	if (fs < 0 && errno == ENOSYS)
		return err_set(e, -EOPNOTSUPP,
		    "mount %s privately: this kernel has no fsopen "
		    "(Linux 5.2 has)",
		    how->source);
	if (fs < 0)
		return err_sys(e, errno, "mount %s privately", how->source);
	if (set_options(fs, how) < 0 ||
	    configure(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
		return complain(e, errno, fs, how);
	if (how->read_only)
		attr |= MOUNT_ATTR_RDONLY;
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr);
	if (fd < 0)
		return complain(e, errno, fs, how);
	return fd;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/dm_suspend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <string.h>
#include <sys/ioctl.h>

#define CONTROL "/dev/" DM_DIR "/control"

int
dm_control_open(struct err *e)
{
	int fd = open(CONTROL, O_RDWR | O_CLOEXEC);

	return fd < 0 ? err_sys(e, errno, "open %s", CONTROL) : fd;
}

/* The oldest interface of version 4: what is asked here is in all of them. */
static int
call(int control, unsigned long request, const char *uuid, struct dm_ioctl *d)
{
	size_t n = strlen(uuid);

	d->version[0] = 4;
	d->data_size = d->data_start = sizeof *d;
	if (n >= sizeof d->uuid)
		return -ENAMETOOLONG;
	memcpy(d->uuid, uuid, n + 1);
	return ioctl(control, request, d) < 0 ? -errno : 0;
}

int
dm_suspend(int control, const char *uuid)
{
	struct dm_ioctl d = {.flags = DM_SUSPEND_FLAG};

	return call(control, DM_DEV_SUSPEND, uuid, &d);
}

int
dm_resume(int control, const char *uuid)
{
	struct dm_ioctl d = {0};

	return call(control, DM_DEV_SUSPEND, uuid, &d);
}

int
dm_suspended(int control, const char *uuid)
{
	struct dm_ioctl d = {0};
	int rc = call(control, DM_DEV_STATUS, uuid, &d);

	return rc < 0 ? rc : (d.flags & DM_SUSPEND_FLAG) != 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/dm.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "agent/core/mem.h"

/* What fails is said by us, with its reason; the library would print it. */
static void
say_nothing(
    int level, const char *file, int line, int code, const char *fmt, ...)
{
	(void)level, (void)file, (void)line, (void)code, (void)fmt;
}

static void
task_free(struct dm_task **t)
{
	if (*t != NULL)
		dm_task_destroy(*t);
}
#define SCOPED_TASK __attribute__((cleanup(task_free)))

static int
task_new(struct dm_task **out, int type, const char *uuid, struct err *e)
{
	SCOPED_TASK struct dm_task *t = NULL;

	dm_log_with_errno_init(say_nothing);
	t = dm_task_create(type);
	if (t == NULL || !dm_task_set_uuid(t, uuid))
		return err_set(e, -ENOMEM, "no memory for device-mapper");
	*out = TAKE(t);
	return 0;
}

static int
task_run(struct dm_task *t, const char *uuid, const char *what, struct err *e)
{
	int errnum;

	if (dm_task_run(t))
		return 0;
	errnum = dm_task_get_errno(t);
	return err_sys(e, errnum != 0 ? errnum : EIO, "device-mapper: %s of %s",
	    what, uuid);
}

/* Runs it, and sees that the device is there. */
static int
ask(struct dm_task *t, const char *uuid, const char *what, struct dm_info *info,
    struct err *e)
{
	int rc = task_run(t, uuid, what, e);

	if (rc == 0 && (!dm_task_get_info(t, info) || !info->exists))
		rc =
		    err_set(e, -ENOENT, "device-mapper has no device %s", uuid);
	return rc;
}

int
dm_device(const char *uuid, dev_t *out, struct err *e)
{
	SCOPED_TASK struct dm_task *t = NULL;
	struct dm_info info;
	int rc = task_new(&t, DM_DEVICE_INFO, uuid, e);

	if (rc == 0)
		rc = ask(t, uuid, "number", &info, e);
	if (rc == 0)
		*out = makedev(info.major, info.minor);
	return rc;
}

int
dm_open(dev_t dev, int flags, struct err *e)
{
	SCOPED_FREE char *path = mem_printf("/dev/dm-%u", minor(dev));
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);

	return fd < 0 ? err_sys(e, errno, "open %s", path) : fd;
}

int
dm_status(const char *uuid, char **type, char **status, struct err *e)
{
	SCOPED_TASK struct dm_task *t = NULL;
	char *kind = NULL, *words = NULL;
	struct dm_info info;
	uint64_t start, len;
	int rc = task_new(&t, DM_DEVICE_STATUS, uuid, e);

	if (rc == 0)
		rc = ask(t, uuid, "status", &info, e);
	if (rc < 0)
		return rc;
	if (dm_get_next_target(t, NULL, &start, &len, &kind, &words) != NULL ||
	    kind == NULL || words == NULL)
		return err_set(e, -EIO,
		    "device-mapper: %s has more or less than one target", uuid);
	*type = mem_str(kind);
	*status = mem_str(words);
	return 0;
}

bool
dm_take_number(const char **s, char behind, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)**s))
		return false;
	errno = 0;
	*out = strtoull(*s, &end, 10);
	if (errno != 0 || (*end != behind && *end != '\0'))
		return false;
	*s = *end == '\0' ? end : end + 1;
	return true;
}

int
dm_message(const char *uuid, const char *text, struct err *e)
{
	SCOPED_TASK struct dm_task *t = NULL;
	int rc = task_new(&t, DM_DEVICE_TARGET_MSG, uuid, e);

	if (rc < 0)
		return rc;
	if (!dm_task_set_sector(t, 0) || !dm_task_set_message(t, text))
		return err_set(e, -ENOMEM, "no memory for device-mapper");
	return task_run(t, uuid, text, e);
}

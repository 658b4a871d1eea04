/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot providers, one call at a time, for shell tests:
 *   snap-ctl PROVIDER PATH id
 *   snap-ctl PROVIDER PATH create|remove|intact NAME
 *   snap-ctl PROVIDER PATH list
 *   snap-ctl PROVIDER PATH cat NAME      the device's bytes, to stdout
 *   snap-ctl PROVIDER PATH locate OTHER  OTHER's path inside
 *   snap-ctl PROVIDER PATH gaps
 * Errors go to stderr; the exit status is the documented one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/snap.h"

static int
print(void *arg, const char *name)
{
	(void)arg;
	puts(name);
	return 0;
}

static int
cat(struct snap_volume *v, const char *name, struct err *e)
{
	static char some[1 << 20];
	SCOPED_FD int fd = snap_view(v, name, e);
	off_t at = 0;
	ssize_t n = 1;

	if (fd < 0)
		return fd;
	for (; n > 0; at += n) {
		n = pread(fd, some, sizeof some, at);
		if (n < 0)
			return err_sys(e, errno, "read the view");
		if (fwrite(some, 1, (size_t)n, stdout) != (size_t)n)
			return err_sys(e, errno, "write");
	}
	return 0;
}

static int
locate(struct snap_volume *v, const char *path, struct err *e)
{
	SCOPED_FREE char *rel = NULL;
	int rc = snap_locate(v, path, &rel, e);

	if (rc == 0)
		puts(rel);
	return rc;
}

static int
act(struct snap_volume *v, const char *what, const char *name, struct err *e)
{
	if (strcmp(what, "id") == 0)
		return print(NULL, v->id);
	if (strcmp(what, "list") == 0)
		return snap_list(v, print, NULL, e);
	if (strcmp(what, "gaps") == 0)
		return snap_gaps(v, "", print, NULL, e);
	if (name == NULL)
		return err_set(e, -EINVAL, "%s needs a name", what);
	if (strcmp(what, "create") == 0)
		return snap_ready(v, name, false, e) < 0
			   ? e->code
			   : snap_create(v, name, e);
	if (strcmp(what, "remove") == 0)
		return snap_remove(v, name, e);
	if (strcmp(what, "intact") == 0)
		return snap_intact(v, name, e);
	if (strcmp(what, "cat") == 0)
		return cat(v, name, e);
	if (strcmp(what, "locate") == 0)
		return locate(v, name, e);
	return err_set(e, -EINVAL, "no action %s", what);
}

int
main(int argc, char **argv)
{
	struct snap_volume *v = NULL;
	struct err e = ERR_NONE;
	int rc;

	if (argc < 4) {
		fprintf(
		    stderr, "usage: snap-ctl PROVIDER PATH ACTION [NAME]\n");
		return 2;
	}
	rc = snap_open(&v, argv[1], argv[2], &e);
	if (rc == 0)
		rc = act(v, argv[3], argv[4], &e);
	snap_close(v);
	if (rc < 0)
		fprintf(stderr, "%s\n", e.text);
	return err_exit_status(rc);
}

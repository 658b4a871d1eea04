/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/snap.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/image.h"
#include "kmod-free/snap/used.h"

static const struct snap_ops *
find(const char *driver)
{
	for (size_t i = 0; snap_all[i] != NULL; i++)
		if (strcmp(snap_all[i]->name, driver) == 0)
			return snap_all[i];
	return NULL;
}

static int
unknown(const char *driver, struct err *e)
{
	char names[256] = "auto";

	for (size_t i = 0; snap_all[i] != NULL; i++) {
		size_t n = strlen(names);

		snprintf(
		    names + n, sizeof names - n, ", %s", snap_all[i]->name);
	}
	return err_set(e, -EINVAL,
	    "there is no snapshot provider \"%s\"; there are: %s", driver,
	    names);
}

/* Each that makes atomic views; gathers why not. Only "not mine" goes on to
 * the next: any other failure is a real one and must not be papered over. */
static int
open_auto(struct snap_volume **out, const char *path, struct err *e)
{
	SCOPED_FREE char *why = mem_str("");

	for (size_t i = 0; snap_all[i] != NULL; i++) {
		const struct snap_ops *ops = snap_all[i];
		char *old = why;
		int rc;

		if ((ops->caps & SNAP_ATOMIC) == 0)
			continue;
		rc = ops->open(out, path, e);
		if (rc >= 0)
			return 0;
		if (rc != -EOPNOTSUPP)
			return err_wrap(e, "snapshot provider %s", ops->name);
		why = mem_printf(
		    "%s%s%s: %s", old, old[0] ? "; " : "", ops->name, e->text);
		free(old);
	}
	err_set(e, -EOPNOTSUPP, "nothing here can take a snapshot of %s: %s",
	    path, why);
	return err_hint(e,
	    "what would work: the data on a btrfs subvolume, or any file "
	    "system on a logical volume, best a thin one (lvcreate --type "
	    "thin); or stop the database and set \"snapshot: none\" for a "
	    "cold copy");
}

/* A device as it is, is its content; its name in /dev holds nothing. */
static const char *
real_driver(const char *driver, const char *path)
{
	struct stat st;

	if (strcmp(driver, "none") == 0 && stat(path, &st) == 0 &&
	    S_ISBLK(st.st_mode))
		return "device";
	return driver;
}

int
snap_open(struct snap_volume **out, const char *driver, const char *path,
    struct err *e)
{
	SCOPED_FREE char *real = NULL;
	const struct snap_ops *ops;
	int rc;

	assert(out != NULL && driver != NULL && path != NULL);
	if (path[0] != '/')
		return err_set(e, -EINVAL, "%s is not an absolute path", path);
	real = fs_real(path, e);
	if (real == NULL)
		return e->code;
	if (strcmp(driver, "auto") == 0)
		return open_auto(out, real, e);
	ops = find(real_driver(driver, real));
	if (ops == NULL)
		return unknown(driver, e);
	rc = ops->open(out, real, e);
	if (rc < 0)
		return err_wrap(e, "snapshot provider %s", ops->name);
	return 0;
}

void
snap_close(struct snap_volume *v)
{
	if (v != NULL)
		v->ops->close(v);
}

/* Names end up as names of folders next to those of others: only ours. */
static int
check_name(const char *name, struct err *e)
{
	size_t n = strlen(name), prefix = strlen(SNAP_PREFIX);

	if (n > SNAP_NAME_MAX)
		return err_set(e, -EINVAL,
		    "snapshot name %.40s… is longer than %d bytes", name,
		    SNAP_NAME_MAX);
	if (strncmp(name, SNAP_PREFIX, prefix) != 0 || n == prefix)
		return err_set(e, -EINVAL,
		    "snapshot name \"%s\" does not start with \"" SNAP_PREFIX
		    "\"",
		    name);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c == '/' || c < 0x20 || c == 0x7f)
			return err_set(e, -EINVAL,
			    "snapshot name \"" SNAP_PREFIX
			    "…\" has a slash or a control character at byte "
			    "%zu",
			    i);
	}
	return 0;
}

int
snap_ready(struct snap_volume *v, const char *name, bool frozen, struct err *e)
{
	int rc;

	assert(v != NULL && name != NULL);
	rc = check_name(name, e);
	if (rc == 0 && v->ops->ready != NULL)
		rc = v->ops->ready(v, name, frozen, e);
	if (rc < 0)
		return err_wrap(e, "take snapshot %s of %s", name, v->root);
	return 0;
}

int
snap_create(struct snap_volume *v, const char *name, struct err *e)
{
	int rc;

	assert(v != NULL && name != NULL);
	rc = check_name(name, e);
	if (rc < 0)
		return rc;
	rc = v->ops->create(v, name, e);
	if (rc < 0)
		return err_wrap(e, "take snapshot %s of %s", name, v->root);
	return 0;
}

int
snap_view(struct snap_volume *v, const char *name, struct err *e)
{
	int rc;

	assert(v != NULL && name != NULL);
	rc = check_name(name, e);
	if (rc < 0)
		return rc;
	rc = v->ops->view(v, name, e);
	if (rc < 0)
		return err_wrap(e, "open snapshot %s of %s", name, v->root);
	if ((v->ops->caps & SNAP_IMAGE) != 0 && image_probe(v, rc, e) < 0) {
		close(rc);
		return err_wrap(e, "look at snapshot %s of %s", name, v->root);
	}
	return rc;
}

struct only_ours {
	snap_list_fn *fn;
	void *arg;
};

static int
pass_ours(void *arg, const char *name)
{
	const struct only_ours *o = arg;
	struct err e = ERR_NONE;

	return check_name(name, &e) < 0 ? 0 : o->fn(o->arg, name);
}

int
snap_list(struct snap_volume *v, snap_list_fn *fn, void *arg, struct err *e)
{
	struct only_ours o = {fn, arg};
	int rc;

	assert(v != NULL && fn != NULL);
	rc = v->ops->list(v, pass_ours, &o, e);
	if (rc < 0 && e->code < 0)
		return err_wrap(e, "list snapshots of %s", v->root);
	return rc;
}

int
snap_intact(struct snap_volume *v, const char *name, struct err *e)
{
	int rc;

	assert(v != NULL && name != NULL);
	if (v->ops->intact == NULL)
		return 0;
	rc = v->ops->intact(v, name, e);
	if (rc < 0)
		return err_wrap(e, "snapshot %s of %s", name, v->root);
	return 0;
}

int
snap_watch(struct snap_volume *v, const char *name, char **said, struct err *e)
{
	assert(v != NULL && name != NULL && said != NULL);
	*said = NULL;
	if (v->ops->watch == NULL)
		return 0;
	return v->ops->watch(v, name, said, e) < 0
		   ? err_wrap(e, "snapshot %s of %s", name, v->root)
		   : 0;
}

/* Another view than the one that is open may be asked: what the volume is
 * recognised as stays. */
int
snap_used(
    struct snap_volume *v, const char *name, struct extents *out, struct err *e)
{
	struct snap_volume like = {0};
	SCOPED_FD int fd = -1;
	int rc = 0;

	assert(v != NULL && name != NULL);
	if ((v->ops->caps & SNAP_IMAGE) == 0 || !v->image.frozen)
		rc = err_set(e, -EOPNOTSUPP,
		    "its file system is not frozen for a snapshot");
	if (rc == 0)
		rc = fd = v->ops->view(v, name, e);
	if (rc >= 0)
		rc = image_probe(&like, fd, e);
	if (rc >= 0)
		rc = used_find(fd, like.image.size, like.fs_type, out, e);
	free(like.fs_type);
	free(like.fs_uuid);
	image_fini(&like.image);
	return rc < 0 ? err_wrap(e, "what is used in snapshot %s of %s", name,
			    v->root)
		      : 0;
}

int
snap_remove(struct snap_volume *v, const char *name, struct err *e)
{
	int rc;

	assert(v != NULL && name != NULL);
	rc = check_name(name, e);
	if (rc < 0)
		return rc;
	rc = v->ops->remove(v, name, e);
	if (rc < 0)
		return err_wrap(e, "remove snapshot %s of %s", name, v->root);
	return 0;
}

int
snap_locate(struct snap_volume *v, const char *path, char **rel, struct err *e)
{
	assert(v != NULL && path != NULL && rel != NULL);
	if (path[0] != '/')
		return err_set(e, -EINVAL, "%s is not an absolute path", path);
	return v->ops->locate(v, path, rel, e);
}

int
snap_gaps(struct snap_volume *v, const char *rel, snap_list_fn *fn, void *arg,
    struct err *e)
{
	int rc;

	assert(v != NULL && rel != NULL && rel[0] != '/' && fn != NULL);
	if (v->ops->gaps == NULL)
		return 0;
	rc = v->ops->gaps(v, rel, fn, arg, e);
	if (rc < 0 && e->code < 0)
		return err_wrap(
		    e, "look for gaps in a snapshot of %s", v->root);
	return rc;
}

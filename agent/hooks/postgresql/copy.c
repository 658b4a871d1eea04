/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/postgresql/bindir.h"

const char *
copy_control(const struct copy *c, const char *label)
{
	return jdoc_str(c->control, label, "");
}

const char *
copy_probed(const struct serve *s, const char *name)
{
	const json_t *doc = json_object_get(s->config, "probe");

	return jdoc_str(json_object_get(doc, "settings"), name, "");
}

bool
copy_was_stopped(const struct copy *c)
{
	const char *state = copy_control(c, "Database cluster state");

	return strncmp(state, "shut down", 9) == 0;
}

char *
copy_tool(const struct copy *c, const char *name)
{
	SCOPED_FREE char *path = fs_join(c->bindir, name);

	return access(path, X_OK) == 0 ? TAKE(path) : NULL;
}

static const json_t *
probed_paths(const struct serve *s)
{
	return json_object_get(json_object_get(s->config, "probe"), "paths");
}

static int
find_data(struct copy *c, const struct serve *s, struct err *e)
{
	const char *path = NULL;
	struct stat st;
	size_t i;
	json_t *v;

	json_array_foreach (probed_paths(s), i, v)
		if (strcmp(jdoc_str(v, "role", ""), "data") == 0 &&
		    path == NULL)
			path = jdoc_str(v, "path", NULL);
	if (path == NULL || path[0] != '/')
		return err_set(e, -EINVAL,
		    "the settings hold no \"probe\" "
		    "with a path of role \"data\": it is the document that the "
		    "backup's probe gave");
	c->data = serve_clone_path(s, path);
	if (stat(c->data, &st) < 0)
		return err_sys(
		    e, errno, "the copy's data directory %s", c->data);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -EBADMSG, "%s is not a folder", c->data);
	c->uid = st.st_uid;
	c->gid = st.st_gid;
	if (c->uid == 0)
		return err_set(e, -EINVAL,
		    "%s belongs to root, as which "
		    "PostgreSQL does not run: restore the owners too",
		    c->data);
	if (geteuid() != 0 && geteuid() != c->uid)
		return err_set(e, -EACCES,
		    "%s belongs to user %u: run the "
		    "check as root or as that user",
		    c->data, (unsigned)c->uid);
	return 0;
}

static int
read_version(struct copy *c, struct err *e)
{
	SCOPED_FREE char *path = fs_join(c->data, "PG_VERSION");
	SCOPED_BUF struct buf b = {0};
	char *end;
	long v;
	int rc = fs_read_at(AT_FDCWD, path, 64, &b, e);

	if (rc == -ENOENT || rc == -EFBIG)
		e->code = -EBADMSG;
	if (rc < 0)
		return e->code;
	buf_put_u8(&b, 0);
	v = strtol((char *)b.data, &end, 10);
	if (*end != '\n' || end[1] != '\0' || v < 10 || v > 99)
		return err_set(e, -EBADMSG, "%s: not a version number", path);
	c->major = (int)v;
	return 0;
}

/* Lines "label:   value". */
static json_t *
parse_control(char *text)
{
	json_t *o = json_object();
	char *save = NULL;

	for (char *l = strtok_r(text, "\n", &save); l != NULL;
	     l = strtok_r(NULL, "\n", &save)) {
		char *colon = strchr(l, ':');

		if (colon == NULL)
			continue;
		*colon = '\0';
		colon++;
		colon += strspn(colon, " ");
		json_object_set_new(o, l, jdoc_new_str(colon));
	}
	return o;
}

static int
read_control(struct copy *c, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_FREE char *tool = copy_tool(c, "pg_controldata");
	const char *argv[] = {tool, "-D", c->data, NULL};
	int status, rc;

	if (tool == NULL)
		return err_set(
		    e, -ENOENT, "no pg_controldata in %s", c->bindir);
	rc = serve_tool(&p, argv, &status, e);
	if (rc < 0)
		return rc;
	if (status != 0)
		return err_set(
		    e, -EBADMSG, "pg_controldata: %s", process_complaint(&p));
	buf_put_u8(&p.stdout_text, 0);
	/* It prints the numbers all the same, under this warning. */
	if (strstr((char *)p.stdout_text.data, "WARNING") != NULL)
		return err_set(e, -EBADMSG,
		    "pg_controldata: the control file does not match its "
		    "checksum (or its size)");
	c->control = parse_control((char *)p.stdout_text.data);
	if (copy_control(c, "Database system identifier")[0] == '\0')
		return err_set(
		    e, -EBADMSG, "pg_controldata names no system identifier");
	return 0;
}

static int
check_identity(const struct copy *c, const struct serve *s, struct err *e)
{
	const char *want =
	    jdoc_str(json_object_get(s->config, "probe"), "instance", "");
	const char *have = copy_control(c, "Database system identifier");

	if (want[0] != '\0' && strcmp(want, have) != 0)
		return err_set(e, -EBADMSG,
		    "the copy is of system %s, the "
		    "backup was of %s",
		    have, want);
	return 0;
}

static char *
superuser_name(const struct copy *c, const struct serve *s)
{
	const char *name = copy_probed(s, "superuser");
	const struct passwd *pw = getpwuid(c->uid);

	if (name[0] == '\0')
		name = jdoc_str(serve_connection(s), "user", "");
	if (name[0] == '\0')
		name = pw != NULL ? pw->pw_name : "postgres";
	return mem_str(name);
}

int
copy_open(struct copy *c, const struct serve *s, struct err *e)
{
	*c = (struct copy){.uid = (uid_t)-1};
	if (find_data(c, s, e) < 0 || read_version(c, e) < 0)
		return e->code;
	c->superuser = superuser_name(c, s);
	if (bindir_find(&c->bindir, c->major,
		jdoc_str(serve_connection(s), "bindir", NULL), e) < 0 ||
	    read_control(c, e) < 0)
		return e->code;
	return check_identity(c, s, e);
}

void
copy_fini(struct copy *c)
{
	free(c->data);
	free(c->bindir);
	free(c->superuser);
	json_decref(c->control);
}

/* ---- prepare ---- */

static int
open_folder(const struct copy *c, int dirfd, const char *name, struct err *e)
{
	int fd = openat(
	    dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, errno, "%s: open folder %s", c->data, name);
	return fd;
}

static int
empty_folder(const struct copy *c, int data, const char *name, struct err *e)
{
	int fd = open_folder(c, data, name, e), rc = 0;
	struct dirent *de;
	DIR *d;

	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (d == NULL) {
		close(fd);
		return err_sys(e, errno, "%s: list %s", c->data, name);
	}
	while (rc == 0 && (de = readdir(d)) != NULL)
		if (strcmp(de->d_name, ".") != 0 &&
		    strcmp(de->d_name, "..") != 0)
			rc = fs_remove_tree_at(fd, de->d_name, e);
	closedir(d);
	return rc;
}

/* The place in the copy that a link of the data directory must lead to. */
static char *
link_place(const struct serve *s, const char *rel, const char *target)
{
	SCOPED_FREE char *tail = mem_printf("/%s", rel);
	size_t i;
	json_t *v;

	/* What the probe saw is the real path, past links of the old host. */
	json_array_foreach (probed_paths(s), i, v) {
		const char *link = jdoc_str(v, "link", "");
		size_t n = strlen(link), k = strlen(tail);

		if (n > k && strcmp(link + n - k, tail) == 0)
			return serve_clone_path(s, jdoc_str(v, "path", "/"));
	}
	if (fs_below(target, s->clone))
		return mem_str(target);
	return serve_clone_path(s, target);
}

static int
turn_link(const struct copy *c, const struct serve *s, int data,
    const char *rel, struct err *e)
{
	SCOPED_FREE char *place = NULL, *real = NULL, *clone = NULL;
	char target[PATH_MAX];
	ssize_t n = readlinkat(data, rel, target, sizeof target - 1);

	if (n < 0 && errno == EINVAL)
		return 0; /* no link */
	if (n < 0)
		return err_sys(e, errno, "%s/%s", c->data, rel);
	target[n] = '\0';
	if (target[0] != '/')
		return err_set(e, -EPERM,
		    "%s/%s: a link to %s, which is not "
		    "absolute",
		    c->data, rel, target);
	place = link_place(s, rel, target);
	real = fs_real(place, e);
	clone = fs_real(s->clone, e);
	if (real == NULL || clone == NULL)
		return err_wrap(e, "%s/%s is not in the copy", c->data, rel);
	if (!fs_below(real, clone))
		return err_set(e, -EPERM,
		    "%s/%s: %s leads to %s, out of the "
		    "copy",
		    c->data, rel, place, real);
	if (strcmp(target, place) == 0)
		return 0;
	if (unlinkat(data, rel, 0) < 0 || symlinkat(place, data, rel) < 0)
		return err_sys(
		    e, errno, "%s/%s: point it at %s", c->data, rel, place);
	return 0;
}

static int
turn_tablespaces(
    const struct copy *c, const struct serve *s, int data, struct err *e)
{
	int fd = open_folder(c, data, "pg_tblspc", e), rc = 0;
	struct dirent *de;
	DIR *d;

	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (d == NULL) {
		close(fd);
		return err_sys(e, errno, "%s: list pg_tblspc", c->data);
	}
	while (rc == 0 && (de = readdir(d)) != NULL) {
		SCOPED_FREE char *rel = mem_printf("pg_tblspc/%s", de->d_name);

		if (de->d_name[0] != '.')
			rc = turn_link(c, s, data, rel, e);
	}
	closedir(d);
	return rc;
}

/*
 * Replaying CREATE TABLESPACE makes the link anew, to the path that it had on
 * the live host. Inside the sandbox that path is the copy; outside (a copy
 * elsewhere than at "/") it may be the live tablespace.
 */
static int
no_way_back(const struct copy *c, const struct serve *s, struct err *e)
{
	SCOPED_PROCESS struct process p = PROCESS_NONE;
	SCOPED_FREE char *tool = copy_tool(c, "pg_waldump");
	SCOPED_FREE char *wal = fs_join(c->data, "pg_wal");
	const char *argv[] = {tool, "--rmgr=Tablespace", "-p", wal, "-t",
	    copy_control(c, "Latest checkpoint's TimeLineID"), "-s",
	    copy_control(c, "Latest checkpoint's REDO location"), NULL};
	int status;

	if (strspn(s->clone, "/") == strlen(s->clone) || copy_was_stopped(c))
		return 0;
	if (tool == NULL)
		return err_set(e, -ENOENT, "no pg_waldump in %s", c->bindir);
	/* Its status is 1 at the end of the log, as in every crash image. */
	if (serve_tool(&p, argv, &status, e) < 0)
		return e->code;
	buf_put_u8(&p.stdout_text, 0);
	if (strstr((char *)p.stdout_text.data, "CREATE") != NULL)
		return err_set(e, -EPERM,
		    "the copy's log creates a "
		    "tablespace at its live path: start it only inside the "
		    "sandbox of neap-restore check");
	return 0;
}

int
copy_prepare(const struct copy *c, const struct serve *s, struct err *e)
{
	static const char *const old[] = {"postmaster.pid", "postmaster.opts",
	    "standby.signal", "recovery.signal"};
	SCOPED_FD int data = open(c->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (data < 0)
		return err_sys(e, errno, "open %s", c->data);
	for (size_t i = 0; i < MEM_COUNT(old); i++)
		if (unlinkat(data, old[i], 0) < 0 && errno != ENOENT)
			return err_sys(
			    e, errno, "remove %s/%s", c->data, old[i]);
	if (empty_folder(c, data, "pg_replslot", e) < 0 ||
	    turn_tablespaces(c, s, data, e) < 0 ||
	    turn_link(c, s, data, "pg_wal", e) < 0)
		return e->code;
	return no_way_back(c, s, e);
}

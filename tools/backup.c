/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/backup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

static int
open_maps(struct backup *b, struct store *s, struct err *e)
{
	SCOPED_FREE struct map_ref *maps = NULL;
	size_t n = 0;
	int rc;

	rc = catalog_maps(b->record, &maps, &n, e);
	if (rc < 0)
		return rc;
	return map_view_open(&b->view, s->repo, &s->keys, maps, n, e);
}

int
backup_open(struct backup *b, struct store *s, const char *spec, struct err *e)
{
	int rc;

	memset(b, 0, sizeof *b);
	rc = catalog_resolve(s->repo, spec, &b->entry, e);
	if (rc < 0)
		return rc;
	snprintf(b->name, sizeof b->name, "%s/%s", b->entry.job, b->entry.time);
	rc = catalog_get(
	    s->repo, &s->keys, b->entry.job, b->entry.time, &b->record, e);
	if (rc >= 0)
		rc = open_maps(b, s, e);
	if (rc < 0) {
		backup_close(b);
		return err_wrap(e, "backup %s/%s", b->entry.job, b->entry.time);
	}
	return 0;
}

void
backup_close(struct backup *b)
{
	map_view_close(b->view);
	b->view = NULL;
	jdoc_free_scope(&b->record);
	b->record = NULL;
}

uint64_t
backup_logical_bytes(const struct backup *b)
{
	const json_t *stats = json_object_get(b->record, "stats");
	int64_t n = jdoc_int(stats, "logical_bytes", 0);

	return n > 0 ? (uint64_t)n : 0;
}

const char *
backup_path(const struct backup *b, size_t n)
{
	const json_t *paths = json_object_get(b->record, "paths");
	const json_t *at = json_array_get(paths, n);
	const char *s = json_string_value(at);

	if (s == NULL)
		s = jdoc_str(at, "path", NULL);
	return s != NULL && s[0] == '/' ? s : NULL;
}

/* ---- object → path --------------------------------------------------- */

struct finder {
	struct map_view *view;
	uint64_t wanted;
	char *path; /* of the folder that is walked */
	char *found;
};

static int walk(struct finder *f, uint64_t folder);

static int
on_name(void *arg, const char *name, uint64_t object)
{
	struct finder *f = arg;
	struct err e = ERR_NONE;
	char *outer = f->path;
	struct object o;
	int rc;

	if (object == f->wanted) {
		f->found = mem_printf("%s/%s", outer, name);
		return 1;
	}
	if (map_view_object(f->view, object, &o, &e) != 1)
		return 0;
	rc = 0;
	if (o.type == OBJECT_DIR) {
		f->path = mem_printf("%s/%s", outer, name);
		rc = walk(f, object);
		free(f->path);
		f->path = outer;
	}
	object_fini(&o);
	return rc;
}

static int
walk(struct finder *f, uint64_t folder)
{
	struct err e = ERR_NONE;

	return map_view_names(f->view, folder, NULL, on_name, f, &e);
}

char *
backup_path_of(struct map_view *v, uint64_t object)
{
	struct finder f = {.view = v, .wanted = object};
	char root[] = "";

	if (object == MAP_ROOT_OBJECT)
		return mem_str("/");
	f.path = root;
	walk(&f, MAP_ROOT_OBJECT);
	if (f.found == NULL)
		return mem_printf("object %llu", (unsigned long long)object);
	return f.found;
}

int
backup_owner(const struct backup *b, uid_t *uid, gid_t *gid, struct err *e)
{
	const char *path = backup_path(b, 0);
	uint64_t object = 0;
	struct object o;
	int rc;

	if (path == NULL)
		return err_set(e, -EBADMSG,
		    "backup %s: its record names no "
		    "path",
		    b->name);
	rc = map_view_path(b->view, path, &object, e);
	if (rc == 1)
		rc = map_view_object(b->view, object, &o, e);
	if (rc < 0)
		return err_wrap(e, "backup %s: look up %s", b->name, path);
	if (rc == 0)
		return err_set(e, -EBADMSG,
		    "backup %s: %s is in its record "
		    "but not in its tree",
		    b->name, path);
	*uid = o.uid;
	*gid = o.gid;
	object_fini(&o);
	return 0;
}

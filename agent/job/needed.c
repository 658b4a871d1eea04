/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/needed.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/snap.h"

#define DIGITS "0123456789ABCDEF"

void
needed_fini(struct needed *n)
{
	free(n->folder);
	json_decref(n->keep);
	*n = (struct needed){0};
}

static int
odd(const char *what, struct err *e)
{
	return err_set(e, -EIO,
	    "the hook's \"log\": %s (neap-hook(7) has its shape)", what);
}

static bool
is_number(const char *s)
{
	return s[0] != '\0' && s[strspn(s, DIGITS)] == '\0';
}

/* Volume and place in its view of an absolute path, by the longest of the
 * plan's paths that leads there: the log may be a volume of its own, mounted
 * within the data. Gives *rel. -ENOENT: none leads there. */
static int
find_place(const struct plan *p, const char *path, size_t *volume, char **rel)
{
	const struct plan_path *best = NULL;
	const char *rest;

	for (size_t i = 0; i < p->paths; i++)
		if (fs_below(path, p->path[i].path) &&
		    (best == NULL ||
			strlen(p->path[i].path) > strlen(best->path)))
			best = &p->path[i];
	if (best == NULL)
		return -ENOENT;
	rest = path + strlen(best->path);
	rest += strspn(rest, "/");
	*volume = best->volume;
	*rel = best->rel[0] == '\0' ? mem_str(rest)
	       : rest[0] == '\0'    ? mem_str(best->rel)
				    : fs_join(best->rel, rest);
	return 0;
}

/* One of the files is there that make everything needed. One that cannot be
 * looked for counts as there. */
static bool
one_is_there(const json_t *files, const struct plan *p, const int *view)
{
	size_t i;
	json_t *v;

	json_array_foreach (files, i, v) {
		SCOPED_FREE char *rel = NULL;
		struct stat st;
		size_t volume;

		if (find_place(p, json_string_value(v), &volume, &rel) < 0 ||
		    fstatat(view[volume], rel, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
		    errno != ENOENT)
			return true;
	}
	return false;
}

/* Why all of it is needed whatever the names say; NULL: it is not. */
static const char *
why_all(const json_t *log, const struct plan_volume *pv, const struct plan *p,
    const int *view)
{
	if (pv->live)
		return "its files are read without a snapshot";
	if ((pv->v->ops->caps & SNAP_IMAGE) != 0)
		return "its volume is backed up as an image";
	if (one_is_there(json_object_get(log, "unless"), p, view))
		return "what the hook names in \"unless\" is in the snapshot";
	return NULL;
}

static bool
all_texts(const json_t *list)
{
	size_t i;
	json_t *v;

	if (!json_is_array(list))
		return list == NULL;
	json_array_foreach (list, i, v)
		if (!json_is_string(v))
			return false;
	return true;
}

/* Where the engine could not archive for a while there are thousands. */
static json_t *
set_of(const json_t *list)
{
	json_t *set = json_object(), *v;
	size_t i;

	json_array_foreach (list, i, v)
		json_object_set_new(set, json_string_value(v), json_true());
	return set;
}

static int
check_shape(const json_t *log, struct err *e)
{
	const char *first = jdoc_str(log, "first", "");
	const char *last = jdoc_str(log, "last", NULL);

	if (!json_is_object(log))
		return odd("no object", e);
	if (jdoc_str(log, "folder", "")[0] != '/')
		return odd("\"folder\" is no absolute path", e);
	if (!is_number(first))
		return odd("\"first\" is not digits and A to F", e);
	if (json_object_get(log, "last") != NULL &&
	    (last == NULL || !is_number(last) ||
		strlen(last) != strlen(first) || strcmp(last, first) < 0))
		return odd("\"last\" is not as long as \"first\", or less", e);
	if (!all_texts(json_object_get(log, "keep")) ||
	    !all_texts(json_object_get(log, "unless")))
		return odd("\"keep\", \"unless\" are not lists of texts", e);
	return 0;
}

int
needed_read(struct needed *n, const json_t *released, const struct plan *p,
    const int *view, struct err *e)
{
	const json_t *log = json_object_get(released, "log");
	const char *folder = jdoc_str(log, "folder", "");
	int rc;

	if (log == NULL)
		return 0;
	rc = check_shape(log, e);
	if (rc == 0 && find_place(p, folder, &n->volume, &n->folder) < 0)
		rc = odd("\"folder\" is not below a path of its probe", e);
	if (rc < 0)
		return rc;
	n->why_all = why_all(log, &p->volume[n->volume], p, view);
	if (n->why_all != NULL)
		return 0;
	n->first = jdoc_str(log, "first", "");
	n->last = jdoc_str(log, "last", NULL);
	n->keep = set_of(json_object_get(log, "keep"));
	n->told = true;
	return 0;
}

bool
needed_not(
    const struct needed *n, size_t volume, const char *folder, const char *name)
{
	if (!n->told || volume != n->volume || strcmp(folder, n->folder) != 0 ||
	    strlen(name) != strlen(n->first) || !is_number(name))
		return false;
	if (strcmp(name, n->first) >= 0 &&
	    (n->last == NULL || strcmp(name, n->last) <= 0))
		return false;
	return json_object_get(n->keep, name) == NULL;
}

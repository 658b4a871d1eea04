/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/images.h"

#include <errno.h>
#include <string.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

void
images_fini(struct images *l)
{
	for (size_t i = 0; i < l->n; i++) {
		struct image *im = &l->v[i];

		free(im->path);
		free(im->root);
		free(im->fs_type);
		free(im->fs_uuid);
		free(im->label);
		free(im->mounted_at);
		free(im->at);
	}
	free(l->v);
	*l = (struct images){0};
}

/* An absolute path without "." and ".." and empty parts: a record may come
 * from elsewhere, and files and mounts follow these. */
static bool
is_clean(const char *path)
{
	if (path == NULL || path[0] != '/')
		return false;
	for (const char *p = path + 1;; p++) {
		size_t n = strcspn(p, "/");

		if (n == 0 || (n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.'))
			return path[1] == '\0';
		p += n;
		if (*p == '\0')
			return true;
	}
}

/* Where its file system goes: docs/format.md, object record. Gives. */
static char *
place_of(const struct image *im)
{
	size_t n = strlen(im->path) - strlen(".img");

	if (im->fs_type[0] == '\0')
		return NULL;
	if (im->mounted_at != NULL && strcmp(im->mounted_at, "/") != 0)
		return mem_str(im->mounted_at);
	return mem_strn(im->path, n);
}

static int
add(struct images *l, const json_t *volume, const json_t *j, struct err *e)
{
	const char *path = jdoc_str(j, "path", NULL);
	const char *at = jdoc_str(j, "mounted_at", NULL);
	int64_t size = jdoc_int(j, "size", -1);
	int64_t sector = jdoc_int(j, "sector", 0);
	struct image *im;
	size_t n = path != NULL ? strlen(path) : 0;

	if (!is_clean(path) || !fs_below(path, IMAGES_DIR) ||
	    n <= strlen(IMAGES_DIR "/.img") ||
	    strcmp(path + n - strlen(".img"), ".img") != 0 || size < 0 ||
	    sector < 512 || sector > 65536 || (at != NULL && !is_clean(at)))
		return err_set(e, -EBADMSG,
		    "the record's image of volume %s is not understood",
		    jdoc_str(volume, "id", "?"));
	l->v = mem_grow(l->v, l->n + 1, sizeof *l->v);
	im = &l->v[l->n++];
	*im = (struct image){.path = mem_str(path),
	    .root = mem_str(jdoc_str(volume, "root", "")),
	    .size = (uint64_t)size,
	    .sector = (uint32_t)sector,
	    .fs_type = mem_str(jdoc_str(j, "fs_type", "")),
	    .fs_uuid = mem_str(jdoc_str(j, "fs_uuid", "")),
	    .label = mem_str(jdoc_str(j, "label", "")),
	    .mounted_at = at != NULL ? mem_str(at) : NULL};
	im->at = place_of(im);
	return 0;
}

int
images_of(struct images *l, const json_t *record, struct err *e)
{
	const json_t *evidence = json_object_get(record, "evidence");
	const json_t *volume;
	size_t i;

	json_array_foreach (json_object_get(evidence, "volumes"), i, volume) {
		const json_t *j = json_object_get(volume, "image");
		int rc = json_is_object(j) ? add(l, volume, j, e) : 0;

		if (rc < 0) {
			images_fini(l);
			return err_wrap(
			    e, "backup %s", jdoc_str(record, "backup", "?"));
		}
	}
	return 0;
}

const struct image *
images_holding(const struct images *l, const char *path, const char **rel)
{
	const struct image *best = NULL;

	/* Of file systems mounted in each other the innermost holds it. */
	for (size_t i = 0; i < l->n; i++) {
		const struct image *im = &l->v[i];
		const char *at = im->mounted_at;

		if (strcmp(path, im->root) == 0 &&
		    (at == NULL || strcmp(at, im->root) != 0)) {
			*rel = NULL;
			return im;
		}
		if (at != NULL && fs_below(path, at) &&
		    (best == NULL || strlen(at) > strlen(best->mounted_at)))
			best = im;
	}
	if (best != NULL) {
		if (strcmp(best->mounted_at, "/") != 0)
			path += strlen(best->mounted_at);
		*rel = path + strspn(path, "/");
	}
	return best;
}

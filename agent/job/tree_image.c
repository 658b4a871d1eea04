/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job/tree_image.h"

#include <string.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

char *
tree_image_folder_name(const struct snap_volume *v)
{
	char *name = mem_str(v->image.name);

	for (char *c = name; *c != '\0'; c++)
		if (*c == '/')
			*c = '-';
	return name;
}

char *
tree_image_name(const struct snap_volume *v)
{
	SCOPED_FREE char *name = tree_image_folder_name(v);

	return mem_printf("%s.img", name);
}

char *
tree_image_mount_point(const struct snap_volume *v)
{
	const char *at = v->image.mounted_at;
	SCOPED_FREE char *name = NULL;

	if (at != NULL && strcmp(at, "/") != 0)
		return mem_str(at);
	if (v->fs_type[0] == '\0')
		return NULL;
	name = tree_image_folder_name(v);
	return fs_join(TREE_IMAGE_DIR, name);
}

/* Whoever may read it reads all files within: root alone. */
void
tree_image_object(struct object *o, const struct snap_volume *v)
{
	*o = (struct object){.type = OBJECT_IMAGE,
	    .mode = 0600,
	    .nlink = 1,
	    .size = v->image.size,
	    .sector = v->image.sector,
	    .fs_type = mem_str(v->fs_type),
	    .fs_uuid = mem_str(v->fs_uuid),
	    .fs_label = mem_str(v->image.label)};
}

void
tree_image_folder(struct object *o)
{
	*o = (struct object){.type = OBJECT_DIR, .mode = 0700, .nlink = 2};
}

json_t *
tree_image_json(const struct snap_volume *v, uint64_t unused)
{
	SCOPED_FREE char *name = tree_image_name(v);
	SCOPED_FREE char *path = fs_join(TREE_IMAGE_DIR, name);
	const char *at = v->image.mounted_at;

	return json_pack("{s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "path",
	    jdoc_new_str(path), "size", (json_int_t)v->image.size, "unused",
	    (json_int_t)unused, "sector", (json_int_t)v->image.sector,
	    "fs_type", jdoc_new_str(v->fs_type), "fs_uuid",
	    jdoc_new_str(v->fs_uuid), "label", jdoc_new_str(v->image.label),
	    "mounted_at", at != NULL ? jdoc_new_str(at) : json_null());
}

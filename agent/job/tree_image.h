/*
 * Volumes that are backed up as images (SNAP_IMAGE): where one appears in the
 * backup's tree, /neap-images/NAME.img, and what the record says of it.
 */
#ifndef NEAP_JOB_TREE_IMAGE_H
#define NEAP_JOB_TREE_IMAGE_H

#include <jansson.h>

#include "agent/store/object.h"
#include "kmod-free/snap/snap.h"

#define TREE_IMAGE_DIR "/neap-images"

static inline bool
tree_image_is(const struct snap_volume *v)
{
	return (v->ops->caps & SNAP_IMAGE) != 0;
}

/* The names within TREE_IMAGE_DIR: "vg-lv.img", and "vg-lv". Give. */
char *tree_image_name(const struct snap_volume *v);
char *tree_image_folder_name(const struct snap_volume *v);

/*
 * The empty folder of the tree over which a restore mounts its file system:
 * where it was mounted, else one beside the image. NULL where it holds none;
 * else gives.
 */
char *tree_image_mount_point(const struct snap_volume *v);

/* Its object, and that of TREE_IMAGE_DIR and folders in there. */
void tree_image_object(struct object *o, const struct snap_volume *v);
void tree_image_folder(struct object *o);

/* The "image" of a volume in the record; gives. */
/* unused: bytes that were not read. */
json_t *tree_image_json(const struct snap_volume *v, uint64_t unused);

#endif

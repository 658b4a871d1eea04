/*
 * The images of a backup, as its record tells of them: whole volumes, each a
 * file of the tree.
 */
#ifndef NEAP_TOOLS_IMAGES_H
#define NEAP_TOOLS_IMAGES_H

#include <jansson.h>
#include <stdint.h>

#include "agent/core/err.h"

#define IMAGES_DIR "/neap-images"

struct image {
	char *path; /* in the tree: "/neap-images/vg-lv.img" */
	char *root; /* of the volume on the host: mount point or device */
	uint64_t size;
	uint32_t sector;
	char *fs_type, *fs_uuid, *label; /* "": unknown */
	char *mounted_at;                /* on the host; NULL: nowhere */
	char *at; /* the empty folder of the tree over which its file system
		     is mounted; NULL: it holds none */
};

struct images {
	struct image *v;
	size_t n;
};

/* -EBADMSG where the record is not what docs/format.md says. */
int images_of(struct images *l, const json_t *record, struct err *e);
void images_fini(struct images *l); /* {0} is fine */
#define SCOPED_IMAGES __attribute__((cleanup(images_fini)))

/*
 * The image in which a path of the host lies, or NULL. *rel (borrowed from
 * `path`) is where in its file system: "" for its root; NULL for the device
 * itself.
 */
const struct image *images_holding(
    const struct images *l, const char *path, const char **rel);

#endif

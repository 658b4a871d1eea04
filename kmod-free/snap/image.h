/*
 * What a volume's image is: its size, and what libblkid finds on it. For the
 * providers of images (SNAP_IMAGE); internal to kmod-free/snap.
 */
#ifndef NEAP_SNAP_IMAGE_H
#define NEAP_SNAP_IMAGE_H

#include "kmod-free/snap/snap.h"

/*
 * Of the open block device or file `fd`: v's fs_type and fs_uuid, its image's
 * size, sector and label; whatever was there before is replaced. A device that
 * holds no file system, or signatures of several, has "" for all three.
 */
int image_probe(struct snap_volume *v, int fd, struct err *e);
void image_fini(struct snap_image *i); /* {0} is fine */

#endif

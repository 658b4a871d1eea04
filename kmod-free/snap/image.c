/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/image.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "agent/core/mem.h"

#define SECTOR_BYTES 512u

void
image_fini(struct snap_image *i)
{
	free(i->name);
	free(i->label);
	free(i->mounted_at);
	*i = (struct snap_image){0};
}

/* BLKGETSIZE64 says uint64_t, BLKSSZGET int (linux/fs.h). */
static int
measure(struct snap_image *i, int fd, struct err *e)
{
	struct stat st;
	uint64_t size;
	int sector = SECTOR_BYTES;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "stat");
	size = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &size) < 0 ||
		    ioctl(fd, BLKSSZGET, &sector) < 0)
			return err_sys(e, errno, "ask the device for its size");
	} else if (!S_ISREG(st.st_mode)) {
		return err_set(e, -EINVAL, "neither a block device nor a file");
	}
	if (size == 0)
		return err_set(e, -EINVAL, "it is empty: 0 bytes");
	if (size > INT64_MAX || sector < (int)SECTOR_BYTES ||
	    (sector & (sector - 1)) != 0)
		return err_set(e, -EINVAL,
		    "a device of %llu bytes in sectors of %d",
		    (unsigned long long)size, sector);
	i->size = size;
	i->sector = (uint32_t)sector;
	return 0;
}

static void
free_probe(blkid_probe *p)
{
	blkid_free_probe(*p);
}

/* Gives; "" where there is no such value. */
static char *
value_of(blkid_probe p, const char *name)
{
	const char *s = NULL;

	if (blkid_probe_lookup_value(p, name, &s, NULL) < 0 || s == NULL)
		s = "";
	return mem_str(s);
}

static int
recognise(struct snap_volume *v, int fd, struct err *e)
{
	blkid_probe p __attribute__((cleanup(free_probe))) = blkid_new_probe();
	int rc;

	if (p == NULL)
		return err_sys(e, ENOMEM, "look for a file system");
	if (blkid_probe_set_device(p, fd, 0, 0) < 0)
		return err_set(e, -EIO, "libblkid cannot look at it");
	blkid_probe_enable_superblocks(p, 1);
	blkid_probe_set_superblocks_flags(
	    p, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL);
	/* 0 found, 1 nothing, -2 several: then none is believed. */
	rc = blkid_do_safeprobe(p);
	if (rc == -1)
		return err_set(
		    e, -EIO, "libblkid cannot read its first and last blocks");
	free(v->fs_type);
	free(v->fs_uuid);
	free(v->image.label);
	v->fs_type = rc == 0 ? value_of(p, "TYPE") : mem_str("");
	v->fs_uuid = rc == 0 ? value_of(p, "UUID") : mem_str("");
	v->image.label = rc == 0 ? value_of(p, "LABEL") : mem_str("");
	return 0;
}

int
image_probe(struct snap_volume *v, int fd, struct err *e)
{
	int rc = measure(&v->image, fd, e);

	return rc == 0 ? recognise(v, fd, e) : rc;
}

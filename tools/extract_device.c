/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backup's only image onto a block device: every byte of the device is
 * afterwards the image's, or zero behind its end.
 */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "tools/extract_parts.h"
#include "tools/images.h"

/* One call of the kernel: it cannot be interrupted. */
#define ZERO_STEP (256u << 20)

bool
extract_device_is(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

/* ---- may it be overwritten? ----------------------------------------------- */

static int
open_device(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno != EBUSY)
		return err_sys(e, errno, "open device %s for writing", path);
	err_set(e, -EPERM,
	    "device %s is in use (mounted, or held by LVM, RAID, swap or a "
	    "program)",
	    path);
	return err_hint(e, "unmount or release it first; lsblk shows by whom");
}

static void
free_probe(blkid_probe *p)
{
	blkid_free_probe(*p);
}

/* As a folder that is not empty: only --delta says that it may go. */
static int
check_blank(const char *path, int fd, struct err *e)
{
	blkid_probe p __attribute__((cleanup(free_probe))) = blkid_new_probe();
	const char *what = NULL;
	int rc;

	if (p == NULL || blkid_probe_set_device(p, fd, 0, 0) < 0)
		return err_set(e, -EIO, "libblkid cannot look at %s", path);
	blkid_probe_enable_superblocks(p, 1);
	blkid_probe_enable_partitions(p, 1);
	rc = blkid_do_safeprobe(p);
	if (rc == -1)
		return err_set(e, -EIO, "libblkid cannot read %s", path);
	if (rc == 1)
		return 0;
	if (rc == -2 ||
	    (blkid_probe_lookup_value(p, "TYPE", &what, NULL) < 0 &&
		blkid_probe_lookup_value(p, "PTTYPE", &what, NULL) < 0))
		what = "more than one signature";
	err_set(e, -EPERM, "device %s is not empty: it holds %s", path, what);
	return err_hint(e, "name another one, or add --delta to make it as the "
			   "backup was");
}

static int
check_room(const struct extract *x, const struct image *im, uint64_t *size,
    struct err *e)
{
	const char *path = x->how->target;
	int sector;

	if (ioctl(x->target_fd, BLKGETSIZE64, size) < 0 ||
	    ioctl(x->target_fd, BLKSSZGET, &sector) < 0)
		return err_sys(e, errno, "ask device %s for its size", path);
	if (*size < im->size) {
		err_set(e, -EPERM,
		    "device %s is too small: it has %llu bytes, the image "
		    "%llu",
		    path, (unsigned long long)*size,
		    (unsigned long long)im->size);
		return err_hint(e, "name a larger one");
	}
	if ((uint32_t)sector > im->sector)
		log_warn("device %s has sectors of %d bytes, the volume that "
			 "was backed up had %u: its file system may not mount "
			 "there",
		    path, sector, im->sector);
	return 0;
}

int
extract_device_open(struct extract *x, struct err *e)
{
	SCOPED_IMAGES struct images l = {0};
	const struct backup *b = x->how->backup;
	int rc;

	if (x->how->patterns->n > 0)
		return err_set(e, -EINVAL,
		    "--path chooses files; onto a device goes a whole image");
	rc = images_of(&l, b->record, e);
	if (rc < 0)
		return rc;
	if (l.n != 1) {
		err_set(e, -EINVAL,
		    "backup %s has %zu images, and %s is a device: it can take "
		    "one",
		    b->name, l.n, x->how->target);
		return err_hint(e, "extract into a folder");
	}
	x->target_fd = open_device(x->how->target, e);
	if (x->target_fd < 0)
		return e->code;
	x->device = true;
	rc = check_room(x, &l.v[0], &x->device_bytes, e);
	if (rc == 0 && !x->how->delta)
		rc = check_blank(x->how->target, x->target_fd, e);
	if (rc == 0)
		rc = map_view_path(x->view, l.v[0].path, &x->device_object, e);
	if (rc == 0 && x->device_object == 0)
		rc = -ENOENT;
	if (rc == 1) {
		x->total_bytes = x->device_bytes;
		return 0;
	}
	return rc == -ENOENT
		   ? err_set(e, -EBADMSG,
			 "backup %s: image %s is in its record but not in its "
			 "tree",
			 b->name, l.v[0].path)
		   : rc;
}

/* ---- zeros ---------------------------------------------------------------- */

/* The kernel zeroes a range of a device by either; the first one gives the
 * space back where the device is thin (block/fops.c, blkdev_fallocate). */
static int
zero_by_kernel(int fd, uint64_t off, uint64_t len)
{
	static const int how[] = {
	    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE};

	for (size_t i = 0; i < MEM_COUNT(how); i++)
		if (fallocate(fd, how[i], (off_t)off, (off_t)len) == 0)
			return 0;
	return -errno;
}

static int
zero_by_writing(struct extract *x, int fd, uint64_t off, uint64_t len,
    bool compare, struct err *e)
{
	static const uint8_t zeros[CHUNK_BYTES];
	uint8_t now[CHUNK_BYTES];
	int rc = 0;

	while (rc == 0 && len > 0) {
		size_t n = len < sizeof now ? (size_t)len : sizeof now;

		if (compare)
			rc = fs_pread(fd, now, n, off, e);
		else
			memset(now, 0xff, n);
		if (rc == 0)
			rc = extract_write_differing(
			    x, fd, now, zeros, n, off, e);
		off += n;
		len -= n;
		if (rc == 0)
			rc = extract_failed(x, e);
	}
	return rc;
}

int
extract_device_zero(struct extract *x, int fd, uint64_t off, uint64_t len,
    bool compare, struct err *e)
{
	int rc = 0;

	while (rc == 0 && len > 0) {
		uint64_t n = len < ZERO_STEP ? len : ZERO_STEP;

		if (compare || zero_by_kernel(fd, off, n) < 0)
			rc = zero_by_writing(x, fd, off, n, compare, e);
		if (rc == 0)
			rc = extract_failed(x, e);
		off += n;
		len -= n;
	}
	return rc;
}

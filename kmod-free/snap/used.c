/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/used.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fsmap.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/core/bytes.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/detached.h"

#define BLOCK 4096u
#define BATCH 512u /* records of one call: 24 KiB */

/* 8 MiB of ranges. Past that the smallest gaps are read as well. */
#define RANGES_MAX (1u << 18)

/* ---- may it be believed? ------------------------------------------------------ */

/* ext4's superblock (Documentation/filesystems/ext4/super.rst). */
#define EXT4_SUPER_AT 1024
#define EXT4_STATE 0x3a
#define EXT4_STATE_ERRORS 2u
#define EXT4_INCOMPAT 0x60
#define EXT4_NEEDS_RECOVERY 4u
#define EXT4_RO_COMPAT 0x64
#define EXT4_BIGALLOC 0x200u

/* Where the freeze was none, what is free may be so in the journal only. */
static int
check_ext4(int fd, struct err *e)
{
	uint8_t super[1024];

	if (pread(fd, super, sizeof super, EXT4_SUPER_AT) != sizeof super)
		return err_set(e, -EIO, "its superblock cannot be read");
	if (bytes_le32(super + EXT4_INCOMPAT) & EXT4_NEEDS_RECOVERY)
		return err_set(
		    e, -ESTALE, "its journal has not been written out");
	if (bytes_le16(super + EXT4_STATE) & EXT4_STATE_ERRORS)
		return err_set(e, -ESTALE, "it has found errors in itself");
	/* Clusters were taken for blocks there more than once. */
	if (bytes_le32(super + EXT4_RO_COMPAT) & EXT4_BIGALLOC)
		return err_set(e, -EOPNOTSUPP, "it has the feature bigalloc");
	return 0;
}

/* ---- asking it -------------------------------------------------------------------- */

static int
mount_it(int fd, const char *fs_type, struct err *e)
{
	static const char *const xfs[] = {"norecovery", "nouuid", NULL};
	static const char *const ext4[] = {"noload", NULL};
	SCOPED_FREE char *source = mem_printf("/proc/self/fd/%d", fd);
	struct detached_how how = {.type = fs_type,
	    .source = source,
	    .flags = strcmp(fs_type, "xfs") == 0 ? xfs : ext4,
	    .read_only = true};
	SCOPED_FD int mount = detached_mount(&how, e);
	int root;

	if (mount < 0)
		return mount;
	root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? err_sys(e, errno, "open its root") : root;
}

struct finding {
	struct extents *used;
	uint64_t size;
	uint64_t at;       /* all below is in `used`, or free */
	uint64_t from, to; /* free, not yet taken account of */
	uint64_t seen;     /* records go up */
	uint64_t busy;     /* what is in use ends here, so far */
	uint32_t device;
};

/* Its whole blocks are free. */
static void
leave_out(struct finding *f)
{
	uint64_t from = (f->from + BLOCK - 1) / BLOCK * BLOCK;
	uint64_t to = f->to / BLOCK * BLOCK;

	if (from >= to)
		return;
	extents_add(f->used, 0, f->at, from - f->at);
	f->at = to;
}

static int
take_record(struct finding *f, const struct fsmap *r, bool first, struct err *e)
{
	if (first)
		f->device = r->fmr_device;
	if (r->fmr_device != f->device)
		return err_set(e, -EOPNOTSUPP, "it lies on several devices");
	if (r->fmr_physical < f->seen || r->fmr_physical > f->size ||
	    r->fmr_length > f->size - r->fmr_physical)
		return err_set(e, -ESTALE,
		    "what it says of the place %llu cannot be",
		    (unsigned long long)r->fmr_physical);
	f->seen = r->fmr_physical;
	if ((r->fmr_flags & FMR_OF_SPECIAL_OWNER) == 0 ||
	    r->fmr_owner != FMR_OWN_FREE) {
		if (f->busy < r->fmr_physical + r->fmr_length)
			f->busy = r->fmr_physical + r->fmr_length;
		return 0;
	}
	if (r->fmr_physical < f->busy)
		return err_set(e, -ESTALE,
		    "it says that the place %llu is both free and in use",
		    (unsigned long long)r->fmr_physical);
	f->seen += r->fmr_length;
	if (r->fmr_physical != f->to) {
		leave_out(f);
		f->from = r->fmr_physical;
	}
	f->to = f->seen;
	return 0;
}

static int
ask(struct finding *f, int root, struct err *e)
{
	SCOPED_FREE struct fsmap_head *h = mem_new(fsmap_sizeof(BATCH));
	bool first = true, last = false;
	int rc = 0;

	h->fmh_count = BATCH;
	h->fmh_keys[1] = (struct fsmap){.fmr_device = UINT32_MAX,
	    .fmr_flags = UINT32_MAX,
	    .fmr_physical = UINT64_MAX,
	    .fmr_owner = UINT64_MAX,
	    .fmr_offset = UINT64_MAX};
	while (!last) {
		if (ioctl(root, FS_IOC_GETFSMAP, h) < 0)
			return errno == ENOTTY || errno == EOPNOTSUPP
				   ? err_set(e, -EOPNOTSUPP, "it cannot tell")
				   : err_sys(e, errno, "ask what it uses");
		if (h->fmh_entries == 0 || h->fmh_entries > BATCH)
			return err_set(e, -ESTALE, "its answer has no end");
		for (uint32_t i = 0; rc == 0 && i < h->fmh_entries; i++) {
			rc = take_record(f, &h->fmh_recs[i], first, e);
			first = false;
		}
		if (rc < 0)
			return rc;
		last = h->fmh_recs[h->fmh_entries - 1].fmr_flags & FMR_OF_LAST;
		fsmap_advance(h);
	}
	leave_out(f);
	extents_add(f->used, 0, f->at, f->size - f->at);
	extents_settle(f->used);
	if (!extents_contain(f->used, 0, 0, BLOCK))
		return err_set(
		    e, -ESTALE, "it says that it uses no superblock");
	return 0;
}

int
used_find(int fd, uint64_t size, const char *fs_type, struct extents *out,
    struct err *e)
{
	struct finding f = {.used = out, .size = size};
	SCOPED_FD int root = -1;
	int rc = 0;

	*out = (struct extents){.max = RANGES_MAX};
	if (strcmp(fs_type, "ext4") == 0)
		rc = check_ext4(fd, e);
	else if (strcmp(fs_type, "xfs") != 0)
		rc = err_set(e, -EOPNOTSUPP, "\"%s\" cannot tell", fs_type);
	if (rc == 0)
		rc = root = mount_it(fd, fs_type, e);
	if (rc >= 0)
		rc = ask(&f, root, e);
	if (rc < 0)
		extents_fini(out);
	return rc;
}

/*
 * A btrfs of a test's own, in each of the ways that matter to a tracker, with
 * a subvolume to work in; and what moves its extents about.
 */
#ifndef NEAP_TESTS_TRACK_BTRFS_WORK_H
#define NEAP_TESTS_TRACK_BTRFS_WORK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/statvfs.h>

#include "kmod-free/snap/snap.h"
#include "tests/unit/snap/loop_btrfs.h"
#include "tests/unit/track/random_ops.h"

#define LOOP_MIB 1024u

/* Holes have items or none; extents are whole, compressed, or without
 * checksums and overwritten in place. */
static const struct config {
	const char *name, *mkfs, *options;
} configs[] = {
    {"as made today", "", "noatime"},
    {"hole items, compressed", "-O ^no-holes", "noatime,compress=zstd"},
    {"nodatacow, large inline", "-n 65536",
	"noatime,nodatacow,max_inline=4095"},
};
static const struct config *config;

static struct loop_btrfs loop;
static char work[256]; /* the subvolume */

static inline int
btrfs_setup(void **state)
{
	(void)state;
	/* In memory a round takes a third of the time; it uses some 200 MB. */
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 0);
	loop_btrfs_open(&loop, LOOP_MIB, config->mkfs, config->options);
	if (loop.dir[0] == '\0')
		print_message("btrfs tests are skipped: %s\n", loop.why);
	return 0;
}

static inline int
btrfs_teardown(void **state)
{
	(void)state;
	buf_free(&random_ops_journal);
	loop_btrfs_close(&loop);
	return 0;
}

#define NEED_BTRFS()                                                           \
	do {                                                                   \
		if (loop.dir[0] == '\0') {                                     \
			print_message("skip: %s\n", loop.why);                 \
			skip();                                                \
		}                                                              \
	} while (0)

static inline void
must(int rc, const struct err *e)
{
	if (rc < 0)
		fail_msg("%s", e->text);
}

static inline void
open_work(struct snap_volume **v)
{
	struct err e = ERR_NONE;

	workfd = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(workfd >= 0);
	must(snap_open(v, "btrfs", work, &e), &e);
}

static inline struct snap_volume *
begin_work(const char *name)
{
	struct snap_volume *v = NULL;

	snprintf(work, sizeof work, "%s/%s", loop.dir, name);
	assert_int_equal(
	    loop_run("btrfs -q subvolume create %s >/dev/null", work), 0);
	open_work(&v);
	return v;
}

static inline void
end_work(struct snap_volume *v)
{
	random_ops_let_go();
	close(workfd);
	workfd = -1;
	snap_close(v);
}

/* After a mount btrfs hands out the highest inode numbers again, where their
 * files are gone. */
static inline void
remount(void)
{
	/* The open descriptor keeps the loop device from going. */
	assert_int_equal(
	    loop_run("d=$(findmnt -no SOURCE %s) && exec 9<$d && umount %s && "
		     "mount -o %s $d %s",
		loop.dir, loop.dir, config->options, loop.dir),
	    0);
}

/* ---- what moves extents about; ENOSPC, EBUSY and the like are fine ---- */

static inline int
balance(int fd)
{
	struct btrfs_ioctl_balance_args a = {
	    .flags = BTRFS_BALANCE_DATA | BTRFS_BALANCE_METADATA};

	return ioctl(fd, BTRFS_IOC_BALANCE_V2, &a);
}

static inline int
resize(int fd, unsigned mib)
{
	struct btrfs_ioctl_vol_args a = {0};

	snprintf(a.name, sizeof a.name, "%um", mib);
	return ioctl(fd, BTRFS_IOC_RESIZE, &a);
}

static inline int
discard(int fd)
{
	struct fstrim_range r = {.len = UINT64_MAX};

	return ioctl(fd, FITRIM, &r);
}

/* ENOSPC is not fine to every kernel: 6.18 ends with "error in
 * merge_reloc_roots" and a file system that takes nothing more, where a shrink
 * leaves the trees of 64 KiB no room to move. */
static inline bool
forced_read_only(void)
{
	struct statvfs st;

	return statvfs(loop.dir, &st) == 0 && (st.f_flag & ST_RDONLY) != 0;
}

#endif

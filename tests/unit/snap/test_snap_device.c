/* SPDX-License-Identifier: Apache-2.0 */
/* A block device as one image: what it is, and when it is not to be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/snap.h"
#include "tests/unit/snap/loop_btrfs.h"

#define MIB (1u << 20)

static struct disk {
	char dir[100], dev[64];
	const char *why; /* there is none */
} disk;

static int
setup(void **state)
{
	FILE *f;
	char cmd[1024];

	(void)state;
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		disk.why = "no root, or no mount namespace";
		return 0;
	}
	strcpy(disk.dir, "/tmp/neap-disk-XXXXXX");
	assert_non_null(mkdtemp(disk.dir));
	snprintf(cmd, sizeof cmd,
	    "truncate -s 32M %s/i && mkfs.ext4 -qF -L news -U "
	    "11111111-2222-3333-4444-555555555555 %s/i && mkdir %s/m && "
	    "losetup --find --show %s/i",
	    disk.dir, disk.dir, disk.dir, disk.dir);
	f = popen(cmd, "r");
	if (f == NULL || fscanf(f, "%63s", disk.dev) != 1)
		disk.why = "no loop device or no mkfs.ext4 here";
	if (f != NULL)
		pclose(f);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	if (disk.dev[0] != '\0')
		loop_run("losetup -d %s", disk.dev);
	if (disk.dir[0] != '\0')
		loop_run("rm -rf --one-file-system %s", disk.dir);
	return 0;
}

#define NEED_DISK()                                                            \
	do {                                                                   \
		if (disk.why != NULL) {                                        \
			print_message("skip: %s\n", disk.why);                 \
			skip();                                                \
		}                                                              \
	} while (0)

static struct snap_volume *
must_open(const char *driver, const char *path)
{
	struct snap_volume *v = NULL;
	struct err e = ERR_NONE;

	if (snap_open(&v, driver, path, &e) < 0)
		fail_msg("%s", e.text);
	return v;
}

static void
it_says_what_the_image_is(void **state)
{
	struct snap_volume *v;

	(void)state;
	NEED_DISK();
	v = must_open("device", disk.dev);
	assert_int_equal(v->ops->caps, SNAP_IMAGE);
	assert_int_equal(v->image.size, 32 * MIB);
	assert_int_equal(v->image.sector, 512);
	assert_string_equal(v->image.name, disk.dev + strlen("/dev/"));
	assert_string_equal(v->image.label, "news");
	assert_string_equal(v->fs_type, "ext4");
	assert_string_equal(v->fs_uuid, "11111111-2222-3333-4444-555555555555");
	assert_null(v->image.mounted_at);
	snap_close(v);
}

/* "none" of a device would be the node in /dev, which holds nothing. */
static void
none_of_a_device_is_its_content(void **state)
{
	struct snap_volume *v;

	(void)state;
	NEED_DISK();
	v = must_open("none", disk.dev);
	assert_string_equal(v->ops->name, "device");
	snap_close(v);
}

/* While we look at it nobody may start to write. */
static void
it_is_held_against_mounts(void **state)
{
	SCOPED_FREE char *at = fs_join(disk.dir, "m");
	struct snap_volume *v;

	(void)state;
	NEED_DISK();
	v = must_open("device", disk.dev);
	assert_int_equal(mount(disk.dev, at, "ext4", 0, NULL), -1);
	assert_int_equal(errno, EBUSY);
	snap_close(v);
	assert_int_equal(mount(disk.dev, at, "ext4", 0, NULL), 0);
	assert_int_equal(umount(at), 0);
}

static void
one_that_is_mounted_is_refused_with_the_place(void **state)
{
	SCOPED_FREE char *at = fs_join(disk.dir, "m");
	struct snap_volume *v = NULL;
	struct err e = ERR_NONE;

	(void)state;
	NEED_DISK();
	assert_int_equal(mount(disk.dev, at, "ext4", 0, NULL), 0);
	assert_int_equal(snap_open(&v, "device", disk.dev, &e), -EPERM);
	assert_non_null(strstr(e.text, at));
	assert_non_null(strstr(e.text, "unmount it"));
	assert_int_equal(umount(at), 0);
	assert_null(v);
}

/* Then nothing writes, and paths on it are known by their place within. */
static void
one_that_is_mounted_read_only_is_taken(void **state)
{
	SCOPED_FREE char *at = fs_join(disk.dir, "m");
	SCOPED_FREE char *found = fs_join(at, "lost+found");
	SCOPED_FREE char *rel = NULL;
	struct snap_volume *v;
	struct err e = ERR_NONE;

	(void)state;
	NEED_DISK();
	assert_int_equal(mount(disk.dev, at, "ext4", MS_RDONLY, NULL), 0);
	v = must_open("device", found);
	assert_string_equal(v->root, disk.dev);
	assert_string_equal(v->image.mounted_at, at);
	assert_int_equal(snap_locate(v, found, &rel, &e), 0);
	assert_string_equal(rel, "lost+found");
	free(TAKE(rel));
	assert_int_equal(snap_locate(v, at, &rel, &e), 0);
	assert_string_equal(rel, "");
	free(TAKE(rel));
	assert_int_equal(snap_locate(v, disk.dev, &rel, &e), 0);
	assert_string_equal(rel, "");
	free(TAKE(rel));
	assert_int_equal(snap_locate(v, disk.dir, &rel, &e), -EXDEV);
	snap_close(v);
	assert_int_equal(umount(at), 0);
}

/* A view is the device itself, whose bytes are the image's. */
static void
the_view_is_the_device(void **state)
{
	struct snap_volume *v;
	struct err e = ERR_NONE;
	uint8_t magic[2];
	int fd;

	(void)state;
	NEED_DISK();
	v = must_open("device", disk.dev);
	fd = snap_view(v, "neap-a-b", &e);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, magic, 2, 1024 + 56), 2);
	assert_int_equal(magic[0], 0x53); /* of ext4: 0xef53 */
	assert_int_equal(magic[1], 0xef);
	close(fd);
	snap_close(v);
}

/* What it was when the job was planned does not count. */
static void
a_view_tells_of_itself(void **state)
{
	struct snap_volume *v;
	struct err e = ERR_NONE;
	int fd;

	(void)state;
	NEED_DISK();
	v = must_open("device", disk.dev);
	loop_run("truncate -s 33M %s/i && losetup -c %s", disk.dir, disk.dev);
	assert_int_equal(v->image.size, 32 * MIB);
	fd = snap_view(v, "neap-a-b", &e);
	assert_true(fd >= 0);
	assert_int_equal(v->image.size, 33 * MIB);
	close(fd);
	snap_close(v);
	loop_run("truncate -s 32M %s/i && losetup -c %s", disk.dir, disk.dev);
}

static void
a_folder_on_no_device_is_not_its(void **state)
{
	struct snap_volume *v = NULL;
	struct err e = ERR_NONE;

	(void)state;
	assert_int_equal(snap_open(&v, "device", "/proc", &e), -EOPNOTSUPP);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_says_what_the_image_is),
	    cmocka_unit_test(none_of_a_device_is_its_content),
	    cmocka_unit_test(it_is_held_against_mounts),
	    cmocka_unit_test(one_that_is_mounted_is_refused_with_the_place),
	    cmocka_unit_test(one_that_is_mounted_read_only_is_taken),
	    cmocka_unit_test(the_view_is_the_device),
	    cmocka_unit_test(a_view_tells_of_itself),
	    cmocka_unit_test(a_folder_on_no_device_is_not_its),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

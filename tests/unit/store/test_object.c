/* SPDX-License-Identifier: Apache-2.0 */
/* Objects: the record holds all, and a file system gets it all back. */
#include "tests/unit/store/place.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "agent/store/object.h"

static void
add_xattr(struct object *o, const char *name, const void *value, size_t len)
{
	o->xattr = mem_grow(o->xattr, o->xattrs + 1, sizeof *o->xattr);
	o->xattr[o->xattrs++] =
	    (struct object_xattr){mem_str(name), mem_dup(value, len), len};
}

static struct object
full_object(void)
{
	struct object o = {.type = OBJECT_SYMLINK,
	    .mode = 07777,
	    .uid = UINT32_MAX,
	    .gid = 1000,
	    .nlink = 3,
	    .size = INT64_MAX,
	    .mtime_s = -1,
	    .mtime_ns = 999999999,
	    .atime_s = INT64_MIN,
	    .rdev_major = 8,
	    .rdev_minor = 300000,
	    .flags = FS_NOCOW_FL | FS_IMMUTABLE_FL,
	    .target = mem_str("../a/b")};

	add_xattr(&o, "security.capability", "\1\0\0\2", 4);
	add_xattr(&o, "user.empty", "", 0);
	add_xattr(&o, "user.x", "a\0b", 3);
	return o;
}

static void
assert_same(const struct object *a, const struct object *b)
{
	SCOPED_BUF struct buf x = {0}, y = {0};

	object_encode(a, &x);
	object_encode(b, &y);
	assert_int_equal(span_cmp(buf_span(&x), buf_span(&y)), 0);
}

static void
test_record_round_trip(void **state)
{
	SCOPED_OBJECT struct object o = full_object(), back = {0};
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	(void)state;
	object_encode(&o, &b);
	OK(object_decode(&back, buf_span(&b), &e));
	assert_int_equal(back.type, o.type);
	assert_int_equal(back.mode, o.mode);
	assert_int_equal(back.uid, o.uid);
	assert_int_equal(back.gid, o.gid);
	assert_int_equal(back.nlink, o.nlink);
	assert_int_equal(back.size, o.size);
	assert_int_equal(back.mtime_s, o.mtime_s);
	assert_int_equal(back.mtime_ns, o.mtime_ns);
	assert_int_equal(back.atime_s, o.atime_s);
	assert_int_equal(back.atime_ns, o.atime_ns);
	assert_int_equal(back.rdev_major, o.rdev_major);
	assert_int_equal(back.rdev_minor, o.rdev_minor);
	assert_int_equal(back.flags, o.flags);
	assert_string_equal(back.target, o.target);
	assert_int_equal(back.xattrs, 3);
	assert_string_equal(back.xattr[2].name, "user.x");
	assert_int_equal(back.xattr[2].value_len, 3);
	assert_memory_equal(back.xattr[2].value, "a\0b", 3);
}

/* The bytes of a plain file, by hand from docs/format.md. */
static void
test_record_is_as_the_format_says(void **state)
{
	static const uint8_t want[] = {1, 1, 0xa4, 0x03, 26, 27, 1, 0x80, 0x40,
	    5, 0, 0, 0, 0, 0, 0, 0, 7, 6, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0x40, 0,
	    1, 6, 'u', 's', 'e', 'r', '.', 'k', 2, 'v', 'w'};
	SCOPED_OBJECT struct object o = {.type = OBJECT_FILE,
	    .mode = 0644,
	    .uid = 26,
	    .gid = 27,
	    .nlink = 1,
	    .size = 8192,
	    .mtime_s = 5,
	    .mtime_ns = 7,
	    .atime_s = 6,
	    .atime_ns = 8,
	    .flags = FS_NODUMP_FL};
	SCOPED_BUF struct buf b = {0};

	(void)state;
	add_xattr(&o, "user.k", "vw", 2);
	object_encode(&o, &b);
	assert_int_equal(b.len, sizeof want);
	assert_memory_equal(b.data, want, sizeof want);
}

static struct object
an_image(void)
{
	return (struct object){.type = OBJECT_IMAGE,
	    .mode = 0600,
	    .nlink = 1,
	    .size = 1049088,
	    .sector = 512,
	    .fs_type = mem_str("ext4"),
	    .fs_uuid = mem_str("u-1"),
	    .fs_label = mem_str("")};
}

/* The bytes of an image, by hand from docs/format.md. */
static void
test_an_image_is_as_the_format_says(void **state)
{
	static const uint8_t want[] = {1, 8, 0x80, 3, 0, 0, 1, 0x80, 0x84, 0x40,
	    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	    0x80, 4, 4, 0x65, 0x78, 0x74, 0x34, 3, 0x75, 0x2d, 0x31, 0};
	SCOPED_OBJECT struct object o = an_image(), back = {0};
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	(void)state;
	object_encode(&o, &b);
	assert_int_equal(b.len, sizeof want);
	assert_memory_equal(b.data, want, sizeof want);
	OK(object_decode(&back, buf_span(&b), &e));
	assert_same(&o, &back);
	assert_int_equal(back.sector, 512);
	assert_string_equal(back.fs_type, "ext4");
	assert_string_equal(back.fs_uuid, "u-1");
	assert_string_equal(back.fs_label, "");
}

/* A sector size that is none would end up in the loop device. */
static void
test_an_image_with_odd_sectors_is_refused(void **state)
{
	static const uint32_t odd[] = {0, 1, 256, 513, 65537, 131072};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(odd); i++) {
		SCOPED_OBJECT struct object o = an_image(), back = {0};
		SCOPED_BUF struct buf b = {0};
		struct err e = ERR_NONE;

		o.sector = odd[i];
		object_encode(&o, &b);
		FAILS(-EBADMSG, object_decode(&back, buf_span(&b), &e));
	}
}

static void
no_part_decodes(const struct object *o)
{
	SCOPED_BUF struct buf b = {0};

	object_encode(o, &b);
	for (size_t n = 0; n < b.len; n++) {
		SCOPED_FREE uint8_t *part = mem_dup(b.data, n);
		struct object back = {0};
		struct err e = ERR_NONE;

		FAILS(-EBADMSG, object_decode(&back, SPAN(part, n), &e));
		assert_null(back.xattr);
	}
	buf_put_u8(&b, 0);
	{
		struct object back = {0};
		struct err e = ERR_NONE;

		FAILS(-EBADMSG, object_decode(&back, buf_span(&b), &e));
	}
}

static void
test_every_truncation_is_an_error(void **state)
{
	SCOPED_OBJECT struct object o = full_object(), image = an_image();

	(void)state;
	no_part_decodes(&o);
	no_part_decodes(&image);
}

/* Onto a file, with its owner and mode; no time of it is known. */
static void
test_an_image_comes_back_as_a_file(void **state)
{
	SCOPED_FD int dir = open(*state, O_RDONLY | O_DIRECTORY);
	SCOPED_OBJECT struct object o = an_image();
	const struct timespec then[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
	struct err e = ERR_NONE;
	struct stat st;
	int fd = openat(dir, "i", O_CREAT | O_WRONLY, 0644);

	assert_true(fd >= 0);
	assert_int_equal(futimens(fd, then), 0);
	close(fd);
	o.uid = getuid();
	o.gid = getgid();
	OK(object_apply(&o, dir, "i", &e));
	assert_int_equal(fstatat(dir, "i", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_mtime, 2000);
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	FAILS(-EINVAL, object_apply(&o, dir, "d", &e));
}

static void
test_unknown_version_is_named(void **state)
{
	SCOPED_OBJECT struct object o = full_object();
	SCOPED_BUF struct buf b = {0};
	struct object back;
	struct err e = ERR_NONE;

	(void)state;
	object_encode(&o, &b);
	b.data[0] = 2;
	FAILS(-EBADMSG, object_decode(&back, buf_span(&b), &e));
	assert_text_has(e.text, "version 2");
}

/* Nothing that breaks a rule of the record gets through. */
static void
test_any_bytes_decode_or_are_refused(void **state)
{
	SCOPED_OBJECT struct object o = full_object();
	SCOPED_BUF struct buf b = {0};
	struct dice d = {11};

	(void)state;
	object_encode(&o, &b);
	for (int i = 0; i < 20000; i++) {
		SCOPED_OBJECT struct object back = {0};
		SCOPED_BUF struct buf bad = {0}, again = {0};
		struct err e = ERR_NONE;

		buf_put(&bad, b.data, b.len);
		for (uint32_t k = 1 + dice_below(&d, 3); k > 0; k--)
			bad.data[dice_below(&d, (uint32_t)b.len)] =
			    (uint8_t)dice_u64(&d);
		if (object_decode(&back, buf_span(&bad), &e) < 0) {
			assert_int_equal(e.code, -EBADMSG);
			continue;
		}
		object_encode(&back, &again); /* asserts its rules */
	}
}

/* ---- on a file system ---- */

static int
open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY);

	assert_true(fd >= 0);
	return fd;
}

static void
need_root(void)
{
	if (geteuid() != 0) {
		print_message("only root may set owners and flags\n");
		skip();
	}
}

static void
make_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "hello", 5), 5);
	close(fd);
}

static void
set_flag(int dir, const char *name, int flag, bool on)
{
	int fd = openat(dir, name, O_RDONLY), flags = 0;

	assert_int_equal(ioctl(fd, FS_IOC_GETFLAGS, &flags), 0);
	flags = on ? flags | flag : flags & ~flag;
	assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
	close(fd);
}

/* Reads `from`, applies it to `to`, reads that: the same but the links. */
static void
assert_copies(int dir, const char *from, const char *to)
{
	SCOPED_OBJECT struct object a = {0}, b = {0};
	struct err e = ERR_NONE;

	OK(object_read(&a, dir, from, &e));
	OK(object_apply(&a, dir, to, &e));
	OK(object_read(&b, dir, to, &e));
	b.size = a.size;
	assert_same(&a, &b);
}

/* u::rw-, u:26:r--, g::r--, m::r--, o::--- as the kernel has it */
static const uint8_t acl[] = {2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0,
    4, 0, 26, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255,
    255, 255, 32, 0, 0, 0, 255, 255, 255, 255};

static void
test_file_comes_back(void **state)
{
	SCOPED_FD int dir = open_dir(*state);
	SCOPED_FREE char *a = fs_join(*state, "a");
	static const struct timespec ts[2] = {
	    {1000000000, 123456789}, {-7, 987654321}};

	need_root();
	make_file(dir, "a");
	make_file(dir, "b");
	assert_int_equal(fchownat(dir, "a", 26, 27, 0), 0);
	assert_int_equal(fchmodat(dir, "a", 06640, 0), 0);
	assert_int_equal(setxattr(a, "user.k", "v\0w", 3, 0), 0);
	assert_int_equal(setxattr(a, "trusted.t", "", 0, 0), 0);
	if (setxattr(a, "system.posix_acl_access", acl, sizeof acl, 0) < 0)
		print_message("no POSIX ACLs here\n");
	set_flag(dir, "a", FS_NODUMP_FL | FS_NOATIME_FL, true);
	assert_int_equal(utimensat(dir, "a", ts, 0), 0);
	assert_copies(dir, "a", "b");
}

/* An attribute that the target had, and the record has not, goes. */
static void
test_what_was_there_goes(void **state)
{
	SCOPED_FD int dir = open_dir(*state);
	SCOPED_FREE char *b = fs_join(*state, "b");

	need_root();
	make_file(dir, "a");
	make_file(dir, "b");
	assert_int_equal(setxattr(b, "user.old", "v", 1, 0), 0);
	if (setxattr(b, "system.posix_acl_access", acl, sizeof acl, 0) < 0)
		print_message("no POSIX ACLs here\n");
	set_flag(dir, "b", FS_NODUMP_FL, true);
	set_flag(dir, "b", FS_IMMUTABLE_FL, true);
	assert_copies(dir, "a", "b");
}

static void
test_immutable_comes_last(void **state)
{
	SCOPED_FD int dir = open_dir(*state);

	need_root();
	make_file(dir, "a");
	make_file(dir, "b");
	assert_int_equal(fchownat(dir, "a", 26, 26, 0), 0);
	set_flag(dir, "a", FS_IMMUTABLE_FL | FS_APPEND_FL, true);
	assert_copies(dir, "a", "b");
	set_flag(dir, "a", FS_IMMUTABLE_FL | FS_APPEND_FL, false);
	set_flag(dir, "b", FS_IMMUTABLE_FL | FS_APPEND_FL, false);
}

static void
test_folder_comes_back(void **state)
{
	SCOPED_FD int dir = open_dir(*state);

	need_root();
	assert_int_equal(mkdirat(dir, "a", 0700), 0);
	assert_int_equal(mkdirat(dir, "b", 0755), 0);
	assert_int_equal(fchmodat(dir, "a", 03711, 0), 0);
	set_flag(dir, "a", FS_DIRSYNC_FL, true);
	assert_copies(dir, "a", "b");
}

/* The link itself, not the file that it points to. */
static void
test_symlink_comes_back(void **state)
{
	SCOPED_FD int dir = open_dir(*state);
	SCOPED_OBJECT struct object o = {0};
	static const struct timespec ts[2] = {{5, 6}, {7, 8}};
	struct err e = ERR_NONE;
	struct stat st;

	need_root();
	make_file(dir, "file");
	assert_int_equal(symlinkat("file", dir, "a"), 0);
	assert_int_equal(symlinkat("file", dir, "b"), 0);
	assert_int_equal(fchownat(dir, "a", 26, 27, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(utimensat(dir, "a", ts, AT_SYMLINK_NOFOLLOW), 0);
	OK(object_read(&o, dir, "a", &e));
	assert_int_equal(o.type, OBJECT_SYMLINK);
	assert_string_equal(o.target, "file");
	assert_int_equal(o.mtime_s, 7);
	assert_copies(dir, "a", "b");
	assert_int_equal(fstatat(dir, "file", &st, 0), 0);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_not_equal(st.st_mtim.tv_sec, 7);
}

static void
test_special_files_come_back(void **state)
{
	SCOPED_FD int dir = open_dir(*state);
	SCOPED_OBJECT struct object o = {0};
	struct err e = ERR_NONE;

	need_root();
	assert_int_equal(mknodat(dir, "p1", S_IFIFO | 0600, 0), 0);
	assert_int_equal(mknodat(dir, "p2", S_IFIFO | 0640, 0), 0);
	assert_copies(dir, "p1", "p2");
	assert_int_equal(mknodat(dir, "s1", S_IFSOCK | 0600, 0), 0);
	assert_int_equal(mknodat(dir, "s2", S_IFSOCK | 0640, 0), 0);
	assert_copies(dir, "s1", "s2");
	if (mknodat(dir, "c", S_IFCHR | 0600, makedev(1, 3)) < 0) {
		print_message("no device nodes here\n");
		return;
	}
	OK(object_read(&o, dir, "c", &e));
	assert_int_equal(o.type, OBJECT_CHAR);
	assert_int_equal(o.rdev_major, 1);
	assert_int_equal(o.rdev_minor, 3);
}

static void
test_hard_links_are_counted(void **state)
{
	SCOPED_FD int dir = open_dir(*state);
	SCOPED_OBJECT struct object o = {0};
	struct err e = ERR_NONE;

	make_file(dir, "a");
	assert_int_equal(linkat(dir, "a", dir, "b", 0), 0);
	OK(object_read(&o, dir, "a", &e));
	assert_int_equal(o.nlink, 2);
	assert_int_equal(o.size, 5);
}

static void
test_another_type_is_refused(void **state)
{
	SCOPED_FD int dir = open_dir(*state);
	SCOPED_OBJECT struct object o = {0};
	struct err e = ERR_NONE;

	make_file(dir, "a");
	assert_int_equal(mkdirat(dir, "b", 0755), 0);
	OK(object_read(&o, dir, "a", &e));
	FAILS(-EINVAL, object_apply(&o, dir, "b", &e));
	FAILS(-ENOENT, object_apply(&o, dir, "none", &e));
	assert_text_has(e.text, "none");
}

/* What does not take is named, and the rest is set all the same. */
static void
test_what_the_target_cannot_hold_is_named(void **state)
{
	SCOPED_FD int dir = open_dir(*state);
	SCOPED_OBJECT struct object o = {0}, back = {0};
	struct err e = ERR_NONE;

	make_file(dir, "a");
	OK(object_read(&o, dir, "a", &e));
	add_xattr(&o, "nonsense.name", "v", 1);
	o.mode = 0604;
	o.mtime_s = 77;
	FAILS(-EOPNOTSUPP, object_apply(&o, dir, "a", &e));
	assert_text_has(e.text, "nonsense.name");
	OK(object_read(&back, dir, "a", &e));
	assert_int_equal(back.mode, 0604);
	assert_int_equal(back.mtime_s, 77);
}

/* A set-id program of root must not become one of ours. */
static void
test_no_set_id_without_the_owner(void **state)
{
	SCOPED_FD int dir = open_dir(*state);
	SCOPED_OBJECT struct object o = {0};
	struct err e = ERR_NONE;
	struct stat st;
	int rc;

	need_root();
	make_file(dir, "a");
	OK(object_read(&o, dir, "a", &e));
	o.mode = 06755;
	assert_int_equal(fchmod(dir, 0755), 0);
	assert_int_equal(fchownat(dir, "a", 65534, 65534, 0), 0);
	assert_int_equal(seteuid(65534), 0);
	prctl(PR_SET_DUMPABLE, 1); /* or /proc/self/fd is root's */
	rc = object_apply(&o, dir, "a", &e);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(rc, -EOPNOTSUPP);
	assert_text_has(e.text, "owner 0:0");
	assert_int_equal(fstatat(dir, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

/* Either the file system has it (btrfs), or apply says that it has not. */
static void
test_no_copy_on_write_is_set_early(void **state)
{
	SCOPED_FD int dir = open_dir(*state);
	SCOPED_FD int fd = openat(dir, "a", O_CREAT | O_RDWR, 0600);
	SCOPED_OBJECT struct object o = {0}, back = {0};
	struct err e = ERR_NONE;
	int rc;

	OK(object_read(&o, dir, "a", &e));
	o.flags = FS_NOCOW_FL;
	object_apply_early(&o, fd);
	assert_int_equal(write(fd, "hello", 5), 5);
	rc = object_apply(&o, dir, "a", &e);
	if (rc < 0) {
		assert_int_equal(rc, -EOPNOTSUPP);
		assert_text_has(e.text, "flag C");
		return;
	}
	OK(object_read(&back, dir, "a", &e));
	assert_int_equal(back.flags & FS_NOCOW_FL, FS_NOCOW_FL);
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_record_round_trip),
	    cmocka_unit_test(test_record_is_as_the_format_says),
	    cmocka_unit_test(test_an_image_is_as_the_format_says),
	    cmocka_unit_test(test_an_image_with_odd_sectors_is_refused),
	    cmocka_unit_test(test_every_truncation_is_an_error),
	    TEST(test_an_image_comes_back_as_a_file),
	    cmocka_unit_test(test_unknown_version_is_named),
	    cmocka_unit_test(test_any_bytes_decode_or_are_refused),
	    TEST(test_file_comes_back),
	    TEST(test_what_was_there_goes),
	    TEST(test_immutable_comes_last),
	    TEST(test_folder_comes_back),
	    TEST(test_symlink_comes_back),
	    TEST(test_special_files_come_back),
	    TEST(test_hard_links_are_counted),
	    TEST(test_another_type_is_refused),
	    TEST(test_what_the_target_cannot_hold_is_named),
	    TEST(test_no_set_id_without_the_owner),
	    TEST(test_no_copy_on_write_is_set_early),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and attributes over many backups: what the maps say is what the folder
 * holds, and nothing that is gone, or came in its place, is taken for another.
 */
#include "tests/unit/job/world.h"

#include <dirent.h>
#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "tests/unit/store/place.h"

/* ---- a file system that uses inode numbers again, as soon as it is told ---- */

static struct {
	ino_t from, to; /* inode `from` says that it is `to` */
	bool no_generations;
	uint32_t generation; /* of `from`; all others have 1; 0: as it is */
} fake;

int fstatat64(int dirfd, const char *name, struct stat64 *st, int flags)
    __attribute__((nothrow));
int ioctl(int fd, unsigned long request, ...) __attribute__((nothrow));

int
fstatat64(int dirfd, const char *name, struct stat64 *st, int flags)
{
	int rc = (int)syscall(SYS_newfstatat, dirfd, name, st, flags);

	if (rc == 0 && fake.from != 0 && st->st_ino == fake.from)
		st->st_ino = fake.to;
	return rc;
}

int
ioctl(int fd, unsigned long request, ...)
{
	struct stat st;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request != FS_IOC_GETVERSION ||
	    (fake.generation == 0 && !fake.no_generations))
		return (int)syscall(SYS_ioctl, fd, request, arg);
	if (fake.no_generations) {
		errno = ENOTTY;
		return -1;
	}
	if (fstat(fd, &st) < 0)
		return -1;
	*(uint32_t *)arg = st.st_ino == fake.from ? fake.generation : 1;
	return 0;
}

/* ---- what the maps say, against the folder ---- */

struct seen {
	struct {
		ino_t ino;
		uint64_t object;
	} v[256];
	size_t n;
};

struct check {
	struct map_view *view;
	struct seen seen;
	char *path; /* of the folder, on this host */
	size_t names;
};

/* One object for each inode, whatever its names, and none for two. */
static void
check_identity(struct seen *s, ino_t ino, uint64_t object)
{
	for (size_t i = 0; i < s->n; i++) {
		if ((s->v[i].ino == ino) != (s->v[i].object == object))
			fail_msg("inode %lu, object %lu", (unsigned long)ino,
			    (unsigned long)object);
		if (s->v[i].ino == ino)
			return;
	}
	assert_true(s->n < MEM_COUNT(s->v));
	s->v[s->n].ino = ino;
	s->v[s->n++].object = object;
}

static void
check_attributes(struct map_view *v, uint64_t object, const char *path)
{
	SCOPED_OBJECT struct object want = {0}, got = {0};
	SCOPED_BUF struct buf a = {0}, b = {0};
	struct err e = ERR_NONE;

	OK(object_read(&want, AT_FDCWD, path, &e));
	if (map_view_object(v, object, &got, &e) != 1)
		fail_msg(
		    "%s: object %lu: %s", path, (unsigned long)object, e.text);
	/* The time of the last reading alone is no change. */
	got.atime_s = want.atime_s;
	got.atime_ns = want.atime_ns;
	object_encode(&want, &a);
	object_encode(&got, &b);
	if (span_cmp(buf_span(&a), buf_span(&b)) != 0)
		fail_msg("%s: other attributes", path);
}

static int
count_name(void *arg, const char *name, uint64_t object)
{
	(void)name;
	(void)object;
	++*(size_t *)arg;
	return 0;
}

static void
check_folder(struct check *c, const char *path, uint64_t folder)
{
	DIR *d = opendir(path);
	struct err e = ERR_NONE;
	size_t here = 0, there = 0;
	struct dirent *de;

	assert_non_null(d);
	while ((de = readdir(d)) != NULL) {
		SCOPED_FREE char *sub = fs_join(path, de->d_name);
		uint64_t object;
		struct stat st;

		if (strcmp(de->d_name, ".") == 0 ||
		    strcmp(de->d_name, "..") == 0)
			continue;
		here++;
		if (map_view_lookup(c->view, folder, de->d_name, &object, &e) !=
		    1)
			fail_msg("%s is not in the map", sub);
		assert_int_equal(lstat(sub, &st), 0);
		check_identity(&c->seen, st.st_ino, object);
		check_attributes(c->view, object, sub);
		if (S_ISDIR(st.st_mode))
			check_folder(c, sub, object);
	}
	closedir(d);
	OK(map_view_names(c->view, folder, NULL, count_name, &there, &e));
	if (here != there)
		fail_msg("%s: %zu names, %zu in the map", path, here, there);
}

static int
count_object(void *arg, uint64_t object, const struct object *o)
{
	(void)object;
	(void)o;
	++*(size_t *)arg;
	return 0;
}

static struct map_view *
view_of(struct world *w)
{
	struct map_view *v;
	struct err e = ERR_NONE;

	OK(map_view_open(
	    &v, w->store.repo, &w->store.keys, w->map, w->maps, &e));
	return v;
}

static void
check_world(struct world *w)
{
	struct check c = {.view = view_of(w)};
	struct err e = ERR_NONE;
	size_t objects = 0, above = 1;
	uint64_t top;

	assert_int_equal(map_view_path(c.view, w->data, &top, &e), 1);
	check_folder(&c, w->data, top);
	/* The root, those above, the folder itself, and what it holds. */
	for (const char *p = w->data; *p != '\0'; p++)
		above += *p == '/';
	OK(map_view_objects(c.view, count_object, &objects, &e));
	assert_int_equal(objects, above + c.seen.n);
	map_view_close(c.view);
}

static uint64_t
object_of(struct world *w, const char *name)
{
	SCOPED_FREE char *path = fs_join(w->data, name);
	struct map_view *v = view_of(w);
	struct err e = ERR_NONE;
	uint64_t object = 0;

	map_view_path(v, path, &object, &e);
	map_view_close(v);
	return object;
}

static ino_t
inode_of(struct world *w, const char *name)
{
	SCOPED_FREE char *path = fs_join(w->data, name);
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_ino;
}

static void
enter(struct world *w, void **state)
{
	memset(&fake, 0, sizeof fake);
	world_begin(w, *state);
	assert_int_equal(chdir(w->data), 0);
}

static void
leave(struct world *w)
{
	assert_int_equal(chdir("/"), 0);
	world_end(w);
}

static void
touch(const char *name)
{
	SCOPED_FD int fd = open(name, O_CREAT | O_WRONLY | O_APPEND, 0644);

	assert_true(fd >= 0 && write(fd, "x", 1) == 1);
}

/* ---- facts ---- */

/* Red when names or attributes are written that did not change: then each
 * backup would cost as much as there are files. */
static void
test_nothing_changed_writes_nothing(void **state)
{
	struct world w;

	enter(&w, state);
	touch("a");
	assert_int_equal(mkdir("d", 0755), 0);
	touch("d/b");
	world_backup(&w);
	check_world(&w);
	/* The folders above, such as /tmp, are others' to change. */
	assert_in_range(world_backup(&w), 0, 4);
	assert_int_equal(w.tree.next_object, w.next_object);
	leave(&w);
}

static void
test_a_rename_keeps_the_object(void **state)
{
	struct world w;
	uint64_t file, folder;

	enter(&w, state);
	assert_int_equal(mkdir("d", 0755), 0);
	touch("d/a");
	world_backup(&w);
	file = object_of(&w, "d/a");
	folder = object_of(&w, "d");
	assert_int_equal(rename("d/a", "b"), 0);
	assert_int_equal(rename("d", "e"), 0);
	world_backup(&w);
	assert_int_equal(object_of(&w, "b"), file);
	assert_int_equal(object_of(&w, "e"), folder);
	assert_int_equal(object_of(&w, "d"), 0);
	assert_int_equal(object_of(&w, "e/a"), 0);
	check_world(&w);
	leave(&w);
}

/* Two files swap their names: no name is new, and none is gone. */
static void
test_swapped_names(void **state)
{
	struct world w;
	uint64_t a, b;

	enter(&w, state);
	touch("a");
	touch("b");
	world_backup(&w);
	a = object_of(&w, "a");
	b = object_of(&w, "b");
	assert_int_equal(
	    rename("a", "t") + rename("b", "a") + rename("t", "b"), 0);
	world_backup(&w);
	assert_int_equal(object_of(&w, "a"), b);
	assert_int_equal(object_of(&w, "b"), a);
	leave(&w);
}

static void
test_hard_links_are_one_object(void **state)
{
	struct world w;

	enter(&w, state);
	touch("a");
	assert_int_equal(link("a", "b"), 0);
	assert_int_equal(mkdir("d", 0755) + link("a", "d/c"), 0);
	world_walk(&w);
	assert_int_equal(w.tree.files, 1);
	world_commit(&w);
	assert_int_equal(object_of(&w, "a"), object_of(&w, "d/c"));
	check_world(&w);
	assert_int_equal(unlink("a"), 0);
	world_backup(&w);
	assert_int_equal(object_of(&w, "a"), 0);
	assert_int_not_equal(object_of(&w, "b"), 0);
	check_world(&w);
	/* All gone: so is the object. */
	assert_int_equal(unlink("b") + unlink("d/c"), 0);
	world_backup(&w);
	check_world(&w);
	leave(&w);
}

/* Law: an object number is never used again, so what is gone stays hidden. */
static void
test_a_reused_inode_is_another_object(void **state)
{
	struct world w;
	uint64_t old;

	enter(&w, state);
	touch("a");
	world_backup(&w);
	old = object_of(&w, "a");
	fake.to = inode_of(&w, "a");
	assert_int_equal(unlink("a"), 0);
	touch("keeps-the-number-away");
	touch("a");
	fake.from = inode_of(&w, "a");
	fake.generation = 2;
	world_walk(&w);
	for (size_t i = 0; i < w.tree.files; i++)
		if (strstr(w.tree.file[i].rel, "/a") != NULL) {
			assert_int_equal(w.tree.file[i].ino, fake.to);
			assert_null(w.tree.file[i].old);
		}
	world_commit(&w);
	assert_true(object_of(&w, "a") > old);
	leave(&w);
}

/*
 * Where there are no generations, the same number may be a file, then a link,
 * then a file again. Red when the three are one object: of the second file,
 * blocks of zeros would not be written, and the first file's show through.
 */
static void
test_another_type_is_another_object(void **state)
{
	struct world w;
	uint64_t file, link_;

	enter(&w, state);
	fake.no_generations = true;
	touch("a");
	world_backup(&w);
	file = object_of(&w, "a");
	fake.to = inode_of(&w, "a");
	assert_int_equal(rename("a", "../aside"), 0);
	assert_int_equal(symlink("nowhere", "a"), 0);
	fake.from = inode_of(&w, "a");
	world_backup(&w);
	link_ = object_of(&w, "a");
	assert_int_not_equal(link_, file);
	assert_int_equal(unlink("a"), 0);
	touch("a");
	fake.from = inode_of(&w, "a");
	world_walk(&w);
	assert_int_equal(w.tree.files, 1);
	assert_null(w.tree.file[0].old);
	world_commit(&w);
	assert_int_not_equal(object_of(&w, "a"), link_);
	assert_int_not_equal(object_of(&w, "a"), file);
	leave(&w);
}

/* An attribute that no time stamp of the content tells of. */
static void
test_attributes_alone(void **state)
{
	struct timespec t[2];
	struct world w;
	struct stat st;

	enter(&w, state);
	touch("a");
	world_backup(&w);
	assert_int_equal(stat("a", &st), 0);
	assert_int_equal(chmod("a", 0600), 0);
	t[0] = st.st_atim;
	t[1] = st.st_mtim;
	assert_int_equal(utimensat(AT_FDCWD, "a", t, 0), 0);
	world_backup(&w);
	check_world(&w);
	if (setxattr("a", "user.neap", "1", 1, 0) == 0) {
		world_backup(&w);
		check_world(&w);
		assert_int_equal(setxattr("a", "user.neap", "2", 1, 0), 0);
		world_backup(&w);
		check_world(&w);
	}
	leave(&w);
}

/* A folder becomes a file of the same name: its names go with it. */
static void
test_a_folder_becomes_a_file(void **state)
{
	struct world w;

	enter(&w, state);
	assert_int_equal(mkdir("x", 0755) + mkdir("x/y", 0755), 0);
	touch("x/y/z");
	world_backup(&w);
	assert_int_equal(unlink("x/y/z") + rmdir("x/y") + rmdir("x"), 0);
	touch("x");
	world_backup(&w);
	check_world(&w);
	assert_int_equal(object_of(&w, "x/y"), 0);
	leave(&w);
}

/* ---- all of it, at random ---- */

static void
name_of(char out[32], struct dice *d)
{
	static const char *const dirs[] = {"", "d1/", "d2/", "d1/d3/"};

	snprintf(out, 32, "%s%c", dirs[dice_below(d, 4)],
	    (int)('a' + dice_below(d, 6)));
}

/* What cannot be done just now is not done. */
static void
change(struct dice *d)
{
	char a[32], b[32];

	name_of(a, d);
	name_of(b, d);
	switch (dice_below(d, 9)) {
	case 0:
	case 1:
		close(open(a, O_CREAT | O_WRONLY | O_NONBLOCK, 0640));
		break;
	case 2:
		(void)!rename(a, b);
		break;
	case 3:
		(void)!link(a, b);
		break;
	case 4:
		(void)!unlink(a);
		break;
	case 5:
		(void)!symlink(b, a);
		break;
	case 6:
		(void)!chmod(a, dice_below(d, 2) ? 0600 : 0644);
		break;
	case 7:
		(void)!truncate(a, (off_t)dice_below(d, 9000));
		break;
	default:
		(void)!mkfifo(a, 0600);
		break;
	}
}

static void
test_many_backups_of_random_changes(void **state)
{
	struct dice d = {.x = 7};
	struct world w;

	enter(&w, state);
	assert_int_equal(mkdir("d1", 0755) + mkdir("d2", 0755), 0);
	assert_int_equal(mkdir("d1/d3", 0755), 0);
	for (int i = 0; i < 25; i++) {
		for (int k = 0; k < 12; k++)
			change(&d);
		if (i % 5 == 4) /* a folder moves, with all that it holds */
			(void)!(rename("d2", "t") + rename("d1/d3", "d2") +
				rename("t", "d1/d3"));
		world_backup(&w);
		check_world(&w);
	}
	leave(&w);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_nothing_changed_writes_nothing),
	    TEST(test_a_rename_keeps_the_object),
	    TEST(test_swapped_names),
	    TEST(test_hard_links_are_one_object),
	    TEST(test_a_reused_inode_is_another_object),
	    TEST(test_another_type_is_another_object),
	    TEST(test_attributes_alone),
	    TEST(test_a_folder_becomes_a_file),
	    TEST(test_many_backups_of_random_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

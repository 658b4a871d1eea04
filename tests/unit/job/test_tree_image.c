/* SPDX-License-Identifier: Apache-2.0 */
/* A volume that is one image: one object, whatever paths lie on it. */
#include "tests/unit/job/world.h"

#include <errno.h>

#include "agent/job/tree_image.h"
#include "tests/unit/store/place.h"

#define SIZE (10 * WORLD_BLOCK + 512)

/* A provider whose view is a file of the test's. */
struct fake {
	struct snap_volume base;
	char *file;
};

static void
fake_close(struct snap_volume *v)
{
	struct fake *f = (struct fake *)v;

	free(v->id);
	free(v->fs_uuid);
	free(v->fs_type);
	free(v->root);
	free(v->image.name);
	free(v->image.label);
	free(v->image.mounted_at);
	free(f->file);
	free(f);
}

static int
fake_view(struct snap_volume *v, const char *name, struct err *e)
{
	int fd = open(((struct fake *)v)->file, O_RDONLY | O_CLOEXEC);

	(void)name;
	return fd < 0 ? err_sys(e, errno, "open") : fd;
}

static const struct snap_ops fake_ops = {
    .name = "fake", .caps = SNAP_IMAGE, .close = fake_close, .view = fake_view};

static struct snap_volume *
fake_new(const struct world *w, const char *name, const char *mounted_at)
{
	struct fake *f = mem_new(sizeof *f);

	f->base.ops = &fake_ops;
	f->base.id = mem_printf("fake:%s", name);
	f->base.fs_uuid = mem_str("");
	f->base.fs_type = mem_str("");
	f->base.root = mem_str("/dev/fake");
	f->base.image.name = mem_str(name);
	f->base.image.label = mem_str("");
	f->base.image.mounted_at = mounted_at ? mem_str(mounted_at) : NULL;
	f->file = fs_join(w->dir, "image");
	return &f->base;
}

static void
resize(const struct world *w, off_t size)
{
	SCOPED_FREE char *path = fs_join(w->dir, "image");
	SCOPED_FD int fd = open(path, O_CREAT | O_RDWR, 0600);

	assert_int_equal(ftruncate(fd, size), 0);
	if (size >= 4)
		assert_int_equal(pwrite(fd, "noise", 4, 0), 4);
}

static void
begin(struct world *w, void **state, const char *name, const char *mounted_at)
{
	world_begin(w, *state);
	snap_close(w->volume.v);
	w->volume.v = fake_new(w, name, mounted_at);
	resize(w, SIZE);
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
look_up(struct world *w, const char *path, uint64_t *object, struct object *o)
{
	struct map_view *v = view_of(w);
	struct err e = ERR_NONE;

	assert_int_equal(map_view_path(v, path, object, &e), 1);
	assert_int_equal(map_view_object(v, *object, o, &e), 1);
	map_view_close(v);
}

static void
test_it_is_one_file_of_the_tree(void **state)
{
	SCOPED_OBJECT struct object image = {0}, top = {0}, point = {0};
	struct world w;
	uint64_t object;

	begin(&w, state, "vg/lv", "/tmp");
	world_walk(&w);
	assert_int_equal(w.tree.files, 1);
	assert_true(w.tree.file[0].image);
	assert_int_equal(w.tree.file[0].size, SIZE);
	world_commit(&w);
	look_up(&w, TREE_IMAGE_DIR "/vg-lv.img", &object, &image);
	assert_int_equal(image.type, OBJECT_IMAGE);
	assert_int_equal(image.size, SIZE);
	assert_int_equal(image.sector, 512);
	look_up(&w, TREE_IMAGE_DIR, &object, &top);
	assert_int_equal(top.type, OBJECT_DIR);
	assert_int_equal(top.mode, 0700);
	look_up(&w, "/tmp", &object, &point);
	assert_int_equal(point.type, OBJECT_DIR);
	world_end(&w);
}

/* Two paths on it, and it is read once. */
static void
test_two_paths_are_one_image(void **state)
{
	struct plan_path two[2];
	struct world w;

	begin(&w, state, "a", NULL);
	two[0] = two[1] = w.path;
	w.plan.path = two;
	w.plan.paths = 2;
	world_walk(&w);
	assert_int_equal(w.tree.files, 1);
	world_abandon(&w);
	world_end(&w);
}

/* Red when its record is written anew each time, or grows a new object. */
static void
test_it_lives_on(void **state)
{
	SCOPED_OBJECT struct object a = {0}, b = {0};
	uint64_t first, second;
	struct world w;

	begin(&w, state, "a", NULL);
	world_backup(&w);
	look_up(&w, TREE_IMAGE_DIR "/a.img", &first, &a);
	/* The root folder is others' to change. */
	assert_in_range(world_backup(&w), 0, 1);
	resize(&w, 2 * SIZE);
	assert_in_range(world_backup(&w), 1, 2);
	look_up(&w, TREE_IMAGE_DIR "/a.img", &second, &b);
	assert_int_equal(first, second);
	assert_int_equal(b.size, 2 * SIZE);
	world_end(&w);
}

/* vg/lv and vg-lv: one of them would hide the other. */
static void
test_two_images_of_one_name_are_refused(void **state)
{
	struct plan_volume two[2];
	struct plan_path paths[2];
	struct err e = ERR_NONE;
	struct world w;

	begin(&w, state, "vg/lv", NULL);
	two[0] = two[1] = w.volume;
	two[1].v = fake_new(&w, "vg-lv", NULL);
	two[1].number++;
	paths[0] = paths[1] = w.path;
	paths[1].volume = 1;
	w.plan = (struct plan){
	    .volume = two, .volumes = 2, .path = paths, .paths = 2};
	w.tree =
	    (struct tree){.blockmap = w.blockmap, .next_object = w.next_object};
	w.previous = NULL;
	OK(map_builder_new(
	    &w.tree.map, w.store.repo, &w.store.keys, w.dir, &e));
	OK(blockmap_begin(w.blockmap, &e));
	OK(tree_open(&w.tree, &w.plan, "neap-docs-x", &e));
	FAILS(-EPERM, tree_walk(&w.tree, &e));
	assert_text_has(e.text, "vg-lv.img");
	world_abandon(&w);
	snap_close(two[1].v);
	world_end(&w);
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_it_is_one_file_of_the_tree),
	    TEST(test_two_paths_are_one_image),
	    TEST(test_it_lives_on),
	    TEST(test_two_images_of_one_name_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

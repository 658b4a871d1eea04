/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is read in advance of a comparison: all that it will read, and not what
 * it will skip. Counted at the device, after a mount, so nothing is cached.
 */
#include "tests/unit/track/btrfs_work.h"

#include "kmod-free/track/btrfs_pair.h"
#include "kmod-free/track/btrfs_warm.h" /* tsan */
#include "kmod-free/track/tracker_all.h"

#define FILE_BYTES (48ull << 20)
#define FILES 4u

static uint64_t
device_reads(void)
{
	SCOPED_FREE char *path = NULL;
	char source[64] = "", name[32];
	unsigned long long reads = 0;
	FILE *f;

	f = popen("findmnt -no SOURCE --target \"$NEAP_TEST_DIR\"", "r");
	assert_non_null(f);
	assert_non_null(fgets(source, sizeof source, f));
	pclose(f);
	assert_int_equal(sscanf(source, "/dev/%31s", name), 1);
	path = mem_printf("/sys/block/%s/stat", name);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu", &reads), 1);
	fclose(f);
	return reads;
}

/* Every other block anew: where they lie, each is an extent of its own. */
static void
scatter(int fd, uint64_t bytes)
{
	static uint8_t block[4096];

	for (uint64_t at = 0; at < bytes; at += 2 * sizeof block) {
		memset(block, (int)(at >> 13), sizeof block);
		assert_int_equal(
		    pwrite(fd, block, sizeof block, (off_t)at), sizeof block);
	}
	fsync(fd);
}

static void
make(const char *name)
{
	SCOPED_FD int fd =
	    openat(workfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)FILE_BYTES), 0);
	scatter(fd, FILE_BYTES);
}

static void
change(const char *name)
{
	SCOPED_FD int fd = openat(workfd, name, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	scatter(fd, FILE_BYTES);
}

static int
warm_up(const struct btrfs_pair *p, struct extents *out, struct err *e)
{
	struct btrfs_warm *w = btrfs_warm_start(p);

	(void)out;
	(void)e;
	btrfs_warm_wait(w);
	btrfs_warm_end(w);
	return 0;
}

static int
stop_at_once(const struct btrfs_pair *p, struct extents *out, struct err *e)
{
	(void)out;
	(void)e;
	btrfs_warm_end(btrfs_warm_start(p));
	return 0;
}

static const struct tracker_pair *
cold(struct snap_volume **v, struct tracker_pair *pair)
{
	end_work(*v);
	remount();
	open_work(v);
	pair->volume = *v;
	return pair;
}

/* Reads of `fn`, or of the tracker, over the pair. */
static uint64_t
reads_of(const struct tracker_pair *p, btrfs_pair_fn *fn)
{
	struct tracker_answer a = {0};
	uint64_t before = device_reads();
	struct err e = ERR_NONE;

	must(fn ? btrfs_pair_compare(p, fn, &a, &e)
		: tracker_changed(&tracker_btrfs_send, p, &a, &e),
	    &e);
	tracker_answer_fini(&a);
	return device_reads() - before;
}

static void
test_reads_what_is_compared_and_no_more(void **state)
{
	struct snap_volume *v;
	struct tracker_pair pair = {NULL, "neap-w-1", "neap-w-2", 0};
	struct err e = ERR_NONE;
	char name[] = "f0";
	uint64_t in_all, warmed, left, still;

	(void)state;
	NEED_BTRFS();
	setenv("NEAP_TEST_DIR", loop.dir, 1);
	v = begin_work("warm");
	for (; name[1] < '0' + (char)FILES; name[1]++)
		make(name);
	must(snap_create(v, "neap-w-1", &e), &e);
	change("f2");
	must(snap_create(v, "neap-w-2", &e), &e);
	must(snap_create(v, "neap-w-3", &e), &e);

	in_all = reads_of(cold(&v, &pair), NULL);
	warmed = reads_of(cold(&v, &pair), warm_up);
	left = reads_of(&pair, NULL);
	reads_of(&pair, stop_at_once);
	pair.from = "neap-w-2";
	pair.to = "neap-w-3";
	still = reads_of(cold(&v, &pair), warm_up);
	print_message("%s: %llu reads to compare; %llu in advance leave %llu; "
		      "%llu where nothing changed\n",
	    config->name, (unsigned long long)in_all,
	    (unsigned long long)warmed, (unsigned long long)left,
	    (unsigned long long)still);
	assert_true(left * 8 < in_all);
	assert_true(still < 10);
	must(snap_remove(v, "neap-w-1", &e), &e);
	must(snap_remove(v, "neap-w-2", &e), &e);
	must(snap_remove(v, "neap-w-3", &e), &e);
	end_work(v);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_reads_what_is_compared_and_no_more),
	};
	int failed = 0;

	for (size_t i = 0; i < MEM_COUNT(configs); i++) {
		config = &configs[i];
		failed += cmocka_run_group_tests_name(
		    config->name, tests, btrfs_setup, btrfs_teardown);
	}
	return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both btrfs trackers in situations made on purpose, against the bytes of the
 * snapshots. Random ones are in test_tracker_random.c.
 */
#include "tests/unit/track/differential.h"

#include <pthread.h>
#include <stdatomic.h>

#include "agent/core/clock.h"
#include "tests/unit/track/rounds.h"

/* Ask both; neither may name more than nothing, where nothing differs. */
static uint64_t
named_by_both(struct snap_volume *v, const char *from, const char *to)
{
	struct count c = {0};

	ask_both(v, from, to, false, &c);
	return c.named[0] + c.named[1];
}

static void
remove_both(struct snap_volume *v, const char *from, const char *to)
{
	struct err e = ERR_NONE;

	must(snap_remove(v, from, &e), &e);
	must(snap_remove(v, to, &e), &e);
	end_work(v);
}

/* Nothing changed must be an empty answer: it is what makes a backup cheap. */
static void
test_no_change_names_nothing(void **state)
{
	struct snap_volume *v;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	v = begin_work("still");
	make_file("./a", 0);
	must(snap_create(v, "neap-s-1", &e), &e);
	must(snap_create(v, "neap-s-2", &e), &e);
	assert_int_equal(named_by_both(v, "neap-s-1", "neap-s-2"), 0);
	remove_both(v, "neap-s-1", "neap-s-2");
}

static void
test_auto_takes_extents(void **state)
{
	const struct tracker_ops *t = NULL;
	struct snap_volume *v, *none = NULL;
	struct err e = ERR_NONE;

	(void)state;
	must(snap_open(&none, "none", "/", &e), &e);
	must(tracker_pick(&t, "auto", none, &e), &e);
	assert_string_equal(t->name, "scan");
	assert_int_equal(tracker_pick(&t, "btrfs-send", none, &e), -EOPNOTSUPP);
	assert_int_equal(tracker_pick(&t, "zfs", none, &e), -EINVAL);
	snap_close(none);
	NEED_BTRFS();
	v = begin_work("auto");
	must(tracker_pick(&t, "auto", v, &e), &e);
	assert_string_equal(t->name, "btrfs-extents");
	end_work(v);
}

/* Bytes that were shared from elsewhere carry the age, size and encoding of
 * what was there before: only their place tells. */
static void
test_shared_ranges_are_seen(void **state)
{
	struct file_clone_range r = {.src_length = 4ul * BLOCK};
	SCOPED_FD int a = -1, b = -1;
	struct snap_volume *v;
	struct count c = {0};
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	v = begin_work("shared");
	a = openat(workfd, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	b = openat(workfd, "b", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	write_at(a, "a", 0, 32ul * BLOCK);
	write_at(b, "b", 0, 32ul * BLOCK);
	syncfs(workfd);
	must(snap_create(v, "neap-c-1", &e), &e);
	r.src_fd = a;
	r.src_offset = 16ul * BLOCK; /* of itself, further up */
	assert_int_equal(ioctl(a, FICLONERANGE, &r), 0);
	r.src_offset = r.dest_offset =
	    8ul * BLOCK; /* of another's same place */
	assert_int_equal(ioctl(b, FICLONERANGE, &r), 0);
	must(snap_create(v, "neap-c-2", &e), &e);
	ask_both(v, "neap-c-1", "neap-c-2", false, &c);
	assert_true(c.differing >= 8);
	for (size_t i = 0; i < TRACKERS; i++)
		assert_true(c.named[i] < c.blocks);
	remove_both(v, "neap-c-1", "neap-c-2");
}

/* An extent of which the first half is as before: the rest of it has a place of
 * its own. */
static void
test_half_an_extent(void **state)
{
	struct file_clone_range r = {.src_length = 4ul * BLOCK};
	SCOPED_FD int a = -1, b = -1;
	struct snap_volume *v;
	struct count c = {0};
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	v = begin_work("half");
	a = openat(workfd, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	b = openat(workfd, "b", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	write_at(a, "a", 0, 4ul * BLOCK);
	fsync(a);
	r.src_fd = a;
	assert_int_equal(ioctl(b, FICLONERANGE, &r), 0);
	write_at(a, "a", 2ul * BLOCK, 2ul * BLOCK);
	must(snap_create(v, "neap-h-1", &e), &e);
	r.src_fd = b;
	assert_int_equal(ioctl(a, FICLONERANGE, &r), 0);
	must(snap_create(v, "neap-h-2", &e), &e);
	ask_both(v, "neap-h-1", "neap-h-2", false, &c);
	assert_int_equal(c.differing, 2);
	assert_int_equal(c.named[1], 2);
	assert_true(strstr(config->options, "compress") || c.placed == 1);
	remove_both(v, "neap-h-1", "neap-h-2");
}

/* The older one missing, or not the older one: never an empty answer. */
static void
test_wrong_pairs_are_refused(void **state)
{
	struct tracker_answer a = {0};
	struct snap_volume *v;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	v = begin_work("pairs");
	must(snap_create(v, "neap-p-1", &e), &e);
	make_file("./a", 0);
	must(snap_create(v, "neap-p-2", &e), &e);
	for (size_t i = 0; i < TRACKERS; i++) {
		const char *t = trackers[i];

		assert_int_equal(
		    ask_one(v, t, "neap-p-2", "neap-p-1", &a, &e), -ESTALE);
		assert_int_equal(
		    ask_one(v, t, "neap-p-1", "neap-p-1", &a, &e), -ESTALE);
		assert_int_equal(
		    ask_one(v, t, "neap-p-0", "neap-p-1", &a, &e), -ENOENT);
	}
	remove_both(v, "neap-p-1", "neap-p-2");
}

/* The top level holds the folder of snapshots itself: they must not be in its
 * answers, nor be in their way. */
static void
test_top_level_as_a_volume(void **state)
{
	struct snap_volume *v = NULL;
	struct count c = {0};
	struct err e = ERR_NONE;
	char from[64], to[64];

	(void)state;
	NEED_BTRFS();
	snprintf(work, sizeof work, "%s/folder", loop.dir);
	assert_int_equal(mkdir(work, 0700), 0);
	workfd = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(snap_open(&v, "btrfs", loop.dir, &e), &e);
	random_ops_some(20);
	must(snap_create(v, "neap-t-0", &e), &e);
	for (int i = 0; i < 4; i++) {
		snprintf(from, sizeof from, "neap-t-%d", i);
		snprintf(to, sizeof to, "neap-t-%d", i + 1);
		random_ops_some(20);
		must(snap_create(v, to, &e), &e);
		ask_both(v, from, to, false, &c);
		must(snap_remove(v, from, &e), &e);
	}
	must(snap_remove(v, to, &e), &e);
	end_work(v);
}

/* The same number, another generation, another file. */
static void
test_inode_number_used_again(void **state)
{
	struct snap_volume *v;
	struct stat before, after;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	v = begin_work("reuse");
	make_file("./keep", 0);
	make_file("./last", 0);
	assert_int_equal(fstatat(workfd, "last", &before, 0), 0);
	must(snap_create(v, "neap-i-1", &e), &e);
	assert_int_equal(unlinkat(workfd, "last", 0), 0);
	end_work(v);
	remount();
	open_work(&v);
	make_file("./last", 0);
	assert_int_equal(fstatat(workfd, "last", &after, 0), 0);
	if (before.st_ino != after.st_ino)
		print_message("the number was not used again\n");
	must(snap_create(v, "neap-i-2", &e), &e);
	/* "keep" is the same. */
	assert_int_equal(named_by_both(v, "neap-i-1", "neap-i-2"), 0);
	remove_both(v, "neap-i-1", "neap-i-2");
}

static void
clone_within(int fd, uint64_t from, uint64_t len, uint64_t to)
{
	struct file_clone_range r = {
	    .src_fd = fd,
	    .src_offset = from,
	    .src_length = len,
	    .dest_offset = to,
	};

	assert_int_equal(ioctl(fd, FICLONERANGE, &r), 0);
}

/*
 * Without NO_HOLES a snapshot may hold a size that lags behind the file's, here
 * by space that was preallocated before a mount, and bytes behind it. When a
 * block is written and the size catches up, `btrfs send` names that block alone
 * (Linux 6.18; what `btrfs receive` makes of the full stream is wrong, too).
 */
static void
test_size_that_lagged(void **state)
{
	struct snap_volume *v;
	struct err e = ERR_NONE;
	struct count c = {0};
	int fd;

	(void)state;
	NEED_BTRFS();
	v = begin_work("lag");
	buf_clear(&random_ops_journal);
	fd = openat(workfd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	write_at(fd, "f", 0, 24576);
	assert_int_equal(ftruncate(fd, 101283), 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 69632, 77825), 0);
	write_at(fd, "f", 45056, 8192);
	write_at(fd, "f", 57344, 8192);
	close(fd);
	end_work(v);
	remount();
	open_work(&v);
	fd = openat(workfd, "f", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fallocate(fd, 0, 81920, 81921), 0);
	syncfs(fd);
	clone_within(fd, 16384, 49152, 86016);
	must(snap_create(v, "neap-l-1", &e), &e);
	write_at(fd, "f", 131072, 4096);
	close(fd);
	must(snap_create(v, "neap-l-2", &e), &e);
	ask_both(v, "neap-l-1", "neap-l-2", false, &c);
	remove_both(v, "neap-l-1", "neap-l-2");
}

/* ---- files of many tree blocks ---- */

#define MANY_BYTES (12ull << 20)

/* Each other block, backwards: extents of one block each, in some twenty tree
 * blocks of 16 KiB. */
static int
make_scattered(const char *name)
{
	int fd = openat(workfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	write_at(fd, name, 0, MANY_BYTES);
	fsync(fd);
	for (uint64_t at = MANY_BYTES; at >= 2ul * BLOCK; at -= 2ul * BLOCK)
		write_at(fd, name, at - BLOCK, BLOCK);
	fsync(fd);
	buf_clear(&random_ops_journal);
	return fd;
}

static void
punch(int fd, uint64_t off, uint64_t len)
{
	say("punch %llu+%llu", (unsigned long long)off,
	    (unsigned long long)len);
	assert_int_equal(
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)off, (off_t)len),
	    0);
}

/* Where whole tree blocks go, no younger one tells of it; and the file may hold
 * as much as before, elsewhere. */
static void
test_tree_blocks_that_went(void **state)
{
	struct snap_volume *v;
	struct err e = ERR_NONE;
	struct count c = {0};
	int fd;

	(void)state;
	NEED_BTRFS();
	v = begin_work("went");
	fd = make_scattered("f");
	punch(fd, 0, 2ul << 20);
	must(snap_create(v, "neap-g-1", &e), &e);
	punch(fd, 4ul << 20, 2ul << 20);
	write_at(fd, "f", 0, 2ul << 20);
	must(snap_create(v, "neap-g-2", &e), &e);
	ask_both(v, "neap-g-1", "neap-g-2", false, &c);
	assert_true(c.differing >= 768);
	assert_int_equal(c.named[1], c.differing);
	/* Reads in the order of the disk live on it. */
	assert_true(strstr(config->options, "compress") || c.placed > 0);
	must(snap_remove(v, "neap-g-1", &e), &e);
	/* The same with nothing in its place, and at the end. */
	memset(&c, 0, sizeof c);
	punch(fd, 8ul << 20, 1ul << 20);
	assert_int_equal(ftruncate(fd, 10 << 20), 0);
	close(fd);
	must(snap_create(v, "neap-g-3", &e), &e);
	ask_both(v, "neap-g-2", "neap-g-3", false, &c);
	assert_int_equal(c.named[1], c.differing);
	must(snap_remove(v, "neap-g-2", &e), &e);
	must(snap_remove(v, "neap-g-3", &e), &e);
	end_work(v);
}

/* One of the things that a database does to a large file, somewhere. */
static void
scattered_op(int fd)
{
	uint64_t at = any(MANY_BYTES / BLOCK - 1024) * BLOCK;
	uint64_t len = (1 + any(1024)) * BLOCK;

	switch (any(8)) {
	case 0:
		punch(fd, at, len);
		break;
	case 1:
		say("preallocate %llu+%llu", (unsigned long long)at,
		    (unsigned long long)len);
		assert_int_equal(fallocate(fd, 0, (off_t)at, (off_t)len), 0);
		break;
	case 2:
		say("truncate %llu and back", (unsigned long long)(at + len));
		assert_int_equal(ftruncate(fd, (off_t)(at + len)), 0);
		assert_int_equal(ftruncate(fd, MANY_BYTES), 0);
		break;
	case 3:
		say("clone %llu+%llu to 0", (unsigned long long)at,
		    (unsigned long long)len);
		if (at >= len)
			clone_within(fd, at, len, 0);
		break;
	default:
		write_at(fd, "f", at, BLOCK * (1 + any(3)));
	}
}

static void
test_random_in_a_file_of_many_tree_blocks(void **state)
{
	uint64_t rounds = from_env("TRACK_ROUNDS", SANITIZED ? 2 : 8);
	uint64_t seed = from_env("TRACK_SEED", (uint64_t)clock_now_s());
	struct snap_volume *v;
	struct err e = ERR_NONE;
	struct count c = {0};
	char from[64], to[64];
	int fd;

	(void)state;
	NEED_BTRFS();
	print_message("TRACK_SEED=%llu TRACK_ROUNDS=%llu\n",
	    (unsigned long long)seed, (unsigned long long)rounds);
	random_ops_seed(seed);
	v = begin_work("many");
	fd = make_scattered("f");
	must(snap_create(v, "neap-m-0", &e), &e);
	for (uint64_t i = 0; i < rounds; i++) {
		snprintf(
		    from, sizeof from, "neap-m-%llu", (unsigned long long)i);
		snprintf(
		    to, sizeof to, "neap-m-%llu", (unsigned long long)i + 1);
		buf_clear(&random_ops_journal);
		for (uint64_t n = 1 + any(6); n > 0; n--)
			scattered_op(fd);
		must(snap_create(v, to, &e), &e);
		ask_both(v, from, to, false, &c);
		must(snap_remove(v, from, &e), &e);
	}
	report(&c);
	close(fd);
	must(snap_remove(v, to, &e), &e);
	end_work(v);
}

/* An extent that begins in one stripe of a file and reaches into the next, and
 * was cut at the border: the rest is the older one's. */
static void
test_extents_across_stripes(void **state)
{
	uint64_t mib = 1ul << 20, border = 64 * mib;
	struct snap_volume *v;
	struct err e = ERR_NONE;
	struct count c = {0};
	int fd;

	(void)state;
	NEED_BTRFS();
	/* 72 MiB are compared, which takes long, and alike on each. */
	if (config != configs)
		return;
	v = begin_work("stripes");
	fd = openat(workfd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	write_at(fd, "f", 0, 6 * mib);
	fsync(fd);
	for (uint64_t at = 6 * mib; at < border + 8 * mib; at += 4 * mib)
		clone_within(fd, 2 * mib, 4 * mib, at);
	must(snap_create(v, "neap-x-1", &e), &e);
	write_at(fd, "f", border - BLOCK, BLOCK);
	close(fd);
	must(snap_create(v, "neap-x-2", &e), &e);
	ask_both(v, "neap-x-1", "neap-x-2", false, &c);
	assert_int_equal(c.differing, 1);
	assert_int_equal(c.named[1], 1);
	remove_both(v, "neap-x-1", "neap-x-2");
}

/* As far out as a file can reach, with nothing on the way there. */
static void
test_far_out(void **state)
{
	static const char *const name[] = {"empty", "new"};
	struct tracker_answer a = {0};
	uint64_t at = 1ull << 61;
	struct snap_volume *v;
	struct err e = ERR_NONE;
	struct stat st;

	(void)state;
	NEED_BTRFS();
	v = begin_work("far");
	close(openat(workfd, "empty", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	must(snap_create(v, "neap-f-1", &e), &e);
	for (size_t i = 0; i < MEM_COUNT(name); i++) {
		SCOPED_FD int fd =
		    openat(workfd, name[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		write_at(fd, name[i], at, BLOCK);
	}
	must(snap_create(v, "neap-f-2", &e), &e);
	must(ask_one(v, "btrfs-extents", "neap-f-1", "neap-f-2", &a, &e), &e);
	assert_int_equal(fstatat(workfd, "empty", &st, 0), 0);
	assert_true(extents_contain(&a.ranges, st.st_ino, at, BLOCK));
	tracker_answer_fini(&a);
	remove_both(v, "neap-f-1", "neap-f-2");
}

static atomic_bool balanced;

static void *
balance_often(void *fd)
{
	for (int i = 0; i < 4; i++)
		balance(*(int *)fd);
	balanced = true;
	return NULL;
}

/* While a balance moves extents the answer is right, or it is "stale". */
static void
test_balance_meanwhile(void **state)
{
	unsigned asked = 0, stale = 0;
	struct count c = {0};
	struct snap_volume *v;
	struct err e = ERR_NONE;
	pthread_t t;

	(void)state;
	NEED_BTRFS();
	v = begin_work("balance");
	for (int i = 0; i < 20; i++)
		op_make();
	must(snap_create(v, "neap-b-1", &e), &e);
	for (int i = 0; i < 40; i++)
		op_overwrite();
	must(snap_create(v, "neap-b-2", &e), &e);
	balanced = false;
	assert_int_equal(pthread_create(&t, NULL, balance_often, &workfd), 0);
	while (!balanced) {
		stale += ask_both(v, "neap-b-1", "neap-b-2", true, &c);
		asked += TRACKERS;
	}
	assert_int_equal(pthread_join(t, NULL), 0);
	print_message(
	    "beside a balance: %u right, %u stale\n", asked - stale, stale);
	/* And when it is over. */
	ask_both(v, "neap-b-1", "neap-b-2", false, &c);
	remove_both(v, "neap-b-1", "neap-b-2");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_auto_takes_extents),
	    cmocka_unit_test(test_no_change_names_nothing),
	    cmocka_unit_test(test_shared_ranges_are_seen),
	    cmocka_unit_test(test_half_an_extent),
	    cmocka_unit_test(test_wrong_pairs_are_refused),
	    cmocka_unit_test(test_top_level_as_a_volume),
	    cmocka_unit_test(test_balance_meanwhile),
	    cmocka_unit_test(test_tree_blocks_that_went),
	    cmocka_unit_test(test_random_in_a_file_of_many_tree_blocks),
	    cmocka_unit_test(test_extents_across_stripes),
	    cmocka_unit_test(test_far_out),
	    cmocka_unit_test(test_inode_number_used_again),
	    cmocka_unit_test(test_size_that_lagged),
	};
	int failed = 0;

	for (size_t i = 0; i < MEM_COUNT(configs); i++) {
		config = &configs[i];
		failed += cmocka_run_group_tests_name(
		    config->name, tests, btrfs_setup, btrfs_teardown);
	}
	return failed;
}

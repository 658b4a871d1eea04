/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both btrfs trackers against the truth: rounds of random file operations on a
 * btrfs of its own, with balance, resize, discard and remount before, between
 * and beside; after each, every 4 KiB block that differs between the two
 * snapshots must be named by both.
 *
 *	TRACK_ROUNDS=70  of each of three ways to make a btrfs
 *	TRACK_SEED=1     (a failure prints the operations of its round)
 */
#include "tests/unit/track/differential.h"

#include <pthread.h>

#include "agent/core/clock.h"
#include "tests/unit/track/rounds.h"

#define ROUNDS (SANITIZED ? 12 : 70)

/* ---- what happens to the file system as a whole ---- */

struct upheaval {
	const char *what; /* NULL: none */
	unsigned mib;
	int fd, rc;
};

static struct upheaval
choose_upheaval(unsigned one_in)
{
	static const char *const what[] = {
	    "balance", "balance", "resize", "resize", "discard"};
	struct upheaval u = {.fd = workfd, .mib = 400 + (unsigned)any(624)};

	if (any(one_in) == 0)
		u.what = what[any(MEM_COUNT(what))];
	if (any(3) == 0)
		u.mib = LOOP_MIB;
	return u;
}

static void *
upheaval_run(void *arg)
{
	struct upheaval *u = arg;

	if (strcmp(u->what, "balance") == 0)
		u->rc = balance(u->fd);
	else if (strcmp(u->what, "resize") == 0)
		u->rc = resize(u->fd, u->mib);
	else
		u->rc = discard(u->fd);
	return NULL;
}

static unsigned upheavals, remounts, stale, given_up;

static void
upheaval_now(const char *when)
{
	struct upheaval u = choose_upheaval(30);

	if (u.what == NULL)
		return;
	upheaval_run(&u);
	say("%s: %s (%u MiB): %d", when, u.what, u.mib, u.rc);
	upheavals += u.rc == 0;
}

/* While it goes on, "stale" is an answer as well. */
static void
upheaval_beside(
    struct snap_volume *v, const char *from, const char *to, struct count *c)
{
	struct upheaval u = choose_upheaval(30);
	pthread_t t;

	if (u.what == NULL)
		return;
	say("meanwhile: %s (%u MiB)", u.what, u.mib);
	SURE(pthread_create(&t, NULL, upheaval_run, &u) == 0);
	for (int i = 0; i < 3; i++)
		stale += ask_both(v, from, to, true, c);
	SURE(pthread_join(t, NULL) == 0);
	upheavals += u.rc == 0;
}

/* Remove the newest files and folders that can be, so that what is made after
 * the mount gets their numbers. */
static void
remount_and_use_numbers_again(struct snap_volume **v, const char *from)
{
	struct things files = {0};
	struct stat st;
	struct err e = ERR_NONE;
	ino_t newest = 0;

	collect(workfd, ".", S_IFREG, &files);
	for (size_t i = 0; i < files.n; i++)
		if (fstatat(workfd, files.v[i], &st, 0) == 0 &&
		    st.st_ino > newest)
			newest = st.st_ino;
	for (size_t i = 0; i < files.n; i++)
		if (fstatat(workfd, files.v[i], &st, 0) == 0 &&
		    st.st_ino + 4 > newest)
			unlinkat(workfd, files.v[i], 0);
	things_fini(&files);
	say("unlink inodes from %llu on, and mount anew",
	    (unsigned long long)newest - 3);
	fs_close_scope(&snapshot_view);
	end_work(*v);
	remount();
	open_work(v);
	if (from[0] != '\0') {
		snapshot_view = snap_view(*v, from, &e);
		must(snapshot_view, &e);
	}
	for (int i = 0; i < 4; i++)
		op_make();
	remounts++;
}

/* ---- the rounds ---- */

struct round {
	struct snap_volume *v;
	char from[64], to[64];
	uint64_t seed;
};

/* The kernel has given the file system up: another one. */
static void
begin_anew(struct round *r)
{
	fs_close_scope(&snapshot_view);
	snapshot_view = -1;
	r->from[0] = '\0';
	end_work(r->v);
	btrfs_teardown(NULL);
	btrfs_setup(NULL);
	r->v = begin_work("random");
	given_up++;
}

static void
one_round(struct round *r, struct count *c)
{
	struct err e = ERR_NONE;

	random_ops_some(1 + (unsigned)any(30));
	say("so far in %s of TRACK_SEED=%llu", r->to,
	    (unsigned long long)r->seed);
	if (any(25) == 0)
		remount_and_use_numbers_again(&r->v, r->from);
	upheaval_now("between");
	if (forced_read_only())
		return;
	must(snap_create(r->v, r->to, &e), &e);
	if (r->from[0] != '\0') {
		upheaval_now("after");
		upheaval_beside(r->v, r->from, r->to, c);
		ask_both(r->v, r->from, r->to, false, c);
		if (forced_read_only())
			return;
		must(snap_remove(r->v, r->from, &e), &e);
		fs_close_scope(&snapshot_view);
	}
	snapshot_view = snap_view(r->v, r->to, &e);
	must(snapshot_view, &e);
	strcpy(r->from, r->to);
}

static void
test_random_operations(void **state)
{
	uint64_t rounds = from_env("TRACK_ROUNDS", ROUNDS);
	uint64_t seed = from_env("TRACK_SEED", (uint64_t)clock_now_s());
	struct count c = {0};
	struct round r = {0};
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	print_message("TRACK_SEED=%llu TRACK_ROUNDS=%llu\n",
	    (unsigned long long)seed, (unsigned long long)rounds);
	r.seed = seed;
	random_ops_seed(seed);
	r.v = begin_work("random");
	for (uint64_t i = 0; i <= rounds; i++) {
		snprintf(
		    r.to, sizeof r.to, "neap-r-%llu", (unsigned long long)i);
		one_round(&r, &c);
		if (forced_read_only())
			begin_anew(&r);
	}
	fs_close_scope(&snapshot_view);
	snapshot_view = -1;
	if (r.from[0] != '\0')
		must(snap_remove(r.v, r.from, &e), &e);
	end_work(r.v);
	report(&c);
	print_message("%u upheavals, %u remounts, %u stale, %u file systems "
		      "given up by the kernel\n",
	    upheavals, remounts, stale, given_up);
	assert_true(c.differing > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_operations),
	};
	int failed = 0;

	for (size_t i = 0; i < MEM_COUNT(configs); i++) {
		config = &configs[i];
		upheavals = remounts = stale = given_up = 0;
		failed += cmocka_run_group_tests_name(
		    config->name, tests, btrfs_setup, btrfs_teardown);
	}
	return failed;
}

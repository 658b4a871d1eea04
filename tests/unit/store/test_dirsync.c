/* SPDX-License-Identifier: Apache-2.0 */
/* Which folders of a repository a sync makes durable, by what the kernel is
 * asked for. tsan */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/store/repo.h"

/* ---- every fsync of a folder is noted, or fails ---------------------------- */

#define FOLDERS 512

static struct {
	pthread_mutex_t lock;
	ino_t synced[FOLDERS];
	size_t n;
	bool fail;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

int
fsync(int fd)
{
	struct stat st;
	bool fail;

	if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
		return (int)syscall(SYS_fsync, fd);
	pthread_mutex_lock(&disk.lock);
	fail = disk.fail;
	if (disk.n < FOLDERS)
		disk.synced[disk.n++] = st.st_ino;
	pthread_mutex_unlock(&disk.lock);
	errno = EIO;
	return fail ? -1 : 0;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *
name_of(const char *root, ino_t ino)
{
	static const char *const all[] = {
	    ".", "packs", "packs/aa", "packs/bb", "maps"};

	for (size_t i = 0; i < MEM_COUNT(all); i++) {
		SCOPED_FREE char *path = fs_join(root, all[i]);
		struct stat st;

		if (stat(path, &st) == 0 && st.st_ino == ino)
			return mem_str(all[i]);
	}
	return mem_str("?");
}

/* The folders that were synced since the last look: "maps packs " and so on. */
static void
assert_synced(const char *root, const char *want)
{
	char *name[FOLDERS], text[1024] = "";

	for (size_t i = 0; i < disk.n; i++)
		name[i] = name_of(root, disk.synced[i]);
	qsort(name, disk.n, sizeof *name, by_name);
	for (size_t i = 0; i < disk.n; i++) {
		strcat(strcat(text, name[i]), " ");
		free(name[i]);
	}
	disk.n = 0;
	assert_string_equal(text, want);
}

static struct repo *
open_it(void **state)
{
	struct err e = ERR_NONE;
	struct repo *r;

	disk.n = 0;
	disk.fail = false;
	OK(repo_open(&r, *state, false, &e));
	return r;
}

static void
put(struct repo *r, const char *name)
{
	struct err e = ERR_NONE;

	OK(repo_put_whole(r, name, span_str("x"), &e));
}

/* ---- the tests ---------------------------------------------------------------- */

static void
test_names_above_are_synced_once(void **state)
{
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;

	OK(repo_sync(r, &e));
	assert_synced(*state, "");
	put(r, "packs/aa/1");
	OK(repo_sync(r, &e));
	assert_synced(*state, ". packs packs/aa ");
	put(r, "packs/aa/2");
	OK(repo_sync(r, &e));
	assert_synced(*state, "packs/aa ");
	/* Of a new folder, which of those above it are new is not asked. */
	put(r, "packs/bb/1");
	put(r, "packs/aa/3");
	OK(repo_sync(r, &e));
	assert_synced(*state, ". packs packs/aa packs/bb ");
	put(r, "maps/1");
	OK(repo_sync(r, &e));
	assert_synced(*state, ". maps ");
	OK(repo_sync(r, &e));
	assert_synced(*state, "");
	repo_close(r);
}

/* Who made the folder, and put a file that is relied upon, may have been killed
 * before the sync. */
static void
test_what_another_process_left_is_synced(void **state)
{
	struct repo *killed = open_it(state), *r;
	struct err e = ERR_NONE;
	uint64_t len;

	put(killed, "packs/aa/1");
	r = open_it(state);
	OK(repo_size(r, "packs/aa/1", &len, &e));
	OK(repo_sync(r, &e));
	assert_synced(*state, ". packs packs/aa ");
	repo_close(r);
	r = open_it(state);
	FAILS(-EEXIST, repo_put_whole(r, "packs/aa/1", span_str("x"), &e));
	OK(repo_sync(r, &e));
	assert_synced(*state, ". packs packs/aa ");
	repo_close(r);
	repo_close(killed);
}

static void
test_a_folder_made_anew_has_a_new_name(void **state)
{
	SCOPED_FREE char *folder = fs_join(*state, "packs/aa");
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;

	put(r, "packs/aa/1");
	OK(repo_sync(r, &e));
	OK(repo_remove(r, "packs/aa/1", &e));
	assert_int_equal(rmdir(folder), 0);
	disk.n = 0;
	put(r, "packs/aa/2");
	OK(repo_sync(r, &e));
	assert_synced(*state, ". packs packs/aa ");
	repo_close(r);
}

static void
test_a_failed_sync_stays_failed(void **state)
{
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;

	put(r, "packs/aa/1");
	disk.fail = true;
	FAILS(-EIO, repo_sync(r, &e));
	disk.fail = false;
	err_clear(&e);
	FAILS(-EIO, repo_sync(r, &e));
	assert_text_has(e.text, "an earlier sync failed");
	repo_close(r);
}

static void *
put_and_sync(void *arg)
{
	struct repo *r = arg;
	char name[32];
	struct err e = ERR_NONE;

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof name, "packs/%02x/%p", i,
		    (void *)pthread_self());
		if (repo_put_whole(r, name, span_str("x"), &e) < 0 ||
		    repo_sync(r, &e) < 0)
			return arg;
	}
	return NULL;
}

/* Who put a file has its folder durable when its own sync is done, whoever else
 * is at work: each folder was synced behind its last file. */
static void
test_several_at_once(void **state)
{
	struct repo *r = open_it(state);
	pthread_t t[4];
	void *bad;

	for (size_t i = 0; i < MEM_COUNT(t); i++)
		assert_int_equal(
		    pthread_create(&t[i], NULL, put_and_sync, r), 0);
	for (size_t i = 0; i < MEM_COUNT(t); i++) {
		assert_int_equal(pthread_join(t[i], &bad), 0);
		assert_null(bad);
	}
	for (int i = 0; i < 40; i++) {
		SCOPED_FREE char *path =
		    mem_printf("%s/packs/%02x", (char *)*state, i);
		struct stat st;
		size_t k;

		assert_int_equal(stat(path, &st), 0);
		for (k = 0; k < disk.n && disk.synced[k] != st.st_ino; k++)
			;
		assert_true(k < disk.n);
	}
	repo_close(r);
}

#define IN_FOLDER(t)                                                           \
	cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    IN_FOLDER(test_names_above_are_synced_once),
	    IN_FOLDER(test_what_another_process_left_is_synced),
	    IN_FOLDER(test_a_folder_made_anew_has_a_new_name),
	    IN_FOLDER(test_a_failed_sync_stays_failed),
	    IN_FOLDER(test_several_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

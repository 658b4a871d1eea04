/* SPDX-License-Identifier: Apache-2.0 */
/* tsan */
/* A folder as a repository: files created once, whole, listed, gone. */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/store/repo.h"

static struct repo *
open_it(void **state)
{
	struct err e = ERR_NONE;
	struct repo *r;

	OK(repo_open(&r, *state, false, &e));
	return r;
}

static void
test_put_comes_back(void **state)
{
	struct repo *r = open_it(state);
	SCOPED_BUF struct buf got = {0};
	struct err e = ERR_NONE;
	struct repo_put *p;
	uint64_t len;
	char part[4];

	OK(repo_put_begin(r, &p, &e));
	OK(repo_put_write(p, span_str("hello "), &e));
	OK(repo_put_write(p, span_str("world"), &e));
	OK(repo_put_commit(p, "packs/ab/abcd", &e));
	OK(repo_sync(r, &e));
	OK(repo_size(r, "packs/ab/abcd", &len, &e));
	assert_int_equal(len, 11);
	OK(repo_get(r, "packs/ab/abcd", 4, part, 4, &e));
	assert_memory_equal(part, "o wo", 4);
	OK(repo_get_whole(r, "packs/ab/abcd", 11, &got, &e));
	assert_int_equal(got.len, 11);
	assert_memory_equal(got.data, "hello world", 11);
	FAILS(-EFBIG, repo_get_whole(r, "packs/ab/abcd", 10, &got, &e));
	repo_close(r);
}

static void
test_names_are_created_once(void **state)
{
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;
	char got[3];

	OK(repo_put_whole(r, "a/b", span_str("one"), &e));
	FAILS(-EEXIST, repo_put_whole(r, "a/b", span_str("two"), &e));
	assert_text_has(e.text, "a/b");
	OK(repo_get(r, "a/b", 0, got, 3, &e));
	assert_memory_equal(got, "one", 3);
	repo_close(r);
}

static void
test_missing_and_short_are_two_answers(void **state)
{
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;
	char got[8];
	uint64_t len;

	FAILS(-ENOENT, repo_get(r, "index/none", 0, got, 1, &e));
	assert_text_has(e.text, *state);
	assert_text_has(e.text, "index/none");
	FAILS(-ENOENT, repo_size(r, "index/none", &len, &e));
	FAILS(-ENOENT, repo_remove(r, "index/none", &e));
	OK(repo_put_whole(r, "index/x", span_str("12345"), &e));
	FAILS(-EBADMSG, repo_get(r, "index/x", 0, got, 6, &e));
	FAILS(-EBADMSG, repo_get(r, "index/x", 9, got, 1, &e));
	FAILS(-EBADMSG, repo_get(r, "index/x", UINT64_MAX, got, 1, &e));
	repo_close(r);
}

/* Names come from records too: none may leave the repository. */
static void
test_names_that_leave_are_refused(void **state)
{
	static const char *const bad[] = {"", "/etc/x", "../x", "a/../b",
	    "a//b", "a/", ".", "a/.hidden", ".tmp-1", "a b", "a\nb",
	    "\xc3\xa4"};
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;
	char longer[REPO_NAME_MAX + 2];
	char got;

	for (size_t i = 0; i < MEM_COUNT(bad); i++) {
		FAILS(-EINVAL, repo_put_whole(r, bad[i], span_str("x"), &e));
		FAILS(-EINVAL, repo_get(r, bad[i], 0, &got, 1, &e));
		FAILS(-EINVAL, repo_remove(r, bad[i], &e));
	}
	memset(longer, 'a', sizeof longer);
	longer[sizeof longer - 1] = '\0';
	FAILS(-EINVAL, repo_put_whole(r, longer, span_str("x"), &e));
	repo_close(r);
}

static int
count_names(void *arg, const char *name, uint64_t len, struct err *e)
{
	char *all = arg;

	(void)e;
	assert_int_equal(len, strlen(name));
	strcat(all, name);
	strcat(all, " ");
	return 0;
}

static int
names_alone(void *arg, const char *name, uint64_t len, struct err *e)
{
	char *all = arg;

	(void)len, (void)e;
	strcat(all, name);
	strcat(all, " ");
	return 0;
}

static void
test_list_is_every_file_below(void **state)
{
	struct repo *r = open_it(state);
	char all[256] = "", none[256] = "", bare[256] = "";
	struct err e = ERR_NONE;
	struct repo_put *open_put;
	char *tmp;
	int fd;

	OK(repo_put_whole(r, "packs/aa/1", span_str("packs/aa/1"), &e));
	OK(repo_put_whole(r, "packs/bb/2", span_str("packs/bb/2"), &e));
	OK(repo_put_whole(r, "maps/3", span_str("maps/3"), &e));
	OK(repo_put_begin(r, &open_put, &e));
	tmp = fs_join(*state, "packs/.tmp-1-2");
	fd = open(tmp, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	free(tmp);
	OK(repo_list(r, "packs", count_names, all, &e));
	assert_int_equal(strlen(all), 22);
	assert_text_has(all, "packs/aa/1 ");
	assert_text_has(all, "packs/bb/2 ");
	OK(repo_list(r, "backups", count_names, none, &e));
	assert_string_equal(none, "");
	all[0] = '\0';
	OK(repo_list(r, "", count_names, all, &e));
	assert_int_equal(strlen(all), 29);
	OK(repo_list_names(r, "packs", names_alone, bare, &e));
	assert_int_equal(strlen(bare), 22);
	assert_text_has(bare, "packs/aa/1 ");
	assert_text_has(bare, "packs/bb/2 ");
	repo_put_abort(open_put);
	repo_close(r);
}

#define FOLDERS 40u
#define EACH 25u

/* A number from a name "packs/FOLDER/N", counted. */
static int
count_number(void *arg, const char *name, uint64_t len, struct err *e)
{
	unsigned *seen = arg, folder, n;

	(void)len, (void)e;
	assert_int_equal(sscanf(name, "packs/%u/%u", &folder, &n), 2);
	assert_true(folder < FOLDERS && n < EACH);
	seen[folder * EACH + n]++;
	return 0;
}

static int
fail_at_tenth(void *arg, const char *name, uint64_t len, struct err *e)
{
	(void)len;
	if (++*(int *)arg == 10)
		return err_set(e, -EPERM, "no more than %s", name);
	return 0;
}

/* More folders than threads that read them: each name once. */
static void
test_list_of_many_folders(void **state)
{
	struct repo *r = open_it(state);
	unsigned seen[FOLDERS * EACH] = {0};
	struct err e = ERR_NONE;
	int calls = 0;

	for (unsigned i = 0; i < FOLDERS * EACH; i++) {
		char name[64];

		snprintf(name, sizeof name, "packs/%u/%u", i / EACH, i % EACH);
		OK(repo_put_whole(r, name, span_str("x"), &e));
	}
	OK(repo_list_names(r, "packs", count_number, seen, &e));
	OK(repo_list(r, "packs", count_number, seen, &e));
	for (unsigned i = 0; i < FOLDERS * EACH; i++)
		assert_int_equal(seen[i], 2);
	FAILS(-EPERM, repo_list(r, "packs", fail_at_tenth, &calls, &e));
	assert_text_has(e.text, "no more than packs/");
	assert_int_equal(calls, 10);
	repo_close(r);
}

static int
stop_at_first(void *arg, const char *name, uint64_t len, struct err *e)
{
	(void)name, (void)len, (void)e;
	++*(int *)arg;
	return 42;
}

static void
test_list_ends_when_told(void **state)
{
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;
	int calls = 0;

	OK(repo_put_whole(r, "a/1", span_str("x"), &e));
	OK(repo_put_whole(r, "b/2", span_str("x"), &e));
	assert_int_equal(repo_list(r, "", stop_at_first, &calls, &e), 42);
	assert_int_equal(calls, 1);
	repo_close(r);
}

static void
test_abort_leaves_nothing(void **state)
{
	struct repo *r = open_it(state);
	char all[256] = "";
	struct err e = ERR_NONE;
	struct repo_put *p;

	OK(repo_put_begin(r, &p, &e));
	OK(repo_put_write(p, span_str("gone"), &e));
	repo_put_abort(p);
	OK(repo_list(r, "", count_names, all, &e));
	assert_string_equal(all, "");
	repo_close(r);
	assert_int_equal(rmdir(*state), 0); /* not even a hidden file */
	assert_int_equal(mkdir(*state, 0700), 0);
}

static void
test_removed_is_gone(void **state)
{
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;
	char got;

	OK(repo_put_whole(r, "maps/x", span_str("x"), &e));
	OK(repo_get(r, "maps/x", 0, &got, 1, &e));
	OK(repo_remove(r, "maps/x", &e));
	FAILS(-ENOENT, repo_get(r, "maps/x", 0, &got, 1, &e));
	repo_close(r);
}

/* A disk that is not mounted must never look like an empty repository. */
static void
test_vanished_folder_is_an_error(void **state)
{
	SCOPED_FREE char *path = fs_join(*state, "repo");
	struct err e = ERR_NONE;
	char all[64] = "";
	struct repo *r;

	FAILS(-ENOENT, repo_open(&r, path, false, &e));
	assert_int_equal(access(path, F_OK), -1);
	OK(repo_open(&r, path, true, &e));
	assert_int_equal(rmdir(path), 0);
	FAILS(-ENOENT, repo_list(r, "packs", count_names, all, &e));
	assert_true(repo_put_whole(r, "packs/x", span_str("x"), &e) < 0);
	assert_int_equal(access(path, F_OK), -1);
	repo_close(r);
}

static void
test_urls(void **state)
{
	SCOPED_FREE char *url = mem_printf("dir://%s", (char *)*state);
	struct err e = ERR_NONE;
	struct repo *r;

	OK(repo_open(&r, url, false, &e));
	assert_string_equal(r->url, url);
	repo_close(r);
	FAILS(-EINVAL, repo_open(&r, "ftp://x/y", false, &e));
	assert_text_has(e.text, "dir://");
	FAILS(-EINVAL, repo_open(&r, "", false, &e));
}

/* More files than the cache of open ones has places. */
static void
test_many_files_read_in_turn(void **state)
{
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;
	char name[32], got[32];

	for (int i = 0; i < 150; i++) {
		snprintf(name, sizeof name, "packs/%03d", i);
		OK(repo_put_whole(r, name, span_str(name), &e));
	}
	for (int i = 0; i < 450; i++) {
		snprintf(name, sizeof name, "packs/%03d", i * 7 % 150);
		OK(repo_get(r, name, 0, got, 9, &e));
		assert_memory_equal(got, name, 9);
	}
	repo_close(r);
}

/* Other people of the host have no business with these. */
static void
test_modes_are_private(void **state)
{
	SCOPED_FREE char *file = fs_join(*state, "maps/x");
	SCOPED_FREE char *folder = fs_join(*state, "maps");
	struct repo *r = open_it(state);
	struct err e = ERR_NONE;
	struct stat st;

	OK(repo_put_whole(r, "maps/x", span_str("x"), &e));
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 077, 0);
	assert_int_equal(stat(folder, &st), 0);
	assert_int_equal(st.st_mode & 077, 0);
	repo_close(r);
}

#define IN_FOLDER(t)                                                           \
	cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    IN_FOLDER(test_put_comes_back),
	    IN_FOLDER(test_names_are_created_once),
	    IN_FOLDER(test_missing_and_short_are_two_answers),
	    IN_FOLDER(test_names_that_leave_are_refused),
	    IN_FOLDER(test_list_is_every_file_below),
	    IN_FOLDER(test_list_of_many_folders),
	    IN_FOLDER(test_list_ends_when_told),
	    IN_FOLDER(test_abort_leaves_nothing),
	    IN_FOLDER(test_removed_is_gone),
	    IN_FOLDER(test_vanished_folder_is_an_error),
	    IN_FOLDER(test_urls),
	    IN_FOLDER(test_many_files_read_in_turn),
	    IN_FOLDER(test_modes_are_private),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

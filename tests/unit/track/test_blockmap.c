/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block map against a plain model in memory, over many backups; stopped at
 * every single change that it makes to its files; and with every byte of its
 * files flipped. It may refuse. It may never give a wrong hash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/track/blockmap.h"
#include "tests/unit/track/rounds.h"

/* Under a sanitizer every open costs milliseconds: only each seventh byte is
 * flipped then, and fewer seeds are tried. */
#define SLOW (SANITIZED ? 7 : 1)

/* ---- faults: these stand in for the C library's, for the map's calls ---- */

#define STOPPED 42 /* exit status of a child that was cut off */

static long steps_left; /* 0: no fault */
static bool fault_is_error;

/* -1 with errno: this call is to fail. */
static int
step(void)
{
	if (steps_left == 0 || --steps_left > 0)
		return 0;
	if (!fault_is_error)
		_exit(STOPPED);
	errno = ENOSPC;
	return -1;
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t off);
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t off);
int fallocate64(int fd, int mode, off64_t off, off64_t len);
int ftruncate64(int fd, off64_t len) __attribute__((nothrow));

ssize_t
pwrite64(int fd, const void *p, size_t n, off64_t off)
{
	return step() < 0 ? -1 : syscall(SYS_pwrite64, fd, p, n, off);
}

ssize_t
pwritev64(int fd, const struct iovec *v, int n, off64_t off)
{
	return step() < 0 ? -1 : syscall(SYS_pwritev, fd, v, n, off, 0);
}

int
fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	if (step() < 0)
		return -1;
	return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

int
ftruncate64(int fd, off64_t len)
{
	return step() < 0 ? -1 : (int)syscall(SYS_ftruncate, fd, len);
}

int
renameat(int a, const char *from, int b, const char *to)
{
	if (step() < 0)
		return -1;
	return (int)syscall(SYS_renameat2, a, from, b, to, 0);
}

int
unlinkat(int fd, const char *name, int flags)
{
	if (step() < 0)
		return -1;
	return (int)syscall(SYS_unlinkat, fd, name, flags);
}

/* Nothing here can tell whether bytes are on the disk; time can. */
int
fsync(int fd)
{
	(void)fd;
	return step();
}

int
fdatasync(int fd)
{
	(void)fd;
	return step();
}

/* ---- folders ---- */

struct fixture {
	char base[64];
	char dir[96], copy[96]; /* below it */
};

/* In memory where that can be: ten thousands of small files are written. */
static int
setup(void **state)
{
	struct fixture *f = mem_new(sizeof *f);

	snprintf(f->base, sizeof f->base, "%s/neap-blockmap-XXXXXX",
	    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/var/tmp");
	if (mkdtemp(f->base) == NULL)
		return -1;
	snprintf(f->dir, sizeof f->dir, "%s/map", f->base);
	snprintf(f->copy, sizeof f->copy, "%s/copy", f->base);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_NONE;

	steps_left = 0;
	fs_remove_tree_at(AT_FDCWD, f->base, &e);
	free(f);
	return 0;
}

static void
put_file(int dirfd, const char *name, struct span body)
{
	SCOPED_FD int fd =
	    openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct err e = ERR_NONE;

	assert_true(fd >= 0);
	assert_int_equal(fs_pwrite(fd, body.data, body.len, 0, &e), 0);
}

/* `to` becomes what `from` is; small files only. */
static void
copy_dir(const char *from, const char *to)
{
	struct err e = ERR_NONE;
	struct dirent *de;
	DIR *d = opendir(from);
	int out;

	assert_non_null(d);
	assert_int_equal(fs_remove_tree_at(AT_FDCWD, to, &e), 0);
	assert_int_equal(mkdir(to, 0700), 0);
	out = open(to, O_RDONLY | O_DIRECTORY);
	while ((de = readdir(d)) != NULL) {
		SCOPED_BUF struct buf b = {0};

		if (de->d_name[0] == '.')
			continue;
		assert_int_equal(
		    fs_read_at(dirfd(d), de->d_name, 1 << 24, &b, &e), 0);
		put_file(out, de->d_name, buf_span(&b));
	}
	close(out);
	closedir(d);
}

/* ---- the model ---- */

#define OBJECTS_MAX 16
#define BLOCKS_MAX 800

struct plain {
	struct blockmap_object o;
	uint8_t hash[BLOCKS_MAX][BLOCKMAP_HASH_LEN];
};

struct model {
	char time[32];
	size_t n;
	struct plain v[OBJECTS_MAX];
};

static const struct blockmap_owner owner = {
    .repo_id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    .job = "orders",
};

static uint64_t
blocks_of(uint64_t size)
{
	return (size + 4095) / 4096;
}

static int
says(void *arg, const char *time)
{
	assert_true(time[0] != '\0');
	return *(const int *)arg;
}

static int
try_open(struct blockmap **b, const char *dir, int committed, struct err *e)
{
	return blockmap_open(b, dir, &owner, says, &committed, e);
}

static struct blockmap *
must_open(const char *dir, int committed)
{
	struct err e = ERR_NONE;
	struct blockmap *b = NULL;

	if (try_open(&b, dir, committed, &e) < 0)
		fail_msg("%s", e.text);
	return b;
}

static struct blockmap *
must_create(const char *dir)
{
	struct err e = ERR_NONE;
	struct blockmap *b = NULL;

	if (blockmap_create(&b, dir, &owner, &e) < 0)
		fail_msg("%s", e.text);
	return b;
}

/* Every hash of `p` right, also those behind its end: 0 or the map's error. */
static int
compare_hashes(struct blockmap *b, const struct plain *p, struct err *e)
{
	const struct blockmap_object *o =
	    blockmap_find(b, p->o.volume, p->o.ino, p->o.gen);
	uint8_t got[300][BLOCKMAP_HASH_LEN];
	unsigned n;

	assert_non_null(o);
	assert_int_equal(o->object, p->o.object);
	assert_int_equal(o->size, p->o.size);
	assert_memory_equal(o->attributes, p->o.attributes, 16);
	for (uint64_t at = 0; at < BLOCKS_MAX; at += n) {
		int rc;

		n = at + 277 < BLOCKS_MAX ? 277 : (unsigned)(BLOCKS_MAX - at);
		rc = blockmap_get(b, o, at, n, got, e);
		if (rc < 0)
			return rc;
		assert_memory_equal(
		    got, p->hash[at], (size_t)n * BLOCKMAP_HASH_LEN);
	}
	return 0;
}

static int
compare(struct blockmap *b, const struct model *m, struct err *e)
{
	assert_string_equal(blockmap_backup(b), m->time);
	assert_int_equal(blockmap_objects(b), m->n);
	for (size_t i = 0; i < m->n; i++) {
		int rc = compare_hashes(b, &m->v[i], e);

		if (rc < 0)
			return rc;
	}
	assert_null(blockmap_find(b, 77, 1, 1));
	return 0;
}

static void
must_equal(struct blockmap *b, const struct model *m)
{
	struct err e = ERR_NONE;

	if (compare(b, m, &e) < 0)
		fail_msg("%s", e.text);
}

static uint64_t
random_size(uint64_t was)
{
	uint64_t max = BLOCKS_MAX * 4096;

	switch (random() % 6) {
	case 0:
		return was;
	case 1: /* an append */
		was += (uint64_t)random() % 20000;
		return was > max ? max : was;
	case 2: /* a truncation */
		return was / 2;
	case 3:
		return 0;
	default:
		return (uint64_t)random() % (max + 1);
	}
}

static int
put_random(struct blockmap *b, size_t i, struct plain *p, struct err *e)
{
	uint64_t blocks = blocks_of(p->o.size);

	for (int k = (int)(random() % 6); k > 0 && blocks > 0; k--) {
		uint64_t at = (uint64_t)random() % blocks;
		unsigned n = 1 + (unsigned)random() % 300;
		int rc;

		if (n > blocks - at)
			n = (unsigned)(blocks - at);
		for (unsigned j = 0; j < n; j++)
			memset(p->hash[at + j], random() % 4, 16);
		rc = blockmap_put(
		    b, i, at, n, (const uint8_t(*)[16])p->hash[at], e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* A smaller size cuts off hashes; what it gains later are zeros. */
static void
resize(struct plain *p, uint64_t size)
{
	uint64_t from = blocks_of(size);

	p->o.size = size;
	memset(p->hash[from], 0, (BLOCKS_MAX - from) * 16);
}

static int
carry_over(struct blockmap *b, struct model *m, struct plain *p, struct err *e)
{
	const struct blockmap_object *old =
	    blockmap_find(b, p->o.volume, p->o.ino, p->o.gen);
	size_t i;

	assert_non_null(old);
	if (random() % 5 == 0)
		return 0; /* dropped */
	resize(p, random_size(p->o.size));
	p->o.attributes[0]++;
	i = blockmap_keep(b, old, &p->o);
	m->v[m->n] = *p;
	return put_random(b, i, &m->v[m->n++], e);
}

static int
add_new(struct blockmap *b, struct model *m, struct err *e)
{
	static uint64_t ino = 1000;
	struct plain *p = &m->v[m->n++];
	size_t i;

	memset(p, 0, sizeof *p);
	p->o.volume = (uint32_t)random() % 3;
	p->o.ino = ino++ * 7919 % 100003;
	p->o.gen = (uint64_t)random();
	p->o.object = (uint64_t)random();
	p->o.size = random_size(0);
	i = blockmap_add(b, &p->o);
	assert_int_equal(blockmap_new_at(b, i)->ino, p->o.ino);
	return put_random(b, i, p, e);
}

/* A random backup, up to prepare: `to` is what it leads from `from` to. */
static int
update(struct blockmap *b, const struct model *from, struct model *to,
    struct err *e)
{
	static unsigned serial;
	int rc = blockmap_begin(b, e);

	to->n = 0;
	snprintf(to->time, sizeof to->time, "20261122T%06uZ", ++serial);
	for (size_t i = 0; rc == 0 && i < from->n; i++) {
		struct plain p = from->v[i];

		rc = carry_over(b, to, &p, e);
	}
	for (int k = (int)(random() % 5); rc == 0 && k > 0; k--)
		if (to->n < OBJECTS_MAX)
			rc = add_new(b, to, e);
	if (rc == 0)
		assert_int_equal(blockmap_new_objects(b), to->n);
	return rc < 0 ? rc : blockmap_prepare(b, to->time, e);
}

static struct model *
new_model(void)
{
	return mem_new(sizeof(struct model));
}

/* A map after `rounds` random backups. */
static struct blockmap *
grown(const char *dir, int rounds, struct model *m)
{
	SCOPED_FREE struct model *next = new_model();
	struct blockmap *b = must_create(dir);
	struct err e = ERR_NONE;

	for (int i = 0; i < rounds; i++) {
		if (update(b, m, next, &e) < 0 || blockmap_commit(b, &e) < 0)
			fail_msg("%s", e.text);
		*m = *next;
	}
	return b;
}

/* ---- tests ---- */

static void
test_nothing_there(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_NONE;
	struct blockmap *b;

	assert_int_equal(try_open(&b, f->dir, 0, &e), -ENOENT);
	assert_int_equal(mkdir(f->dir, 0700), 0);
	assert_int_equal(try_open(&b, f->dir, 0, &e), -ENOENT);
}

static void
test_a_new_one_is_empty(void **state)
{
	struct fixture *f = *state;
	struct blockmap *b = must_create(f->dir);

	for (int i = 0; i < 2; i++) {
		assert_string_equal(blockmap_backup(b), "");
		assert_int_equal(blockmap_objects(b), 0);
		assert_null(blockmap_find(b, 0, 0, 0));
		blockmap_close(b);
		b = must_open(f->dir, 1);
	}
	blockmap_close(b);
	blockmap_close(NULL);
}

static void
test_of_another_job_or_repository(void **state)
{
	struct fixture *f = *state;
	struct blockmap_owner other = owner;
	struct err e = ERR_NONE;
	struct blockmap *b;
	int no = 0;

	blockmap_close(must_create(f->dir));
	other.job = "order";
	assert_int_equal(
	    blockmap_open(&b, f->dir, &other, says, &no, &e), -ESTALE);
	assert_non_null(strstr(e.text, "orders"));
	other = owner;
	other.repo_id[15]++;
	assert_int_equal(
	    blockmap_open(&b, f->dir, &other, says, &no, &e), -ESTALE);
	assert_non_null(strstr(e.text, "repository"));
}

static void
test_hash(void **state)
{
	struct fixture *f = *state;
	static uint8_t data[3][BLOCKMAP_BLOCK_BYTES];
	uint8_t one[3][16], two[3][16], zero[16] = {0};
	struct blockmap *b = must_create(f->dir);

	data[0][4095] = 1;
	data[2][0] = 1;
	blockmap_hash(b, data[0], 3, one);
	assert_memory_equal(one[1], zero, 16);
	assert_memory_not_equal(one[0], zero, 16);
	assert_memory_not_equal(one[0], one[2], 16);
	blockmap_close(b);
	b = must_open(f->dir, 0);
	blockmap_hash(b, data[0], 3, two);
	assert_memory_equal(one, two, sizeof one);
	blockmap_close(b);
	b = must_create(f->dir); /* another secret */
	blockmap_hash(b, data[0], 3, two);
	assert_memory_not_equal(one[0], two[0], 16);
	blockmap_close(b);
}

enum fate { COMMIT, COMMIT_REOPEN, ABANDON, ABANDON_EARLY, CLOSE, FATES };

static struct blockmap *
meet(struct fixture *f, struct blockmap *b, enum fate fate)
{
	struct err e = ERR_NONE;

	if (fate == COMMIT || fate == COMMIT_REOPEN)
		assert_int_equal(blockmap_commit(b, &e), 0);
	else if (fate == ABANDON)
		blockmap_abandon(b);
	if (fate == COMMIT_REOPEN || fate == CLOSE) {
		blockmap_close(b);
		b = must_open(f->dir, 1);
	}
	return b;
}

/* Between prepare and commit: the folder as a crash would leave it. */
static void
check_copy(struct fixture *f, const struct model *m, int committed)
{
	struct blockmap *b;

	copy_dir(f->dir, f->copy);
	for (int again = 0; again < 2; again++) {
		b = must_open(f->copy, committed);
		must_equal(b, m);
		blockmap_close(b);
	}
}

static void
test_many_backups(void **state)
{
	SCOPED_FREE struct model *m = new_model(), *next = new_model();
	struct fixture *f = *state;
	struct blockmap *b = must_create(f->dir);

	for (unsigned seed = 0; seed < 100 / SLOW; seed++) {
		enum fate fate;
		struct err e = ERR_NONE;

		srandom(seed);
		fate = (enum fate)(random() % FATES);
		if (update(b, m, next, &e) < 0)
			fail_msg("%s", e.text);
		must_equal(b, m); /* the old one, until the commit */
		check_copy(f, next, 1);
		check_copy(f, m, 0);
		b = meet(f, b, fate);
		if (fate == COMMIT || fate == COMMIT_REOPEN)
			*m = *next;
		must_equal(b, m);
		if (fate == ABANDON_EARLY) {
			blockmap_abandon(b);
			assert_int_equal(blockmap_begin(b, &e), 0);
			blockmap_abandon(b);
		}
		must_equal(b, m);
	}
	blockmap_close(b);
}

/* ---- stopped anywhere ---- */

/*
 * In a child: a backup from `dir`, cut off at its Nth change. Whether it had
 * been prepared, and to what it leads, are left in shared memory.
 */
struct shared {
	bool prepared;
	struct model from, to;
};

static int
run_child(struct shared *s, const char *dir, unsigned seed, long n)
{
	int status;
	pid_t pid;

	s->prepared = false;
	pid = fork();
	if (pid == 0) {
		struct err e = ERR_NONE;
		struct blockmap *b = must_open(dir, 0);

		srandom(seed);
		steps_left = n;
		if (update(b, &s->from, &s->to, &e) < 0)
			_exit(1);
		s->prepared = true;
		if (blockmap_commit(b, &e) < 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Open in a child that is cut off as well, then once more to the end. */
static void
reopen(struct shared *s, const char *dir, int committed, long n)
{
	struct err e = ERR_NONE;
	struct blockmap *b;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		steps_left = n;
		_exit(try_open(&b, dir, committed, &e) < 0 ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 1);
	b = must_open(dir, committed);
	/* A commit that has begun is finished, whatever is said. */
	if (strcmp(blockmap_backup(b), s->from.time) == 0) {
		assert_false(committed);
		must_equal(b, &s->from);
	} else {
		assert_true(s->prepared);
		must_equal(b, &s->to);
	}
	/* It works on, and the space is as it should be: no stale hash comes
	 * up in what the next backups take into use. */
	if (n % 3 == 0) {
		SCOPED_FREE struct model *next = new_model();

		struct model *m = strcmp(blockmap_backup(b), s->from.time)
				      ? &s->to
				      : &s->from;

		assert_int_equal(update(b, m, next, &e), 0);
		assert_int_equal(blockmap_commit(b, &e), 0);
		must_equal(b, next);
	}
	blockmap_close(b);
}

static struct shared *
new_shared(void)
{
	struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(s != MAP_FAILED);
	return s;
}

static void
test_stopped_at_every_change(void **state)
{
	struct fixture *f = *state;
	struct shared *s = new_shared();
	char work[128];
	long n, stops = 0;

	snprintf(work, sizeof work, "%s/work", f->base);
	for (unsigned seed = 1; seed <= (SLOW > 1 ? 1 : 3); seed++) {
		int rc = STOPPED;

		srandom(seed);
		memset(&s->from, 0, sizeof s->from);
		blockmap_close(grown(f->dir, 6, &s->from));
		for (n = 1; rc == STOPPED; n++, stops++) {
			copy_dir(f->dir, f->copy);
			rc = run_child(s, f->copy, seed, n);
			assert_int_not_equal(rc, 1);
			copy_dir(f->copy, work);
			reopen(s, work, s->prepared, n);
			reopen(s, f->copy, 0 == s->prepared ? 0 : n % 2, n / 2);
		}
	}
	print_message("%ld stops\n", stops);
	munmap(s, sizeof *s);
}

/* The same, but the call fails and the program goes on. */
static void
test_every_call_fails(void **state)
{
	SCOPED_FREE struct model *m = new_model(), *next = new_model();
	struct fixture *f = *state;
	bool failed = true;

	srandom(9);
	blockmap_close(grown(f->dir, 5, m));
	fault_is_error = true;
	for (long n = 1; failed; n++) {
		struct err e = ERR_NONE;
		struct blockmap *b;
		bool prepared;

		copy_dir(f->dir, f->copy);
		b = must_open(f->copy, 0);
		srandom(9);
		steps_left = n;
		prepared = update(b, m, next, &e) == 0;
		if (prepared)
			blockmap_commit(b, &e);
		failed = steps_left == 0;
		steps_left = 0;
		blockmap_close(b);
		b = must_open(f->copy, prepared);
		must_equal(b, prepared ? next : m);
		blockmap_close(b);
	}
	fault_is_error = false;
}

/* ---- flipped bytes ---- */

/* Refused, or right: old where that is allowed, else new. */
static void
open_flipped(const char *dir, int committed, const struct model *old,
    const struct model *new, unsigned refused[2])
{
	struct err e = ERR_NONE;
	struct blockmap *b;
	int rc = try_open(&b, dir, committed, &e);

	if (rc < 0) {
		assert_true(rc == -EBADMSG || rc == -ESTALE);
		assert_non_null(strstr(e.text, dir));
		refused[0]++;
		return;
	}
	if (strcmp(blockmap_backup(b), new->time) == 0)
		rc = compare(b, new, &e);
	else
		rc = compare(b, old, &e);
	assert_true(rc == 0 || rc == -EBADMSG);
	refused[1] += rc < 0;
	blockmap_close(b);
}

static void
flip_all(struct fixture *f, const char *name, size_t stride, int committed,
    const struct model *old, const struct model *new, unsigned refused[2])
{
	SCOPED_FD int dirfd = open(f->dir, O_RDONLY | O_DIRECTORY);
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	assert_int_equal(fs_read_at(dirfd, name, 1 << 24, &b, &e), 0);
	refused[0] = refused[1] = 0;
	for (size_t i = 0; i < b.len; i += stride * SLOW) {
		char path[256];
		uint8_t bad = b.data[i] ^ (uint8_t)(1u << random() % 8);
		int fd;

		/* Opening may have changed everything. */
		if (i == 0 || committed >= 0)
			copy_dir(f->dir, f->copy);
		snprintf(path, sizeof path, "%s/%s", f->copy, name);
		fd = open(path, O_WRONLY);
		assert_int_equal(fs_pwrite(fd, &bad, 1, i, &e), 0);
		open_flipped(f->copy, committed > 0, old, new, refused);
		if (committed < 0)
			assert_int_equal(
			    fs_pwrite(fd, b.data + i, 1, i, &e), 0);
		close(fd);
	}
}

/* One object, so that few pages lie there. */
static void
small_map(struct fixture *f, struct model *m)
{
	struct blockmap *b = must_create(f->dir);
	struct err e = ERR_NONE;

	strcpy(m->time, "20261122T000001Z");
	for (m->n = 0; m->n < 2; m->n++) {
		struct plain *p = &m->v[m->n];
		size_t i;

		if (m->n == 0)
			assert_int_equal(blockmap_begin(b, &e), 0);
		p->o.ino = m->n + 5;
		p->o.size = 300 * 4096 - 7;
		memset(p->hash, (int)m->n + 1, 300 * 16);
		i = blockmap_add(b, &p->o);
		assert_int_equal(blockmap_put(b, i, 0, 300,
				     (const uint8_t(*)[16])p->hash, &e),
		    0);
	}
	assert_int_equal(blockmap_prepare(b, m->time, &e), 0);
	assert_int_equal(blockmap_commit(b, &e), 0);
	blockmap_close(b);
}

static void
test_flipped_at_rest(void **state)
{
	SCOPED_FREE struct model *m = new_model();
	struct fixture *f = *state;
	unsigned refused[2];

	small_map(f, m);
	flip_all(f, "objects", 1, -1, m, m, refused);
	assert_int_equal(refused[0], (1024 + 2 * 72 + SLOW - 1) / SLOW);
	/* All pages are in use. Three and a page have no common divisor: over
	 * the pages every place in one has its turn. */
	flip_all(f, "hashes", 3, -1, m, m, refused);
	assert_int_equal(refused[1], (4 * 4096 + 3 * SLOW - 1) / (3 * SLOW));
}

static void
prepare_small(struct fixture *f, struct model *m, struct model *next)
{
	struct blockmap *b;
	struct err e = ERR_NONE;

	small_map(f, m);
	b = must_open(f->dir, 0);
	*next = *m;
	strcpy(next->time, "20261122T000002Z");
	assert_int_equal(blockmap_begin(b, &e), 0);
	for (size_t i = 0; i < next->n; i++) {
		struct plain *p = &next->v[i];

		resize(p, i == 0 ? 600 * 4096 : 260 * 4096);
		memset(p->hash[7], 9, 16);
		blockmap_keep(b, blockmap_at(b, i), &p->o);
		assert_int_equal(blockmap_put(b, i, 7, 1,
				     (const uint8_t(*)[16])p->hash[7], &e),
		    0);
	}
	assert_int_equal(blockmap_prepare(b, next->time, &e), 0);
	copy_dir(f->dir, f->copy);
	blockmap_close(b); /* drops it */
	copy_dir(f->copy, f->dir);
}

static void
test_flipped_while_prepared(void **state)
{
	static const char *const fresh[] = {"objects.new", "redo.new"};
	SCOPED_FREE struct model *m = new_model(), *next = new_model();
	struct fixture *f = *state;
	unsigned refused[2];

	prepare_small(f, m, next);
	for (size_t i = 0; i < 2; i++) {
		/* Committed, but lost: to be said. */
		flip_all(f, fresh[i], 1, 1, m, next, refused);
		assert_true(refused[0] > 250 / SLOW && refused[1] == 0);
		/* Never committed: of no interest. */
		flip_all(f, fresh[i], 31, 0, m, m, refused);
		assert_int_equal(refused[0] + refused[1], 0);
	}
}

static void
test_flipped_while_committing(void **state)
{
	static const char *const names[] = {
	    "objects.new", "redo", "objects", "hashes"};
	SCOPED_FREE struct model *m = new_model(), *next = new_model();
	struct fixture *f = *state;
	char from[128], to[128];
	unsigned refused[2];

	prepare_small(f, m, next);
	snprintf(from, sizeof from, "%s/redo.new", f->dir);
	snprintf(to, sizeof to, "%s/redo", f->dir);
	assert_int_equal(rename(from, to), 0);
	for (size_t i = 0; i < 4; i++) {
		flip_all(f, names[i], i == 3 ? 61 : 1, 0, next, next, refused);
		if (i < 3)
			assert_true(refused[0] > 250 / SLOW && refused[1] == 0);
	}
}

/* ---- cut short, gone, strange ---- */

static void
test_files_gone_or_cut(void **state)
{
	static const char *const names[] = {"objects", "hashes"};
	SCOPED_FREE struct model *m = new_model();
	struct fixture *f = *state;
	struct err e = ERR_NONE;
	struct blockmap *b;
	char path[128];

	small_map(f, m);
	for (size_t i = 0; i < 2; i++) {
		copy_dir(f->dir, f->copy);
		snprintf(path, sizeof path, "%s/%s", f->copy, names[i]);
		assert_int_equal(truncate(path, 1000), 0);
		assert_int_equal(try_open(&b, f->copy, 0, &e), -EBADMSG);
		assert_non_null(strstr(e.text, names[i]));
		assert_int_equal(unlink(path), 0);
		assert_int_equal(
		    try_open(&b, f->copy, 0, &e), i == 0 ? -ENOENT : -ESTALE);
	}
	/* While it is open: an error and not a signal. */
	b = must_open(f->dir, 0);
	snprintf(path, sizeof path, "%s/hashes", f->dir);
	assert_int_equal(truncate(path, 5000), 0);
	assert_int_equal(compare(b, m, &e), -EBADMSG);
	blockmap_close(b);
}

static void
test_garbage_beside_it_is_dropped(void **state)
{
	SCOPED_FREE struct model *m = new_model();
	struct fixture *f = *state;
	SCOPED_FD int dirfd = -1;
	struct blockmap *b;

	small_map(f, m);
	dirfd = open(f->dir, O_RDONLY | O_DIRECTORY);
	put_file(dirfd, "redo.new", span_str("what is this?"));
	put_file(dirfd, "objects.new", span_str(""));
	b = must_open(f->dir, 0);
	must_equal(b, m);
	blockmap_close(b);
	assert_int_equal(faccessat(dirfd, "redo.new", F_OK, 0), -1);
	assert_int_equal(faccessat(dirfd, "objects.new", F_OK, 0), -1);
}

static int
cannot_tell(void *arg, const char *time)
{
	(void)arg;
	(void)time;
	return -ETIMEDOUT;
}

/* Neither dropped nor done: the next open may know. */
static void
test_undecided_stays(void **state)
{
	SCOPED_FREE struct model *m = new_model(), *next = new_model();
	struct fixture *f = *state;
	struct err e = ERR_NONE;
	struct blockmap *b;

	prepare_small(f, m, next);
	assert_int_equal(
	    blockmap_open(&b, f->dir, &owner, cannot_tell, NULL, &e),
	    -ETIMEDOUT);
	b = must_open(f->dir, 1);
	must_equal(b, next);
	blockmap_close(b);
}

static void
test_wrong_use_is_refused(void **state)
{
	SCOPED_FREE struct model *m = new_model();
	struct fixture *f = *state;
	uint8_t hash[2][16] = {{0}, {0}};
	struct err e = ERR_NONE;
	struct blockmap *b;
	size_t i;

	small_map(f, m);
	b = must_open(f->dir, 0);
	assert_int_equal(blockmap_begin(b, &e), 0);
	i = blockmap_keep(b, blockmap_at(b, 0), &m->v[0].o);
	/* Zeros behind the end are what is there anyway. */
	assert_int_equal(
	    blockmap_put(b, i, 300, 2, (const uint8_t(*)[16])hash, &e), 0);
	hash[1][3] = 1;
	assert_int_equal(
	    blockmap_put(b, i, 299, 2, (const uint8_t(*)[16])hash, &e),
	    -EINVAL);
	blockmap_add(b, &m->v[0].o);
	assert_int_equal(blockmap_prepare(b, "20261122T000009Z", &e), -EINVAL);
	assert_non_null(strstr(e.text, "twice"));
	blockmap_abandon(b);
	must_equal(b, m);
	blockmap_close(b);
}

/* ---- size and cost ---- */

static void
commit_one(struct blockmap *b, struct blockmap_object *o, uint64_t put_at,
    unsigned fill)
{
	const struct blockmap_object *old =
	    blockmap_find(b, o->volume, o->ino, o->gen);
	uint8_t hash[1][16];
	struct err e = ERR_NONE;
	size_t i;

	memset(hash, (int)fill, sizeof hash);
	assert_int_equal(blockmap_begin(b, &e), 0);
	for (size_t k = 0; k < blockmap_objects(b); k++)
		if (blockmap_at(b, k) != old)
			blockmap_keep(b, blockmap_at(b, k), blockmap_at(b, k));
	i = old ? blockmap_keep(b, old, o) : blockmap_add(b, o);
	assert_int_equal(
	    blockmap_put(b, i, put_at, 1, (const uint8_t(*)[16])hash, &e), 0);
	assert_int_equal(blockmap_prepare(b, "20261122T000001Z", &e), 0);
	if (blockmap_commit(b, &e) < 0)
		fail_msg("%s", e.text);
}

static void
assert_hash(struct blockmap *b, uint64_t ino, uint64_t block, unsigned fill)
{
	const struct blockmap_object *o = blockmap_find(b, 0, ino, 0);
	uint8_t got[1][16], want[16];
	struct err e = ERR_NONE;

	memset(want, (int)fill, 16);
	assert_int_equal(blockmap_get(b, o, block, 1, got, &e), 0);
	assert_memory_equal(got, want, 16);
}

static void
test_a_sparse_terabyte_costs_nothing(void **state)
{
	const uint64_t blocks = (1ull << 40) / 4096;
	struct blockmap_object big = {.ino = 1, .size = 1ull << 40};
	struct blockmap_object other = {.ino = 2, .size = 4096};
	struct fixture *f = *state;
	struct blockmap *b = must_create(f->dir);
	uint64_t start, count, seen = 0;
	struct err e = ERR_NONE;

	commit_one(b, &big, 12345678, 5);
	commit_one(b, &big, blocks - 1, 6);
	commit_one(b, &other, 0, 7); /* behind it: it has to move to grow */
	big.size *= 2;
	commit_one(b, &big, 2 * blocks - 1, 8);
	assert_true(blockmap_bytes(b) < 100000);
	blockmap_close(b);
	b = must_open(f->dir, 1);
	assert_hash(b, 1, 12345678, 5);
	assert_hash(b, 1, blocks - 1, 6);
	assert_hash(b, 1, blocks, 0);
	assert_hash(b, 1, 2 * blocks - 1, 8);
	assert_hash(b, 2, 0, 7);
	for (uint64_t at = 0; blockmap_stored(b, blockmap_find(b, 0, 1, 0), at,
				  &start, &count, &e) == 1;
	     at = start + count) {
		assert_true(start >= at && count > 0);
		seen += count;
	}
	assert_true(seen <= 4 * 255);
	blockmap_close(b);
}

static void
test_an_append_seldom_moves_the_run(void **state)
{
	struct blockmap_object log = {.ino = 1, .size = 4096};
	struct blockmap_object other = {.ino = 2, .size = 4096};
	struct fixture *f = *state;
	struct blockmap *b = must_create(f->dir);
	uint64_t at = UINT64_MAX;
	int moves = 0;

	for (unsigned i = 0; i < 100; i++) {
		log.size = (i + 1) * 255ull * 4096;
		commit_one(b, &log, (i + 1) * 255ull - 1, 1 + i);
		moves += blockmap_find(b, 0, 1, 0)->run_page != at;
		at = blockmap_find(b, 0, 1, 0)->run_page;
		other.ino = 100 + i;
		commit_one(b, &other, 0, 3);
	}
	assert_true(moves <= 8);
	for (unsigned i = 0; i < 100; i++)
		assert_hash(b, 1, (i + 1) * 255ull - 1, 1 + i);
	blockmap_close(b);
}

/*
 * A run that one object gave up must not show its hashes in the next one's,
 * even if its pages, against the rule, came back after they were given up (the
 * giving back is not synced).
 */
static void
test_a_run_used_again_is_clean(void **state)
{
	struct blockmap_object o = {.ino = 1, .size = 500 * 4096};
	struct fixture *f = *state;
	struct blockmap *b = must_create(f->dir);
	SCOPED_FD int dirfd = open(f->dir, O_RDONLY | O_DIRECTORY);
	SCOPED_FD int fd = openat(dirfd, "hashes", O_RDWR);
	uint8_t stale[8192];
	struct err e = ERR_NONE;

	commit_one(b, &o, 400, 5);
	assert_int_equal(fs_pread(fd, stale, sizeof stale, 0, &e), 0);
	assert_int_equal(blockmap_begin(b, &e), 0);
	assert_int_equal(blockmap_prepare(b, "20261122T000003Z", &e), 0);
	assert_int_equal(blockmap_commit(b, &e), 0);
	assert_int_equal(blockmap_objects(b), 0);
	assert_int_equal(fs_pwrite(fd, stale, sizeof stale, 0, &e), 0);
	o.ino = 2;
	commit_one(b, &o, 3, 6);
	assert_int_equal(blockmap_find(b, 0, 2, 0)->run_page, 0);
	assert_hash(b, 2, 400, 0);
	o.size = 100 * 4096;
	commit_one(b, &o, 4, 7);
	o.size = 500 * 4096;
	commit_one(b, &o, 499, 8);
	assert_hash(b, 2, 3, 6);
	assert_hash(b, 2, 400, 0);
	blockmap_close(b);
}

/* `fill` says for each block of which byte its hash consists. */
static void
check_big(
    struct blockmap *b, uint64_t ino, const uint8_t *fill, uint64_t blocks)
{
	const struct blockmap_object *o = blockmap_find(b, 0, ino, 0);
	uint8_t got[1000][16], want[16];
	struct err e = ERR_NONE;

	for (uint64_t at = 0; at < blocks; at += MEM_COUNT(got)) {
		if (blockmap_get(b, o, at, MEM_COUNT(got), got, &e) < 0)
			fail_msg("%s", e.text);
		for (uint64_t k = 0; k < MEM_COUNT(got); k++) {
			uint64_t n = at + k;

			memset(want, n < blocks ? fill[n] : 0, sizeof want);
			assert_memory_equal(got[k], want, sizeof want);
		}
	}
}

static void
put_big(struct blockmap *b, size_t i, uint8_t *fill, uint64_t blocks)
{
	uint8_t hash[3][16];
	struct err e = ERR_NONE;

	for (int k = 0; k < 4000; k++) {
		unsigned n = 1 + (unsigned)random() % 3;
		uint64_t at = (uint64_t)random() % (blocks - 3);

		memset(fill + at, (int)random() % 200, n);
		for (unsigned j = 0; j < n; j++)
			memset(hash[j], fill[at + j], 16);
		assert_int_equal(
		    blockmap_put(b, i, at, n, (const uint8_t(*)[16])hash, &e),
		    0);
	}
}

/* Random order over two objects: pages take each other's place in the cache,
 * go out before the end of the commit and come back. */
static void
test_more_pages_than_are_cached(void **state)
{
	const uint64_t blocks[4] = {150000, 250000, 400000, 300000};
	uint8_t *fill[2] = {mem_new(400000), mem_new(400000)};
	struct fixture *f = *state;
	struct blockmap *b = must_create(f->dir);
	struct err e = ERR_NONE;

	srandom(5);
	for (int round = 0; round < 4; round++) {
		assert_int_equal(blockmap_begin(b, &e), 0);
		for (uint64_t k = 0; k < 2; k++) {
			struct blockmap_object o = {
			    .ino = k, .size = blocks[round] * 4096};
			const struct blockmap_object *old =
			    blockmap_find(b, 0, k, 0);
			size_t i = old ? blockmap_keep(b, old, &o)
				       : blockmap_add(b, &o);

			put_big(b, i, fill[k], blocks[round]);
		}
		assert_int_equal(
		    blockmap_prepare(b, "20261122T000001Z", &e), 0);
		if (blockmap_commit(b, &e) < 0)
			fail_msg("%s", e.text);
		check_big(b, 1, fill[1], blocks[round]);
		check_big(b, 0, fill[0], blocks[round]);
	}
	blockmap_close(b);
	b = must_open(f->dir, 1);
	check_big(b, 0, fill[0], blocks[3]);
	check_big(b, 1, fill[1], blocks[3]);
	blockmap_close(b);
	free(fill[0]);
	free(fill[1]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_nothing_there),
	    T(test_a_new_one_is_empty),
	    T(test_of_another_job_or_repository),
	    T(test_hash),
	    T(test_many_backups),
	    T(test_stopped_at_every_change),
	    T(test_every_call_fails),
	    T(test_flipped_at_rest),
	    T(test_flipped_while_prepared),
	    T(test_flipped_while_committing),
	    T(test_files_gone_or_cut),
	    T(test_garbage_beside_it_is_dropped),
	    T(test_undecided_stays),
	    T(test_wrong_use_is_refused),
	    T(test_a_sparse_terabyte_costs_nothing),
	    T(test_an_append_seldom_moves_the_run),
	    T(test_a_run_used_again_is_clean),
	    T(test_more_pages_than_are_cached),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

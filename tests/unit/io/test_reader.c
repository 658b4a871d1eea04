/* SPDX-License-Identifier: Apache-2.0 */
/* The reader, with io_uring and without, against what plain reads give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libaio.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/io/reader.h"

/* The reader's second look at a read is a pread: count them. */
static unsigned long preads;
ssize_t pread64(int fd, void *p, size_t n, off64_t off);

ssize_t
pread64(int fd, void *p, size_t n, off64_t off)
{
	preads++;
	return syscall(SYS_pread64, fd, p, n, off);
}

/* So is Linux AIO: count what it is given, and refuse it now and then, by
 * half. */
static unsigned long submits, submitted, refused;
static unsigned long refuse_each; /* 0: never */

int
io_submit(io_context_t ctx, long nr, struct iocb *ios[])
{
	long k;

	submits++;
	if (refuse_each > 0 && submits % refuse_each == 0) {
		refused++;
		nr /= 2;
		if (nr == 0)
			return -EAGAIN;
	}
	k = syscall(SYS_io_submit, ctx, nr, ios);
	if (k < 0)
		return -errno;
	submitted += (unsigned long)k;
	return (int)k;
}

struct fixture {
	char dir[64];
	int dirfd;
};

/* On a disk and not in memory: tmpfs before 6.6 has no O_DIRECT. */
static int
setup(void **state)
{
	struct fixture *f = mem_new(sizeof *f);

	strcpy(f->dir, "/var/tmp/neap-reader-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->dirfd < 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_NONE;

	close(f->dirfd);
	fs_remove_tree_at(AT_FDCWD, f->dir, &e);
	free(f);
	return 0;
}

/* A file of `size` bytes, of which random pieces hold data. */
static uint8_t *
make_file(struct fixture *f, const char *name, size_t size, int pieces)
{
	SCOPED_FD int fd =
	    openat(f->dirfd, name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint8_t *image = mem_new(size + 1);
	struct err e = ERR_NONE;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	for (int i = 0; i < pieces && size > 0; i++) {
		size_t off = (size_t)random() % size;
		size_t len = (size_t)random() % 100000;

		if (len > size - off)
			len = size - off;
		for (size_t k = 0; k < len; k++)
			image[off + k] = (uint8_t)random();
		assert_int_equal(fs_pwrite(fd, image + off, len, off, &e), 0);
	}
	return image;
}

static struct reader *
reader(struct reader_how how)
{
	struct err e = ERR_NONE;
	struct reader *r = NULL;

	if (reader_new(&r, &how, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

static struct reader_file *
file(struct reader *r, struct fixture *f, const char *name)
{
	struct err e = ERR_NONE;
	struct reader_file *out = NULL;

	if (reader_open(r, f->dirfd, name, name, &out, &e) < 0)
		fail_msg("%s", e.text);
	return out;
}

static void
check_done(const struct reader_done *d, const uint8_t *image, size_t size)
{
	size_t have = d->off >= size ? 0 : size - d->off;

	have = have < d->len ? have : d->len;
	if (have > 0)
		assert_memory_equal(d->data, image + d->off, have);
	for (size_t i = have; i < d->len; i++)
		assert_int_equal(d->data[i], 0);
}

static void
take_one(struct reader *r, uintptr_t expect, const uint8_t *image, size_t size)
{
	struct err e = ERR_NONE;
	struct reader_done d;

	if (reader_next(r, &d, &e) < 0)
		fail_msg("%s", e.text);
	assert_ptr_equal(d.cookie, (void *)expect);
	check_done(&d, image, size);
}

/* Random requests, `n` of them, over and behind the file. */
static void
random_reads(struct reader *r, struct reader_file *f, uint32_t unit,
    const uint8_t *image, size_t size, uintptr_t n)
{
	static const enum reader_way ways[] = {
	    READER_ANYHOW, READER_ALONE, READER_ORDERED};
	uintptr_t asked = 0, taken = 0;
	struct err e = ERR_NONE;
	uint64_t next = 0;

	while (taken < n) {
		while (asked < n && !reader_full(r) && random() % 8 != 0) {
			uint32_t len =
			    ((uint32_t)random() % (unit / 4096) + 1) * 4096;
			uint64_t off =
			    random() % 3 == 0
				? (uint64_t)random() % (size / 4096 + 8) * 4096
				: next;

			if (off > size + 65536)
				off = 0;
			reader_way(r, ways[random() % 3]);
			if (reader_ask(r, f, off, len, (void *)asked, &e) < 0)
				fail_msg("%s", e.text);
			asked++;
			next = off + len;
		}
		if (!reader_idle(r))
			take_one(r, taken++, image, size);
	}
}

static void
sweep(struct fixture *fx, struct reader_how how)
{
	static const size_t sizes[] = {
	    0, 1, 4095, 4096, 4097, 131072, 1000001, 3 * 1048576 + 513};

	srandom(how.depth + 3);
	for (size_t i = 0; i < MEM_COUNT(sizes); i++) {
		SCOPED_FREE uint8_t *image = make_file(fx, "f", sizes[i], 12);
		struct reader *r = reader(how);
		struct reader_file *f = file(r, fx, "f");

		random_reads(r, f, how.unit, image, sizes[i], 300);
		reader_close(f);
		reader_free(r);
	}
}

static void
test_uring_reads_what_is_there(void **state)
{
	sweep(*state, (struct reader_how){.depth = 64, .unit = 131072});
	sweep(*state, (struct reader_how){.depth = 3, .unit = 8192});
	sweep(*state, (struct reader_how){.depth = 1, .unit = 65536});
}

/* A fault of ours in the ring's use would else only show as slowness. */
static void
test_uring_needs_no_second_look(void **state)
{
	struct fixture *fx = *state;
	SCOPED_FREE uint8_t *image = make_file(fx, "f", 1000001, 12);
	struct reader *r = reader((struct reader_how){.depth = 16});
	struct reader_file *a = file(r, fx, "f");
	struct reader_file *b = file(r, fx, "f");

	if (reader_notice(r) != NULL) {
		print_message("skip: %s\n", reader_notice(r));
		reader_free(r);
		skip();
	}
	preads = 0;
	random_reads(r, a, 131072, image, 1000001, 200);
	random_reads(r, b, 131072, image, 1000001, 200);
	assert_int_equal(preads, 0);
	reader_close(a);
	reader_close(b);
	reader_free(r);
}

/* Without the ring, or without direct reads, there is no Linux AIO either. */
static bool
no_aio(struct fixture *fx)
{
	struct reader *r = reader((struct reader_how){0});
	bool ring = reader_notice(r) == NULL, direct;
	io_context_t ctx = NULL;
	int rc = io_setup(1, &ctx);
	struct reader_file *f;

	free(make_file(fx, "probe", 4096, 1));
	f = file(r, fx, "probe");
	direct = (fcntl(reader_file_fd(f), F_GETFL) & O_DIRECT) != 0;
	if (rc == 0)
		io_destroy(ctx);
	reader_close(f);
	reader_free(r);
	if (rc < 0 || !ring || !direct)
		print_message("skip: no Linux AIO, io_uring or O_DIRECT\n");
	return rc < 0 || !ring || !direct;
}

/* Many in one call, or the block layer has nothing to join; and no large ones,
 * which the kernel's threads read side by side. */
static void
test_ordered_reads_go_together(void **state)
{
	enum { READS = 256, LEN = 8192 };
	struct fixture *fx = *state;
	SCOPED_FREE uint8_t *image = make_file(fx, "f", READS * LEN, 60);
	struct reader *r;
	struct reader_file *f;
	struct err e = ERR_NONE;
	uintptr_t taken = 0;

	if (no_aio(fx))
		skip();
	r = reader((struct reader_how){.depth = 128});
	f = file(r, fx, "f");
	submits = submitted = 0;
	reader_way(r, READER_ORDERED);
	for (uintptr_t i = 0; i < READS; i++) {
		if (reader_full(r))
			take_one(r, taken++, image, READS * LEN);
		assert_int_equal(
		    reader_ask(r, f, i * LEN, LEN, (void *)i, &e), 0);
	}
	while (!reader_idle(r))
		take_one(r, taken++, image, READS * LEN);
	assert_int_equal(submitted, READS);
	assert_true(submits <= READS / 16);
	assert_int_equal(reader_ask(r, f, 0, 131072, (void *)taken, &e), 0);
	take_one(r, taken, image, READS * LEN);
	assert_int_equal(submitted, READS);
	reader_close(f);
	reader_free(r);
}

/* The kernel may be short of room for some of them, or for all. */
static void
test_what_aio_refuses_is_read_too(void **state)
{
	if (no_aio(*state))
		skip();
	for (unsigned each = 3; each > 0; each--) {
		refuse_each = each;
		refused = 0;
		sweep(
		    *state, (struct reader_how){.depth = 128, .unit = 131072});
		sweep(*state, (struct reader_how){.depth = 5, .unit = 8192});
		refuse_each = 0;
		assert_true(refused > 0);
	}
}

static void
test_pread_reads_what_is_there(void **state)
{
	sweep(*state,
	    (struct reader_how){.depth = 64, .unit = 131072, .no_uring = true});
	sweep(*state,
	    (struct reader_how){.depth = 1, .unit = 4096, .no_uring = true});
}

static void
test_buffered_reads_what_is_there(void **state)
{
	sweep(*state,
	    (struct reader_how){.depth = 16, .unit = 65536, .buffered = true});
	sweep(*state, (struct reader_how){.depth = 16,
			  .unit = 65536,
			  .buffered = true,
			  .no_uring = true});
}

static void
test_fallback_says_so(void **state)
{
	struct reader *r = reader((struct reader_how){.no_uring = true});

	(void)state;
	assert_non_null(strstr(reader_notice(r), "pread"));
	reader_free(r);
	reader_free(NULL);
}

/* A shape of how readers are used: many files, each closed right behind its
 * last request, more of them than the ring's table holds. */
static void
many_files(struct fixture *fx, struct reader_how how)
{
	enum { FILES = 150, EACH = 20 };
	SCOPED_FREE uint8_t *image = make_file(fx, "m", EACH * 4096, 30);
	struct reader *r = reader(how);
	struct err e = ERR_NONE;
	uintptr_t taken = 0, asked = 0;

	for (int i = 0; i < FILES; i++) {
		struct reader_file *f = file(r, fx, "m");

		for (uint64_t k = 0; k < EACH; k++) {
			if (reader_full(r))
				take_one(r, taken++, image, EACH * 4096);
			assert_int_equal(reader_ask(r, f, k * 4096, 4096,
					     (void *)asked++, &e),
			    0);
		}
		reader_close(f);
	}
	while (!reader_idle(r))
		take_one(r, taken++, image, EACH * 4096);
	assert_int_equal(taken, FILES * EACH);
	reader_free(r);
}

static void
test_many_files(void **state)
{
	many_files(*state, (struct reader_how){.depth = 64, .unit = 4096});
	many_files(*state, (struct reader_how){.depth = 2000, .unit = 4096});
	many_files(*state, (struct reader_how){.unit = 4096, .no_uring = true});
}

static int
open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void
test_free_with_requests_in_flight(void **state)
{
	struct fixture *fx = *state;
	SCOPED_FREE uint8_t *image = make_file(fx, "f", 1 << 20, 20);
	int before = open_descriptors();

	for (int i = 0; i < 20; i++) {
		struct reader *r = reader((struct reader_how){0});
		struct reader_file *closed = file(r, fx, "f");
		struct reader_file *open = file(r, fx, "f");
		struct err e = ERR_NONE;

		for (int k = 0; k < i; k++) {
			/* Some of them are not even submitted. */
			reader_way(r, i % 2 ? READER_ORDERED : READER_ANYHOW);
			reader_ask(r, closed, 0, 65536, NULL, &e);
			reader_ask(r, open, 0, 131072, (void *)1, &e);
		}
		reader_close(closed);
		if (i > 2)
			take_one(r, 0, image, 1 << 20);
		reader_free(r);
		reader_close(open); /* late, as a scope would */
	}
	assert_int_equal(open_descriptors(), before);
}

static void
test_symlink_and_folder_are_refused(void **state)
{
	struct fixture *fx = *state;
	struct reader *r = reader((struct reader_how){0});
	struct err e = ERR_NONE;
	struct reader_file *f;

	assert_int_equal(symlinkat("f", fx->dirfd, "link"), 0);
	assert_int_equal(mkfifoat(fx->dirfd, "fifo", 0600), 0);
	assert_int_equal(
	    reader_open(r, fx->dirfd, "link", "the link", &f, &e), -EINVAL);
	assert_non_null(strstr(e.text, "the link"));
	assert_int_equal(
	    reader_open(r, fx->dirfd, "fifo", "p", &f, &e), -EINVAL);
	assert_int_equal(reader_open(r, fx->dirfd, ".", "d", &f, &e), -EINVAL);
	assert_int_equal(
	    reader_open(r, fx->dirfd, "no", "gone", &f, &e), -ENOENT);
	reader_free(r);
}

/* By descriptor: the same bytes, and the caller's offset stays its own. */
static void
test_a_descriptor_is_opened_anew(void **state)
{
	struct fixture *f = *state;
	SCOPED_FREE uint8_t *image = make_file(f, "d", 300001, 4);
	SCOPED_FD int fd = openat(f->dirfd, "d", O_RDONLY);
	struct reader *r = reader((struct reader_how){0});
	struct reader_file *rf = NULL;
	struct err e = ERR_NONE;

	assert_true(fd >= 0);
	assert_int_equal(lseek(fd, 77, SEEK_SET), 77);
	assert_int_equal(reader_open_fd(r, fd, "d", &rf, &e), 0);
	assert_int_not_equal(reader_file_fd(rf), fd);
	assert_int_equal(reader_ask(r, rf, 262144, 40960, (void *)1, &e), 0);
	take_one(r, 1, image, 300001);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 77);
	reader_close(rf);
	assert_int_equal(reader_open_fd(r, f->dirfd, "x", &rf, &e), -EINVAL);
	reader_free(r);
}

/* The pool's end comes anywhere, and each request overwrites an old one. */
static void
test_small_pools_keep_requests_apart(void **state)
{
	sweep(*state, (struct reader_how){
			  .depth = 64, .unit = 131072, .pool = 3 * 131072});
	sweep(
	    *state, (struct reader_how){
			.depth = 64, .unit = 65536, .pool = 5 * 65536 + 4096});
	sweep(*state, (struct reader_how){.depth = 64,
			  .unit = 65536,
			  .pool = 4 * 65536,
			  .no_uring = true});
}

/* Many small requests or few large ones: as many as there is room for. */
static void
test_the_pool_is_shared_by_size(void **state)
{
	struct fixture *fx = *state;
	SCOPED_FREE uint8_t *image = make_file(fx, "f", 1u << 20, 12);
	struct reader *r = reader((struct reader_how){
	    .depth = 64, .unit = 131072, .pool = 3 * 131072});
	struct reader_file *f = file(r, fx, "f");
	struct err e = ERR_NONE;
	unsigned small = 0, large = 0;

	while (!reader_full(r))
		reader_ask(r, f, 4096ul * small++, 4096, NULL, &e);
	assert_int_equal(small, 64);
	while (!reader_idle(r))
		take_one(r, 0, image, 1u << 20);
	while (!reader_full(r))
		reader_ask(r, f, 131072ul * large++, 131072, NULL, &e);
	/* Not three: the last small one is still the caller's. */
	assert_int_equal(large, 2);
	take_one(r, 0, image, 1u << 20);
	assert_int_equal(e.code, 0);
	reader_close(f);
	reader_free(r);
}

static void
test_impossible_shapes_are_refused(void **state)
{
	struct err e = ERR_NONE;
	struct reader *r;

	(void)state;
	assert_int_equal(
	    reader_new(&r, &(struct reader_how){.unit = 4095}, &e), -EINVAL);
	assert_int_equal(
	    reader_new(
		&r, &(struct reader_how){.unit = 1u << 30, .depth = 64}, &e),
	    -EINVAL);
	assert_int_equal(
	    reader_new(
		&r, &(struct reader_how){.unit = 8192, .pool = 20480}, &e),
	    -EINVAL);
}

/* Cut off between open and read: what is gone reads as zeros, as pread says. */
static void
truncated(struct fixture *fx, struct reader_how how)
{
	SCOPED_FREE uint8_t *image = make_file(fx, "t", 1 << 20, 40);
	struct reader *r = reader(how);
	struct reader_file *f = file(r, fx, "t");
	char path[128];

	snprintf(path, sizeof path, "%s/t", fx->dir);
	assert_int_equal(truncate(path, 300001), 0);
	random_reads(r, f, 131072, image, 300001, 50);
	reader_close(f);
	reader_free(r);
}

static void
test_truncated_meanwhile(void **state)
{
	truncated(*state, (struct reader_how){.depth = 8});
	truncated(*state, (struct reader_how){.depth = 8, .no_uring = true});
	truncated(*state, (struct reader_how){.depth = 8, .buffered = true});
}

/* ---- holes and places ---- */

static void
test_data_ranges_cover_the_data(void **state)
{
	struct fixture *fx = *state;

	srandom(11);
	for (int round = 0; round < 20; round++) {
		size_t size = 1 + (size_t)random() % 2000000;
		SCOPED_FREE uint8_t *image = make_file(fx, "h", size, 3);
		SCOPED_FD int fd = openat(fx->dirfd, "h", O_RDONLY);
		uint64_t off = 0, start, len;
		struct err e = ERR_NONE;

		for (;;) {
			int rc =
			    reader_data_range(fd, off, size, &start, &len, &e);
			uint64_t hole = rc == 0 ? size : start;

			assert_true(rc == 0 || rc == 1);
			for (; off < hole; off++)
				assert_int_equal(image[off], 0);
			if (rc == 0)
				break;
			assert_true(len > 0 && start + len <= size);
			assert_int_equal(start % READER_ALIGN, 0);
			off = start + len;
		}
	}
}

static void
test_a_hole_has_no_data(void **state)
{
	struct fixture *fx = *state;
	SCOPED_FREE uint8_t *image = make_file(fx, "h", 1 << 20, 0);
	SCOPED_FD int fd = openat(fx->dirfd, "h", O_RDONLY);
	struct err e = ERR_NONE;
	uint64_t start, len;

	assert_int_equal(
	    reader_data_range(fd, 0, 1 << 20, &start, &len, &e), 0);
	assert_int_equal(reader_data_range(fd, 5, 5, &start, &len, &e), 0);
	assert_int_equal(image[0], 0);
}

static void
test_no_seek_data_means_all_is_data(void **state)
{
	SCOPED_FD int fd = open("/proc/self/maps", O_RDONLY);
	struct err e = ERR_NONE;
	uint64_t start, len;

	(void)state;
	assert_int_equal(
	    reader_data_range(fd, 4096, 10000, &start, &len, &e), 1);
	assert_int_equal(start, 4096);
	assert_int_equal(len, 10000 - 4096);
}

static void
test_physical_is_in_order(void **state)
{
	struct fixture *fx = *state;
	SCOPED_FREE uint8_t *image = make_file(fx, "p", 4 << 20, 20);
	SCOPED_FD int fd = openat(fx->dirfd, "p", O_RDONLY);
	struct reader_phys v[64];
	struct err e = ERR_NONE;
	int n, k;

	assert_non_null(image);
	fsync(fd);
	n = reader_physical(fd, 0, UINT64_MAX, v, 64, &e);
	if (n == 0) {
		print_message("skip: no FIEMAP on this file system\n");
		skip();
	}
	assert_true(n > 1);
	for (int i = 1; i < n; i++)
		assert_true(v[i].off >= v[i - 1].off + v[i - 1].len);
	k = reader_physical(fd, v[1].off, UINT64_MAX, v, 1, &e);
	assert_int_equal(k, 1);
	/* No more than was asked for. */
	assert_int_equal(reader_physical(fd, v[0].off, 1, v, 64, &e), 1);
	assert_int_equal(reader_physical(fd, v[0].off, 0, v, 64, &e), 0);
	assert_int_equal(
	    reader_physical(fd, 1ull << 60, UINT64_MAX, v, 64, &e), 0);
}

/* ---- what the system may refuse ---- */

static void
test_direct_refused_at_open(void **state)
{
	SCOPED_FD int fd = open("/proc/version", O_RDONLY);
	char want[4096] = {0};
	struct err e = ERR_NONE;

	(void)state;
	assert_true(read(fd, want, sizeof want) > 0);
	for (int plain = 0; plain < 2; plain++) {
		struct reader *r =
		    reader((struct reader_how){.no_uring = plain});
		struct reader_file *f;
		struct reader_done d;

		assert_int_equal(
		    reader_open(r, AT_FDCWD, "/proc/version", "v", &f, &e), 0);
		assert_int_equal(reader_ask(r, f, 0, 4096, NULL, &e), 0);
		assert_int_equal(reader_next(r, &d, &e), 0);
		assert_memory_equal(d.data, want, sizeof want);
		reader_close(f);
		reader_free(r);
	}
}

/* O_NOATIME is for the owner and root only. */
static void
test_a_file_of_another_user(void **state)
{
	struct fixture *fx = *state;
	SCOPED_FREE uint8_t *image = make_file(fx, "f", 500001, 12);
	int status;
	pid_t pid;

	if (geteuid() != 0) {
		print_message("skip: needs root\n");
		skip();
	}
	assert_int_equal(chmod(fx->dir, 0755), 0);
	assert_int_equal(fchmodat(fx->dirfd, "f", 0644, 0), 0);
	pid = fork();
	if (pid == 0) {
		struct reader_file *f;
		struct reader *r;

		if (setuid(65534) < 0)
			_exit(1);
		r = reader((struct reader_how){.depth = 8});
		f = file(r, fx, "f");
		random_reads(r, f, 131072, image, 500001, 50);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int
forbid(unsigned call)
{
	struct sock_filter code[] = {
	    BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {MEM_COUNT(code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static bool
ring_is_told(const struct reader *r)
{
	return reader_notice(r) != NULL &&
	       strstr(reader_notice(r), "not permitted") != NULL;
}

static bool
any_will_do(const struct reader *r)
{
	return r != NULL;
}

/* Reads what is there without `call`, and says what `right` expects. */
static void
read_without(
    struct fixture *fx, unsigned call, bool (*right)(const struct reader *))
{
	SCOPED_FREE uint8_t *image = make_file(fx, "f", 500001, 12);
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct reader_file *f;
		struct reader *r;

		if (forbid(call) < 0)
			_exit(77);
		r = reader((struct reader_how){.depth = 8});
		if (!right(r))
			_exit(1);
		submitted = 0;
		f = file(r, fx, "f");
		random_reads(r, f, 131072, image, 500001, 100);
		_exit(submitted == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("skip: no seccomp filters here\n");
		skip();
	}
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* As Docker's default profile does. */
static void
test_io_uring_forbidden(void **state)
{
	read_without(*state, SYS_io_uring_setup, ring_is_told);
}

static void
test_aio_forbidden(void **state)
{
	read_without(*state, SYS_io_setup, any_will_do);
}

/* ---- a bad block: btrfs, whose checksum of one block is made to fail ---- */

#define BAD_FILE_BYTES (1u << 20)
#define BAD_AT 700416u /* block 171 */

static bool
run(struct fixture *fx, const char *fmt)
{
	SCOPED_FREE char *line =
	    mem_printf("cd %s && (%s) >/dev/null 2>&1", fx->dir, fmt);

	return system(line) == 0;
}

/* Flip a byte of the marked block in the image, behind the file system. */
static bool
corrupt(struct fixture *fx, const uint8_t *block)
{
	SCOPED_FD int fd = openat(fx->dirfd, "image", O_RDWR);
	struct err e = ERR_NONE;
	uint8_t have[4096];
	bool found = false;

	for (uint64_t off = 0; off < 128u << 20; off += sizeof have) {
		if (fs_pread(fd, have, sizeof have, off, &e) < 0)
			return false;
		if (memcmp(have, block, sizeof have) != 0)
			continue;
		have[100] ^= 1;
		found = fs_pwrite(fd, have, sizeof have, off, &e) == 0;
	}
	return found && fsync(fd) == 0;
}

/* In a mount namespace of our own: it goes with the process at the latest. */
static bool
make_bad_file(struct fixture *fx, uint8_t **image)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    !run(fx, "truncate -s 128M image && mkdir mnt && "
		     "mkfs.btrfs -m single -d single image && "
		     "mount -o loop image mnt"))
		return false;
	/* The old one looks at the old namespace's mounts. */
	close(fx->dirfd);
	fx->dirfd = open(fx->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*image = make_file(fx, "mnt/bad", BAD_FILE_BYTES, 0);
	for (size_t i = 0; i < BAD_FILE_BYTES; i++)
		(*image)[i] = (uint8_t)random();
	{
		SCOPED_FD int fd = openat(fx->dirfd, "mnt/bad", O_WRONLY);
		struct err e = ERR_NONE;

		if (fs_pwrite(fd, *image, BAD_FILE_BYTES, 0, &e) < 0)
			return false;
	}
	return run(fx, "umount mnt") && corrupt(fx, *image + BAD_AT) &&
	       run(fx, "mount -o loop,ro image mnt");
}

static void
read_bad(struct fixture *fx, struct reader_how how, enum reader_way way,
    const uint8_t *image)
{
	struct reader *r = reader(how);
	struct reader_file *f = file(r, fx, "mnt/bad");
	struct err e = ERR_NONE;
	struct reader_done d;
	uint32_t unit = how.unit != 0 ? how.unit : 131072;
	bool failed = false;

	reader_way(r, way);
	for (uint64_t off = 0; off < BAD_FILE_BYTES; off += unit)
		assert_int_equal(reader_ask(r, f, off, unit, NULL, &e), 0);
	for (uint64_t off = 0; !reader_idle(r); off += unit) {
		int rc = reader_next(r, &d, &e);

		if (off <= BAD_AT && BAD_AT < off + unit) {
			assert_int_equal(rc, -EIO);
			assert_string_equal(e.text,
			    "read mnt/bad at offset 700416: "
			    "Input/output error");
			failed = true;
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(d.off, off);
		check_done(&d, image, BAD_FILE_BYTES);
	}
	assert_true(failed);
	reader_close(f);
	reader_free(r);
}

static void
test_a_bad_block_is_named(void **state)
{
	struct fixture *fx = *state;
	SCOPED_FREE uint8_t *image = NULL;

	if (!make_bad_file(fx, &image)) {
		run(fx, "umount mnt");
		print_message("skip: needs root, btrfs and a loop device\n");
		skip();
	}
	read_bad(fx, (struct reader_how){.depth = 16}, READER_ANYHOW, image);
	read_bad(fx, (struct reader_how){.depth = 16}, READER_ALONE, image);
	read_bad(fx, (struct reader_how){.depth = 128, .unit = 8192},
	    READER_ORDERED, image);
	read_bad(fx, (struct reader_how){.depth = 16, .no_uring = true},
	    READER_ANYHOW, image);
	read_bad(fx, (struct reader_how){.depth = 16, .buffered = true},
	    READER_ORDERED, image);
	/* In the middle of a large request, with good blocks on both sides. */
	read_bad(
	    fx, (struct reader_how){.unit = 1u << 19}, READER_ANYHOW, image);
	read_bad(fx, (struct reader_how){.unit = 1u << 20, .no_uring = true},
	    READER_ANYHOW, image);
	/* Nothing of ours may still hold the file system. */
	assert_true(run(fx, "umount mnt"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_uring_reads_what_is_there),
	    T(test_uring_needs_no_second_look),
	    T(test_ordered_reads_go_together),
	    T(test_what_aio_refuses_is_read_too),
	    T(test_pread_reads_what_is_there),
	    T(test_buffered_reads_what_is_there),
	    T(test_fallback_says_so),
	    T(test_many_files),
	    T(test_free_with_requests_in_flight),
	    T(test_symlink_and_folder_are_refused),
	    T(test_a_descriptor_is_opened_anew),
	    T(test_small_pools_keep_requests_apart),
	    T(test_the_pool_is_shared_by_size),
	    T(test_impossible_shapes_are_refused),
	    T(test_truncated_meanwhile),
	    T(test_data_ranges_cover_the_data),
	    T(test_a_hole_has_no_data),
	    T(test_no_seek_data_means_all_is_data),
	    T(test_physical_is_in_order),
	    T(test_direct_refused_at_open),
	    T(test_a_file_of_another_user),
	    T(test_io_uring_forbidden),
	    T(test_aio_forbidden),
	    T(test_a_bad_block_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

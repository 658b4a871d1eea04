/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both btrfs trackers against the truth: rounds of random file operations on a
 * btrfs of its own; after each, every 4 KiB block that differs between the two
 * snapshots must be named by both.
 *
 *	TRACK_ROUNDS=40  TRACK_SEED=1  (a failure prints its seed and the
 *	operations of its round)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/track/tracker.h"
#include "tests/unit/snap/loop_btrfs.h"

#define BLOCK 4096u
#define FILE_MAX (640u << 10) /* operations keep files below about this */

/* Holes have items or none; extents are whole, compressed, or without
 * checksums and overwritten in place. */
static const struct config {
	const char *name, *mkfs, *options;
} configs[] = {
    {"as made today", "", "noatime"},
    {"hole items, compressed", "-O ^no-holes", "noatime,compress=zstd"},
    {"nodatacow, large inline", "-n 65536",
	"noatime,nodatacow,max_inline=4095"},
};
static const struct config *config;

static struct loop_btrfs loop;
static uint64_t rng = 1;
static char work[256];     /* the subvolume */
static struct buf journal; /* the operations of this round */

static int
setup(void **state)
{
	(void)state;
	loop_btrfs_open(&loop, 1024, config->mkfs, config->options);
	if (loop.dir[0] == '\0')
		print_message("btrfs tests are skipped: %s\n", loop.why);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	buf_free(&journal);
	loop_btrfs_close(&loop);
	return 0;
}

#define NEED_BTRFS()                                                           \
	do {                                                                   \
		if (loop.dir[0] == '\0') {                                     \
			print_message("skip: %s\n", loop.why);                 \
			skip();                                                \
		}                                                              \
	} while (0)

static uint64_t
any(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return n ? (rng >> 11) % n : 0;
}

static void __attribute__((format(printf, 1, 2))) say(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof line)
		n = sizeof line - 1;
	buf_put(&journal, line, (size_t)n);
	buf_put_u8(&journal, '\n');
}

static void
must(int rc, const struct err *e)
{
	if (rc < 0)
		fail_msg("%s", e->text);
}

/* ---- what there is ---- */

struct things {
	char **v;
	size_t n, cap;
};

static void
things_fini(struct things *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i]);
	free(t->v);
	*t = (struct things){0};
}

/* Paths below `at` (relative to dirfd) of one kind: S_IFREG or S_IFDIR. */
static void
collect(int dirfd, const char *at, mode_t kind, struct things *out)
{
	int fd = openat(dirfd, at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	struct dirent *de;

	assert_non_null(d);
	while ((de = readdir(d)) != NULL) {
		char *path;
		struct stat st;

		if (strcmp(de->d_name, ".") == 0 ||
		    strcmp(de->d_name, "..") == 0)
			continue;
		path = strcmp(at, ".") == 0 ? mem_str(de->d_name)
					    : fs_join(at, de->d_name);
		assert_int_equal(
		    fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
		if ((st.st_mode & S_IFMT) == kind) {
			MEM_ROOM(out->v, out->n, out->cap);
			out->v[out->n++] = mem_str(path);
		}
		if (S_ISDIR(st.st_mode))
			collect(dirfd, path, kind, out);
		free(path);
	}
	closedir(d);
}

static int workfd = -1;

/* A path of that kind, "" where there is none; in a caller's buffer. */
static const char *
pick(char out[512], mode_t kind)
{
	struct things t = {0};

	collect(workfd, ".", kind, &t);
	out[0] = '\0';
	if (t.n > 0)
		snprintf(out, 512, "%s", t.v[any(t.n)]);
	things_fini(&t);
	return out;
}

/* A name that is free, or (one in four) one of few, which may be taken. */
static void
new_name(char out[512])
{
	static unsigned counter;
	char dir[512];

	pick(dir, S_IFDIR);
	if (dir[0] == '\0' || any(3) == 0 || strlen(dir) > 300)
		strcpy(dir, ".");
	if (any(4) == 0)
		snprintf(out, 512, "%.400s/x%u", dir, (unsigned)any(4));
	else
		snprintf(out, 512, "%.400s/n%u", dir, counter++);
}

static int
open_some(char path[512])
{
	int fd;

	if (pick(path, S_IFREG)[0] == '\0')
		return -1;
	fd = openat(workfd, path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static uint64_t
size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_size;
}

/* ---- operations ---- */

static void
fill(uint8_t *p, size_t n)
{
	bool compressible = any(3) == 0;
	unsigned salt = (unsigned)any(256);

	for (size_t i = 0; i < n; i++)
		p[i] = compressible ? (uint8_t)(i / 512 + salt)
				    : (uint8_t)any(256);
	if (n > 0)
		p[0] = (uint8_t)any(256);
}

static void
write_at(int fd, const char *path, uint64_t off, size_t len)
{
	SCOPED_FREE uint8_t *p = mem_new(len + 1);
	struct err e = ERR_NONE;

	fill(p, len);
	say("write %s %llu+%zu", path, (unsigned long long)off, len);
	must(fs_pwrite(fd, p, len, off, &e), &e);
}

/* Half of them on block bounds. */
static uint64_t
position(uint64_t max)
{
	uint64_t p = any(max + 1);

	return any(2) ? p : p & ~(uint64_t)(BLOCK - 1);
}

static void
op_overwrite(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);

	if (fd >= 0)
		write_at(fd, path, position(size_of(fd)),
		    any(3) ? any(3 * BLOCK) : any(128 << 10));
}

static void
op_append(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);

	if (fd >= 0 && size_of(fd) < FILE_MAX)
		write_at(fd, path, size_of(fd) + (any(3) ? 0 : any(30000)),
		    any(20000));
}

static void
op_truncate(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);
	unsigned times = 1 + (unsigned)any(2);

	while (fd >= 0 && times-- > 0) {
		uint64_t to = position(any(2) ? size_of(fd) : FILE_MAX);

		say("truncate %s %llu to %llu", path,
		    (unsigned long long)size_of(fd), (unsigned long long)to);
		assert_int_equal(ftruncate(fd, (off_t)to), 0);
	}
}

static void
op_fallocate(void)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE,
	    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
	    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	    FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE};
	char path[512];
	SCOPED_FD int fd = open_some(path);
	int mode = modes[any(MEM_COUNT(modes))];
	uint64_t off, len;

	if (fd < 0)
		return;
	off = position(size_of(fd) + 20000);
	len = 1 + position(100000);
	/* btrfs has no collapse and insert: EOPNOTSUPP, and that is fine. */
	say("fallocate %x %s %llu+%llu: %d", (unsigned)mode, path,
	    (unsigned long long)off, (unsigned long long)len,
	    fallocate(fd, mode, (off_t)off, (off_t)len));
}

/* Preallocate, then write into some of it. */
static void
op_convert(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);
	uint64_t off;

	if (fd < 0)
		return;
	off = position(size_of(fd));
	say("preallocate %s %llu+65536", path, (unsigned long long)off);
	if (fallocate(fd, 0, (off_t)off, 65536) == 0)
		write_at(fd, path, off + any(50000), any(16000));
}

static int snapshot_view = -1; /* of the older snapshot */

/* From a file as it is, or as it was, or of itself. */
static void
op_clone(void)
{
	char path[512], from[512];
	SCOPED_FD int fd = open_some(path), src = -1;
	struct file_clone_range r = {0};
	int rc;

	if (fd < 0)
		return;
	/* Of itself: the same extent of the same age, at another place. */
	if (any(3) == 0)
		strcpy(from, path);
	else
		pick(from, S_IFREG);
	src = openat(any(2) && snapshot_view >= 0 ? snapshot_view : workfd,
	    from, O_RDONLY | O_CLOEXEC);
	if (src < 0)
		return;
	r.src_fd = src;
	r.src_offset = any(size_of(src) + 1) & ~(uint64_t)(BLOCK - 1);
	r.src_length = any(3) ? (1 + any(20)) * BLOCK : 0; /* 0: the rest */
	r.dest_offset = any(3) == 0
			    ? r.src_offset
			    : any(size_of(fd) + 1) & ~(uint64_t)(BLOCK - 1);
	rc = ioctl(fd, FICLONERANGE, &r);
	say("clone %s %llu+%llu to %s %llu: %d", from,
	    (unsigned long long)r.src_offset, (unsigned long long)r.src_length,
	    path, (unsigned long long)r.dest_offset, rc);
}

/* Copy a piece by its bytes, then have it shared. */
static void
op_dedupe(void)
{
	union {
		struct file_dedupe_range r;
		uint8_t room[sizeof(struct file_dedupe_range) +
			     sizeof(struct file_dedupe_range_info)];
	} d = {0};
	char path[512], from[512];
	SCOPED_FD int fd = open_some(path), src = open_some(from);
	SCOPED_FREE uint8_t *p = mem_new(4 * BLOCK);
	struct err e = ERR_NONE;
	uint64_t off;

	if (fd < 0 || src < 0 || size_of(src) < 4 * BLOCK ||
	    strcmp(path, from) == 0)
		return;
	off = any(size_of(src) - 4 * BLOCK + 1) & ~(uint64_t)(BLOCK - 1);
	must(fs_pread(src, p, 4 * BLOCK, off, &e), &e);
	must(fs_pwrite(fd, p, 4 * BLOCK, off, &e), &e);
	d.r.src_offset = off;
	d.r.src_length = 4 * BLOCK;
	d.r.dest_count = 1;
	d.r.info[0].dest_fd = fd;
	d.r.info[0].dest_offset = off;
	say("dedupe %s and %s %llu: %d", from, path, (unsigned long long)off,
	    ioctl(src, FIDEDUPERANGE, &d.r));
}

static void
op_rename(void)
{
	static const unsigned flags[] = {
	    0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE};
	unsigned f = flags[any(MEM_COUNT(flags))];
	char from[512], to[512];

	pick(from, any(3) ? S_IFREG : S_IFDIR);
	if (from[0] == '\0')
		return;
	if (f == RENAME_EXCHANGE)
		pick(to, any(3) ? S_IFREG : S_IFDIR);
	else if (any(3) == 0)
		pick(to, S_IFREG); /* over one that is there */
	else
		new_name(to);
	say("rename %u %s to %s: %d", f, from, to,
	    to[0] ? renameat2(workfd, from, workfd, to, f) : 0);
}

static void
make_file(const char *path, int flags)
{
	SCOPED_FD int fd =
	    openat(workfd, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	say("make %s (flags %x)", path, (unsigned)flags);
	if (fd < 0)
		return; /* a folder has that name */
	if (flags != 0)
		ioctl(fd, FS_IOC_SETFLAGS, &flags);
	/* Small ones lie inside the tree. */
	if (any(3) == 0)
		write_at(fd, path, 0, 128 << 10);
	else
		write_at(fd, path, 0, any(3) ? any(200000) : any(2000));
}

static void
op_make(void)
{
	static const int flags[] = {0, 0, FS_NOCOW_FL, FS_COMPR_FL};
	char path[512];

	new_name(path);
	make_file(path, flags[any(MEM_COUNT(flags))]);
}

static void
op_unlink(void)
{
	char path[512];

	if (pick(path, S_IFREG)[0] == '\0')
		return;
	say("unlink %s", path);
	assert_int_equal(unlinkat(workfd, path, 0), 0);
	if (any(2))
		make_file(path, 0);
	else if (any(3) == 0 && mkdirat(workfd, path, 0700) == 0)
		say("mkdir %s", path);
}

static void
op_link(void)
{
	char path[512], to[512];

	if (pick(path, S_IFREG)[0] == '\0')
		return;
	new_name(to);
	say("link %s as %s: %d", path, to, linkat(workfd, path, workfd, to, 0));
}

static void
op_folder(void)
{
	char path[512];

	if (any(3)) {
		new_name(path);
		say("mkdir %s: %d", path, mkdirat(workfd, path, 0700));
	} else if (pick(path, S_IFDIR)[0] != '\0') {
		say("rmdir %s: %d", path, unlinkat(workfd, path, AT_REMOVEDIR));
	}
}

static void
op_defragment(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);
	struct btrfs_ioctl_defrag_range_args a = {
	    .len = UINT64_MAX,
	    .extent_thresh = 1 << 20,
	};

	if (fd < 0)
		return;
	if (any(2)) {
		a.flags = BTRFS_DEFRAG_RANGE_COMPRESS;
		a.compress_type = 1 + (uint32_t)any(3);
	}
	say("defragment %s: %d", path, ioctl(fd, BTRFS_IOC_DEFRAG_RANGE, &a));
}

static void
op_map(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);
	uint64_t size = fd < 0 ? 0 : size_of(fd);
	uint8_t *p;

	if (size == 0)
		return;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	for (int i = 0; i < 5; i++)
		p[any(size)] ^= 0x55;
	say("mmap %s", path);
	assert_int_equal(munmap(p, size), 0);
}

static void
op_attributes(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);

	if (fd < 0)
		return;
	say("attributes of %s", path);
	fchmod(fd, any(2) ? 0600 : 0644);
	fsetxattr(fd, "user.x", path, any(100), 0);
}

/* Commits the transaction, so that the next write is of another. */
static void
op_sync(void)
{
	say("sync");
	syncfs(workfd);
}

static void (*const operations[])(void) = {op_overwrite, op_overwrite,
    op_overwrite, op_append, op_truncate, op_truncate, op_fallocate,
    op_fallocate, op_convert, op_clone, op_clone, op_dedupe, op_rename,
    op_rename, op_rename, op_make, op_unlink, op_link, op_folder, op_defragment,
    op_map, op_attributes, op_sync};

static void
one_round(void)
{
	struct things files = {0};
	unsigned n = 1 + (unsigned)any(30);

	buf_clear(&journal);
	collect(workfd, ".", S_IFREG, &files);
	for (size_t i = files.n; i < 8; i++)
		op_make();
	while (files.n > 40) { /* not more and more */
		unlinkat(workfd, files.v[--files.n], 0);
		say("unlink %s", files.v[files.n]);
		free(files.v[files.n]);
	}
	things_fini(&files);
	while (n-- > 0)
		operations[any(MEM_COUNT(operations))]();
}

/* ---- the truth ---- */

struct file {
	uint64_t ino, gen, size;
	int fd;
};

struct files {
	struct file *v;
	size_t n, cap;
};

static void
files_fini(struct files *l)
{
	for (size_t i = 0; i < l->n; i++)
		close(l->v[i].fd);
	free(l->v);
}

static const struct file *
file_of(const struct files *l, uint64_t ino, uint64_t gen)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].ino == ino && l->v[i].gen == gen)
			return &l->v[i];
	return NULL;
}

static void
open_files(int view, struct files *out)
{
	struct things t = {0};

	collect(view, ".", S_IFREG, &t);
	for (size_t i = 0; i < t.n; i++) {
		struct file f = {0};
		struct stat st;
		long gen = 0;

		f.fd = openat(view, t.v[i], O_RDONLY | O_CLOEXEC);
		assert_true(f.fd >= 0);
		assert_int_equal(fstat(f.fd, &st), 0);
		assert_int_equal(ioctl(f.fd, FS_IOC_GETVERSION, &gen), 0);
		f.ino = st.st_ino;
		f.gen = (uint32_t)gen;
		f.size = (uint64_t)st.st_size;
		if (file_of(out, f.ino, f.gen) != NULL) {
			close(f.fd); /* another name of it */
			continue;
		}
		MEM_ROOM(out->v, out->n, out->cap);
		out->v[out->n++] = f;
	}
	things_fini(&t);
}

/* The block, behind the file's end zeros. */
static void
read_block(const struct file *f, uint64_t off, uint8_t out[BLOCK])
{
	ssize_t n = pread(f->fd, out, BLOCK, (off_t)off);

	assert_true(n >= 0);
	memset(out + n, 0, BLOCK - (size_t)n);
}

struct count {
	uint64_t blocks, differing, named;
};

/* Every block of one file that differs is named, or the test has failed. */
static void
judge_file(const struct file *a, const struct file *b, const struct extents *x,
    const char *who, struct count *c)
{
	uint64_t end = a->size > b->size ? a->size : b->size;

	for (uint64_t off = 0; off < end; off += BLOCK) {
		uint8_t p[BLOCK], q[BLOCK];
		bool named = extents_contain(x, b->ino, off, BLOCK);
		bool differs;

		read_block(a, off, p);
		read_block(b, off, q);
		differs = memcmp(p, q, BLOCK) != 0;
		c->blocks++;
		c->differing += differs;
		c->named += named;
		if (differs && !named) {
			buf_put_u8(&journal, 0);
			fail_msg("%s did not name block %llu of inode %llu "
				 "(sizes %llu and %llu); operations:\n%s",
			    who, (unsigned long long)(off / BLOCK),
			    (unsigned long long)b->ino,
			    (unsigned long long)a->size,
			    (unsigned long long)b->size, (char *)journal.data);
		}
	}
}

static void
judge(
    int from, int to, const struct extents *x, const char *who, struct count *c)
{
	struct files a __attribute__((cleanup(files_fini))) = {0};
	struct files b __attribute__((cleanup(files_fini))) = {0};

	open_files(from, &a);
	open_files(to, &b);
	for (size_t i = 0; i < b.n; i++) {
		const struct file *old = file_of(&a, b.v[i].ino, b.v[i].gen);

		if (old != NULL)
			judge_file(old, &b.v[i], x, who, c);
	}
}

static void
answer_scope(struct tracker_answer *a)
{
	tracker_answer_fini(a);
}

/* Ask one tracker about two snapshots and hold its answer against the truth;
 * the result of the asking. */
static int
ask(struct snap_volume *v, const char *name, const char *from, const char *to,
    struct count *c, struct err *e)
{
	struct tracker_answer a __attribute__((cleanup(answer_scope))) = {0};
	struct tracker_pair p = {v, from, to};
	const struct tracker_ops *t = NULL;
	SCOPED_FD int old = -1, new = -1;
	int rc;

	must(tracker_pick(&t, name, v, e), e);
	rc = tracker_changed(t, &p, &a, e);
	if (rc < 0)
		return rc;
	assert_false(a.everything);
	assert_true(a.ranges.n == 0 || a.ranges.settled);
	old = snap_view(v, from, e);
	must(old, e);
	new = snap_view(v, to, e);
	must(new, e);
	judge(old, new, &a.ranges, name, c);
	return 0;
}

static void
must_ask(struct snap_volume *v, const char *name, const char *from,
    const char *to, struct count *c)
{
	struct err e = ERR_NONE;

	if (ask(v, name, from, to, c, &e) < 0) {
		buf_put_u8(&journal, 0);
		fail_msg("%s; operations:\n%s", e.text, (char *)journal.data);
	}
}

static struct snap_volume *
begin_work(const char *name)
{
	struct snap_volume *v = NULL;
	struct err e = ERR_NONE;

	snprintf(work, sizeof work, "%s/%s", loop.dir, name);
	assert_int_equal(
	    loop_run("btrfs -q subvolume create %s >/dev/null", work), 0);
	workfd = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(workfd >= 0);
	must(snap_open(&v, "btrfs", work, &e), &e);
	return v;
}

static void
end_work(struct snap_volume *v)
{
	close(workfd);
	workfd = -1;
	snap_close(v);
}

static void
report(const char *who, const struct count *c)
{
	print_message("%s: %llu blocks, %llu differ, %llu named: %.2f times "
		      "the truth\n",
	    who, (unsigned long long)c->blocks,
	    (unsigned long long)c->differing, (unsigned long long)c->named,
	    c->differing ? (double)c->named / (double)c->differing : 1);
}

static uint64_t
from_env(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s != NULL && s[0] ? strtoull(s, NULL, 0) : otherwise;
}

/* ---- tests ---- */

static void
test_random_operations(void **state)
{
	uint64_t rounds = from_env("TRACK_ROUNDS", config == configs ? 40 : 15);
	uint64_t seed = from_env("TRACK_SEED", (uint64_t)clock_now_s());
	struct count send = {0}, extents = {0};
	struct snap_volume *v;
	char from[64] = "", to[64];
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	print_message("TRACK_SEED=%llu TRACK_ROUNDS=%llu\n",
	    (unsigned long long)seed, (unsigned long long)rounds);
	rng = seed * 0x9e3779b97f4a7c15u + 1;
	v = begin_work("random");
	for (uint64_t i = 0; i <= rounds; i++) {
		one_round();
		snprintf(to, sizeof to, "neap-r-%llu", (unsigned long long)i);
		must(snap_create(v, to, &e), &e);
		if (from[0] != '\0') {
			must_ask(v, "btrfs-send", from, to, &send);
			must_ask(v, "btrfs-extents", from, to, &extents);
			must(snap_remove(v, from, &e), &e);
			fs_close_scope(&snapshot_view);
		}
		strcpy(from, to);
		snapshot_view = snap_view(v, to, &e);
		must(snapshot_view, &e);
	}
	fs_close_scope(&snapshot_view);
	snapshot_view = -1;
	must(snap_remove(v, from, &e), &e);
	report("btrfs-send", &send);
	report("btrfs-extents", &extents);
	end_work(v);
}

/* Nothing changed must be an empty answer: it is what makes a backup cheap. */
static void
test_no_change_names_nothing(void **state)
{
	static const char *const who[] = {"btrfs-send", "btrfs-extents"};
	struct snap_volume *v;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	v = begin_work("still");
	make_file("./a", 0);
	must(snap_create(v, "neap-s-1", &e), &e);
	must(snap_create(v, "neap-s-2", &e), &e);
	for (size_t i = 0; i < MEM_COUNT(who); i++) {
		struct count c = {0};

		must_ask(v, who[i], "neap-s-1", "neap-s-2", &c);
		assert_int_equal(c.named, 0);
	}
	must(snap_remove(v, "neap-s-1", &e), &e);
	must(snap_remove(v, "neap-s-2", &e), &e);
	end_work(v);
}

static void
test_auto_takes_send(void **state)
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
	assert_string_equal(t->name, "btrfs-send");
	end_work(v);
}

/* Bytes that were shared from elsewhere carry the age, size and encoding of
 * what was there before: only their place tells. */
static void
test_shared_ranges_are_seen(void **state)
{
	static const char *const who[] = {"btrfs-send", "btrfs-extents"};
	struct file_clone_range r = {.src_length = 4 * BLOCK};
	SCOPED_FD int a = -1, b = -1;
	struct snap_volume *v;
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	v = begin_work("shared");
	a = openat(workfd, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	b = openat(workfd, "b", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	write_at(a, "a", 0, 32 * BLOCK);
	write_at(b, "b", 0, 32 * BLOCK);
	syncfs(workfd);
	must(snap_create(v, "neap-c-1", &e), &e);
	r.src_fd = a;
	r.src_offset = 16 * BLOCK; /* of itself, further up */
	assert_int_equal(ioctl(a, FICLONERANGE, &r), 0);
	r.src_offset = r.dest_offset = 8 * BLOCK; /* of another's same place */
	assert_int_equal(ioctl(b, FICLONERANGE, &r), 0);
	must(snap_create(v, "neap-c-2", &e), &e);
	for (size_t i = 0; i < MEM_COUNT(who); i++) {
		struct count c = {0};

		must_ask(v, who[i], "neap-c-1", "neap-c-2", &c);
		assert_true(c.differing >= 8);
		assert_true(c.named < c.blocks);
	}
	must(snap_remove(v, "neap-c-1", &e), &e);
	must(snap_remove(v, "neap-c-2", &e), &e);
	end_work(v);
}

/* The older one missing, or not the older one: never an empty answer. */
static void
test_wrong_pairs_are_refused(void **state)
{
	static const char *const who[] = {"btrfs-send", "btrfs-extents"};
	struct snap_volume *v;
	struct count c = {0};
	struct err e = ERR_NONE;

	(void)state;
	NEED_BTRFS();
	v = begin_work("pairs");
	must(snap_create(v, "neap-p-1", &e), &e);
	make_file("./a", 0);
	must(snap_create(v, "neap-p-2", &e), &e);
	for (size_t i = 0; i < MEM_COUNT(who); i++) {
		assert_int_equal(
		    ask(v, who[i], "neap-p-2", "neap-p-1", &c, &e), -ESTALE);
		assert_int_equal(
		    ask(v, who[i], "neap-p-1", "neap-p-1", &c, &e), -ESTALE);
		assert_int_equal(
		    ask(v, who[i], "neap-p-0", "neap-p-1", &c, &e), -ENOENT);
	}
	must(snap_remove(v, "neap-p-1", &e), &e);
	must(snap_remove(v, "neap-p-2", &e), &e);
	end_work(v);
}

static void
remount(void)
{
	/* The open descriptor keeps the loop device from going. */
	assert_int_equal(
	    loop_run("d=$(findmnt -no SOURCE %s) && exec 9<$d && umount %s && "
		     "mount -o noatime $d %s",
		loop.dir, loop.dir, loop.dir),
	    0);
}

/* The top level holds the folder of snapshots itself: they must not be in its
 * answers, nor be in their way. */
static void
test_top_level_as_a_volume(void **state)
{
	static const char *const who[] = {"btrfs-send", "btrfs-extents"};
	struct snap_volume *v = NULL;
	struct err e = ERR_NONE;
	char from[64], to[64];

	(void)state;
	NEED_BTRFS();
	snprintf(work, sizeof work, "%s/folder", loop.dir);
	assert_int_equal(mkdir(work, 0700), 0);
	workfd = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(snap_open(&v, "btrfs", loop.dir, &e), &e);
	one_round();
	must(snap_create(v, "neap-t-0", &e), &e);
	for (int i = 0; i < 4; i++) {
		snprintf(from, sizeof from, "neap-t-%d", i);
		snprintf(to, sizeof to, "neap-t-%d", i + 1);
		one_round();
		must(snap_create(v, to, &e), &e);
		for (size_t k = 0; k < MEM_COUNT(who); k++) {
			struct count c = {0};

			must_ask(v, who[k], from, to, &c);
		}
		must(snap_remove(v, from, &e), &e);
	}
	must(snap_remove(v, to, &e), &e);
	end_work(v);
}

/* After a mount btrfs hands out the highest inode number again when its file
 * is gone: the same number, another generation, another file. */
static void
test_inode_number_used_again(void **state)
{
	static const char *const who[] = {"btrfs-send", "btrfs-extents"};
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
	workfd = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_file("./last", 0);
	assert_int_equal(fstatat(workfd, "last", &after, 0), 0);
	if (before.st_ino != after.st_ino)
		print_message("the number was not used again\n");
	must(snap_open(&v, "btrfs", work, &e), &e);
	must(snap_create(v, "neap-i-2", &e), &e);
	for (size_t i = 0; i < MEM_COUNT(who); i++) {
		struct count c = {0};

		must_ask(v, who[i], "neap-i-1", "neap-i-2", &c);
		assert_int_equal(c.named, 0); /* "keep" is the same */
	}
	must(snap_remove(v, "neap-i-1", &e), &e);
	must(snap_remove(v, "neap-i-2", &e), &e);
	end_work(v);
}

/* While a balance moves extents the answer is right, or it is "stale". */
static void
test_balance_meanwhile(void **state)
{
	static const char *const who[] = {"btrfs-send", "btrfs-extents"};
	unsigned right = 0, stale = 0;
	struct count c = {0};
	struct snap_volume *v;
	struct err e = ERR_NONE;
	pid_t pid;
	int status;

	(void)state;
	NEED_BTRFS();
	v = begin_work("balance");
	for (int i = 0; i < 20; i++)
		op_make();
	must(snap_create(v, "neap-b-1", &e), &e);
	for (int i = 0; i < 40; i++)
		op_overwrite();
	must(snap_create(v, "neap-b-2", &e), &e);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(loop_run("for i in 1 2 3 4; do btrfs -q balance start "
			       "--full-balance %s; done >/dev/null 2>&1",
		    loop.dir));
	do {
		for (size_t i = 0; i < MEM_COUNT(who); i++) {
			int rc = ask(v, who[i], "neap-b-1", "neap-b-2", &c, &e);

			if (rc != -ESTALE)
				must(rc, &e);
			stale += rc == -ESTALE;
			right += rc != -ESTALE;
		}
		usleep(1000);
	} while (waitpid(pid, &status, WNOHANG) == 0);
	print_message("beside a balance: %u right, %u stale\n", right, stale);
	/* And when it is over. */
	must_ask(v, "btrfs-send", "neap-b-1", "neap-b-2", &c);
	must_ask(v, "btrfs-extents", "neap-b-1", "neap-b-2", &c);
	must(snap_remove(v, "neap-b-1", &e), &e);
	must(snap_remove(v, "neap-b-2", &e), &e);
	end_work(v);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_auto_takes_send),
	    cmocka_unit_test(test_no_change_names_nothing),
	    cmocka_unit_test(test_shared_ranges_are_seen),
	    cmocka_unit_test(test_wrong_pairs_are_refused),
	    cmocka_unit_test(test_random_operations),
	    cmocka_unit_test(test_top_level_as_a_volume),
	    cmocka_unit_test(test_balance_meanwhile),
	    cmocka_unit_test(test_inode_number_used_again),
	};

	int failed = 0;

	for (size_t i = 0; i < MEM_COUNT(configs); i++) {
		config = &configs[i];
		failed += cmocka_run_group_tests_name(
		    config->name, tests, setup, teardown);
	}
	return failed;
}

/*
 * Random operations on the files of a folder: all that a file system on Linux
 * can do to a file's bytes, length, place and names. Shared by the tests of
 * trackers and by tests/system/random_ops.c; no test framework is needed.
 *
 * random_ops_seed() and then random_ops_some() as often as wanted; what was
 * done stands in random_ops_journal.
 */
#ifndef NEAP_TESTS_TRACK_RANDOM_OPS_H
#define NEAP_TESTS_TRACK_RANDOM_OPS_H

#include <dirent.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/core/bytes.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"

#define BLOCK 4096u
#define FILE_MAX (640u << 10) /* operations keep files below about this */
#define FILES_MAX 40u

/* What must hold for the test itself to make sense. */
#define SURE(x)                                                                \
	do {                                                                   \
		if (!(x)) {                                                    \
			fprintf(stderr, "%s:%d: %s: %m\n", __FILE__, __LINE__, \
			    #x);                                               \
			abort();                                               \
		}                                                              \
	} while (0)

static uint64_t rng = 1;
static int workfd = -1;        /* the folder */
static int snapshot_view = -1; /* an older state of it, to clone from; or -1 */
static int unnamed = -1;       /* a file without a name; or -1 */
static struct buf random_ops_journal;

/* Before the file system is unmounted. */
static inline void
random_ops_let_go(void)
{
	fs_close_scope(&unnamed);
	unnamed = -1;
}

static inline void
random_ops_seed(uint64_t seed)
{
	rng = seed * 0x9e3779b97f4a7c15u + 1;
}

static inline uint64_t
any(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return n ? (rng >> 11) % n : 0;
}

static inline void __attribute__((format(printf, 1, 2)))
say(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof line)
		n = sizeof line - 1;
	buf_put(&random_ops_journal, line, (size_t)n);
	buf_put_u8(&random_ops_journal, '\n');
}

/* ---- what there is ---- */

struct things {
	char **v;
	size_t n, cap;
};

static inline void
things_fini(struct things *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i]);
	free(t->v);
	*t = (struct things){0};
}

/* Paths below `at` (relative to dirfd) of one kind: S_IFREG or S_IFDIR. */
static inline void
collect(int dirfd, const char *at, mode_t kind, struct things *out)
{
	int fd = openat(dirfd, at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	struct dirent *de;

	SURE(d != NULL);
	while ((de = readdir(d)) != NULL) {
		char *path;

		if (strcmp(de->d_name, ".") == 0 ||
		    strcmp(de->d_name, "..") == 0)
			continue;
		path = strcmp(at, ".") == 0 ? mem_str(de->d_name)
					    : fs_join(at, de->d_name);
		/* btrfs fills in d_type: no stat for each name. */
		SURE(de->d_type != DT_UNKNOWN);
		if (de->d_type == IFTODT(kind)) {
			MEM_ROOM(out->v, out->n, out->cap);
			out->v[out->n++] = mem_str(path);
		}
		if (de->d_type == DT_DIR)
			collect(dirfd, path, kind, out);
		free(path);
	}
	closedir(d);
}

/* A path of that kind, "" where there is none; in a caller's buffer. */
static inline const char *
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
static inline void
new_name(char out[512])
{
	char dir[512];

	pick(dir, S_IFDIR);
	if (dir[0] == '\0' || any(3) == 0 || strlen(dir) > 300)
		strcpy(dir, ".");
	if (any(4) == 0)
		snprintf(out, 512, "%.400s/x%u", dir, (unsigned)any(4));
	else
		snprintf(out, 512, "%.400s/n%05x", dir, (unsigned)any(1 << 20));
}

static inline int
open_some(char path[512])
{
	int fd;

	if (pick(path, S_IFREG)[0] == '\0')
		return -1;
	fd = openat(workfd, path, O_RDWR | O_CLOEXEC);
	SURE(fd >= 0);
	return fd;
}

static inline uint64_t
size_of(int fd)
{
	struct stat st;

	SURE(fstat(fd, &st) == 0);
	return (uint64_t)st.st_size;
}

/* ---- operations ---- */

static inline void
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

static inline void
write_at(int fd, const char *path, uint64_t off, size_t len)
{
	SCOPED_FREE uint8_t *p = mem_new(len + 1);
	struct err e = ERR_NONE;

	fill(p, len);
	say("write %s %llu+%zu", path, (unsigned long long)off, len);
	SURE(fs_pwrite(fd, p, len, off, &e) == 0);
}

/* Half of them on block bounds. */
static inline uint64_t
position(uint64_t max)
{
	uint64_t p = any(max + 1);

	return any(2) ? p : p & ~(uint64_t)(BLOCK - 1);
}

static inline void
op_overwrite(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);

	if (fd >= 0)
		write_at(fd, path, position(size_of(fd)),
		    any(3) ? any(3 * BLOCK) : any(128 << 10));
}

static inline void
op_append(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);

	if (fd >= 0 && size_of(fd) < FILE_MAX)
		write_at(fd, path, size_of(fd) + (any(3) ? 0 : any(30000)),
		    any(20000));
}

static inline void
op_truncate(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);
	unsigned times = 1 + (unsigned)any(2);

	while (fd >= 0 && times-- > 0) {
		uint64_t to = position(any(2) ? size_of(fd) : FILE_MAX);

		say("truncate %s %llu to %llu", path,
		    (unsigned long long)size_of(fd), (unsigned long long)to);
		SURE(ftruncate(fd, (off_t)to) == 0);
	}
}

static inline void
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
static inline void
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

/* From a file as it is, or as it was, or of itself. */
static inline void
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
static inline void
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
	SURE(fs_pread(src, p, 4 * BLOCK, off, &e) == 0);
	SURE(fs_pwrite(fd, p, 4 * BLOCK, off, &e) == 0);
	d.r.src_offset = off;
	d.r.src_length = 4 * BLOCK;
	d.r.dest_count = 1;
	d.r.info[0].dest_fd = fd;
	d.r.info[0].dest_offset = off;
	say("dedupe %s and %s %llu: %d", from, path, (unsigned long long)off,
	    ioctl(src, FIDEDUPERANGE, &d.r));
}

static inline void
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

static inline void
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

static inline void
op_make(void)
{
	static const int flags[] = {0, 0, FS_NOCOW_FL, FS_COMPR_FL};
	char path[512];

	new_name(path);
	make_file(path, flags[any(MEM_COUNT(flags))]);
}

static inline void
op_unlink(void)
{
	char path[512];

	if (pick(path, S_IFREG)[0] == '\0')
		return;
	say("unlink %s", path);
	SURE(unlinkat(workfd, path, 0) == 0);
	if (any(2))
		make_file(path, 0);
	else if (any(3) == 0 && mkdirat(workfd, path, 0700) == 0)
		say("mkdir %s", path);
}

static inline void
op_link(void)
{
	char path[512], to[512];

	if (pick(path, S_IFREG)[0] == '\0')
		return;
	new_name(to);
	say("link %s as %s: %d", path, to, linkat(workfd, path, workfd, to, 0));
}

static inline void
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

static inline void
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

static inline void
op_map(void)
{
	char path[512];
	SCOPED_FD int fd = open_some(path);
	uint64_t size = fd < 0 ? 0 : size_of(fd);
	uint8_t *p;

	if (size == 0)
		return;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	SURE(p != MAP_FAILED);
	for (int i = 0; i < 5; i++)
		p[any(size)] ^= 0x55;
	say("mmap %s", path);
	SURE(munmap(p, size) == 0);
}

static inline void
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

/* Past the page cache, as MariaDB does: whole blocks, and a buffer that lies on
 * one. */
static inline void
op_direct(void)
{
	char path[512];
	SCOPED_FD int fd = -1;
	void *p = NULL;
	uint64_t off;
	size_t len = (1 + any(8)) * BLOCK;
	ssize_t n;

	if (pick(path, S_IFREG)[0] == '\0')
		return;
	fd = openat(workfd, path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return; /* this file system has none */
	off = any(size_of(fd) + 1) & ~(uint64_t)(BLOCK - 1);
	SURE(posix_memalign(&p, BLOCK, len) == 0);
	fill(p, len);
	n = pwrite(fd, p, len, (off_t)off);
	say("direct write %s %llu+%zu: %zd", path, (unsigned long long)off, len,
	    n);
	free(p);
}

/* A file without a name: an older snapshot may hold it so, and a newer one by
 * the name that it was given. */
static inline void
op_unnamed(void)
{
	char path[512], fd_path[64];

	if (unnamed < 0) {
		unnamed =
		    openat(workfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		say("make a file without a name: %d", unnamed);
		if (unnamed >= 0)
			write_at(unnamed, "(unnamed)", 0, any(100000));
		return;
	}
	new_name(path);
	snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", unnamed);
	write_at(unnamed, "(unnamed)", any(100000), any(20000));
	say("name it %s: %d", path,
	    linkat(AT_FDCWD, fd_path, workfd, path, AT_SYMLINK_FOLLOW));
	random_ops_let_go();
}

/* Commits the transaction, so that the next write is of another. */
static inline void
op_sync(void)
{
	say("sync");
	syncfs(workfd);
}

static void (*const operations[])(void) = {op_overwrite, op_overwrite,
    op_overwrite, op_append, op_truncate, op_truncate, op_fallocate,
    op_fallocate, op_convert, op_clone, op_clone, op_dedupe, op_rename,
    op_rename, op_rename, op_make, op_unlink, op_link, op_folder, op_defragment,
    op_map, op_attributes, op_sync, op_direct, op_unnamed};

/* Not too few files to do something with, and not more and more. */
static inline void
random_ops_keep_bounds(void)
{
	struct things files = {0}, folders = {0};

	collect(workfd, ".", S_IFREG, &files);
	collect(workfd, ".", S_IFDIR, &folders);
	for (size_t i = files.n; i < 8; i++)
		op_make();
	for (size_t i = files.n; i > FILES_MAX; i--) {
		SURE(unlinkat(workfd, files.v[i - 1], 0) == 0);
		say("unlink %s", files.v[i - 1]);
	}
	/* Only empty ones can go; those below come later in the list. */
	for (size_t i = folders.n; i > FILES_MAX / 2; i--)
		say("rmdir %s: %d", folders.v[i - 1],
		    unlinkat(workfd, folders.v[i - 1], AT_REMOVEDIR));
	things_fini(&files);
	things_fini(&folders);
}

static inline void
random_ops_some(unsigned n)
{
	buf_clear(&random_ops_journal);
	random_ops_keep_bounds();
	while (n-- > 0)
		operations[any(MEM_COUNT(operations))]();
}

#endif

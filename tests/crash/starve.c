/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the crash tests: a library to preload into a program, for which a file
 * system comes to have no room, or worse, at a moment of the test's choice.
 *
 *	STARVE_PROGRAM=neap	only this program (not its hooks)
 *	STARVE_UNDER=FOLDER	calls that need room on files and folders below it
 *				count; a call that only gives room back does not
 *	STARVE_AT=N		the N-th of them and all later ones fail
 *	STARVE_ONCE=1		only the N-th does
 *	STARVE_ERRNO=NUMBER	with this
 *	STARVE_LOG=FILE		a line for each: "pwrite /repo/#123 (deleted)"
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int calls;

static void *
next(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (f == NULL)
		abort();
	return f;
}

/* The path of `fd`, or of `name` seen from it. */
static void
path_of(int fd, const char *name, char *out, size_t cap)
{
	char link[64];
	ssize_t n = 0;

	if (name == NULL || name[0] != '/') {
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		n = fd == AT_FDCWD ? 0 : readlink(link, out, cap - 1);
		n = n < 0 ? 0 : n;
	}
	snprintf(out + n, cap - (size_t)n, "%s%s", n > 0 && name ? "/" : "",
	    name ? name : "");
}

static void
note(const char *call, const char *path)
{
	int (*open_real)(const char *, int, ...) = next("open64");
	ssize_t (*write_real)(int, const void *, size_t) = next("write");
	const char *log = getenv("STARVE_LOG");
	char line[4200];
	int fd;

	if (log == NULL)
		return;
	snprintf(line, sizeof line, "%s %s\n", call, path);
	fd = open_real(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write_real(fd, line, strlen(line)) < 0)
		abort();
	close(fd);
}

static long
number(const char *name)
{
	const char *text = getenv(name);

	return text == NULL ? 0 : strtol(text, NULL, 10);
}

/* Count one call; true: it fails, and errno says with what. */
static bool
starved(const char *call, int fd, const char *name)
{
	const char *only = getenv("STARVE_PROGRAM");
	const char *under = getenv("STARVE_UNDER");
	char path[4096];
	long n, first;

	if (only == NULL || under == NULL ||
	    strcmp(only, program_invocation_short_name) != 0)
		return false;
	path_of(fd, name, path, sizeof path);
	if (strncmp(path, under, strlen(under)) != 0)
		return false;
	n = atomic_fetch_add(&calls, 1) + 1;
	note(call, path);
	first = number("STARVE_AT");
	if (first == 0 || n < first ||
	    (n > first && getenv("STARVE_ONCE") != NULL))
		return false;
	errno = (int)number("STARVE_ERRNO");
	return true;
}

int
openat64(int at, const char *path, int flags, ...)
{
	int (*real)(int, const char *, int, ...) = next("openat64");
	bool makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = makes ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	/* One that is there is only opened. */
	if (makes &&
	    ((flags & O_TMPFILE) == O_TMPFILE ||
		faccessat(at, path, F_OK, 0) < 0) &&
	    starved("openat", at, path))
		return -1;
	return real(at, path, flags, mode);
}

int
open64(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE
		   ? va_arg(ap, mode_t)
		   : 0;
	va_end(ap);
	return openat64(AT_FDCWD, path, flags, mode);
}

int
mkdirat(int at, const char *path, mode_t mode)
{
	int (*real)(int, const char *, mode_t) = next("mkdirat");

	if (faccessat(at, path, F_OK, 0) < 0 && starved("mkdirat", at, path))
		return -1;
	return real(at, path, mode);
}

int
linkat(int from, const char *a, int to, const char *b, int flags)
{
	int (*real)(int, const char *, int, const char *, int) = next("linkat");

	return starved("linkat", to, b) ? -1 : real(from, a, to, b, flags);
}

int
renameat(int from, const char *a, int to, const char *b)
{
	int (*real)(int, const char *, int, const char *) = next("renameat");

	return starved("renameat", to, b) ? -1 : real(from, a, to, b);
}

int
fsync(int fd)
{
	int (*real)(int) = next("fsync");

	return starved("fsync", fd, NULL) ? -1 : real(fd);
}

int
fdatasync(int fd)
{
	int (*real)(int) = next("fdatasync");

	return starved("fdatasync", fd, NULL) ? -1 : real(fd);
}

int
ftruncate64(int fd, off64_t len)
{
	int (*real)(int, off64_t) = next("ftruncate64");
	struct stat st;

	if (fstat(fd, &st) == 0 && len > st.st_size &&
	    starved("ftruncate", fd, NULL))
		return -1;
	return real(fd, len);
}

int
fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	int (*real)(int, int, off64_t, off64_t) = next("fallocate64");

	if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 &&
	    starved("fallocate", fd, NULL))
		return -1;
	return real(fd, mode, off, len);
}

ssize_t
pwrite64(int fd, const void *p, size_t n, off64_t off)
{
	ssize_t (*real)(int, const void *, size_t, off64_t) = next("pwrite64");

	return starved("pwrite", fd, NULL) ? -1 : real(fd, p, n, off);
}

ssize_t
pwritev64(int fd, const struct iovec *v, int n, off64_t off)
{
	ssize_t (*real)(int, const struct iovec *, int, off64_t) =
	    next("pwritev64");

	return starved("pwritev", fd, NULL) ? -1 : real(fd, v, n, off);
}

ssize_t
write(int fd, const void *p, size_t n)
{
	ssize_t (*real)(int, const void *, size_t) = next("write");

	return starved("write", fd, NULL) ? -1 : real(fd, p, n);
}

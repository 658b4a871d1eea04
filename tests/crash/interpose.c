/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the crash tests: a library to preload into a program, which sees every
 * call that makes something durable, names it or removes it.
 *
 *	CRASH_PROGRAM=neap	only in this program (not in its hooks)
 *	CRASH_LOG=FILE		a line for each call: "linkat maps/0a1b…"
 *	CRASH_AT=N		die by SIGKILL instead of the N-th such call
 *	CRASH_ON=TEXT		… instead of the first whose line starts so
 *	CRASH_AFTER=1		… after that call rather than before it
 *	CRASH_STOP=1		… by SIGSTOP: the test cuts the power, then kills
 *	CRASH_WAIT=TEXT		wait before such a call, CRASH_REACHED=FILE is
 *				made and has to be removed for it to go on
 *	CRASH_CLOCK=SECONDS	added to the time of day
 *	CRASH_CLOCK=@SECONDS	the time of day is this, for ever
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_int calls;
static atomic_bool waited;

static bool
watched(void)
{
	const char *only = getenv("CRASH_PROGRAM");

	return only != NULL && strcmp(only, program_invocation_short_name) == 0;
}

static void
die(void)
{
	kill(getpid(), getenv("CRASH_STOP") != NULL ? SIGSTOP : SIGKILL);
	for (;;)
		pause();
}

/* Let the test do something here. */
static void
wait_here(void)
{
	const char *reached = getenv("CRASH_REACHED");
	int fd = reached == NULL
		     ? -1
		     : open(reached, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		abort();
	close(fd);
	while (access(reached, F_OK) == 0)
		usleep(1000);
}

/* Count and log one call; true: it is the last one, and may still be made. */
static bool
look(const char *call, const char *path)
{
	const char *at = getenv("CRASH_AT"), *on = getenv("CRASH_ON");
	const char *log = getenv("CRASH_LOG"), *wait = getenv("CRASH_WAIT");
	char line[4200];
	bool hit;
	int n;

	if (!watched())
		return false;
	n = atomic_fetch_add(&calls, 1) + 1;
	snprintf(line, sizeof line, "%s %s\n", call, path);
	if (log != NULL) {
		int fd =
		    open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0 || write(fd, line, strlen(line)) < 0)
			abort();
		close(fd);
	}
	if (wait != NULL && strncmp(line, wait, strlen(wait)) == 0 &&
	    !atomic_exchange(&waited, true))
		wait_here();
	hit = (at != NULL && n == strtol(at, NULL, 10)) ||
	      (on != NULL && strncmp(line, on, strlen(on)) == 0);
	if (hit && getenv("CRASH_AFTER") == NULL)
		die();
	return hit;
}

static const char *
path_of(int fd, char *out, size_t cap)
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, out, cap - 1);
	out[n < 0 ? 0 : n] = '\0';
	return out;
}

static void *
next(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (f == NULL)
		abort();
	return f;
}

/* `hit` first: most are to die before the call. */
#define PASS(hit, expr)                                                        \
	do {                                                                   \
		bool hit_ = (hit);                                             \
		long passed_ = (expr);                                         \
		if (hit_)                                                      \
			die();                                                 \
		return (int)passed_;                                           \
	} while (0)

int
linkat(int from, const char *a, int to, const char *b, int flags)
{
	int (*real)(int, const char *, int, const char *, int) = next("linkat");

	PASS(look("linkat", b), real(from, a, to, b, flags));
}

int
renameat(int from, const char *a, int to, const char *b)
{
	int (*real)(int, const char *, int, const char *) = next("renameat");

	PASS(look("renameat", b), real(from, a, to, b));
}

int
unlinkat(int at, const char *path, int flags)
{
	int (*real)(int, const char *, int) = next("unlinkat");

	PASS(look("unlinkat", path), real(at, path, flags));
}

int
unlink(const char *path)
{
	int (*real)(const char *) = next("unlink");

	PASS(look("unlink", path), real(path));
}

int
fsync(int fd)
{
	int (*real)(int) = next("fsync");
	char path[4096];

	PASS(look("fsync", path_of(fd, path, sizeof path)), real(fd));
}

int
fdatasync(int fd)
{
	int (*real)(int) = next("fdatasync");
	char path[4096];

	PASS(look("fdatasync", path_of(fd, path, sizeof path)), real(fd));
}

int
ftruncate64(int fd, off64_t len)
{
	int (*real)(int, off64_t) = next("ftruncate64");
	char path[4096];

	PASS(look("ftruncate", path_of(fd, path, sizeof path)), real(fd, len));
}

int
fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	int (*real)(int, int, off64_t, off64_t) = next("fallocate64");
	char path[4096];

	PASS(look("fallocate", path_of(fd, path, sizeof path)),
	    real(fd, mode, off, len));
}

/* Of files that are changed in place, and of an extract's. */
ssize_t
pwrite64(int fd, const void *p, size_t n, off64_t off)
{
	ssize_t (*real)(int, const void *, size_t, off64_t) = next("pwrite64");
	char path[4096];
	ssize_t done;
	bool hit = false;

	if (strstr(path_of(fd, path, sizeof path), "/hashes") != NULL)
		hit = look("pwrite", path);
	if (strstr(path, "/out/") != NULL)
		hit = look("pwrite", "out/");
	done = real(fd, p, hit ? n / 2 : n, off); /* and a torn one */
	if (hit)
		die();
	return done;
}

/* Neighbours in one call: of those it is the first page that is torn. */
ssize_t
pwritev64(int fd, const struct iovec *v, int n, off64_t off)
{
	ssize_t (*real)(int, const struct iovec *, int, off64_t) =
	    next("pwritev64");
	char path[4096];

	if (strstr(path_of(fd, path, sizeof path), "/hashes") != NULL &&
	    look("pwrite", path)) {
		struct iovec half = {v->iov_base, v->iov_len / 2};

		if (real(fd, &half, 1, off) >= 0)
			die();
	}
	return real(fd, v, n, off);
}

/* The ioctls that make and remove snapshots: fs/btrfs, type 0x94. */
int
ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int, unsigned long, void *) = next("ioctl");
	unsigned long nr = request & 0xff;
	va_list ap;
	void *arg;
	bool hit = false;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (((request >> 8) & 0xff) == 0x94 && (nr == 1 || nr == 23))
		hit = look("ioctl", "snapshot");
	if (((request >> 8) & 0xff) == 0x94 && (nr == 15 || nr == 63))
		hit = look("ioctl", "remove");
	PASS(hit, real(fd, request, arg));
}

int
clock_gettime(clockid_t clock, struct timespec *t)
{
	int (*real)(clockid_t, struct timespec *) = next("clock_gettime");
	const char *add = getenv("CRASH_CLOCK");
	int rc = real(clock, t);

	if (rc == 0 && add != NULL && clock == CLOCK_REALTIME && watched()) {
		if (add[0] == '@')
			t->tv_sec = strtoll(add + 1, NULL, 10);
		else
			t->tv_sec += strtoll(add, NULL, 10);
	}
	return rc;
}

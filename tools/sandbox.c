/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/core/stop.h"
#include "tools/sandbox_root.h"

/*
 * Processes: the caller → outer (enters the new namespaces) → init (PID 1
 * inside, reaps) → worker (runs fn). The kernel kills everything inside when
 * init ends, and each dies with the one that started it.
 */

struct job {
	const struct sandbox_how *how;
	sandbox_fn *fn;
	void *arg;
	int fd; /* where the result goes */
};

static void
tell(int fd, const struct err *e, const struct buf *out)
{
	struct span part[] = {SPAN(e, sizeof *e), SPAN(out->data, out->len)};

	for (size_t i = 0; i < 2; i++) {
		const char *at = part[i].data;
		size_t left = part[i].len;

		while (left > 0) {
			ssize_t k = write(fd, at, left);

			if (k < 0 && errno == EINTR)
				continue;
			if (k <= 0)
				return;
			at += k;
			left -= (size_t)k;
		}
	}
}

/* `parent` as getppid says it here: 0 from within a new PID namespace. */
static void
die_with_parent(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1); /* it died before we asked */
}

static int
loopback_up(struct err *e)
{
	SCOPED_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = {.ifr_flags = IFF_UP};

	/* Alone in its namespace it leads nowhere, but engines look for it. */
	memcpy(r.ifr_name, "lo", 3);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		return err_sys(e, errno, "bring the loopback up");
	return 0;
}

_Noreturn static void
worker_main(const struct job *j)
{
	struct err e = ERR_NONE;
	struct buf out = {0};

	die_with_parent(1);
	if (j->fn(j->arg, &out, &e) >= 0)
		err_clear(&e);
	tell(j->fd, &e, &out);
	_exit(0);
}

/* PID 1 inside: build the root, start the worker, reap until it has ended. */
_Noreturn static void
init_main(const struct job *j)
{
	struct err e = ERR_NONE;
	struct buf none = {0};
	pid_t worker, gone;

	die_with_parent(0);
	if (sethostname("neap-sandbox", 12) < 0 || loopback_up(&e) < 0)
		err_clear(&e); /* neither is worth a check that did not run */
	if (sandbox_root(j->how, &e) < 0) {
		tell(j->fd, &e, &none);
		_exit(1);
	}
	worker = fork();
	if (worker == 0)
		worker_main(j);
	do {
		gone = waitpid(-1, NULL, 0);
	} while (gone != worker && (gone > 0 || errno == EINTR));
	_exit(0);
}

_Noreturn static void
outer_main(const struct job *j, pid_t parent)
{
	struct err e = ERR_NONE;
	struct buf none = {0};
	pid_t init;

	die_with_parent(parent);
	setsid();
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC |
		    CLONE_NEWUTS) < 0) {
		err_sys(&e, errno, "make new namespaces");
		tell(j->fd, &e, &none);
		_exit(1);
	}
	init = fork();
	if (init == 0)
		init_main(j);
	if (init < 0) {
		err_sys(&e, errno, "start the sandbox's first process");
		tell(j->fd, &e, &none);
		_exit(1);
	}
	while (waitpid(init, NULL, 0) < 0 && errno == EINTR)
		;
	_exit(0);
}

/* The result up to its end; -ECANCELED, -ETIMEDOUT. */
static int
hear(int fd, int64_t deadline_ms, struct buf *all, struct err *e)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (stop_check(e) < 0)
			return e->code;
		if (clock_mono_ms() > deadline_ms)
			return err_set(e, -ETIMEDOUT, "not done in time");
		if (poll(&p, 1, 100) <= 0)
			continue;
		n = read(fd, buf_room(all, 65536), 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "hear from the sandbox");
		if (n == 0)
			return 0;
		all->len += (size_t)n;
		if (all->len > SANDBOX_OUTPUT_MAX + sizeof(struct err))
			return err_set(e, -EFBIG, "the sandbox says too much");
	}
}

static int
result_of(const struct buf *all, struct buf *out, struct err *e)
{
	struct err inner;

	if (all->len < sizeof inner)
		return err_set(e, -EIO, "the sandbox ended without a result");
	memcpy(&inner, all->data, sizeof inner);
	buf_put(out, all->data + sizeof inner, all->len - sizeof inner);
	return inner.code < 0 ? err_copy(e, &inner) : 0;
}

int
sandbox_run(const struct sandbox_how *how, sandbox_fn *fn, void *arg,
    int64_t timeout_ms, struct buf *out, struct err *e)
{
	struct job j = {.how = how, .fn = fn, .arg = arg};
	SCOPED_BUF struct buf all = {0};
	int p[2], rc;
	pid_t outer, parent = getpid();

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, errno, "make a pipe");
	outer = fork();
	if (outer == 0) {
		close(p[0]);
		j.fd = p[1];
		outer_main(&j, parent);
	}
	close(p[1]);
	if (outer < 0) {
		close(p[0]);
		return err_sys(e, errno, "start the sandbox");
	}
	rc = hear(p[0], clock_mono_ms() + timeout_ms, &all, e);
	close(p[0]);
	/* Init dies with outer, and all inside with init. */
	if (rc < 0)
		kill(outer, SIGKILL);
	while (waitpid(outer, NULL, 0) < 0 && errno == EINTR)
		;
	return rc < 0 ? rc : result_of(&all, out, e);
}

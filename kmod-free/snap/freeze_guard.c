/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/snap/freeze_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"
#include "kmod-free/snap/dm_suspend.h"

#define RETRY_MS 100

/* ---- in the guard: async-signal-safe calls only ----------------------------- */

struct guard {
	const struct freeze_guard_how *how;
	int fd;
	bool thawed;
	struct freeze_guard_answer answer;
};

/* In the order in which they were frozen: where one is just being suspended,
 * this waits for it, and those before it go on first. What is not there any
 * more needs nothing. */
static bool
thaw(struct guard *g)
{
	bool all = true;

	for (size_t i = 0; i < g->how->n; i++) {
		int rc = dm_resume(g->how->control, g->how->uuid[i]);

		all = all && (rc == 0 || rc == -ENXIO);
	}
	g->thawed = all;
	g->answer.thawed_ms = clock_mono_ms();
	return all;
}

static void
thaw_surely(struct guard *g)
{
	while (!thaw(g))
		poll(NULL, 0, RETRY_MS);
}

static int
time_left(const struct guard *g)
{
	int64_t left = g->how->deadline_ms - clock_mono_ms();

	if (g->answer.expired)
		return -1;
	return left < 0 ? 0 : (int)left;
}

/* Not to be the one whom the kernel ends when memory is short. */
static void
stay_alive(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "-1000", 5) < 0)
		close(fd); /* then it is one among others */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	mlockall(MCL_CURRENT | MCL_FUTURE);
}

/* What hooks and other processes wait for the end of must not be kept open. */
static int
keep_only(const struct guard *g)
{
	const unsigned keep[] = {(unsigned)g->fd, (unsigned)g->how->control,
	    (unsigned)g->how->note_fd};
	unsigned from = 0, next;

	do {
		next = UINT_MAX;
		for (size_t i = 0; i < MEM_COUNT(keep); i++)
			if (keep[i] >= from && keep[i] < next)
				next = keep[i];
		if (next > from && close_range(from, next - 1, 0) < 0)
			return -1;
		from = next + 1;
	} while (next != UINT_MAX);
	return 0;
}

_Noreturn static void
guard_main(struct guard *g)
{
	char byte = FREEZE_GUARD_READY;

	setsid();
	stay_alive();
	if (keep_only(g) < 0 || write(g->fd, &byte, 1) != 1)
		_exit(1);
	for (;;) {
		struct pollfd p = {.fd = g->fd, .events = POLLIN};
		int n = poll(&p, 1, time_left(g));

		if (n < 0)
			continue;
		if (n == 0) {
			g->answer.expired = true;
			thaw_surely(g);
		} else if (read(g->fd, &byte, 1) != 1) {
			break;
		} else {
			if (!g->thawed)
				thaw_surely(g);
			if (write(g->fd, &g->answer, sizeof g->answer) < 0)
				break;
		}
	}
	/* Our caller may have been suspending one when the time was over, and
	 * is gone only now. */
	if (!g->thawed || g->answer.expired)
		thaw_surely(g);
	unlink(g->how->note);
	_exit(0);
}

/* ---- in the agent -------------------------------------------------------------- */

pid_t
freeze_guard_start(const struct freeze_guard_how *how, int *fd, struct err *e)
{
	struct guard g = {.how = how};
	int pair[2];
	pid_t pid;
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "make a socket pair");
	g.fd = pair[1];
	pid = fork();
	if (pid == 0)
		guard_main(&g);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return err_sys(e, errno, "start the guard of the freeze");
	}
	if (read(pair[0], &byte, 1) != 1) {
		close(pair[0]);
		return err_set(
		    e, -EIO, "the guard of the freeze did not start");
	}
	*fd = pair[0];
	return pid;
}

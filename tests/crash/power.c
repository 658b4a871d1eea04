/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the crash tests: run a program and cut the power under it.
 *
 *	power MILLISECONDS FOLDER… -- PROGRAM ARG…
 *
 * When the program stops itself (SIGSTOP), or that long after its start (-1:
 * never), the file systems of the folders (ext4, XFS) are shut down without a
 * flush even of their journals: what was not made durable is lost. Only then it
 * is killed, so it never sees that. The status is 137 then, its own otherwise.
 * Without a program, only the power is cut.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* As EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN have it, and what they take. */
#define SHUTDOWN _IOR('X', 125, uint32_t)
#define WITHOUT_LOG_FLUSH 2u

static void
cut(char **folder, int n)
{
	for (int i = 0; i < n; i++) {
		uint32_t how = WITHOUT_LOG_FLUSH;
		int fd = open(folder[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0 || ioctl(fd, SHUTDOWN, &how) < 0)
			err(1, "%s", folder[i]);
		close(fd);
	}
}

static pid_t
start(char **argv)
{
	pid_t pid = fork();
	sigset_t none;

	if (pid < 0)
		err(1, "fork");
	if (pid > 0)
		return pid;
	/* A stopped one would outlive us, and hold the disks. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(argv[0], argv);
	err(127, "%s", argv[0]);
}

/* Until it stops, by itself or by us after `ms`; false: it has ended first, and
 * *status is its. SIGCHLD is blocked. */
static bool
stops(pid_t pid, long ms, int *status)
{
	struct timespec left = {ms / 1000, ms % 1000 * 1000000};
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (ms >= 0 && sigtimedwait(&child, NULL, &left) < 0)
		kill(pid, SIGSTOP);
	if (waitpid(pid, status, WUNTRACED) != pid)
		err(1, "waitpid");
	return WIFSTOPPED(*status);
}

int
main(int argc, char **argv)
{
	int first = 2, status, at = 2;
	sigset_t child;
	pid_t pid;

	while (at < argc && strcmp(argv[at], "--") != 0)
		at++;
	if (argc < 3 || at == argc)
		errx(2, "usage: power MILLISECONDS FOLDER... -- PROGRAM...");
	if (at + 1 == argc) {
		cut(argv + first, at - first);
		return 0;
	}
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	pid = start(argv + at + 1);
	if (!stops(pid, strtol(argv[1], NULL, 10), &status))
		return WIFSIGNALED(status) ? 128 + WTERMSIG(status)
					   : WEXITSTATUS(status);
	cut(argv + first, at - first);
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		err(1, "waitpid");
	return 137;
}

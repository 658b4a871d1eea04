/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "tools/mount_serve.h"

/* What a server says: once when it is up or has failed, once at its end. */
struct answer {
	struct err e;
	struct mount_stats stats;
};

static int
tell(int fd, const struct answer *a)
{
	const char *at = (const char *)a;
	size_t left = sizeof *a;

	while (left > 0) {
		ssize_t k = write(fd, at, left);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		at += k;
		left -= (size_t)k;
	}
	return 0;
}

static int
hear(int fd, struct answer *a)
{
	char *at = (char *)a;
	size_t left = sizeof *a;

	while (left > 0) {
		ssize_t k = read(fd, at, left);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		at += k;
		left -= (size_t)k;
	}
	return 0;
}

static void
keep_only(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	if (fd != STDERR_FILENO)
		dup2(null, STDERR_FILENO);
}

/* The server process; the control socket is `fd`. */
_Noreturn static void
server_main(const struct mount_how *how, int fd)
{
	struct answer a = {.e = ERR_NONE};
	struct mount_serve *s = NULL;

	/* A session of its own: an interrupt at the keyboard is for the
	 * caller, who stops us in an orderly way. */
	setsid();
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	if (mount_serve_open(&s, how, &a.e) < 0) {
		tell(fd, &a);
		_exit(1);
	}
	tell(fd, &a);
	/* The caller's terminal is not ours to keep open. */
	if (!how->foreground)
		keep_only(-1);
	if (chdir("/") < 0)
		log_warn("change to /: %s", strerror(errno));
	mount_serve_run(s, fd, &a.e);
	mount_serve_close(s, &a.stats);
	tell(fd, &a);
	_exit(a.e.code < 0 ? 1 : 0);
}

int
mount_start(struct mount *m, const struct mount_how *how, struct err *e)
{
	struct answer a;
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "make a socket pair");
	pid = fork();
	if (pid < 0) {
		close(pair[0]);
		close(pair[1]);
		return err_sys(e, errno, "start the file system's process");
	}
	if (pid == 0) {
		close(pair[0]);
		server_main(how, pair[1]);
	}
	close(pair[1]);
	if (hear(pair[0], &a) < 0)
		err_set(&a.e, -EIO, "the file system's process ended at once");
	if (a.e.code < 0) {
		close(pair[0]);
		waitpid(pid, NULL, 0);
		err_copy(e, &a.e);
		return err_wrap(e, "mount %s on %s", how->backup, how->dir);
	}
	m->pid = pid;
	m->control = pair[0];
	return 0;
}

void
mount_detach(struct mount *m)
{
	char byte = MOUNT_SERVE_DETACH;

	if (write(m->control, &byte, 1) < 0)
		log_warn("let the mount go: %s", strerror(errno));
	close(m->control);
	m->control = -1;
	m->pid = -1;
}

int
mount_stop(struct mount *m, struct mount_stats *stats, struct err *e)
{
	struct answer a = {.e = ERR_NONE};

	if (m->control < 0)
		return 0;
	shutdown(m->control, SHUT_WR);
	if (hear(m->control, &a) < 0)
		err_set(&a.e, -EIO, "the file system's process has died");
	close(m->control);
	waitpid(m->pid, NULL, 0);
	m->control = -1;
	m->pid = -1;
	if (a.e.code < 0)
		return err_copy(e, &a.e);
	if (stats != NULL)
		*stats = a.stats;
	return 0;
}

void
mount_fini(struct mount *m)
{
	struct err e = ERR_NONE;

	if (mount_stop(m, NULL, &e) < 0)
		log_warn("%s", e.text);
}

int
mount_foreground(const struct mount_how *how, struct err *e)
{
	struct mount_serve *s = NULL;
	int rc = mount_serve_open(&s, how, e);

	if (rc < 0)
		return err_wrap(e, "mount %s on %s", how->backup, how->dir);
	log_notice("%s is mounted on %s; unmount it, or interrupt, to end",
	    how->backup, how->dir);
	rc = mount_serve_run(s, -1, e);
	mount_serve_close(s, NULL);
	return rc;
}

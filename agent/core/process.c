/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"

extern char **environ;

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The environment plus `add`, whose names win; gives the array only. */
static char **
environment(const char *const *add)
{
	size_t n = 0, m = 0, k = 0;
	char **env;

	while (environ[n] != NULL)
		n++;
	while (add != NULL && add[m] != NULL)
		m++;
	env = mem_array(n + m + 1, sizeof *env);
	for (size_t i = 0; i < n; i++) {
		bool hidden = false;

		for (size_t j = 0; j < m && !hidden; j++) {
			size_t len = strcspn(add[j], "=") + 1;

			hidden = strncmp(environ[i], add[j], len) == 0;
		}
		if (!hidden)
			env[k++] = environ[i];
	}
	for (size_t j = 0; j < m; j++)
		env[k++] = (char *)add[j];
	return env;
}

/*
 * By system call: glibc's setuid() has all threads change (nptl(7)), and in a
 * child that shares our memory it would find ours. From then on we dump no core
 * (fs.suid_dumpable), which suits a program with keys.
 */
static bool
become(uid_t uid, gid_t gid)
{
	return syscall(SYS_setgroups, 1, &gid) == 0 &&
	       syscall(SYS_setgid, gid) == 0 && syscall(SYS_setuid, uid) == 0;
}

/*
 * In the child, in our memory, with all signals blocked: only
 * async-signal-safe calls, and nothing is written but its own variables.
 */
static void __attribute__((noreturn)) child(const struct process_how *how,
    char **env, int in, int out, int err_fd, int report, pid_t parent)
{
	/* What a terminal sends to our group, which this one leaves, is ours. */
	static const int ours[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
	sigset_t none;
	int why;

	if (how->die_with_parent) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* 0: the parent is outside our new PID namespace. */
		if (getppid() != parent && getppid() != 0)
			_exit(127);
	}
	setpgid(0, 0);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err_fd, 2) < 0)
		goto fail;
	signal(SIGPIPE, how->outlives_us ? SIG_IGN : SIG_DFL);
	for (unsigned i = 0; i < sizeof ours / sizeof *ours; i++) {
		signal(ours[i], SIG_IGN); /* also one that waits already */
		signal(ours[i], SIG_DFL);
	}
	if (how->uid != (uid_t)-1 && geteuid() == 0 && how->uid != 0) {
		if (!become(how->uid, how->gid))
			goto fail;
		/* A change of user clears it. */
		if (how->die_with_parent)
			prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	if (how->cwd != NULL && chdir(how->cwd) < 0)
		goto fail;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(how->argv[0], (char *const *)how->argv, env);
fail:
	why = errno;
	if (write(report, &why, sizeof why) < 0)
		_exit(127);
	_exit(127);
}

/*
 * Not fork(): behind that, the first write to each page of ours makes a copy of
 * it, which for the 50 MiB of a backup takes longer than the program that is
 * started. Nor posix_spawn(), which can neither become another user nor have
 * the child die with us. The caller's thread waits until the child runs its
 * program; no handler of ours may run in the child, so signals wait, too.
 */
static pid_t
start_child(const struct process_how *how, char **env, int in, int out,
    int err_fd, int report)
{
	pid_t parent = getpid(), pid;
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = vfork();
	if (pid == 0)
		child(how, env, in, out, err_fd, report, parent);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pid;
}

/*
 * What kept the child from its program; nothing where it is running. By a pipe,
 * not in shared memory: valgrind and TSan make a fork of a vfork.
 */
static bool
read_report(int fd, int *why)
{
	ssize_t n;

	do
		n = read(fd, why, sizeof *why);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof *why;
}

int
process_start(struct process *p, const struct process_how *how, struct err *e)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, er[2] = {-1, -1};
	int rep[2] = {-1, -1}, why = 0, rc = 0;
	SCOPED_FREE char **env = environment(how->env_add);

	*p = (struct process)PROCESS_NONE;
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 ||
	    pipe2(er, O_CLOEXEC) < 0 || pipe2(rep, O_CLOEXEC) < 0)
		rc = err_sys(e, errno, "make pipes for %s", how->argv[0]);
	if (rc == 0) {
		p->pid = start_child(how, env, in[0], out[1], er[1], rep[1]);
		if (p->pid < 0)
			rc = err_sys(e, errno, "start %s", how->argv[0]);
	}
	close_fd(&in[0]);
	close_fd(&out[1]);
	close_fd(&er[1]);
	close_fd(&rep[1]);
	if (rc == 0 && read_report(rep[0], &why)) {
		waitpid(p->pid, NULL, 0);
		p->pid = -1;
		rc = err_sys(e, why, "start %s", how->argv[0]);
		/* Such as a clone of the source below /root. */
		if (why == EACCES && how->uid != (uid_t)-1 && how->uid != 0)
			rc = err_hint(e,
			    "user id %u has to be able to run it and to enter "
			    "all folders above it",
			    (unsigned)how->uid);
	}
	close_fd(&rep[0]);
	if (rc < 0) {
		close_fd(&in[1]);
		close_fd(&out[0]);
		close_fd(&er[0]);
		p->pid = -1;
		return rc;
	}
	setpgid(p->pid, p->pid); /* both sides set it: no race */
	p->in = in[1];
	p->out = out[0];
	p->err_fd = er[0];
	return 0;
}

#define READ_MAX 16384
#define SLICE_MS 50 /* how soon a death behind an open pipe is noticed */

/* One read, appended to `b`; 0 and closed at the end. */
static size_t
slurp(int *fd, struct buf *b)
{
	ssize_t n = read(*fd, buf_room(b, READ_MAX), READ_MAX);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		close_fd(fd);
		return 0;
	}
	b->len += (size_t)n;
	return (size_t)n;
}

/* Of output the beginning counts, of complaints the end. */
static void
collect(struct process *p, bool out, bool err)
{
	struct buf *b = &p->stderr_text;

	if (out) {
		slurp(&p->out, &p->stdout_text);
		if (p->stdout_text.len > PROCESS_OUTPUT_MAX)
			p->stdout_text.len = PROCESS_OUTPUT_MAX;
	}
	if (err) {
		slurp(&p->err_fd, b);
		if (b->len > PROCESS_OUTPUT_MAX) {
			size_t half = PROCESS_OUTPUT_MAX / 2;

			memmove(b->data, b->data + b->len - half, half);
			b->len = half;
		}
	}
}

/* It has ended; its id stays taken until it is reaped. */
static bool
ended(const struct process *p)
{
	siginfo_t si = {0};

	if (p->pid < 0)
		return true;
	return waitid(P_PID, (id_t)p->pid, &si, WEXITED | WNOHANG | WNOWAIT) <
		   0 ||
	       si.si_pid == p->pid;
}

/*
 * Wait for output on either stream. 0, -ETIMEDOUT, or -EPIPE: both ended, or
 * the process ended and whoever inherited its pipes says nothing.
 */
static int
pump(struct process *p, int64_t deadline_ms)
{
	struct pollfd fds[2] = {{p->out, POLLIN, 0}, {p->err_fd, POLLIN, 0}};
	int64_t left = deadline_ms - clock_mono_ms();
	bool over;
	int n;

	if (p->out < 0 && p->err_fd < 0)
		return -EPIPE;
	if (left <= 0)
		return -ETIMEDOUT;
	/* Looked at before the poll: what it wrote is then in the pipe. */
	over = ended(p);
	n = poll(fds, 2, over ? 0 : left > SLICE_MS ? SLICE_MS : (int)left);
	if (n == 0 && over) {
		close_fd(&p->out);
		close_fd(&p->err_fd);
		return -EPIPE;
	}
	if (n <= 0)
		return 0; /* time passed or a signal: the caller loops */
	collect(p, fds[0].revents != 0, fds[1].revents != 0);
	return 0;
}

int
process_line(struct process *p, int64_t deadline_ms, char **line, struct err *e)
{
	for (;;) {
		struct buf *b = &p->stdout_text;
		uint8_t *nl = b->len ? memchr(b->data, '\n', b->len) : NULL;
		int rc;

		if (nl != NULL) {
			size_t n = (size_t)(nl - b->data);

			*line = mem_strn((char *)b->data, n);
			memmove(b->data, nl + 1, b->len - n - 1);
			b->len -= n + 1;
			return 0;
		}
		if (b->len >= PROCESS_OUTPUT_MAX)
			return err_set(e, -EFBIG,
			    "a line of more than %u bytes", PROCESS_OUTPUT_MAX);
		if (p->out < 0)
			return err_set(e, -EPIPE, "it ended without an answer");
		rc = pump(p, deadline_ms);
		if (rc == -ETIMEDOUT)
			return err_set(e, rc, "no answer in time");
	}
}

int
process_write(struct process *p, const void *data, size_t n, struct err *e)
{
	const char *at = data;

	while (n > 0) {
		ssize_t k =
		    p->in < 0 ? (errno = EPIPE, -1) : write(p->in, at, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_sys(
			    e, errno, "write to process %d", (int)p->pid);
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

void
process_close_stdin(struct process *p)
{
	close_fd(&p->in);
}

static bool
reaped(struct process *p, int *status)
{
	int st;
	pid_t pid = waitpid(p->pid, &st, WNOHANG);

	if (pid == 0)
		return false;
	p->pid = -1;
	if (pid < 0)
		*status = 127;
	else
		*status = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
	return true;
}

int
process_wait(struct process *p, int64_t deadline_ms, int *status, struct err *e)
{
	int rc;

	*status = 127;
	if (p->pid < 0)
		return 0;
	do
		rc = pump(p, deadline_ms);
	while (rc == 0);
	/* One that has ended just now may have said something that has not
	 * been read: it is not reaped before all of that has been. */
	while (rc != -ETIMEDOUT && !reaped(p, status)) {
		if (clock_mono_ms() >= deadline_ms)
			rc = -ETIMEDOUT;
		else
			usleep(2000);
	}
	if (rc == -ETIMEDOUT)
		return err_set(
		    e, rc, "process %d did not end in time", (int)p->pid);
	return 0;
}

void
process_end(struct process *p, int64_t grace_ms)
{
	int64_t until = clock_mono_ms() + grace_ms;
	int status;

	close_fd(&p->in);
	if (p->pid < 0)
		return;
	if (kill(-p->pid, SIGTERM) < 0)
		kill(p->pid, SIGTERM);
	while (!ended(p) && clock_mono_ms() < until)
		if (pump(p, clock_mono_ms() + 2) == -EPIPE)
			usleep(2000);
	/* Not reaped yet, so the group's number is still its own. */
	if (kill(-p->pid, SIGKILL) < 0)
		kill(p->pid, SIGKILL);
	while (!reaped(p, &status))
		usleep(2000);
}

void
process_fini(struct process *p)
{
	process_end(p, 2000);
	close_fd(&p->out);
	close_fd(&p->err_fd);
	buf_free(&p->stdout_text);
	buf_free(&p->stderr_text);
}

int
process_run(struct process *p, const struct process_how *how,
    int64_t timeout_ms, int *status, struct err *e)
{
	int rc = process_start(p, how, e);

	if (rc < 0)
		return rc;
	process_close_stdin(p);
	rc = process_wait(p, clock_mono_ms() + timeout_ms, status, e);
	if (rc < 0) {
		process_end(p, 2000);
		return err_wrap(e, "%s", how->argv[0]);
	}
	return 0;
}

const char *
process_complaint(struct process *p)
{
	struct buf *b = &p->stderr_text;
	char *last;

	while (b->len > 0 && b->data[b->len - 1] == '\n')
		b->len--;
	if (b->len == 0)
		return "no message";
	buf_put_u8(b, 0);
	b->len--;
	last = strrchr((char *)b->data, '\n');
	return last ? last + 1 : (char *)b->data;
}

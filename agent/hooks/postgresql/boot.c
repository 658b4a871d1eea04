/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/hooks/postgresql/boot.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "agent/hooks/postgresql/switches.h"

#define BOOT_MS (60 * 60 * 1000LL)
#define STOP_MS (30 * 60 * 1000LL)
#define PID_FILE_STATUS_LINE 7 /* LOCK_FILE_LINE_PM_STATUS, from 0 */

/* ---- nothing outlives us ---- */

static volatile sig_atomic_t running; /* the server's process id, or 0 */

/* SIGTERM comes two seconds before SIGKILL: time for an immediate stop. */
static void
on_term(int sig)
{
	pid_t pid = (pid_t)running;

	if (pid > 0) {
		kill(pid, SIGQUIT);
		for (int i = 0; i < 15 && waitpid(pid, NULL, WNOHANG) == 0; i++)
			poll(NULL, 0, 100);
	}
	_exit(128 + sig);
}

static void
guard(pid_t pid)
{
	struct sigaction sa = {.sa_handler = pid > 0 ? on_term : SIG_DFL};

	sigemptyset(&sa.sa_mask);
	running = (sig_atomic_t)pid;
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

/* ---- the private folder ---- */

static int
put_file(const struct copy *c, const char *dir, const char *name,
    const char *text, struct err *e)
{
	SCOPED_FREE char *path = fs_join(dir, name);
	SCOPED_FD int fd =
	    open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys(e, errno, "make %s", path);
	if (fs_pwrite(fd, text, strlen(text), 0, e) < 0)
		return err_wrap(e, "%s", path);
	if (geteuid() == 0 && fchown(fd, c->uid, c->gid) < 0)
		return err_sys(e, errno, "give %s to its user", path);
	return 0;
}

/* One way in: this very user, over the socket, as the superuser. */
static int
put_files(const struct copy *c, const char *dir, struct err *e)
{
	const struct passwd *me = getpwuid(geteuid());
	SCOPED_FREE char *ident = NULL;

	if (me == NULL)
		return err_set(e, -ENOENT, "user %u has no name on this host",
		    (unsigned)geteuid());
	ident = mem_printf("neap \"%s\" \"%s\"\n", me->pw_name, c->superuser);
	if (put_file(c, dir, "postgresql.conf", "", e) < 0 ||
	    put_file(c, dir, "pg_hba.conf", "local all all peer map=neap\n",
		e) < 0 ||
	    put_file(c, dir, "pg_ident.conf", ident, e) < 0)
		return e->code;
	return 0;
}

static int
make_dir(
    struct boot *b, const struct copy *c, const struct serve *s, struct err *e)
{
	struct sockaddr_un un;
	SCOPED_FREE char *dir = fs_join(s->run, "pg-XXXXXX");
	SCOPED_FREE char *logs = NULL;

	assert(b->dir == NULL && b->log == NULL);
	if (strlen(dir) + strlen("/.s.PGSQL.5432") >= sizeof un.sun_path)
		return err_set(e, -EINVAL,
		    "--run %s: too long for a socket "
		    "path of %zu bytes",
		    s->run, sizeof un.sun_path);
	if (mkdtemp(dir) == NULL) /* mode 0700 */
		return err_sys(e, errno, "make a folder in %s", s->run);
	logs = fs_join(dir, "log");
	if (mkdir(logs, 0700) < 0)
		return err_sys(e, errno, "make %s", logs);
	if (put_files(c, dir, e) < 0)
		return e->code;
	if (geteuid() == 0 &&
	    (chown(logs, c->uid, c->gid) < 0 || chown(dir, c->uid, c->gid) < 0))
		return err_sys(e, errno, "give %s to its user", dir);
	b->log = fs_join(logs, "server.log");
	b->dir = TAKE(dir);
	return 0;
}

/* ---- start ---- */

/*
 * As pg_ctl does it: by the process file. Knocking at the socket instead would
 * fill the log with refusals while recovery runs.
 */
static bool
ready(const struct boot *b, const struct copy *c)
{
	SCOPED_FREE char *path = fs_join(c->data, "postmaster.pid");
	SCOPED_BUF struct buf text = {0};
	struct err ignored = ERR_NONE;
	char *line, *end;

	if (fs_read_at(AT_FDCWD, path, 4096, &text, &ignored) < 0)
		return false;
	buf_put_u8(&text, 0);
	line = (char *)text.data;
	if (strtol(line, &end, 10) != b->server.pid)
		return false;
	for (int i = 0; i < PID_FILE_STATUS_LINE; i++) {
		line = strchr(line, '\n');
		if (line == NULL)
			return false;
		line++;
	}
	return strncmp(line, "ready", 5) == 0;
}

/* It ended: was it the data or the surroundings? */
static int
why_not(struct boot *b, int status, struct err *e)
{
	const char *said = process_complaint(&b->server);
	struct err ignored = ERR_NONE;

	if (serverlog_await(&b->said, b->log, true, &ignored) < 0)
		return err_set(e, -EIO,
		    "the server did not start (exit status "
		    "%d): %s",
		    status, said);
	if (b->said.surroundings[0] != '\0')
		return err_set(e, -EIO, "the server did not start: %s",
		    b->said.surroundings);
	if (b->said.damage[0] != '\0')
		return err_set(e, -EBADMSG, "the server did not start: %s",
		    b->said.damage);
	return err_set(e, -EIO,
	    "the server did not start (exit status %d): "
	    "%s",
	    status, b->said.fatal[0] ? b->said.fatal : said);
}

static int
wait_ready(struct boot *b, const struct copy *c, int64_t since, struct err *e)
{
	for (;;) {
		struct err waiting = ERR_NONE;
		int64_t now = clock_mono_ms();
		int status;

		if (process_wait(&b->server, now + 10, &status, &waiting) == 0)
			return why_not(b, status, e);
		if (ready(b, c))
			break;
		if (now - since > BOOT_MS)
			return err_set(e, -ETIMEDOUT,
			    "the server is not ready "
			    "after %lld minutes",
			    BOOT_MS / 60000);
	}
	b->boot_ms = clock_mono_ms() - since;
	return serverlog_await(&b->said, b->log, false, e);
}

static int
start(struct boot *b, const struct copy *c, const struct serve *s,
    const char *preload, struct err *e)
{
	static const char *const env[] = {"LC_ALL=C", NULL};
	SCOPED_SWITCHES struct switches w = {0};
	struct process_how how = {.env_add = env,
	    .uid = c->uid,
	    .gid = c->gid,
	    .cwd = "/",
	    .die_with_parent = 1};
	int64_t since = clock_mono_ms();
	int rc;

	if (make_dir(b, c, s, e) < 0)
		return e->code;
	switches_init(&w, c, s, b->dir, preload);
	how.argv = (const char *const *)w.argv;
	rc = process_start(&b->server, &how, e);
	if (rc < 0)
		return rc;
	guard(b->server.pid);
	process_close_stdin(&b->server);
	rc = wait_ready(b, c, since, e);
	if (rc < 0)
		boot_fini(b);
	return rc;
}

int
boot_start(
    struct boot *b, const struct copy *c, const struct serve *s, struct err *e)
{
	const char *preload = copy_probed(s, "shared_preload_libraries");
	int rc;

	*b = (struct boot)BOOT_NONE;
	rc = start(b, c, s, "", e);
	/* Some logs replay only with the extension that wrote them. */
	if (rc < 0 && b->said.wants_preload && preload[0] != '\0') {
		err_clear(e);
		rc = start(b, c, s, preload, e);
	}
	return rc;
}

/* ---- stop ---- */

int
boot_stop(struct boot *b, struct err *e)
{
	int status, rc;

	if (b->server.pid < 0)
		return 0;
	kill(b->server.pid, SIGINT); /* "fast" */
	rc = process_wait(&b->server, clock_mono_ms() + STOP_MS, &status, e);
	if (rc == 0)
		guard(0);
	if (rc == 0 && status != 0)
		rc = err_set(e, -EIO, "the server ended with status %d: %s",
		    status, process_complaint(&b->server));
	return rc;
}

void
boot_fini(struct boot *b)
{
	struct err ignored = ERR_NONE;
	int status;

	if (b->server.pid > 0) {
		kill(b->server.pid, SIGQUIT); /* "immediate" */
		process_wait(
		    &b->server, clock_mono_ms() + 5000, &status, &ignored);
	}
	process_fini(&b->server);
	b->server = (struct process)PROCESS_NONE;
	guard(0);
	free(b->dir);
	free(b->log);
	b->dir = b->log = NULL;
}

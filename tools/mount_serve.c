/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/mount_serve.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "tools/backup.h"
#include "tools/mount_image.h"
#include "tools/mount_ops.h"
#include "tools/mount_presence.h"

/* More would only wait for the processors and hold a MiB of buffer each. */
#define SERVE_THREADS_MAX 8

struct mount_serve {
	struct store store;
	struct backup backup;
	struct chunk_cache *cache;
	struct content *content;
	struct mount_view view;
	struct fuse_session *session;
	char *dir;     /* where it is mounted, without links */
	char *scratch; /* to be removed at the end, or NULL */
	int scratch_fd, presence_fd;
	bool foreground, mounted;
	/* for the thread that waits on the control socket */
	pthread_t loop_thread;
	atomic_bool ended;
	int control;
};

static void
report(void *arg, const char *path, uint64_t off, const struct err *e)
{
	const struct mount_serve *s = arg;
	const char *what = path != NULL ? path : "a new file";

	SCOPED_FREE char *line = mem_printf("%s: %s, near offset %llu: %s",
	    s->backup.name, what, (unsigned long long)off, e->text);

	if (s->foreground)
		log_error("%s", line);
	else
		syslog(LOG_ERR, "%s", line);
}

/* ---- opening ------------------------------------------------------------ */

static int
check_empty(int fd, const char *path, struct err *e)
{
	DIR *d = fdopendir(dup(fd));
	struct dirent *de;
	int rc = 0;

	if (d == NULL)
		return err_sys(e, errno, "list %s", path);
	while (rc == 0 && (de = readdir(d)) != NULL)
		if (strcmp(de->d_name, ".") != 0 &&
		    strcmp(de->d_name, "..") != 0)
			rc = err_set(e, -EINVAL,
			    "the scratch folder %s is "
			    "not empty: name a new or an empty one",
			    path);
	closedir(d);
	return rc;
}

static int
open_scratch(struct mount_serve *s, const char *path, struct err *e)
{
	bool made = mkdir(path, 0700) == 0;
	int rc;

	if (!made && errno != EEXIST)
		return err_sys(e, errno, "make scratch folder %s", path);
	if (made)
		s->scratch = fs_real(path, e);
	s->scratch_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->scratch_fd < 0)
		return err_sys(e, errno, "open scratch folder %s", path);
	rc = check_empty(s->scratch_fd, path, e);
	return rc;
}

/*
 * The kernel may wait for us when it writes back the file system of an image:
 * our own allocations must not make it do that. For this thread and all that
 * it starts. Before Linux 5.6 there is no such word.
 */
static void
declare_flusher(const struct mount_serve *s)
{
	SCOPED_IMAGES struct images l = {0};
	struct err ignored = ERR_NONE;

	if (images_of(&l, s->backup.record, &ignored) == 0 && l.n > 0 &&
	    prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		log_debug("declare an I/O flusher: %s", strerror(errno));
}

static int
open_content(struct mount_serve *s, const struct mount_how *how, struct err *e)
{
	int rc;

	rc = store_open(&s->store, how->store, e);
	if (rc == 0)
		rc = store_reading(&s->store, e);
	if (rc == 0)
		rc = backup_open(&s->backup, &s->store, how->backup, e);
	if (rc == 0)
		declare_flusher(s); /* before there are threads */
	if (rc == 0 && how->scratch != NULL)
		rc = open_scratch(s, how->scratch, e);
	if (rc == 0)
		rc = chunk_cache_new(&s->cache, &s->store, how->cache_bytes, e);
	if (rc == 0)
		rc = content_new(&s->content, s->backup.view, s->cache, e);
	return rc < 0 ? rc : 0;
}

static int
make_session(struct mount_serve *s, const struct mount_how *how, struct err *e)
{
	SCOPED_FREE char *options =
	    mem_printf("default_permissions,fsname=neap:%s,subtype=neap%s%s",
		s->backup.name, how->scratch == NULL ? ",ro" : "",
		geteuid() == 0 ? ",allow_other" : "");
	char program[] = "neap-restore", dash_o[] = "-o";
	char *argv[] = {program, dash_o, options, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);

	s->session =
	    fuse_session_new(&args, &mount_ops, sizeof mount_ops, &s->view);
	fuse_opt_free_args(&args);
	if (s->session == NULL)
		return err_set(e, -EIO, "make a FUSE session");
	if (fuse_session_mount(s->session, how->dir) != 0) {
		err_set(e, -EIO,
		    "the kernel or fusermount3 refused to mount "
		    "%s",
		    how->dir);
		return err_hint(e, "is /dev/fuse there, is the folder yours, "
				   "is nothing mounted on it?");
	}
	s->mounted = true;
	return 0;
}

/* One scratch file for each changed file is kept open. */
static void
raise_open_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* One backup at a place: of a second one, `unmount` could not tell which ends,
 * and one whose server has died is to be cleared away first. */
static int
find_place(char **dir, const char *path, struct err *e)
{
	SCOPED_FREE char *at = mount_presence_path(path);

	if (mount_presence_mounted(at)) {
		err_set(e, -EBUSY, "a backup is mounted on %s already", at);
		return err_hint(e, "neap-restore unmount %s", at);
	}
	*dir = fs_real(path, e);
	return *dir != NULL ? 0 : e->code;
}

int
mount_serve_open(
    struct mount_serve **out, const struct mount_how *how, struct err *e)
{
	struct mount_serve *s = mem_new(sizeof *s);
	int rc;

	rc = find_place(&s->dir, how->dir, e);
	if (rc < 0) {
		free(s);
		return rc;
	}
	s->scratch_fd = s->presence_fd = -1;
	s->control = -1;
	s->foreground = how->foreground;
	raise_open_files();
	rc = open_content(s, how, e);
	if (rc == 0) {
		struct overlay_how oh = {.view = s->backup.view,
		    .content = s->content,
		    .scratch_fd = s->scratch_fd,
		    .report = report,
		    .arg = s};

		s->view.overlay = overlay_new(&oh);
		s->view.logical_bytes = backup_logical_bytes(&s->backup);
		rc = make_session(s, how, e);
	}
	if (rc < 0) {
		mount_serve_close(s, NULL);
		return rc;
	}
	s->presence_fd = mount_presence_listen(s->dir);
	*out = s;
	return 0;
}

/* ---- serving ------------------------------------------------------------ */

static void
on_wake(int sig)
{
	(void)sig;
}

/* The loop sleeps in a semaphore and looks at its flag when a signal comes, so
 * it is woken until it has noticed. */
static void
end_loop(struct mount_serve *s)
{
	while (!atomic_load(&s->ended)) {
		fuse_session_exit(s->session);
		pthread_kill(s->loop_thread, SIGUSR1);
		usleep(10000);
	}
}

/* Has the caller closed its end without letting us go? */
static bool
caller_is_gone(struct mount_serve *s)
{
	char byte;
	ssize_t n = read(s->control, &byte, 1);

	if (n < 0 && errno == EINTR)
		return false;
	if (n == 1 && byte == MOUNT_SERVE_DETACH) {
		s->control = -1;
		return false;
	}
	return true;
}

/*
 * The kernel reads 128 KiB ahead by default, one request at a time: with 1 MiB
 * a request covers eight chunks. Where it may not be set, reading is slower.
 */
static void
read_ahead_more(const struct mount_serve *s)
{
	SCOPED_FREE char *dev = mount_presence_device(s->dir), *path = NULL;
	SCOPED_FD int fd = -1;

	if (dev == NULL)
		return;
	path = mem_printf("/sys/class/bdi/%s/read_ahead_kb", dev);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "1024", 4) < 0)
		log_debug("%s: %s", path, strerror(errno));
}

/*
 * The file systems of images go while the other threads still answer: see
 * mount_image.h. In a process of its own, see below.
 */
static void
end_images(const struct mount_serve *s)
{
	struct err ignored = ERR_NONE;
	pid_t pid;

	if (!mount_image_there(s->dir))
		return;
	pid = fork();
	if (pid == 0) {
		close(fuse_session_fd(s->session));
		_exit(mount_image_end(s->dir, true, NULL, &ignored) < 0);
	}
	if (pid < 0)
		log_warn("start a process: %s", strerror(errno));
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/*
 * Waits for the control socket to close, or for `unmount` to look in.
 *
 * No thread of the server may itself use the file system that it serves: the
 * kernel lets nobody out of a request that was taken up, not by SIGKILL either,
 * and as long as that thread lives, the killed server's end of the connection
 * stays open, so the request is never given up (fs/fuse/dev.c,
 * request_wait_answer). The mount would hang, for all, until a reboot.
 */
static void *
control_main(void *arg)
{
	struct mount_serve *s = arg;
	int visitor = -1;

	read_ahead_more(s);
	while (!atomic_load(&s->ended)) {
		struct pollfd p[] = {{.fd = s->control, .events = POLLIN},
		    {.fd = visitor < 0 ? s->presence_fd : visitor,
			.events = POLLIN}};
		int n = poll(p, 2, visitor < 0 ? 200 : 20);

		if (n > 0 && p[0].revents != 0 && caller_is_gone(s))
			break;
		if (n > 0 && visitor < 0 && p[1].revents != 0) {
			visitor =
			    accept4(s->presence_fd, NULL, NULL, SOCK_CLOEXEC);
		} else if (n > 0 && p[1].revents != 0) {
			close(visitor); /* it went away; so it was busy */
			visitor = -1;
		}
		if (visitor >= 0 && !mount_presence_mounted(s->dir))
			break;
	}
	if (!atomic_load(&s->ended))
		end_images(s);
	end_loop(s);
	/* Left open: its end is how the visitor knows that we are gone. */
	return NULL;
}

static int
run_loop(struct mount_serve *s, struct err *e)
{
	struct fuse_loop_config *cfg = fuse_loop_cfg_create();
	int rc;

	if (cfg == NULL)
		return err_sys(e, ENOMEM, "FUSE loop");
	fuse_loop_cfg_set_clone_fd(cfg, 0);
	fuse_loop_cfg_set_max_threads(cfg, SERVE_THREADS_MAX);
	fuse_loop_cfg_set_idle_threads(cfg, SERVE_THREADS_MAX);
	rc = fuse_session_loop_mt(s->session, cfg);
	fuse_loop_cfg_destroy(cfg);
	/* > 0: the signal that ended it. */
	if (rc < 0)
		return err_sys(e, -rc, "serve the file system");
	return 0;
}

int
mount_serve_run(struct mount_serve *s, int control, struct err *e)
{
	struct sigaction sa = {.sa_handler = on_wake};
	pthread_t thread;
	int rc;

	sigemptyset(&sa.sa_mask);
	sigaction(SIGUSR1, &sa, NULL);
	s->loop_thread = pthread_self();
	s->control = control;
	if (s->foreground || control < 0) {
		signal(SIGINT, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
	}
	signal(SIGTERM, SIG_DFL);
	if (fuse_set_signal_handlers(s->session) < 0)
		return err_set(e, -EIO, "set signal handlers");
	if (!s->foreground)
		openlog("neap-restore", LOG_PID, LOG_DAEMON);
	rc = pthread_create(&thread, NULL, control_main, s);
	if (rc != 0)
		return err_sys(e, rc, "start a thread");
	rc = run_loop(s, e);
	atomic_store(&s->ended, true);
	pthread_join(thread, NULL);
	fuse_remove_signal_handlers(s->session);
	return rc;
}

void
mount_serve_close(struct mount_serve *s, struct mount_stats *stats)
{
	if (stats != NULL) {
		stats->scratch_bytes = overlay_scratch_bytes(s->view.overlay);
		stats->decoded_bytes =
		    chunk_cache_decoded(s->cache) * CHUNK_BYTES;
	}
	/* Where a signal came while file systems of images were mounted, nobody
	 * answers them any more. This closes the connection before it unmounts
	 * them with ours (libfuse, lib/mount.c, fuse_kern_unmount), so what is
	 * to be written fails, and does not wait for this very process. */
	if (s->mounted)
		fuse_session_unmount(s->session);
	if (s->session != NULL)
		fuse_session_destroy(s->session);
	content_free(s->content);
	overlay_free(s->view.overlay);
	chunk_cache_free(s->cache);
	backup_close(&s->backup);
	store_close(&s->store);
	if (s->scratch_fd >= 0)
		close(s->scratch_fd);
	if (s->presence_fd >= 0)
		close(s->presence_fd);
	if (s->scratch != NULL)
		rmdir(s->scratch);
	free(s->scratch);
	free(s->dir);
	free(s);
}

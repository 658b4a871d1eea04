/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hook for a plain folder (or file): nothing to quiesce, the snapshot is
 * the consistency. validate reads every byte of the copy.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/hooks/report.h"
#include "agent/hooks/serve.h"

#define READ_BYTES (1u << 20)
#define DEPTH_MAX 512 /* folders deeper than that: more than PATH_MAX allows */

struct walk {
	uint64_t files, folders, others, bytes, failed, damaged;
	uint8_t *buf;
	char where[512]; /* the first one that could not be read, and why */
};

static int
probe(const struct serve *s, struct err *e)
{
	SCOPED_JSON json_t *doc = json_pack("{s:s, s:s, s:s, s:i, s:[], s:[], "
					    "s:[], s:{}, s:{}, s:s}",
	    "engine", "files", "version", "1", "instance", "", "page_size", 0,
	    "paths", "refuse", "notes", "settings", "position", "method",
	    "atomic");
	SCOPED_FREE char *real = NULL;
	const char *path;
	json_t *owner;

	if (serve_path(s, &path, e) < 0)
		return e->code;
	real = fs_real(path, e);
	if (real == NULL)
		return e->code;
	if (serve_owner(&owner, real, e) < 0)
		return e->code;
	json_object_set_new(doc, "owner", owner);
	json_object_set_new(doc, "instance", jdoc_new_str(real));
	serve_add_path(json_object_get(doc, "paths"), real, "data", false);
	if (strcmp(real, path) != 0)
		serve_note(json_object_get(doc, "notes"),
		    "%s is a link, %s is backed up", path, real);
	return serve_print(doc, e);
}

static int
quiesce(const struct serve *s, struct err *e)
{
	struct serve_hold h;

	if (serve_hold(&h, s, "atomic", NULL, NULL, e) < 0)
		return e->code;
	return serve_released(&h, NULL, NULL, NULL, NULL, e);
}

static void
trouble(struct walk *w, const char *path, const char *what)
{
	int why = errno;

	/* The copy answers EIO where a block is missing or corrupt; anything
	 * else says only that we could not look. */
	if (why == EIO)
		w->damaged++;
	if (w->failed++ == 0 || (why == EIO && w->damaged == 1))
		snprintf(w->where, sizeof w->where, "%s %.400s: %s", what, path,
		    strerrordesc_np(why));
}

static void
read_file(struct walk *w, int dirfd, const char *name, const char *path)
{
	SCOPED_FD int fd =
	    openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	off_t at = 0;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		trouble(w, path, "open");
		return;
	}
	while (at < st.st_size) {
		/* Holes hold nothing to check: a 1 TiB sparse file takes no
		 * longer than its data. */
		off_t data = lseek(fd, at, SEEK_DATA);

		if (data < 0 && errno == ENXIO)
			break;
		if (data > at)
			at = data;
		n = pread(fd, w->buf, READ_BYTES, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n == 0 ? EIO : errno;
			trouble(w, path,
			    n == 0 ? "shorter than its size:" : "read");
			return;
		}
		at += n;
		w->bytes += (uint64_t)n;
	}
	w->files++;
}

/* Takes over `fd`, the open folder. */
static void
walk_folder(struct walk *w, int fd, const char *path, int depth)
{
	DIR *d = fdopendir(fd);
	struct dirent *de;

	if (d == NULL) {
		trouble(w, path, "list");
		close(fd);
		return;
	}
	w->folders++;
	while (errno = 0, (de = readdir(d)) != NULL) {
		SCOPED_FREE char *sub = fs_join(path, de->d_name);
		struct stat st;
		int dir;

		if (strcmp(de->d_name, ".") == 0 ||
		    strcmp(de->d_name, "..") == 0)
			continue;
		if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			trouble(w, sub, "stat");
		} else if (S_ISREG(st.st_mode)) {
			read_file(w, fd, de->d_name, sub);
		} else if (!S_ISDIR(st.st_mode)) {
			w->others++;
		} else {
			errno = ELOOP;
			dir = depth >= DEPTH_MAX
				  ? -1
				  : openat(fd, de->d_name,
					O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
					    O_CLOEXEC);
			if (dir < 0)
				trouble(w, sub, "open");
			else
				walk_folder(w, dir, sub, depth + 1);
		}
	}
	if (errno != 0)
		trouble(w, path, "list");
	closedir(d);
}

static void
walk_all(struct walk *w, const char *path)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0) {
		trouble(w, path, "stat");
	} else if (S_ISREG(st.st_mode)) {
		read_file(w, AT_FDCWD, path, path);
	} else {
		fd =
		    open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			trouble(w, path, "open");
		else
			walk_folder(w, fd, path, 0);
	}
}

/* The real path, as the probe of the backup saw it. */
static int
data_path(const struct serve *s, const char **path, struct err *e)
{
	const json_t *probe_doc = json_object_get(s->config, "probe");
	const json_t *first =
	    json_array_get(json_object_get(probe_doc, "paths"), 0);

	*path = jdoc_str(first, "path", NULL);
	return *path != NULL ? 0 : serve_path(s, path, e);
}

static int
validate(const struct serve *s, struct err *e)
{
	SCOPED_REPORT struct report r = {0};
	SCOPED_FREE char *root = NULL;
	SCOPED_FREE uint8_t *buf = mem_new(READ_BYTES);
	struct walk w = {.buf = buf};
	const char *path;
	char size[32];

	if (data_path(s, &path, e) < 0)
		return e->code;
	report_init(&r, "files");
	root = serve_clone_path(s, path);
	walk_all(&w, root);
	if (w.failed == 0)
		report_step(&r, "read", REPORT_PASSED,
		    "%llu files (%s), %llu "
		    "folders, %llu links and others: all read to their end",
		    (unsigned long long)w.files, fs_size_text(size, w.bytes),
		    (unsigned long long)w.folders,
		    (unsigned long long)w.others);
	else
		report_step(&r, "read",
		    w.damaged > 0 ? REPORT_FAILED : REPORT_COULD_NOT,
		    "%llu not readable, first %s", (unsigned long long)w.failed,
		    w.where);
	json_object_set_new(r.doc, "files", json_integer((json_int_t)w.files));
	json_object_set_new(r.doc, "bytes", json_integer((json_int_t)w.bytes));
	return report_end(&r, e);
}

static int
dump(const struct serve *s, struct err *e)
{
	(void)s;
	return err_set(e, -EOPNOTSUPP,
	    "plain files have no logical dump; "
	    "use neap-restore extract");
}

int
main(int argc, char **argv)
{
	static const struct serve_ops ops = {.engine = "files",
	    .probe = probe,
	    .quiesce = quiesce,
	    .validate = validate,
	    .dump = dump};

	return serve_main(argc, argv, &ops);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/proof.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/hooks/client.h"
#include "tools/chunk_cache.h"
#include "tools/sandbox.h"

#define PATHS_MAX 256
#define PREFIX "neap-check-"

struct proof {
	const struct proof_how *how;
	struct proof_result *r;
	int lock_fd; /* on dir; inherited by all who use it */
	char *dir;   /* our throw-away folder, 0700 */
	char *mnt, *scratch, *root, *run;
	char *paths[PATHS_MAX + 1]; /* to be bound, absolute */
	size_t n_paths;
	json_t *config; /* for the hook */
	char *program;
	uid_t uid;
	gid_t gid;
};

void
proof_result_free(struct proof_result *r)
{
	jdoc_free_scope(&r->doc);
	r->doc = NULL;
	free(r->engine);
	r->engine = NULL;
}

/* ---- folders --------------------------------------------------------------- */

static int
make_one(struct proof *p, char **out, const char *name, struct err *e)
{
	*out = fs_join(p->dir, name);
	if (mkdir(*out, 0700) < 0)
		return err_sys(e, errno, "make %s", *out);
	return 0;
}

/* Nobody works in it any more: its lock goes with the last process. */
static bool
is_left_over(int dirfd, const char *name)
{
	SCOPED_FD int fd = openat(
	    dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	/* A minute of age: somebody may be between making and locking. */
	return fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() &&
	       st.st_mtime + 60 < clock_now_s() &&
	       flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* What a check left that was killed. Its mount is gone by itself. */
static void
remove_left_overs(const char *base)
{
	DIR *d = opendir(base);
	struct err e = ERR_NONE;
	struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL)
		if (strncmp(de->d_name, PREFIX, strlen(PREFIX)) == 0 &&
		    is_left_over(dirfd(d), de->d_name) &&
		    fs_remove_tree_at(dirfd(d), de->d_name, &e) < 0)
			log_warn("%s", e.text);
	if (d != NULL)
		closedir(d);
}

static int
make_folders(struct proof *p, struct err *e)
{
	const char *tmp = p->how->scratch ? p->how->scratch : getenv("TMPDIR");
	SCOPED_FREE char *base = mem_str(tmp ? tmp : "/tmp");
	char *dir = fs_join(base, PREFIX "XXXXXX");
	int rc;

	remove_left_overs(base);
	if (mkdtemp(dir) == NULL) {
		rc = err_sys(e, errno, "make a folder in %s", base);
		free(dir);
		return rc;
	}
	p->dir = fs_real(dir, e);
	free(dir);
	if (p->dir == NULL)
		return e->code;
	p->lock_fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->lock_fd < 0 || flock(p->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_sys(e, errno, "lock %s", p->dir);
	rc = make_one(p, &p->mnt, "mnt", e);
	if (rc == 0)
		rc = make_one(p, &p->scratch, "scratch", e);
	if (rc == 0)
		rc = make_one(p, &p->root, "root", e);
	if (rc == 0)
		rc = make_one(p, &p->run, "run", e);
	if (rc == 0 && p->uid != (uid_t)-1 && chown(p->run, p->uid, p->gid) < 0)
		rc = err_sys(e, errno, "hand %s over", p->run);
	if (rc == 0 && p->how->out != NULL && p->uid != (uid_t)-1 &&
	    chown(p->how->out, p->uid, p->gid) < 0)
		rc = err_sys(e, errno, "hand %s over", p->how->out);
	return rc;
}

static void
fini(struct proof *p)
{
	struct err e = ERR_NONE;

	/* Never into a mount that is still there: fs_remove_tree_at stops at
	 * another file system. */
	if (p->dir != NULL && fs_remove_tree_at(AT_FDCWD, p->dir, &e) < 0)
		log_warn("%s", e.text);
	for (size_t i = 0; i < p->n_paths; i++)
		free(p->paths[i]);
	if (p->lock_fd >= 0)
		close(p->lock_fd);
	json_decref(p->config);
	free(p->dir);
	free(p->mnt);
	free(p->scratch);
	free(p->root);
	free(p->run);
	free(p->program);
}

/* ---- what the record says --------------------------------------------------- */

static bool
is_folder(const struct backup *b, const char *path)
{
	SCOPED_OBJECT struct object o = {0};
	struct err e = ERR_NONE;
	uint64_t id;

	return map_view_path(b->view, path, &id, &e) == 1 &&
	       map_view_object(b->view, id, &o, &e) == 1 &&
	       o.type == OBJECT_DIR;
}

/*
 * The folders to bind: backed-up folders, and for a file the one it lies in.
 * A file that is itself a mount point could not be removed or renamed, which
 * is what engines do with journals.
 */
static int
collect_paths(struct proof *p, const struct backup *b, struct err *e)
{
	const char *path;

	for (size_t i = 0; (path = backup_path(b, i)) != NULL; i++) {
		char *at = mem_str(path);
		bool known = false;

		if (!is_folder(b, at))
			*strrchr(at, '/') = '\0';
		for (size_t k = 0; k < p->n_paths; k++)
			known |= strcmp(p->paths[k], at) == 0;
		if (known || at[0] == '\0') {
			free(at);
			continue;
		}
		if (p->n_paths == PATHS_MAX) {
			free(at);
			return err_set(e, -E2BIG,
			    "backup %s has more than %d "
			    "paths",
			    b->name, PATHS_MAX);
		}
		p->paths[p->n_paths++] = at;
	}
	return 0;
}

static const struct conf_job *
job_of(const struct tool *t, const char *name)
{
	struct err ignored = ERR_NONE;

	return t->have_conf ? conf_job(&t->conf, name, &ignored) : NULL;
}

static json_t *
hook_config(const struct backup *b, const struct conf_job *job)
{
	const json_t *evidence = json_object_get(b->record, "evidence");
	const json_t *quiesced = json_object_get(evidence, "quiesced");
	json_t *c = job != NULL ? conf_hook_json(job) : json_object();

	json_object_set_new(c, "job", jdoc_new_str(b->entry.job));
	json_object_set(c, "engine", json_object_get(b->record, "engine"));
	json_object_set(c, "probe", json_object_get(b->record, "probe"));
	if (json_object_get(quiesced, "position") != NULL)
		json_object_set(
		    c, "position", json_object_get(quiesced, "position"));
	return c;
}

static int
find_user(struct proof *p, const struct backup *b, const struct conf_job *job,
    struct err *e)
{
	const struct passwd *pw;
	int rc;

	if (job == NULL || job->run_as == NULL) {
		rc = backup_owner(b, &p->uid, &p->gid, e);
		return rc;
	}
	pw = getpwnam(job->run_as);
	if (pw == NULL)
		return err_set(e, -EINVAL,
		    "job %s: run_as %s: this host has "
		    "no such user",
		    job->name, job->run_as);
	p->uid = pw->pw_uid;
	p->gid = pw->pw_gid;
	return 0;
}

static int
find_hook(struct proof *p, const struct tool *t, const struct conf_job *job,
    struct err *e)
{
	const char *which =
	    job != NULL && job->hook != NULL ? job->hook : p->r->engine;
	char *found = NULL;
	int rc;

	rc = hook_find(&found, which, t->conf.hooks_dir, e);
	if (rc < 0)
		return rc;
	p->program = fs_real(found, e);
	free(found);
	if (p->program == NULL)
		return e->code;
	return 0;
}

static int
read_record(struct proof *p, struct tool *t, struct err *e)
{
	SCOPED_BACKUP struct backup b = {0};
	const struct conf_job *job;
	int rc;

	rc = store_open(&t->store, &t->how, e);
	if (rc == 0)
		rc = backup_open(&b, &t->store, p->how->backup, e);
	if (rc < 0)
		return rc;
	job = job_of(t, b.entry.job);
	snprintf(p->r->name, sizeof p->r->name, "%s", b.name);
	p->r->entry = b.entry;
	p->r->engine = mem_str(jdoc_str(b.record, "engine", "?"));
	p->config = hook_config(&b, job);
	rc = collect_paths(p, &b, e);
	if (rc == 0)
		rc = find_user(p, &b, job, e);
	if (rc == 0)
		rc = find_hook(p, t, job, e);
	return rc;
}

/* ---- inside ------------------------------------------------------------------ */

static int
inside(void *arg, struct buf *out, struct err *e)
{
	struct proof *p = arg;
	SCOPED_FREE char *id =
	    mem_printf("%s-%s", p->r->entry.job, p->r->entry.time);
	struct hook_how how = {.program = p->program,
	    .config = p->config,
	    .uid = p->uid,
	    .gid = p->gid,
	    .id = id};
	SCOPED_JSON json_t *doc = NULL;
	SCOPED_FREE char *text = NULL;
	int rc;

	if (p->how->out != NULL)
		return hook_dump(&how, "/", PROOF_RUN, PROOF_OUT "/dump",
		    p->how->database, p->how->timeout_ms, e);
	rc = hook_validate(&how, "/", PROOF_RUN, p->how->timeout_ms, &doc, e);
	if (doc != NULL) {
		text = jdoc_line(doc);
		buf_put(out, text, strlen(text));
	}
	return rc;
}

static int
run_inside(struct proof *p, struct err *e)
{
	struct sandbox_how how = {.root = p->root,
	    .clone = p->mnt,
	    .paths = (const char *const *)p->paths,
	    .program = p->program,
	    .run = p->run,
	    .run_at = PROOF_RUN,
	    .out = p->how->out,
	    .out_at = PROOF_OUT};
	SCOPED_BUF struct buf out = {0};
	struct err je = ERR_NONE;
	int rc;

	rc = sandbox_run(&how, inside, p, p->how->timeout_ms + 10000, &out, e);
	if (out.len > 0)
		p->r->doc = jdoc_parse(buf_span(&out), &je);
	return rc;
}

static int
run_mounted(struct proof *p, struct tool *t, struct err *e)
{
	struct mount_how mh = {.store = &t->how,
	    .backup = p->r->name,
	    .dir = p->mnt,
	    .scratch = p->scratch,
	    .cache_bytes = CHUNK_CACHE_BYTES,
	    .foreground = true};
	SCOPED_MOUNT struct mount m = MOUNT_NONE;
	int64_t start = clock_mono_ms();
	struct err ue = ERR_NONE;
	int rc;

	rc = mount_start(&m, &mh, e);
	if (rc < 0)
		return rc;
	p->r->mount_ms = clock_mono_ms() - start;
	rc = run_inside(p, e);
	if (mount_stop(&m, &p->r->stats, &ue) < 0 && rc >= 0)
		return err_copy(e, &ue);
	return rc;
}

int
proof_run(struct tool *t, const struct proof_how *how, struct proof_result *r,
    struct err *e)
{
	struct proof p = {.lock_fd = -1,
	    .how = how,
	    .r = r,
	    .uid = (uid_t)-1,
	    .gid = (gid_t)-1};
	int64_t start = clock_mono_ms();
	int rc;

	if (geteuid() != 0) {
		err_set(e, -EACCES,
		    "a copy can be brought to life by root "
		    "only");
		return err_hint(e, "namespaces and mounts need it");
	}
	rc = read_record(&p, t, e);
	if (rc == 0)
		rc = make_folders(&p, e);
	/* The server of the mount opens the store for itself. */
	store_close(&t->store);
	if (rc == 0)
		rc = run_mounted(&p, t, e);
	r->total_ms = clock_mono_ms() - start;
	fini(&p);
	return rc;
}

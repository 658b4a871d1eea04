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
#include "tools/images.h"
#include "tools/mount_image.h"
#include "tools/sandbox.h"

#define PATHS_MAX 256
#define PREFIX "neap-check-"

struct proof {
	const struct proof_how *how;
	struct proof_result *r;
	int lock_fd; /* on dir; inherited by all who use it */
	char *dir;   /* our throw-away folder, 0700 */
	char *mnt, *scratch, *root, *run;
	char *paths[PATHS_MAX + 1];   /* to be bound, absolute */
	char *sources[PATHS_MAX + 1]; /* and what: below mnt */
	size_t n_paths;
	json_t *record;
	struct images images;
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
	return rc;
}

static int
hand_over(struct proof *p, struct err *e)
{
	if (p->uid == (uid_t)-1)
		return 0;
	if (chown(p->run, p->uid, p->gid) < 0)
		return err_sys(e, errno, "hand %s over", p->run);
	if (p->how->out != NULL && chown(p->how->out, p->uid, p->gid) < 0)
		return err_sys(e, errno, "hand %s over", p->how->out);
	return 0;
}

static void
fini(struct proof *p)
{
	struct err e = ERR_NONE;

	/* Never into a mount that is still there: fs_remove_tree_at stops at
	 * another file system. */
	if (p->dir != NULL && fs_remove_tree_at(AT_FDCWD, p->dir, &e) < 0)
		log_warn("%s", e.text);
	for (size_t i = 0; i < p->n_paths; i++) {
		free(p->paths[i]);
		free(p->sources[i]);
	}
	images_fini(&p->images);
	json_decref(p->record);
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

/*
 * Where a path of the host is in the mounted backup; gives. A device that was
 * backed up is its image there, and shown as that to the hook.
 */
static char *
source_of(const struct proof *p, const char **path)
{
	const char *rel;
	const struct image *im = images_holding(&p->images, *path, &rel);

	if (im == NULL)
		return mem_str(*path);
	if (rel == NULL || im->at == NULL)
		return mem_str(*path = im->path);
	return rel[0] != '\0' ? fs_join(im->at, rel) : mem_str(im->at);
}

static bool
is_known(const struct proof *p, const char *path)
{
	for (size_t i = 0; i < p->n_paths; i++)
		if (strcmp(p->paths[i], path) == 0)
			return true;
	return false;
}

/*
 * The folders to bind: backed-up folders, and for a file the one it lies in.
 * A file that is itself a mount point could not be removed or renamed, which
 * is what engines do with journals. Needs the mount: what lies in an image is
 * in no map.
 */
static int
collect_paths(struct proof *p, struct err *e)
{
	const struct backup b = {.record = p->record};
	const char *path;

	for (size_t i = 0; (path = backup_path(&b, i)) != NULL; i++) {
		SCOPED_FREE char *from = source_of(p, &path);
		SCOPED_FREE char *to = mem_str(path);
		SCOPED_FREE char *there = fs_join(p->mnt, from);
		struct stat st;

		if (lstat(there, &st) < 0 || !S_ISDIR(st.st_mode)) {
			*strrchr(to, '/') = '\0';
			*strrchr(from, '/') = '\0';
		}
		if (to[0] == '\0' || from[0] == '\0' || is_known(p, to))
			continue;
		if (p->n_paths == PATHS_MAX)
			return err_set(e, -E2BIG,
			    "backup %s has more than %d paths", p->r->name,
			    PATHS_MAX);
		p->sources[p->n_paths] = TAKE(from);
		p->paths[p->n_paths++] = TAKE(to);
	}
	return 0;
}

static const struct conf_job *
job_of(const struct tool *t, const char *name)
{
	struct err ignored = ERR_NONE;

	return t->have_conf ? conf_job(&t->conf, name, &ignored) : NULL;
}

/* In the hook's probe document: devices by the names of their images. */
static void
name_images(const struct proof *p, json_t *probe)
{
	json_t *item;
	size_t i;

	json_array_foreach (json_object_get(probe, "paths"), i, item) {
		const char *path = jdoc_str(item, "path", "");

		free(source_of(p, &path));
		if (path[0] == '/')
			json_object_set_new(item, "path", jdoc_new_str(path));
	}
}

static json_t *
hook_config(
    const struct proof *p, const struct backup *b, const struct conf_job *job)
{
	const json_t *evidence = json_object_get(b->record, "evidence");
	const json_t *quiesced = json_object_get(evidence, "quiesced");
	json_t *c = job != NULL ? conf_hook_json(job) : json_object();
	json_t *probe = json_deep_copy(json_object_get(b->record, "probe"));

	name_images(p, probe);
	json_object_set_new(c, "job", jdoc_new_str(b->entry.job));
	json_object_set(c, "engine", json_object_get(b->record, "engine"));
	json_object_set_new(c, "probe", probe);
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
		const char *rel, *path = backup_path(b, 0);

		/* What lies in an image is looked at once it is mounted. */
		if (path != NULL && images_holding(&p->images, path, &rel))
			return 0;
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
	p->record = json_incref(b.record);
	rc = images_of(&p->images, b.record, e);
	if (rc < 0)
		return rc;
	p->config = hook_config(p, &b, job);
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
	    .sources = (const char *const *)p->sources,
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

/* The owner of the first path, where that could not be told before. */
static int
find_owner(struct proof *p, struct err *e)
{
	const struct backup b = {.record = p->record};
	const char *path = backup_path(&b, 0);
	SCOPED_FREE char *from = NULL, *at = NULL;
	struct stat st;

	if (p->uid != (uid_t)-1 || path == NULL)
		return 0;
	from = source_of(p, &path);
	at = fs_join(p->mnt, from);
	if (lstat(at, &st) < 0)
		return err_sys(e, errno, "look up %s in the backup", from);
	p->uid = st.st_uid;
	p->gid = st.st_gid;
	return 0;
}

/* With the file systems of images, whose journals are replayed here. */
static int
bring_up(struct proof *p, struct err *e)
{
	int rc = mount_image_all(&p->images, p->mnt, true, e);

	if (rc >= 0)
		rc = find_owner(p, e);
	if (rc == 0)
		rc = hand_over(p, e);
	return rc == 0 ? collect_paths(p, e) : rc;
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
	rc = bring_up(p, e);
	p->r->mount_ms = clock_mono_ms() - start;
	if (rc == 0)
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

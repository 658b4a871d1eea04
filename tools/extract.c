/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/extract.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "tools/extract_parts.h"

/* Decoded chunks kept for the blocks of others that lie in them. */
#define CACHE_BYTES (32u << 20)

static int
is_empty(int fd, const char *path, struct err *e)
{
	DIR *d = fdopendir(dup(fd));
	struct dirent *de;
	int rc = 1;

	if (d == NULL)
		return err_sys(e, errno, "list %s", path);
	while ((de = readdir(d)) != NULL)
		if (strcmp(de->d_name, ".") != 0 &&
		    strcmp(de->d_name, "..") != 0 &&
		    strcmp(de->d_name, "lost+found") != 0)
			rc = 0;
	closedir(d);
	return rc;
}

static int
open_target(struct extract *x, struct err *e)
{
	const char *path = x->how->target;
	int rc;

	if (extract_device_is(path))
		return extract_device_open(x, e);
	if (!x->how->delta && mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make target folder %s", path);
	x->target_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x->target_fd < 0)
		return err_sys(e, errno, "open target folder %s", path);
	if (x->how->delta)
		return 0;
	rc = is_empty(x->target_fd, path, e);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	err_set(e, -EPERM, "target folder %s is not empty", path);
	return err_hint(e, "name a new one, or add --delta to make it as the "
			   "backup was");
}

static void
tell_damage(struct extract *x)
{
	size_t n = x->stats.damaged < EXTRACT_DAMAGE_LISTED
		       ? x->stats.damaged
		       : EXTRACT_DAMAGE_LISTED;

	for (size_t i = 0; i < n; i++) {
		log_error("damaged: %s", x->damage[i]);
		free(x->damage[i]);
	}
	if (x->stats.damaged > n)
		log_error("and %llu more",
		    (unsigned long long)(x->stats.damaged - n));
}

static int
sync_target(struct extract *x, struct err *e)
{
	int rc = x->device ? fsync(x->target_fd) : syncfs(x->target_fd);

	return rc < 0 ? err_sys(e, errno, "sync %s", x->how->target) : 0;
}

static int
run(struct extract *x, struct err *e)
{
	int rc;

	rc = extract_start(x, e);
	if (rc < 0) {
		struct err ignored = ERR_NONE;

		extract_finish(x, &ignored);
		return rc;
	}
	rc = x->device ? extract_walk_device(x, e) : extract_walk(x, e);
	log_progress_end();
	tell_damage(x);
	if (rc == 0)
		rc = sync_target(x, e);
	if (rc < 0)
		return err_wrap(
		    e, "what is in %s is incomplete", x->how->target);
	if (x->stats.damaged > 0)
		return err_set(e, x->damage_code,
		    "%llu ranges of %s could not "
		    "be restored and were left as they were in the target%s; "
		    "all else is there",
		    (unsigned long long)x->stats.damaged, x->how->backup->name,
		    x->device ? "" : " (holes in new files)");
	return pattern_check_matched(x->how->patterns, e);
}

int
extract_run(
    const struct extract_how *how, struct extract_stats *stats, struct err *e)
{
	struct extract x = {.how = how,
	    .view = how->backup->view,
	    .target_fd = -1,
	    .total_bytes =
		how->patterns->n == 0 ? backup_logical_bytes(how->backup) : 0};
	int rc;

	rc = how->delta ? extract_guard(how, e) : 0;
	if (rc == 0)
		rc = chunk_cache_new(&x.cache, how->store, CACHE_BYTES, e);
	if (rc == 0)
		rc = open_target(&x, e);
	if (rc == 0) {
		pthread_mutex_init(&x.lock, NULL);
		pthread_cond_init(&x.file_closed, NULL);
		rc = run(&x, e);
		pthread_cond_destroy(&x.file_closed);
		pthread_mutex_destroy(&x.lock);
	}
	if (x.target_fd >= 0)
		close(x.target_fd);
	chunk_cache_free(x.cache);
	*stats = x.stats;
	return rc;
}

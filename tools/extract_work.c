/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/log.h"
#include "agent/core/mem.h"
#include "agent/core/stop.h"
#include "tools/extract_parts.h"

#define BLOCK CHUNK_BLOCK_BYTES

void
extract_fail(struct extract *x, const struct err *e)
{
	pthread_mutex_lock(&x->lock);
	if (x->failure.code == 0)
		err_copy(&x->failure, e);
	pthread_mutex_unlock(&x->lock);
}

int
extract_failed(struct extract *x, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&x->lock);
	if (x->failure.code < 0)
		rc = err_copy(e, &x->failure);
	pthread_mutex_unlock(&x->lock);
	return rc < 0 ? rc : stop_check(e);
}

void
extract_add_done(struct extract *x, uint64_t bytes)
{
	uint64_t done;

	pthread_mutex_lock(&x->lock);
	done = x->done_bytes += bytes;
	pthread_mutex_unlock(&x->lock);
	log_progress("restored", done, x->total_bytes);
}

static void
note_damage(
    struct extract *x, const struct extract_target *t, const struct err *e)
{
	char *line = mem_printf("%s/%s: %llu bytes at offset %llu: %s",
	    t->file->dir->path, t->file->name, (unsigned long long)t->len,
	    (unsigned long long)t->off, e->text);

	pthread_mutex_lock(&x->lock);
	/* Missing is as bad as corrupt: the bytes are not to be had. */
	if (x->damage_code != -EBADMSG)
		x->damage_code = e->code == -ENOENT ? -EBADMSG : e->code;
	if (x->stats.damaged < EXTRACT_DAMAGE_LISTED) {
		x->damage[x->stats.damaged] = line;
		line = NULL;
	}
	x->stats.damaged++;
	pthread_mutex_unlock(&x->lock);
	free(line);
}

static void
note_written(struct extract *x, uint64_t n)
{
	pthread_mutex_lock(&x->lock);
	x->stats.written_bytes += n;
	pthread_mutex_unlock(&x->lock);
}

/* ---- writing ------------------------------------------------------------- */

/* Write the blocks of [0, len) at `off` in which `now` and `want` differ. */
static int
write_differing(struct extract *x, int fd, const uint8_t *now,
    const uint8_t *want, uint64_t len, uint64_t off, struct err *e)
{
	uint64_t at = 0;

	while (at < len) {
		uint64_t end = at;

		while (end < len) {
			size_t n = len - end < BLOCK ? len - end : BLOCK;

			if (memcmp(now + end, want + end, n) == 0)
				break;
			end += n;
		}
		if (end > at) {
			int rc =
			    fs_pwrite(fd, want + at, end - at, off + at, e);

			if (rc < 0)
				return rc;
			note_written(x, end - at);
			at = end;
		} else {
			at += BLOCK;
		}
	}
	return 0;
}

static int
write_target(struct extract *x, const struct extract_target *t,
    const struct chunk_cache_hold *h, struct err *e)
{
	const uint8_t *want = h->data + (size_t)t->slot * BLOCK;
	uint8_t now[CHUNK_BYTES];
	int rc;

	if ((uint64_t)t->slot * BLOCK + t->len > (uint64_t)h->blocks * BLOCK) {
		err_set(e, -EBADMSG,
		    "the map names slots that its chunk has "
		    "not");
		note_damage(x, t, e);
		return err_clear(e);
	}
	if (!t->file->existed) {
		note_written(x, t->len);
		return fs_pwrite(t->file->fd, want, t->len, t->off, e);
	}
	rc = fs_pread(t->file->fd, now, t->len, t->off, e);
	if (rc < 0)
		return rc;
	return write_differing(x, t->file->fd, now, want, t->len, t->off, e);
}

/* One stretch of data where zeros belong. */
static int
zero_stretch(
    struct extract *x, int fd, uint64_t off, uint64_t len, struct err *e)
{
	static const uint8_t zeros[CHUNK_BYTES];
	uint8_t now[CHUNK_BYTES];

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)off, (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return err_sys(
		    e, errno, "punch a hole at %llu", (unsigned long long)off);
	while (len > 0) {
		size_t n = len < sizeof now ? (size_t)len : sizeof now;
		int rc = fs_pread(fd, now, n, off, e);

		if (rc == 0)
			rc = write_differing(x, fd, now, zeros, n, off, e);
		if (rc < 0)
			return rc;
		off += n;
		len -= n;
	}
	return 0;
}

/* Only an existing file has to be told: a new one is all hole. */
static int
zero_target(struct extract *x, const struct extract_target *t, struct err *e)
{
	uint64_t at = t->off, end = t->off + t->len;

	while (at < end) {
		off_t data = lseek(t->file->fd, (off_t)at, SEEK_DATA);
		off_t hole;
		int rc;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0)
			return err_sys(e, errno, "look for data");
		if ((uint64_t)data >= end)
			return 0;
		hole = lseek(t->file->fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > end)
			hole = (off_t)end;
		rc = zero_stretch(
		    x, t->file->fd, (uint64_t)data, (uint64_t)(hole - data), e);
		if (rc < 0)
			return rc;
		at = (uint64_t)hole;
	}
	return 0;
}

/* ---- jobs ---------------------------------------------------------------- */

static int
do_targets(struct extract *x, const struct extract_job *j, struct err *e)
{
	struct chunk_cache_hold h = {.data = NULL};
	int rc = 0;

	if (!j->zero && chunk_cache_get(x->cache, &j->chunk, &h, e) < 0) {
		for (unsigned i = 0; i < j->targets; i++)
			note_damage(x, &j->target[i], e);
		return err_clear(e);
	}
	for (unsigned i = 0; rc >= 0 && i < j->targets; i++) {
		const struct extract_target *t = &j->target[i];

		rc = j->zero ? zero_target(x, t, e) : write_target(x, t, &h, e);
		if (rc < 0)
			err_wrap(e, "%s%s/%s", x->how->target,
			    t->file->dir->path, t->file->name);
	}
	if (!j->zero)
		chunk_cache_put(x->cache, &h);
	return rc;
}

static void
do_job(struct extract *x, struct extract_job *j)
{
	struct err e = ERR_NONE;
	uint64_t done = 0;

	if (extract_failed(x, &e) == 0 && do_targets(x, j, &e) < 0)
		extract_fail(x, &e);
	for (unsigned i = 0; i < j->targets; i++) {
		done += j->target[i].len;
		extract_file_put(x, j->target[i].file);
	}
	extract_add_done(x, done);
	free(j);
}

static void *
worker_main(void *arg)
{
	struct extract *x = arg;
	struct extract_job *j;

	while ((j = queue_get(&x->queue)) != NULL)
		do_job(x, j);
	return NULL;
}

int
extract_start(struct extract *x, struct err *e)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned want = cpus < 1 ? 1 : (unsigned)cpus;
	struct rlimit r;

	if (want > EXTRACT_WORKERS_MAX)
		want = EXTRACT_WORKERS_MAX;
	x->open_files_max = 512;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
		if (r.rlim_cur / 4 < x->open_files_max)
			x->open_files_max = (unsigned)(r.rlim_cur / 4) + 1;
	}
	queue_init(&x->queue, EXTRACT_QUEUE);
	queue_wake_at(&x->queue, 1, EXTRACT_QUEUE / 4);
	while (x->workers < want) {
		int rc = pthread_create(
		    &x->worker[x->workers], NULL, worker_main, x);

		if (rc != 0)
			return err_sys(e, rc, "start a worker");
		x->workers++;
	}
	return 0;
}

int
extract_flush(struct extract *x, struct err *e)
{
	if (x->job != NULL && queue_put(&x->queue, x->job) < 0)
		return err_set(e, -EPIPE, "the workers have ended");
	x->job = NULL;
	return extract_failed(x, e);
}

int
extract_finish(struct extract *x, struct err *e)
{
	int rc = extract_flush(x, e);

	queue_close(&x->queue);
	for (unsigned i = 0; i < x->workers; i++)
		pthread_join(x->worker[i], NULL);
	queue_fini(&x->queue);
	return rc < 0 ? rc : extract_failed(x, e);
}

static struct extract_target *
add_target(struct extract *x, struct extract_file *f)
{
	struct extract_target *t = &x->job->target[x->job->targets++];

	extract_file_get(f);
	t->file = f;
	return t;
}

static int
new_job(struct extract *x, struct err *e)
{
	int rc = extract_flush(x, e);

	if (rc == 0)
		x->job = mem_new(sizeof *x->job);
	return rc;
}

int
extract_put(struct extract *x, struct extract_file *f,
    const struct map_extent *at, struct err *e)
{
	uint64_t off = at->block * BLOCK, len = (uint64_t)at->count * BLOCK;
	struct extract_target *t;
	int rc;

	if (off >= f->o.size)
		return 0;
	if (len > f->o.size - off)
		len = f->o.size - off;
	if (x->job == NULL || x->job->zero || x->job->targets == CHUNK_BLOCKS ||
	    memcmp(&x->job->chunk, &at->chunk, sizeof at->chunk) != 0) {
		rc = new_job(x, e);
		if (rc < 0)
			return rc;
		x->job->chunk = at->chunk;
	}
	t = add_target(x, f);
	t->off = off;
	t->len = len;
	t->slot = at->slot;
	return 0;
}

int
extract_put_zero(struct extract *x, struct extract_file *f, uint64_t off,
    uint64_t len, struct err *e)
{
	struct extract_target *t;
	int rc;

	if (off >= f->o.size)
		return 0;
	if (len > f->o.size - off)
		len = f->o.size - off;
	if (!f->existed) {
		extract_add_done(x, len);
		return 0;
	}
	rc = new_job(x, e);
	if (rc < 0)
		return rc;
	x->job->zero = true;
	t = add_target(x, f);
	t->off = off;
	t->len = len;
	return extract_flush(x, e);
}

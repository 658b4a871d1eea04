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
note_damage(struct extract *x, const struct extract_file *f, uint64_t off,
    uint64_t len, const struct err *e)
{
	char *line = mem_printf("%s/%s: %llu bytes at offset %llu: %s",
	    f->dir->path, f->name, (unsigned long long)len,
	    (unsigned long long)off, e->text);

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

int
extract_write_differing(struct extract *x, int fd, const uint8_t *now,
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

/* [at, at + len) of the job's window, put together, to where it belongs. */
static int
write_run(struct extract_worker *w, const struct extract_job *j, uint64_t at,
    uint64_t len, struct err *e)
{
	uint64_t off = j->off + at;
	int fd = j->file->fd, rc;

	if (j->file->existed) {
		rc = fs_pread(fd, w->now, len, off, e);
		if (rc == 0)
			rc = extract_write_differing(
			    w->x, fd, w->now, w->want + at, len, off, e);
		return rc;
	}
	note_written(w->x, len);
	pthread_mutex_lock(&j->file->writing);
	rc = fs_pwrite(fd, w->want + at, len, off, e);
	pthread_mutex_unlock(&j->file->writing);
	return rc;
}

/* Bytes of a piece: the file may end within its last block. */
static uint64_t
piece_len(const struct extract_job *j, const struct extract_piece *p)
{
	uint64_t len = (uint64_t)p->blocks * BLOCK;

	return len < j->len - p->at ? len : j->len - p->at;
}

/* 1 and the piece held; 0: it cannot be had, which is noted. */
static int
get_piece(struct extract *x, const struct extract_job *j,
    const struct extract_piece *p, struct chunk_cache_hold *h)
{
	struct err e = ERR_NONE;

	if (chunk_cache_get(x->cache, &p->chunk, h, &e) == 0) {
		if ((uint64_t)p->slot + p->blocks <= h->blocks)
			return 1;
		err_set(
		    &e, -EBADMSG, "the map names slots that its chunk has not");
		chunk_cache_put(x->cache, h);
	}
	note_damage(x, j->file, j->off + p->at, piece_len(j, p), &e);
	return 0;
}

/* Pieces that follow each other are one write; between them are holes, or what
 * is damaged. */
static int
write_window(
    struct extract_worker *w, const struct extract_job *j, struct err *e)
{
	uint64_t from = 0, to = 0;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < j->n; i++) {
		const struct extract_piece *p = &j->piece[i];
		struct chunk_cache_hold h;

		if (get_piece(w->x, j, p, &h) == 0)
			continue;
		memcpy(w->want + p->at, h.data + (size_t)p->slot * BLOCK,
		    (size_t)p->blocks * BLOCK);
		chunk_cache_put(w->x->cache, &h);
		if (p->at != to) {
			if (to > from)
				rc = write_run(w, j, from, to - from, e);
			from = p->at;
		}
		to = p->at + piece_len(j, p);
	}
	if (rc == 0 && to > from)
		rc = write_run(w, j, from, to - from, e);
	return rc < 0 ? rc : extract_behind(w->x, j, e);
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
			rc = extract_write_differing(
			    x, fd, now, zeros, n, off, e);
		if (rc < 0)
			return rc;
		off += n;
		len -= n;
	}
	return 0;
}

/* Only what existed has to be told: a new file is all hole. */
static int
write_zeros(struct extract *x, const struct extract_job *j, struct err *e)
{
	uint64_t at = j->off, end = j->off + j->len;
	int fd = j->file->fd;

	if (j->file->device)
		return extract_device_zero(
		    x, fd, at, j->len, j->file->existed, e);
	while (at < end) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		off_t hole;
		int rc;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0)
			return err_sys(e, errno, "look for data");
		if ((uint64_t)data >= end)
			return 0;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > end)
			hole = (off_t)end;
		rc = zero_stretch(
		    x, fd, (uint64_t)data, (uint64_t)(hole - data), e);
		if (rc < 0)
			return rc;
		at = (uint64_t)hole;
	}
	return 0;
}

/* ---- jobs ---------------------------------------------------------------- */

/* What a job does for the progress: holes in a window are counted as such. */
static uint64_t
job_bytes(const struct extract_job *j)
{
	uint64_t bytes = 0;

	if (j->zero)
		return j->len;
	for (unsigned i = 0; i < j->n; i++)
		bytes += piece_len(j, &j->piece[i]);
	return bytes;
}

static void
do_job(struct extract_worker *w, struct extract_job *j)
{
	struct extract *x = w->x;
	struct err e = ERR_NONE;

	if (extract_failed(x, &e) == 0 &&
	    (j->zero ? write_zeros(x, j, &e) : write_window(w, j, &e)) < 0) {
		if (x->device)
			err_wrap(&e, "%s", x->how->target);
		else
			err_wrap(&e, "%s%s/%s", x->how->target,
			    j->file->dir->path, j->file->name);
		extract_fail(x, &e);
	}
	extract_file_put(x, j->file);
	extract_add_done(x, job_bytes(j));
	free(j);
}

static void *
worker_main(void *arg)
{
	struct extract_worker *w = arg;
	struct extract_job *j;

	while ((j = queue_get(&w->x->queue)) != NULL)
		do_job(w, j);
	return NULL;
}

static int
start_worker(struct extract *x, struct extract_worker *w, struct err *e)
{
	void *windows;
	int rc = mem_try_pages(&windows, 2 * EXTRACT_WINDOW, e);

	if (rc < 0)
		return rc;
	*w = (struct extract_worker){.x = x,
	    .want = windows,
	    .now = (uint8_t *)windows + EXTRACT_WINDOW};
	rc = pthread_create(&w->thread, NULL, worker_main, w);
	if (rc == 0) {
		x->workers++;
		return 0;
	}
	free(windows);
	return err_sys(e, rc, "start a worker");
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
	while (x->workers < want)
		if (start_worker(x, &x->worker[x->workers], e) < 0)
			return e->code;
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
	struct err be = ERR_NONE;
	int rc = extract_flush(x, e);

	queue_close(&x->queue);
	for (unsigned i = 0; i < x->workers; i++) {
		pthread_join(x->worker[i].thread, NULL);
		free(x->worker[i].want);
	}
	queue_fini(&x->queue);
	if (extract_behind_end(x, &be) < 0)
		extract_fail(x, &be);
	return rc < 0 ? rc : extract_failed(x, e);
}

static int
new_job(struct extract *x, struct extract_file *f, uint64_t off, uint64_t len,
    struct err *e)
{
	int rc = extract_flush(x, e);

	if (rc < 0)
		return rc;
	if (len > f->o.size - off)
		len = f->o.size - off;
	x->job = mem_new(sizeof *x->job);
	extract_file_get(f);
	x->job->file = f;
	x->job->off = off;
	x->job->len = len;
	return 0;
}

/* What of an extent lies in the window of `block`. */
static int
put_piece(struct extract *x, struct extract_file *f,
    const struct map_extent *at, uint64_t block, unsigned count, struct err *e)
{
	uint64_t off = block * BLOCK, window = off - off % EXTRACT_WINDOW;
	struct extract_job *j = x->job;
	int rc;

	if (off >= f->o.size)
		return 0;
	if (j == NULL || j->zero || j->file != f || j->off != window) {
		rc = new_job(x, f, window, EXTRACT_WINDOW, e);
		if (rc < 0)
			return rc;
		j = x->job;
	}
	assert(j->n < EXTRACT_WINDOW_BLOCKS);
	j->piece[j->n++] = (struct extract_piece){.chunk = at->chunk,
	    .slot = at->slot + (unsigned)(block - at->block),
	    .blocks = count,
	    .at = (uint32_t)(off - window)};
	return 0;
}

int
extract_put(struct extract *x, struct extract_file *f,
    const struct map_extent *at, struct err *e)
{
	uint64_t block = at->block, end = at->block + at->count;
	int rc = 0;

	while (rc == 0 && block < end) {
		uint64_t next =
		    (block / EXTRACT_WINDOW_BLOCKS + 1) * EXTRACT_WINDOW_BLOCKS;

		if (next > end)
			next = end;
		rc = put_piece(x, f, at, block, (unsigned)(next - block), e);
		block = next;
	}
	return rc;
}

int
extract_put_zero(struct extract *x, struct extract_file *f, uint64_t off,
    uint64_t len, struct err *e)
{
	int rc;

	if (off >= f->o.size)
		return 0;
	if (!f->existed && !f->device) {
		extract_add_done(
		    x, len < f->o.size - off ? len : f->o.size - off);
		return 0;
	}
	rc = new_job(x, f, off, len, e);
	if (rc < 0)
		return rc;
	x->job->zero = true;
	return extract_flush(x, e);
}

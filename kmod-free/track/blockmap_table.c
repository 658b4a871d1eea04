/* SPDX-License-Identifier: Apache-2.0 */
/* File `objects`: a header of 1024 bytes, then an entry of 72 for each object
 * of the last committed backup, sorted by key. Always replaced whole. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/track/blockmap_internal.h"

#define MAGIC "NEAPBMO\1"
#define VERSION 1u
#define HEAD_BYTES 1024u
#define ENTRY_BYTES 72u
#define OBJECTS_MAX (1u << 26)

enum { /* offsets in the header */
	AT_VERSION = 8,
	AT_HEAD_BYTES = 12,
	AT_REPO = 16,
	AT_TIME = 32,
	AT_COUNT = 64,
	AT_PAGES = 72,
	AT_BODY_SUM = 80,
	AT_SECRET = 96,
	AT_JOB = 288,
	AT_HEAD_SUM = HEAD_BYTES - BLOCKMAP_SUM_BYTES,
};

void
blockmap_table_fini(struct blockmap_table *t)
{
	free(t->v);
	explicit_bzero(t, sizeof *t);
}

int
blockmap_table_order(const void *pa, const void *pb)
{
	const struct blockmap_object *a = pa, *b = pb;

	if (a->volume != b->volume)
		return a->volume < b->volume ? -1 : 1;
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return (a->gen > b->gen) - (a->gen < b->gen);
}

static void
put_entry(struct buf *to, const struct blockmap_object *o)
{
	buf_put_le32(to, o->volume);
	buf_put_le32(to, 0);
	buf_put_le64(to, o->ino);
	buf_put_le64(to, o->gen);
	buf_put_le64(to, o->object);
	buf_put_le64(to, o->size);
	buf_put_le64(to, o->run_page);
	buf_put_le64(to, o->run_pages);
	buf_put(to, o->attributes, sizeof o->attributes);
}

static void
get_entry(const uint8_t *p, struct blockmap_object *o)
{
	o->volume = bytes_le32(p);
	o->ino = bytes_le64(p + 8);
	o->gen = bytes_le64(p + 16);
	o->object = bytes_le64(p + 24);
	o->size = bytes_le64(p + 32);
	o->run_page = bytes_le64(p + 40);
	o->run_pages = bytes_le64(p + 48);
	memcpy(o->attributes, p + 56, sizeof o->attributes);
}

static void
encode_head(uint8_t h[HEAD_BYTES], const struct blockmap_table *t,
    const struct blockmap_place *at, const uint8_t body_sum[BLOCKMAP_SUM_BYTES])
{
	memset(h, 0, HEAD_BYTES);
	memcpy(h, MAGIC, 8);
	bytes_put_le32(h + AT_VERSION, VERSION);
	bytes_put_le32(h + AT_HEAD_BYTES, HEAD_BYTES);
	memcpy(h + AT_REPO, at->repo_id, sizeof at->repo_id);
	memcpy(h + AT_TIME, t->time, BLOCKMAP_TIME_BYTES);
	bytes_put_le64(h + AT_COUNT, t->n);
	bytes_put_le64(h + AT_PAGES, t->pages);
	memcpy(h + AT_BODY_SUM, body_sum, BLOCKMAP_SUM_BYTES);
	memcpy(h + AT_SECRET, t->secret, BLOCKMAP_SECRET_BYTES);
	memcpy(h + AT_JOB, at->job, BLOCKMAP_JOB_BYTES);
	blockmap_sum(h + AT_HEAD_SUM, h, AT_HEAD_SUM);
}

/* The entries into `tmp`, a few at a time, and their checksum. */
static int
write_body(const struct blockmap_table *t, struct tmpfile *tmp,
    uint8_t sum[BLOCKMAP_SUM_BYTES], struct err *e)
{
	SCOPED_BUF struct buf buf = {0};
	XXH3_state_t *s = XXH3_createState();
	int rc = 0;

	assert(s != NULL);
	XXH3_128bits_reset(s);
	for (size_t i = 0; i < t->n && rc == 0; i++) {
		put_entry(&buf, &t->v[i]);
		if (buf.len < 65536 && i + 1 < t->n)
			continue;
		XXH3_128bits_update(s, buf.data, buf.len);
		rc = tmpfile_write(tmp, buf.data, buf.len, e);
		buf_clear(&buf);
	}
	blockmap_sum_stream(sum, s);
	XXH3_freeState(s);
	return rc;
}

int
blockmap_table_store(struct blockmap_table *t, const struct blockmap_place *at,
    const char *name, struct err *e)
{
	SCOPED_TMPFILE struct tmpfile tmp = TMPFILE_NONE;
	uint8_t head[HEAD_BYTES] = {0}, sum[BLOCKMAP_SUM_BYTES];
	int rc;

	rc = tmpfile_open(&tmp, at->dirfd, ".", 0600, e);
	if (rc == 0)
		rc = tmpfile_write(&tmp, head, sizeof head, e);
	if (rc == 0)
		rc = write_body(t, &tmp, sum, e);
	if (rc == 0) {
		encode_head(head, t, at, sum);
		rc = fs_pwrite(tmp.fd, head, sizeof head, 0, e);
	}
	if (rc == 0)
		rc = tmpfile_replace(&tmp, at->dirfd, name, e);
	if (rc < 0)
		return err_wrap(e, "block map %s/%s", at->dir, name);
	memcpy(t->sum, head + AT_HEAD_SUM, BLOCKMAP_SUM_BYTES);
	return 0;
}

static bool
head_whole(const uint8_t *h, size_t len)
{
	uint8_t sum[BLOCKMAP_SUM_BYTES];

	if (len < HEAD_BYTES || memcmp(h, MAGIC, 8) != 0)
		return false;
	blockmap_sum(sum, h, AT_HEAD_SUM);
	return memcmp(sum, h + AT_HEAD_SUM, sizeof sum) == 0 &&
	       h[AT_TIME + BLOCKMAP_TIME_BYTES - 1] == '\0' &&
	       h[AT_JOB + BLOCKMAP_JOB_BYTES - 1] == '\0';
}

static int
check_owner(const uint8_t *h, const struct blockmap_place *at, struct err *e)
{
	if (bytes_le32(h + AT_VERSION) != VERSION ||
	    bytes_le32(h + AT_HEAD_BYTES) != HEAD_BYTES)
		return err_set(e, -ESTALE, "of version %u, not %u",
		    (unsigned)bytes_le32(h + AT_VERSION), VERSION);
	if (memcmp(h + AT_REPO, at->repo_id, sizeof at->repo_id) != 0)
		return err_set(e, -ESTALE, "made for another repository");
	if (memcmp(h + AT_JOB, at->job, BLOCKMAP_JOB_BYTES) != 0)
		return err_set(e, -ESTALE, "made for job %s, not %s",
		    (const char *)h + AT_JOB, at->job);
	return 0;
}

/* Everything that later arithmetic relies on. */
static bool
entry_sound(const struct blockmap_table *t, size_t i)
{
	const struct blockmap_object *o = &t->v[i];

	return o->size <= INT64_MAX && o->run_page <= t->pages &&
	       o->run_pages <= t->pages - o->run_page &&
	       blockmap_pages_of(o->size) <= o->run_pages &&
	       (i == 0 || blockmap_table_order(o - 1, o) < 0);
}

static int
decode(struct blockmap_table *t, const struct blockmap_place *at,
    struct span file, struct err *e)
{
	const uint8_t *h = file.data;
	uint8_t sum[BLOCKMAP_SUM_BYTES];
	size_t body = file.len - HEAD_BYTES;
	int rc;

	if (!head_whole(h, file.len))
		return err_set(e, -EBADMSG, "its header is damaged");
	rc = check_owner(h, at, e);
	if (rc < 0)
		return rc;
	t->pages = bytes_le64(h + AT_PAGES);
	if (body % ENTRY_BYTES != 0 ||
	    bytes_le64(h + AT_COUNT) != body / ENTRY_BYTES ||
	    t->pages > BLOCKMAP_PAGES_MAX)
		return err_set(e, -EBADMSG, "its length is wrong");
	blockmap_sum(sum, h + HEAD_BYTES, body);
	if (memcmp(sum, h + AT_BODY_SUM, sizeof sum) != 0)
		return err_set(e, -EBADMSG, "its checksum is wrong");
	memcpy(t->time, h + AT_TIME, BLOCKMAP_TIME_BYTES);
	memcpy(t->secret, h + AT_SECRET, BLOCKMAP_SECRET_BYTES);
	memcpy(t->sum, h + AT_HEAD_SUM, BLOCKMAP_SUM_BYTES);
	t->n = body / ENTRY_BYTES;
	t->v = mem_array(t->n, sizeof *t->v);
	for (size_t i = 0; i < t->n; i++) {
		get_entry(h + HEAD_BYTES + i * ENTRY_BYTES, &t->v[i]);
		if (!entry_sound(t, i))
			return err_set(
			    e, -EBADMSG, "entry %zu is not possible", i);
	}
	return 0;
}

/* Two runs that overlap would let one object's hashes pass for another's. */
static int
check_runs(const struct blockmap_table *t, struct err *e)
{
	struct blockmap_runs r;
	int rc = blockmap_runs_init(&r, t, e);

	if (rc == 0)
		blockmap_runs_fini(&r);
	return rc;
}

int
blockmap_table_load(struct blockmap_table *t, const struct blockmap_place *at,
    const char *name, struct err *e)
{
	SCOPED_BUF struct buf file = {0};
	struct blockmap_table read = {0};
	int rc;

	rc = fs_read_at(at->dirfd, name,
	    HEAD_BYTES + (size_t)OBJECTS_MAX * ENTRY_BYTES, &file, e);
	if (rc == 0)
		rc = decode(&read, at, buf_span(&file), e);
	if (rc == 0)
		rc = check_runs(&read, e);
	if (rc < 0) {
		blockmap_table_fini(&read);
		return err_wrap(e, "block map %s/%s", at->dir, name);
	}
	*t = read;
	return 0;
}

void
blockmap_table_time(char out[BLOCKMAP_TIME_BYTES],
    const struct blockmap_place *at, const char *name)
{
	SCOPED_FD int fd = openat(at->dirfd, name, O_RDONLY | O_CLOEXEC);
	uint8_t h[HEAD_BYTES];
	struct err none = ERR_NONE;

	memset(out, 0, BLOCKMAP_TIME_BYTES);
	if (fd < 0 || fs_pread(fd, h, sizeof h, 0, &none) < 0)
		return;
	if (head_whole(h, sizeof h) && check_owner(h, at, &none) == 0)
		memcpy(out, h + AT_TIME, BLOCKMAP_TIME_BYTES);
}

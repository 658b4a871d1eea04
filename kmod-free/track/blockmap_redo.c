/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File `redo`: everything that an update will do to `hashes`. A header of 256
 * bytes; the puts (16 bytes each and their hashes), in the order in which they
 * came; the moves (32 bytes each), which are known last and applied first.
 * It is written as the backup runs, so memory does not grow with the change.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "kmod-free/track/blockmap_internal.h"

#define MAGIC "NEAPBMR\1"
#define VERSION 1u
#define HEAD_BYTES 256u
#define PUT_BYTES 16u
#define MOVE_BYTES 32u
#define PIECE_BYTES 65536u /* written, or read, at a time */

enum { /* offsets in the header */
	AT_VERSION = 8,
	AT_HEAD_BYTES = 12,
	AT_TIME = 16,
	AT_BEFORE = 48,
	AT_FROM = 80,
	AT_TO = 96,
	AT_BODY_LEN = 112,
	AT_MOVES_AT = 120,
	AT_PUTS = 128,
	AT_MOVES = 136,
	AT_BODY_SUM = 144,
	AT_HEAD_SUM = HEAD_BYTES - BLOCKMAP_SUM_BYTES,
};

/* ---- writing ---- */

int
blockmap_redo_begin(struct blockmap_redo_writer *w, int dirfd, struct err *e)
{
	static const uint8_t zeros[HEAD_BYTES];
	int rc;

	*w = (struct blockmap_redo_writer){.tmp = TMPFILE_NONE};
	rc = tmpfile_open(&w->tmp, dirfd, ".", 0600, e);
	if (rc == 0)
		rc = tmpfile_write(&w->tmp, zeros, sizeof zeros, e);
	w->sum = XXH3_createState();
	assert(w->sum != NULL);
	XXH3_128bits_reset(w->sum);
	return rc;
}

void
blockmap_redo_end(struct blockmap_redo_writer *w)
{
	tmpfile_close(&w->tmp);
	buf_free(&w->buf);
	XXH3_freeState(w->sum);
	w->sum = NULL;
}

static int
spill(struct blockmap_redo_writer *w, size_t least, struct err *e)
{
	int rc;

	if (w->buf.len < least || w->buf.len == 0)
		return 0;
	XXH3_128bits_update(w->sum, w->buf.data, w->buf.len);
	rc = tmpfile_write(&w->tmp, w->buf.data, w->buf.len, e);
	w->head.body_len += w->buf.len;
	buf_clear(&w->buf);
	return rc;
}

int
blockmap_redo_put(struct blockmap_redo_writer *w, uint64_t page, unsigned slot,
    unsigned count, const uint8_t (*hash)[BLOCKMAP_HASH_LEN], struct err *e)
{
	assert(count > 0 && slot + count <= BLOCKMAP_PAGE_HASHES);
	assert(w->head.moves == 0 && w->last.kind == 0);
	buf_put_le64(&w->buf, page);
	buf_put_le16(&w->buf, (uint16_t)slot);
	buf_put_le16(&w->buf, (uint16_t)count);
	buf_put_le32(&w->buf, 0);
	buf_put(&w->buf, hash, (size_t)count * BLOCKMAP_HASH_LEN);
	w->head.puts++;
	return spill(w, PIECE_BYTES, e);
}

static int
write_last(struct blockmap_redo_writer *w, struct err *e)
{
	if (w->last.kind == 0)
		return 0;
	if (w->head.moves++ == 0)
		w->head.moves_at = w->head.body_len + w->buf.len;
	buf_put_le32(&w->buf, w->last.kind);
	buf_put_le32(&w->buf, 0);
	buf_put_le64(&w->buf, w->last.a);
	buf_put_le64(&w->buf, w->last.b);
	buf_put_le64(&w->buf, w->last.n);
	w->last.kind = 0;
	return spill(w, PIECE_BYTES, e);
}

int
blockmap_redo_move(
    struct blockmap_redo_writer *w, struct blockmap_move move, struct err *e)
{
	int rc;

	if (w->last.kind == BLOCKMAP_CLEAR && move.kind == BLOCKMAP_CLEAR &&
	    w->last.a + w->last.n == move.a) {
		w->last.n += move.n;
		return 0;
	}
	rc = write_last(w, e);
	w->last = move;
	return rc;
}

static void
encode_head(uint8_t b[HEAD_BYTES], const struct blockmap_redo_head *h)
{
	memset(b, 0, HEAD_BYTES);
	memcpy(b, MAGIC, 8);
	bytes_put_le32(b + AT_VERSION, VERSION);
	bytes_put_le32(b + AT_HEAD_BYTES, HEAD_BYTES);
	memcpy(b + AT_TIME, h->time, BLOCKMAP_TIME_BYTES);
	memcpy(b + AT_BEFORE, h->before, BLOCKMAP_TIME_BYTES);
	memcpy(b + AT_FROM, h->from, BLOCKMAP_SUM_BYTES);
	memcpy(b + AT_TO, h->to, BLOCKMAP_SUM_BYTES);
	bytes_put_le64(b + AT_BODY_LEN, h->body_len);
	bytes_put_le64(b + AT_MOVES_AT, h->moves_at);
	bytes_put_le64(b + AT_PUTS, h->puts);
	bytes_put_le64(b + AT_MOVES, h->moves);
	memcpy(b + AT_BODY_SUM, h->body_sum, BLOCKMAP_SUM_BYTES);
	blockmap_sum(b + AT_HEAD_SUM, b, AT_HEAD_SUM);
}

int
blockmap_redo_store(
    struct blockmap_redo_writer *w, int dirfd, const char *name, struct err *e)
{
	uint8_t b[HEAD_BYTES];
	int rc = write_last(w, e);

	if (rc == 0)
		rc = spill(w, 0, e);
	if (rc < 0)
		return rc;
	if (w->head.moves == 0)
		w->head.moves_at = w->head.body_len;
	blockmap_sum_stream(w->head.body_sum, w->sum);
	encode_head(b, &w->head);
	rc = fs_pwrite(w->tmp.fd, b, sizeof b, 0, e);
	if (rc == 0)
		rc = tmpfile_replace(&w->tmp, dirfd, name, e);
	return rc;
}

/* ---- reading ---- */

static int
damaged(const struct blockmap_place *at, const char *name, const char *what,
    struct err *e)
{
	return err_set(e, -EBADMSG, "block map %s/%s: %s", at->dir, name, what);
}

int
blockmap_redo_load(struct blockmap_redo_head *h,
    const struct blockmap_place *at, const char *name, struct err *e)
{
	SCOPED_FD int fd = openat(at->dirfd, name, O_RDONLY | O_CLOEXEC);
	uint8_t b[HEAD_BYTES], sum[BLOCKMAP_SUM_BYTES];
	int rc;

	if (fd < 0)
		return err_sys(e, errno, "block map %s/%s", at->dir, name);
	rc = fs_pread(fd, b, sizeof b, 0, e);
	if (rc < 0)
		return err_wrap(e, "block map %s/%s", at->dir, name);
	blockmap_sum(sum, b, AT_HEAD_SUM);
	if (memcmp(b, MAGIC, 8) != 0 ||
	    memcmp(sum, b + AT_HEAD_SUM, sizeof sum) != 0 ||
	    bytes_le32(b + AT_VERSION) != VERSION ||
	    bytes_le32(b + AT_HEAD_BYTES) != HEAD_BYTES ||
	    b[AT_TIME + BLOCKMAP_TIME_BYTES - 1] != '\0' ||
	    b[AT_BEFORE + BLOCKMAP_TIME_BYTES - 1] != '\0')
		return damaged(at, name, "its header is damaged", e);
	memcpy(h->time, b + AT_TIME, BLOCKMAP_TIME_BYTES);
	memcpy(h->before, b + AT_BEFORE, BLOCKMAP_TIME_BYTES);
	memcpy(h->from, b + AT_FROM, BLOCKMAP_SUM_BYTES);
	memcpy(h->to, b + AT_TO, BLOCKMAP_SUM_BYTES);
	h->body_len = bytes_le64(b + AT_BODY_LEN);
	h->moves_at = bytes_le64(b + AT_MOVES_AT);
	h->puts = bytes_le64(b + AT_PUTS);
	h->moves = bytes_le64(b + AT_MOVES);
	memcpy(h->body_sum, b + AT_BODY_SUM, BLOCKMAP_SUM_BYTES);
	return 0;
}

static bool
lengths_agree(const struct blockmap_redo_head *h, uint64_t file)
{
	return file >= HEAD_BYTES && h->body_len == file - HEAD_BYTES &&
	       h->moves_at <= h->body_len &&
	       (h->body_len - h->moves_at) % MOVE_BYTES == 0 &&
	       (h->body_len - h->moves_at) / MOVE_BYTES == h->moves;
}

int
blockmap_redo_check(const struct blockmap_redo_head *h,
    const struct blockmap_place *at, const char *name, struct err *e)
{
	SCOPED_FD int fd = openat(at->dirfd, name, O_RDONLY | O_CLOEXEC);
	SCOPED_BUF struct buf piece = {0};
	XXH3_state_t *s;
	uint8_t sum[BLOCKMAP_SUM_BYTES], *p = buf_room(&piece, PIECE_BYTES);
	struct stat st;
	int rc = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, errno, "block map %s/%s", at->dir, name);
	if (!lengths_agree(h, (uint64_t)st.st_size))
		return damaged(at, name, "its length is wrong", e);
	s = XXH3_createState();
	assert(s != NULL);
	XXH3_128bits_reset(s);
	for (uint64_t off = 0, n; off < h->body_len && rc == 0; off += n) {
		n = h->body_len - off;
		n = n < PIECE_BYTES ? n : PIECE_BYTES;
		rc = fs_pread(fd, p, n, HEAD_BYTES + off, e);
		if (rc == 0)
			XXH3_128bits_update(s, p, n);
	}
	blockmap_sum_stream(sum, s);
	XXH3_freeState(s);
	if (rc < 0)
		return err_wrap(e, "block map %s/%s", at->dir, name);
	if (memcmp(sum, h->body_sum, sizeof sum) != 0)
		return damaged(at, name, "its checksum is wrong", e);
	return 0;
}

/* ---- applying ---- */

/* The body, read in pieces: `need` bytes at p. */
struct body {
	int fd;
	uint64_t at, end; /* next to read, in the body */
	uint8_t *data;
	size_t from, len; /* what is left of the piece */
};

static int
body_take(struct body *b, size_t need, const uint8_t **p, struct err *e)
{
	uint64_t left = b->end - b->at;

	assert(need <= PIECE_BYTES);
	if (b->len < need) {
		size_t n;
		int rc;

		memmove(b->data, b->data + b->from, b->len);
		b->from = 0;
		n = PIECE_BYTES - b->len;
		n = n < left ? n : (size_t)left;
		rc =
		    fs_pread(b->fd, b->data + b->len, n, HEAD_BYTES + b->at, e);
		if (rc < 0)
			return rc;
		b->at += n;
		b->len += n;
	}
	if (b->len < need)
		return err_set(e, -EBADMSG, "an entry is cut off");
	*p = b->data + b->from;
	b->from += need;
	b->len -= need;
	return 0;
}

/* n pages from `page` on lie within `pages`. */
static bool
inside(uint64_t page, uint64_t n, uint64_t pages)
{
	return page <= pages && n <= pages - page;
}

static int
zero_tail(struct blockmap_pages *p, uint64_t page, uint64_t slot, struct err *e)
{
	uint8_t *hashes = NULL;
	int rc = blockmap_pages_edit(p, page, &hashes, e);

	if (rc == 0)
		memset(hashes + slot * BLOCKMAP_HASH_LEN, 0,
		    (BLOCKMAP_PAGE_HASHES - slot) * BLOCKMAP_HASH_LEN);
	return rc;
}

static int
apply_move(
    struct body *b, struct blockmap_pages *p, uint64_t pages, struct err *e)
{
	struct blockmap_move m;
	const uint8_t *at = NULL;
	int rc = body_take(b, MOVE_BYTES, &at, e);

	if (rc < 0)
		return rc;
	m.kind = bytes_le32(at);
	m.a = bytes_le64(at + 8);
	m.b = bytes_le64(at + 16);
	m.n = bytes_le64(at + 24);
	if (m.kind == BLOCKMAP_CLEAR && inside(m.a, m.n, pages))
		return blockmap_pages_clear(p, m.a, m.n, e);
	if (m.kind == BLOCKMAP_COPY && inside(m.a, m.n, pages) &&
	    inside(m.b, m.n, pages))
		return blockmap_pages_copy(p, m.a, m.b, m.n, e);
	if (m.kind == BLOCKMAP_TAIL && inside(m.a, 1, pages) &&
	    m.b < BLOCKMAP_PAGE_HASHES)
		return zero_tail(p, m.a, m.b, e);
	return err_set(e, -EBADMSG, "a move is not possible");
}

static int
apply_put(
    struct body *b, struct blockmap_pages *p, uint64_t pages, struct err *e)
{
	unsigned slot, count;
	const uint8_t *at = NULL;
	uint8_t *hashes = NULL;
	uint64_t page;
	int rc = body_take(b, PUT_BYTES, &at, e);

	if (rc < 0)
		return rc;
	page = bytes_le64(at);
	slot = bytes_le16(at + 8);
	count = bytes_le16(at + 10);
	if (!inside(page, 1, pages) || slot + count > BLOCKMAP_PAGE_HASHES)
		return err_set(e, -EBADMSG, "a put is not possible");
	rc = body_take(b, (size_t)count * BLOCKMAP_HASH_LEN, &at, e);
	if (rc == 0)
		rc = blockmap_pages_edit(p, page, &hashes, e);
	if (rc == 0)
		memcpy(hashes + (size_t)slot * BLOCKMAP_HASH_LEN, at,
		    (size_t)count * BLOCKMAP_HASH_LEN);
	return rc;
}

static int
apply_all(const struct blockmap_redo_head *h, struct body *b,
    struct blockmap_pages *p, uint64_t pages, struct err *e)
{
	int rc = 0;

	b->at = h->moves_at;
	b->end = h->body_len;
	for (uint64_t i = 0; i < h->moves && rc == 0; i++)
		rc = apply_move(b, p, pages, e);
	b->at = 0;
	b->end = h->moves_at;
	b->from = b->len = 0;
	for (uint64_t i = 0; i < h->puts && rc == 0; i++)
		rc = apply_put(b, p, pages, e);
	if (rc == 0 && (b->at != b->end || b->len != 0))
		return err_set(e, -EBADMSG, "bytes are left over");
	return rc;
}

int
blockmap_redo_apply(const struct blockmap_redo_head *h,
    const struct blockmap_place *at, const char *name, struct blockmap_pages *p,
    uint64_t pages, struct err *e)
{
	SCOPED_FD int fd = openat(at->dirfd, name, O_RDONLY | O_CLOEXEC);
	SCOPED_BUF struct buf piece = {0};
	struct body b = {.fd = fd, .data = buf_room(&piece, PIECE_BYTES)};
	int rc;

	if (fd < 0)
		return err_sys(e, errno, "block map %s/%s", at->dir, name);
	rc = apply_all(h, &b, p, pages, e);
	if (rc < 0)
		return err_wrap(e, "apply block map %s/%s", at->dir, name);
	return blockmap_pages_flush(p, e);
}

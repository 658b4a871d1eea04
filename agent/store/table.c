/* SPDX-License-Identifier: Apache-2.0 */
/* A table open for reading, with its cache of frames. */
#include "agent/store/table.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "agent/core/mem.h"
#include "agent/store/table_internal.h"

#define CACHE_FRAMES 16
#define OPENERS_KEPT 2
#define ZSTD_LEVEL_UNUSED 3 /* an opener only unpacks */

/* What one thread needs to open a frame. */
struct opener {
	struct opener *next;
	struct seal *seal;
	struct codec *codec;
	struct buf sealed;
};

struct table {
	struct repo *repo;
	char name[64];
	uint8_t id[TABLE_ID_LEN];
	uint64_t len;
	struct table_dir dir;
	struct seal *seal; /* cloned for each opener */

	pthread_mutex_t lock; /* all below */
	struct opener *idle;
	unsigned idle_count;
	struct table_frame **cache;
	size_t cached, cache_max;
	uint64_t clock;
};

void
table_name(char out[64], enum table_kind kind, const uint8_t id[TABLE_ID_LEN])
{
	char hex[2 * TABLE_ID_LEN + 1];

	bytes_hex(hex, id, TABLE_ID_LEN);
	snprintf(out, 64, "%s/%s", kind == TABLE_INDEX ? "index" : "maps", hex);
}

const char *
table_seal_kind(enum table_kind kind)
{
	return kind == TABLE_INDEX ? "index" : "map";
}

/* ---- opening ---- */

static int
bad(const struct table *t, struct err *e, const char *what)
{
	return err_set(
	    e, -EBADMSG, "repository %s: %s: %s", t->repo->url, t->name, what);
}

static int
check_header(const struct table *t, const uint8_t *h, bool encrypted,
    enum table_kind kind, struct err *e)
{
	unsigned version = bytes_le16(h + 8);

	if (memcmp(h, TABLE_MAGIC, 8) != 0)
		return bad(t, e, "offset 0: not a neap table");
	if (version != TABLE_VERSION)
		return err_set(e, -EBADMSG,
		    "repository %s: %s: offset 8: version %u is not known here "
		    "(1 is); a "
		    "newer neap wrote it",
		    t->repo->url, t->name, version);
	if (h[10] != kind)
		return bad(t, e, "offset 10: a table of another kind");
	if (h[11] != (encrypted ? TABLE_FLAG_ENCRYPTED : 0))
		return bad(t, e,
		    "offset 11: its encryption is not that of "
		    "the repository");
	if (memcmp(h + 16, t->id, TABLE_ID_LEN) != 0)
		return bad(t, e, "offset 16: its id is not its name");
	return 0;
}

/* Where the directory lies, checked against the length of the file. */
static int
check_trailer(const struct table *t, const uint8_t *p, uint64_t *dir_off,
    uint32_t *dir_len, struct err *e)
{
	uint64_t off = bytes_le64(p + 8);
	uint32_t len = bytes_le32(p + 16);

	if (memcmp(p, TABLE_END_MAGIC, 8) != 0 ||
	    XXH64(p, 24, 0) != bytes_le64(p + 24))
		return bad(t, e, "the trailer is damaged");
	if (off < TABLE_HEADER_LEN || len <= SEAL_TAG_LEN ||
	    off > t->len - TABLE_TRAILER_LEN ||
	    t->len - TABLE_TRAILER_LEN - off != len)
		return bad(t, e, "the trailer does not fit the file's length");
	*dir_off = off;
	*dir_len = len;
	return 0;
}

static int
load_directory(struct table *t, uint64_t off, uint32_t len, struct err *e)
{
	SCOPED_FREE void *bytes = NULL;
	int rc = mem_try_pages(&bytes, len, e);

	if (rc == 0)
		rc = repo_get(t->repo, t->name, off, bytes, len, e);
	if (rc < 0)
		return rc;
	rc = seal_open_frame(t->seal, TABLE_DIR_FRAME, SPAN(NULL, 0),
	    SPAN(bytes, len), bytes, e);
	if (rc == 0)
		rc =
		    table_dir_parse(&t->dir, bytes, len - SEAL_TAG_LEN, off, e);
	if (rc < 0)
		return err_wrap(e,
		    "repository %s: %s: directory at offset %llu", t->repo->url,
		    t->name, (unsigned long long)off);
	(void)TAKE(bytes);
	return 0;
}

static int
load(struct table *t, const struct keys *k, enum table_kind kind, struct err *e)
{
	uint8_t head[TABLE_HEADER_LEN], tail[TABLE_TRAILER_LEN];
	uint64_t dir_off = 0;
	uint32_t dir_len = 0;
	int rc = repo_size(t->repo, t->name, &t->len, e);

	if (rc < 0)
		return rc;
	if (t->len < TABLE_HEADER_LEN + TABLE_TRAILER_LEN || t->len > INT64_MAX)
		return bad(t, e, "too short to be a table");
	rc = repo_get(t->repo, t->name, 0, head, sizeof head, e);
	if (rc == 0)
		rc = repo_get(t->repo, t->name, t->len - sizeof tail, tail,
		    sizeof tail, e);
	if (rc == 0)
		rc = check_header(t, head, k->encrypted, kind, e);
	if (rc == 0)
		rc = check_trailer(t, tail, &dir_off, &dir_len, e);
	if (rc == 0)
		rc =
		    seal_new_meta(&t->seal, k, table_seal_kind(kind), t->id, e);
	if (rc == 0)
		rc = load_directory(t, dir_off, dir_len, e);
	return rc;
}

int
table_open(struct table **out, struct repo *r, const struct keys *k,
    enum table_kind kind, const uint8_t id[TABLE_ID_LEN], struct err *e)
{
	struct table *t = mem_new(sizeof *t);
	int rc;

	t->repo = r;
	memcpy(t->id, id, TABLE_ID_LEN);
	table_name(t->name, kind, id);
	pthread_mutex_init(&t->lock, NULL);
	t->cache_max = CACHE_FRAMES;
	t->cache = mem_array(t->cache_max, sizeof *t->cache);
	rc = load(t, k, kind, e);
	if (rc < 0) {
		table_close(t);
		return rc;
	}
	*out = t;
	return 0;
}

static void
opener_free(struct opener *o)
{
	if (o == NULL)
		return;
	seal_free(o->seal);
	codec_free(o->codec);
	buf_free(&o->sealed);
	free(o);
}

void
table_close(struct table *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->cached; i++)
		table_frame_unref(t->cache[i]);
	free(t->cache);
	while (t->idle != NULL) {
		struct opener *o = t->idle;

		t->idle = o->next;
		opener_free(o);
	}
	seal_free(t->seal);
	table_dir_fini(&t->dir);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

const uint8_t *
table_id(const struct table *t)
{
	return t->id;
}

uint64_t
table_count(const struct table *t)
{
	return t->dir.entries;
}

uint64_t
table_len(const struct table *t)
{
	return t->len;
}

const struct table_dir *
table_directory(const struct table *t)
{
	return &t->dir;
}

/* ---- the cache ---- */

void
table_cache_frames(struct table *t, unsigned frames)
{
	assert(frames > 0);
	pthread_mutex_lock(&t->lock);
	while (t->cached > frames)
		table_frame_unref(t->cache[--t->cached]);
	t->cache = mem_grow(t->cache, frames, sizeof *t->cache);
	t->cache_max = frames;
	pthread_mutex_unlock(&t->lock);
}

/* Under the lock. At most some 128 slots: a scan of them is no cost beside a
 * binary search in a frame. */
static struct table_frame *
cache_find(struct table *t, uint32_t number)
{
	for (size_t i = 0; i < t->cached; i++) {
		struct table_frame *f = t->cache[i];

		if (f->number != number)
			continue;
		f->used = ++t->clock;
		table_frame_ref(f);
		return f;
	}
	return NULL;
}

/* Under the lock. Keeps a reference to `f` in place of the oldest. */
static void
cache_add(struct table *t, struct table_frame *f)
{
	size_t slot = 0;

	if (t->cached < t->cache_max) {
		slot = t->cached++;
	} else {
		for (size_t i = 1; i < t->cached; i++) {
			if (t->cache[i]->used < t->cache[slot]->used)
				slot = i;
		}
		table_frame_unref(t->cache[slot]);
	}
	f->used = ++t->clock;
	table_frame_ref(f);
	t->cache[slot] = f;
}

/* Under the lock. */
static struct opener *
opener_take(struct table *t)
{
	struct opener *o = t->idle;

	if (o != NULL) {
		t->idle = o->next;
		t->idle_count--;
	}
	return o;
}

static int
opener_new(struct opener **out, struct table *t, struct err *e)
{
	struct opener *o = mem_new(sizeof *o);
	int rc = codec_new(&o->codec, ZSTD_LEVEL_UNUSED, e);

	if (rc < 0) {
		free(o);
		return rc;
	}
	o->seal = seal_clone(t->seal);
	*out = o;
	return 0;
}

/* Its keys against those of the directory: it is the frame of that place. */
static bool
lies_between(const struct table *t, const struct table_frame *f)
{
	struct table_dir_item it = table_dir_item(&t->dir, f->number);
	struct span key, value;

	table_frame_entry(f, 0, &key, &value);
	if (span_cmp(key, it.key) < 0)
		return false;
	if (f->number + 1 == t->dir.frames)
		return true;
	it = table_dir_item(&t->dir, f->number + 1);
	table_frame_entry(f, f->entries - 1, &key, &value);
	return span_cmp(key, it.key) < 0;
}

static int
open_frame(struct table *t, struct opener *o, uint32_t n,
    struct table_frame **out, struct err *e)
{
	struct table_dir_item it = table_dir_item(&t->dir, n);
	SCOPED_FREE uint8_t *plain = mem_grow(NULL, it.plain_len, 1);
	uint8_t *in;
	int rc;

	buf_clear(&o->sealed);
	in = buf_room(&o->sealed, it.sealed_len);
	rc = repo_get(t->repo, t->name, it.off, in, it.sealed_len, e);
	if (rc < 0)
		return rc;
	rc = seal_open_frame(
	    o->seal, n, SPAN(NULL, 0), SPAN(in, it.sealed_len), in, e);
	if (rc == 0)
		rc = codec_unpack(o->codec, it.codec,
		    SPAN(in, it.sealed_len - SEAL_TAG_LEN), plain, it.plain_len,
		    e);
	if (rc == 0)
		rc = table_frame_new(out, plain, it.plain_len, e);
	if (rc < 0)
		return rc == -EBADMSG
			   ? err_wrap(e,
				 "repository %s: %s: frame %u at offset %llu",
				 t->repo->url, t->name, n,
				 (unsigned long long)it.off)
			   : rc;
	(void)TAKE(plain);
	(*out)->number = n;
	if (lies_between(t, *out))
		return 0;
	table_frame_unref(*out);
	return bad(t, e,
	    "the keys of a frame are not those that the directory "
	    "says");
}

/* Another thread may open the same frame meanwhile; the first one stays. */
static struct table_frame *
settle(struct table *t, struct opener *o, struct table_frame *mine)
{
	struct table_frame *f = NULL;

	pthread_mutex_lock(&t->lock);
	if (mine != NULL) {
		f = cache_find(t, mine->number);
		if (f == NULL)
			cache_add(t, mine);
	}
	if (t->idle_count < OPENERS_KEPT) {
		o->next = t->idle;
		t->idle = TAKE(o);
		t->idle_count++;
	}
	pthread_mutex_unlock(&t->lock);
	opener_free(o);
	if (f == NULL)
		return mine;
	table_frame_unref(mine);
	return f;
}

int
table_take_frame(
    struct table *t, uint32_t number, struct table_frame **out, struct err *e)
{
	struct table_frame *f;
	struct opener *o = NULL;
	int rc = 0;

	assert(number < t->dir.frames);
	pthread_mutex_lock(&t->lock);
	f = cache_find(t, number);
	if (f == NULL)
		o = opener_take(t);
	pthread_mutex_unlock(&t->lock);
	if (f != NULL) {
		*out = f;
		return 0;
	}
	if (o == NULL)
		rc = opener_new(&o, t, e);
	if (rc < 0)
		return rc;
	rc = open_frame(t, o, number, &f, e);
	f = settle(t, o, rc < 0 ? NULL : f);
	if (rc < 0)
		return rc;
	*out = f;
	return 0;
}

int
table_get(struct table *t, struct span key, struct buf *out, struct err *e)
{
	int64_t n = table_dir_find(&t->dir, key);
	struct table_frame *f;
	struct span k, v = {0};
	uint32_t i;
	int rc;

	if (n < 0)
		return 0;
	rc = table_take_frame(t, (uint32_t)n, &f, e);
	if (rc < 0)
		return rc;
	i = table_frame_lower(f, key);
	if (i < f->entries) {
		table_frame_entry(f, i, &k, &v);
		rc = span_cmp(k, key) == 0;
	}
	if (rc == 1) {
		buf_clear(out);
		buf_put(out, v.data, v.len);
	}
	table_frame_unref(f);
	return rc;
}

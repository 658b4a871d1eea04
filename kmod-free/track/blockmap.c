/* SPDX-License-Identifier: Apache-2.0 */
#include "kmod-free/track/blockmap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/mem.h"
#include "kmod-free/io/reader.h"
#include "kmod-free/track/blockmap_internal.h"

void
blockmap_sum(uint8_t out[BLOCKMAP_SUM_BYTES], const void *p, size_t n)
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, XXH3_128bits(p, n));
	memcpy(out, c.digest, BLOCKMAP_SUM_BYTES);
}

void
blockmap_sum_stream(uint8_t out[BLOCKMAP_SUM_BYTES], const XXH3_state_t *s)
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, XXH3_128bits_digest(s));
	memcpy(out, c.digest, BLOCKMAP_SUM_BYTES);
}

uint64_t
blockmap_blocks_of(uint64_t size)
{
	return size / BLOCKMAP_BLOCK_BYTES + (size % BLOCKMAP_BLOCK_BYTES != 0);
}

uint64_t
blockmap_pages_of(uint64_t size)
{
	uint64_t blocks = blockmap_blocks_of(size);

	return blocks / BLOCKMAP_PAGE_HASHES +
	       (blocks % BLOCKMAP_PAGE_HASHES != 0);
}

static int
new_map(struct blockmap **out, const char *dir,
    const struct blockmap_owner *who, struct err *e)
{
	struct blockmap *b;
	int fd;

	if (who->job[0] == '\0' || strlen(who->job) >= BLOCKMAP_JOB_BYTES)
		return err_set(e, -EINVAL,
		    "block map %s: the job's name has to have 1 to %u bytes",
		    dir, BLOCKMAP_JOB_BYTES - 1);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "block map %s", dir);
	b = mem_new(sizeof *b);
	b->at.dirfd = fd;
	b->at.dir = mem_str(dir);
	memcpy(b->at.repo_id, who->repo_id, sizeof b->at.repo_id);
	memcpy(b->at.job, who->job, strlen(who->job));
	b->hashes = -1;
	*out = b;
	return 0;
}

void
blockmap_close(struct blockmap *b)
{
	if (b == NULL)
		return;
	blockmap_abandon(b);
	blockmap_pages_fini(&b->pages);
	blockmap_table_fini(&b->table);
	if (b->hashes >= 0)
		close(b->hashes);
	close(b->at.dirfd);
	free(b->at.dir);
	free(b);
}

static int
open_hashes(struct blockmap *b, int flags, struct err *e)
{
	struct stat st;

	b->hashes = openat(
	    b->at.dirfd, BLOCKMAP_HASHES, O_RDWR | O_CLOEXEC | flags, 0600);
	if (b->hashes < 0 && errno == ENOENT)
		return err_set(e, -ESTALE,
		    "block map %s/" BLOCKMAP_HASHES ": it is gone", b->at.dir);
	if (b->hashes < 0 || fstat(b->hashes, &st) < 0)
		return err_sys(
		    e, errno, "block map %s/" BLOCKMAP_HASHES, b->at.dir);
	if ((uint64_t)st.st_size < b->table.pages * BLOCKMAP_PAGE_BYTES)
		return err_set(e, -EBADMSG,
		    "block map %s/" BLOCKMAP_HASHES
		    ": %lld bytes long, but it has to have %llu pages",
		    b->at.dir, (long long)st.st_size,
		    (unsigned long long)b->table.pages);
	blockmap_pages_init(&b->pages, b->hashes, b->at.dir, b->table.secret);
	return 0;
}

int
blockmap_open(struct blockmap **out, const char *dir,
    const struct blockmap_owner *who, blockmap_committed_fn *committed,
    void *arg, struct err *e)
{
	struct blockmap *b;
	int rc = new_map(&b, dir, who, e);

	if (rc < 0)
		return rc;
	rc = blockmap_table_load(&b->table, &b->at, BLOCKMAP_OBJECTS, e);
	if (rc == 0)
		rc = open_hashes(b, 0, e);
	if (rc == 0)
		rc = blockmap_commit_recover(b, committed, arg, e);
	if (rc < 0) {
		blockmap_close(b);
		return rc;
	}
	*out = b;
	return 0;
}

/* `objects` first: without it the rest is nobody's, should we be cut off. */
static int
remove_all(const struct blockmap *b, struct err *e)
{
	static const char *const names[] = {BLOCKMAP_OBJECTS, BLOCKMAP_REDO,
	    BLOCKMAP_REDO_NEW, BLOCKMAP_OBJECTS_NEW, BLOCKMAP_HASHES};

	for (size_t i = 0; i < MEM_COUNT(names); i++) {
		if (unlinkat(b->at.dirfd, names[i], 0) < 0 && errno != ENOENT)
			return err_sys(
			    e, errno, "remove %s/%s", b->at.dir, names[i]);
		if (i == 0 && fsync(b->at.dirfd) < 0)
			return err_sys(e, errno, "sync folder %s", b->at.dir);
	}
	return 0;
}

int
blockmap_create(struct blockmap **out, const char *dir,
    const struct blockmap_owner *who, struct err *e)
{
	struct blockmap *b;
	int rc = fs_mkdirs(dir, 0700, e);

	if (rc == 0)
		rc = new_map(&b, dir, who, e);
	if (rc < 0)
		return rc;
	rc = remove_all(b, e);
	if (rc == 0)
		rc = clock_random(b->table.secret, sizeof b->table.secret, e);
	if (rc == 0)
		rc = open_hashes(b, O_CREAT | O_EXCL, e);
	if (rc == 0)
		rc = blockmap_table_store(
		    &b->table, &b->at, BLOCKMAP_OBJECTS, e);
	if (rc == 0)
		rc = fs_sync_dir_at(b->at.dirfd, ".", e);
	if (rc < 0) {
		blockmap_close(b);
		return err_wrap(e, "make block map %s", dir);
	}
	*out = b;
	return 0;
}

const char *
blockmap_backup(const struct blockmap *b)
{
	return b->table.time;
}

static void
hash_block(const struct blockmap *b, const uint8_t *block, uint8_t *out)
{
	XXH128_canonical_t c;

	if (bytes_all_zero(block, BLOCKMAP_BLOCK_BYTES)) {
		memset(out, 0, BLOCKMAP_HASH_LEN);
		return;
	}
	XXH128_canonicalFromHash(
	    &c, XXH3_128bits_withSecret(block, BLOCKMAP_BLOCK_BYTES,
		    b->table.secret, BLOCKMAP_SECRET_BYTES));
	memcpy(out, c.digest, BLOCKMAP_HASH_LEN);
	/* All zeros is the hash of zeros alone. */
	if (bytes_all_zero(out, BLOCKMAP_HASH_LEN))
		out[BLOCKMAP_HASH_LEN - 1] = 1;
}

void
blockmap_hash(const struct blockmap *b, const uint8_t *data, unsigned count,
    uint8_t (*out)[BLOCKMAP_HASH_LEN])
{
	for (unsigned i = 0; i < count; i++)
		hash_block(b, data + (size_t)i * BLOCKMAP_BLOCK_BYTES, out[i]);
}

const struct blockmap_object *
blockmap_find(
    const struct blockmap *b, uint32_t volume, uint64_t ino, uint64_t gen)
{
	const struct blockmap_object key = {
	    .volume = volume, .ino = ino, .gen = gen};

	if (b->table.n == 0)
		return NULL;
	return bsearch(
	    &key, b->table.v, b->table.n, sizeof key, blockmap_table_order);
}

const struct blockmap_object *
blockmap_at(const struct blockmap *b, size_t i)
{
	assert(i < b->table.n);
	return &b->table.v[i];
}

size_t
blockmap_objects(const struct blockmap *b)
{
	return b->table.n;
}

/* The object is one of the last commit's, and its pages are as that left them. */
static int
check_readable(
    const struct blockmap *b, const struct blockmap_object *o, struct err *e)
{
	assert(o >= b->table.v && o < b->table.v + b->table.n);
	if (b->committing)
		return err_set(e, -ESTALE,
		    "block map %s: its last commit did not end", b->at.dir);
	return 0;
}

int
blockmap_get(struct blockmap *b, const struct blockmap_object *o,
    uint64_t block, unsigned count, uint8_t (*out)[BLOCKMAP_HASH_LEN],
    struct err *e)
{
	uint64_t blocks = blockmap_blocks_of(o->size);
	int rc = check_readable(b, o, e);

	while (rc == 0 && count > 0 && block < blocks) {
		uint64_t page = o->run_page + block / BLOCKMAP_PAGE_HASHES;
		unsigned slot = (unsigned)(block % BLOCKMAP_PAGE_HASHES);
		unsigned n = BLOCKMAP_PAGE_HASHES - slot;
		const uint8_t *hashes = NULL;

		n = n < count ? n : count;
		n = n < blocks - block ? n : (unsigned)(blocks - block);
		rc = blockmap_pages_get(&b->pages, page, &hashes, e);
		if (rc < 0)
			return rc;
		memcpy(out, hashes + (size_t)slot * BLOCKMAP_HASH_LEN,
		    (size_t)n * BLOCKMAP_HASH_LEN);
		block += n;
		out += n;
		count -= n;
	}
	if (rc == 0 && count > 0)
		memset(out, 0, (size_t)count * BLOCKMAP_HASH_LEN);
	return rc;
}

void
blockmap_ahead(const struct blockmap *b, const struct blockmap_object *o,
    uint64_t block, uint64_t count)
{
	uint64_t first = o->run_page + block / BLOCKMAP_PAGE_HASHES;
	uint64_t last = o->run_page + (block + count) / BLOCKMAP_PAGE_HASHES;

	/* Only for speed. */
	posix_fadvise(b->hashes, (off_t)(first * BLOCKMAP_PAGE_BYTES),
	    (off_t)((last - first + 1) * BLOCKMAP_PAGE_BYTES),
	    POSIX_FADV_WILLNEED);
}

int
blockmap_stored(struct blockmap *b, const struct blockmap_object *o,
    uint64_t block, uint64_t *start, uint64_t *count, struct err *e)
{
	uint64_t blocks = blockmap_blocks_of(o->size), off, len, first, end;
	int rc = check_readable(b, o, e);

	if (rc < 0 || block >= blocks)
		return rc;
	rc = reader_data_range(b->hashes,
	    (o->run_page + block / BLOCKMAP_PAGE_HASHES) * BLOCKMAP_PAGE_BYTES,
	    (o->run_page + blockmap_pages_of(o->size)) * BLOCKMAP_PAGE_BYTES,
	    &off, &len, e);
	if (rc < 0)
		return err_wrap(e, "block map %s/" BLOCKMAP_HASHES, b->at.dir);
	if (rc == 0)
		return 0;
	first =
	    (off / BLOCKMAP_PAGE_BYTES - o->run_page) * BLOCKMAP_PAGE_HASHES;
	end = first + len / BLOCKMAP_PAGE_BYTES * BLOCKMAP_PAGE_HASHES;
	first = first < block ? block : first;
	end = end > blocks ? blocks : end;
	*start = first;
	*count = end - first;
	return 1;
}

uint64_t
blockmap_bytes(const struct blockmap *b)
{
	static const char *const names[] = {BLOCKMAP_OBJECTS, BLOCKMAP_HASHES};
	uint64_t sum = 0;

	for (size_t i = 0; i < MEM_COUNT(names); i++) {
		struct stat st;

		if (fstatat(b->at.dirfd, names[i], &st, AT_SYMLINK_NOFOLLOW) ==
		    0)
			sum += (uint64_t)st.st_blocks * 512;
	}
	return sum;
}

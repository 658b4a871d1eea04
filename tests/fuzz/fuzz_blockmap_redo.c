/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash left of a block map's update: `redo` is the input, the files
 * beside it are those of an update that was prepared. First a byte: with bit 0
 * the header fits them and its checksums are put right; with bit 1 the commit
 * had begun (`redo`, else `redo.new`); with bit 2 its backup is committed;
 * with bit 3 `objects.new` is gone.
 */
#include <errno.h>
#include <sys/stat.h>

#include "kmod-free/track/blockmap_internal.h"
#include "tests/fuzz/fuzz_dir.h"

/* The header, as docs/format.md has it. */
#define HEAD_BYTES 256
#define AT_BODY_LEN 112
#define AT_MOVES_AT 120
#define AT_MOVES 136
#define AT_BODY_SUM 144
#define AT_HEAD_SUM (HEAD_BYTES - BLOCKMAP_SUM_BYTES)
#define MOVE_BYTES 32

#define BEFORE "20261122T191517Z"
#define AFTER "20261122T193017Z"
#define FILES 3u

static const struct blockmap_owner owner = {.job = "docs"};
static const char *const name[FILES] = {
    BLOCKMAP_OBJECTS, BLOCKMAP_HASHES, BLOCKMAP_OBJECTS_NEW};
static struct buf file[FILES]; /* as they are before the commit */
static uint8_t head[HEAD_BYTES];

/* ---- an update that was prepared ---- */

static void
add(struct blockmap *b, uint64_t ino, uint64_t size, uint8_t fill)
{
	static uint8_t hash[1000][BLOCKMAP_HASH_LEN];
	struct blockmap_object o = {.ino = ino, .gen = 1, .size = size};
	const struct blockmap_object *old = blockmap_find(b, 0, ino, 1);
	struct err e = ERR_NONE;
	size_t k = old ? blockmap_keep(b, old, &o) : blockmap_add(b, &o);

	memset(hash, fill, sizeof hash);
	MUST(blockmap_put(
		 b, k, 0, (unsigned)blockmap_blocks_of(size), hash, &e) == 0);
}

/* Of three files one grows, one shrinks, one goes and one comes. */
static void
produce(void)
{
	struct err e = ERR_NONE;
	struct blockmap *b;

	MUST(blockmap_create(&b, fuzz_dir(), &owner, &e) == 0);
	MUST(blockmap_begin(b, &e) == 0);
	add(b, 257, 300 * 4096, 1);
	add(b, 258, 600 * 4096, 2);
	add(b, 259, 5, 3);
	MUST(blockmap_prepare(b, BEFORE, &e) == 0);
	MUST(blockmap_commit(b, &e) == 0);
	MUST(blockmap_begin(b, &e) == 0);
	add(b, 257, 600 * 4096, 4);
	add(b, 258, 9 * 4096, 5);
	add(b, 260, 4096, 6);
	MUST(blockmap_prepare(b, AFTER, &e) == 0);
	for (unsigned i = 0; i < FILES; i++) {
		SCOPED_FREE char *path = fs_join(fuzz_dir(), name[i]);

		MUST(fs_read_at(AT_FDCWD, path, 1u << 20, &file[i], &e) == 0);
	}
	{
		SCOPED_FREE char *path = fs_join(fuzz_dir(), BLOCKMAP_REDO_NEW);
		SCOPED_FD int fd = open(path, O_RDONLY);

		MUST(read(fd, head, sizeof head) == sizeof head);
	}
	blockmap_close(b);
}

static void
mend(uint8_t *p, size_t len)
{
	uint64_t body = len - HEAD_BYTES, moves = bytes_le64(p + AT_MOVES);

	memcpy(p, head, AT_BODY_LEN);
	if (moves > body / MOVE_BYTES)
		moves = body / MOVE_BYTES;
	bytes_put_le64(p + AT_MOVES, moves);
	bytes_put_le64(p + AT_MOVES_AT, body - moves * MOVE_BYTES);
	bytes_put_le64(p + AT_BODY_LEN, body);
	blockmap_sum(p + AT_BODY_SUM, p + HEAD_BYTES, body);
	blockmap_sum(p + AT_HEAD_SUM, p, AT_HEAD_SUM);
}

/* ---- opening it ---- */

static int
committed(void *arg, const char *time)
{
	(void)time;
	return *(int *)arg;
}

static bool
there(const char *file_name)
{
	SCOPED_FREE char *path = fs_join(fuzz_dir(), file_name);

	return access(path, F_OK) == 0;
}

static void
read_all(struct blockmap *b)
{
	for (size_t i = 0; i < blockmap_objects(b); i++) {
		const struct blockmap_object *o = blockmap_at(b, i);
		uint64_t start = 0, count, blocks = blockmap_blocks_of(o->size);
		struct err e = ERR_NONE;

		for (uint64_t at = 0; at < blocks; at++) {
			uint8_t hash[1][BLOCKMAP_HASH_LEN];

			MUST(blockmap_get(b, o, at, 1, hash, &e) == 0);
		}
		while (blockmap_stored(b, o, start, &start, &count, &e) == 1) {
			MUST(count > 0 && start + count <= blocks);
			start += count;
		}
	}
}

/* Dropped: what it was before, to the byte. */
static void
must_be_old(void)
{
	for (unsigned i = 0; i < 2; i++) {
		SCOPED_FREE char *path = fs_join(fuzz_dir(), name[i]);
		SCOPED_BUF struct buf now = {0};
		struct err e = ERR_NONE;

		MUST(fs_read_at(AT_FDCWD, path, 1u << 20, &now, &e) == 0);
		MUST(span_cmp(buf_span(&now), buf_span(&file[i])) == 0);
	}
}

static void
open_it(bool begun, int is_committed)
{
	struct err e = ERR_NONE;
	struct blockmap *b;
	int rc =
	    blockmap_open(&b, fuzz_dir(), &owner, committed, &is_committed, &e);

	if (rc < 0) {
		MUST(rc == -EBADMSG || rc == -ESTALE);
		MUST(begun || is_committed);
		return;
	}
	MUST(!there(BLOCKMAP_REDO) && !there(BLOCKMAP_REDO_NEW));
	MUST(begun || is_committed || !there(BLOCKMAP_OBJECTS_NEW));
	if (strcmp(blockmap_backup(b), BEFORE) == 0)
		must_be_old();
	else
		MUST(strcmp(blockmap_backup(b), AFTER) == 0);
	read_all(b);
	blockmap_close(b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	unsigned how = (unsigned)fuzz_u64(&data, &len, 1);
	SCOPED_FREE uint8_t *p = mem_dup(data, len);
	bool begun = how & 2;

	if (file[0].len == 0)
		produce();
	if (how & 1 && len >= HEAD_BYTES)
		mend(p, len);
	for (unsigned i = 0; i < FILES; i++)
		fuzz_dir_put(name[i], buf_span(&file[i]), (off_t)file[i].len);
	for (unsigned i = 0; i < 2; i++) {
		SCOPED_FREE char *path = fs_join(
		    fuzz_dir(), i == 0 ? BLOCKMAP_REDO : BLOCKMAP_REDO_NEW);

		unlink(path);
	}
	if (how & 8) {
		SCOPED_FREE char *path =
		    fs_join(fuzz_dir(), BLOCKMAP_OBJECTS_NEW);

		unlink(path);
	}
	fuzz_dir_put(begun ? BLOCKMAP_REDO : BLOCKMAP_REDO_NEW, SPAN(p, len),
	    (off_t)len);
	open_it(begun, how & 4 ? 1 : 0);
	return 0;
}

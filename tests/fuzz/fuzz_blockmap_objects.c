/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block map whose file `objects` is the input. First a byte: with bit 0 its
 * owner and its checksums are put right before; with bit 1 it is updated too.
 */
#include <errno.h>

#include "kmod-free/track/blockmap_internal.h"
#include "tests/fuzz/fuzz_dir.h"

/* The header, as docs/format.md has it. */
#define HEAD_BYTES 1024
#define AT_REPO 16
#define AT_COUNT 64
#define AT_BODY_SUM 80
#define AT_JOB 288
#define AT_HEAD_SUM (HEAD_BYTES - BLOCKMAP_SUM_BYTES)
#define ENTRY_BYTES 72
#define HASHES_BYTES (1 << 20)

static const struct blockmap_owner owner = {.job = "docs"};

static void
mend(uint8_t *p, size_t len)
{
	memset(p + AT_REPO, 0, sizeof owner.repo_id);
	memset(p + AT_JOB, 0, BLOCKMAP_JOB_BYTES);
	memcpy(p + AT_JOB, owner.job, strlen(owner.job));
	bytes_put_le64(p + AT_COUNT, (len - HEAD_BYTES) / ENTRY_BYTES);
	blockmap_sum(p + AT_BODY_SUM, p + HEAD_BYTES, len - HEAD_BYTES);
	blockmap_sum(p + AT_HEAD_SUM, p, AT_HEAD_SUM);
}

static int
committed(void *arg, const char *time)
{
	(void)arg;
	(void)time;
	return 0;
}

static void
read_all(struct blockmap *b)
{
	for (size_t i = 0; i < blockmap_objects(b); i++) {
		const struct blockmap_object *o = blockmap_at(b, i);
		uint8_t hash[4][BLOCKMAP_HASH_LEN];
		uint64_t start, count;
		struct err e = ERR_NONE;

		MUST(blockmap_find(b, o->volume, o->ino, o->gen) == o);
		blockmap_get(b, o, 0, 4, hash, &e);
		blockmap_get(
		    b, o, blockmap_blocks_of(o->size) - 1, 4, hash, &e);
		if (blockmap_stored(b, o, 0, &start, &count, &e) == 1)
			MUST(start + count <= blockmap_blocks_of(o->size));
	}
}

/* Every object grows by one block, which changes. */
static void
update(struct blockmap *b)
{
	static const uint8_t hash[1][BLOCKMAP_HASH_LEN] = {{1}};
	struct err e = ERR_NONE;

	if (blockmap_begin(b, &e) < 0)
		return;
	for (size_t i = 0; i < blockmap_objects(b); i++) {
		struct blockmap_object now = *blockmap_at(b, i);
		size_t k;

		if (now.size > 1u << 20)
			continue;
		now.size += BLOCKMAP_BLOCK_BYTES;
		k = blockmap_keep(b, blockmap_at(b, i), &now);
		if (blockmap_put(b, k, blockmap_blocks_of(now.size) - 1, 1,
			hash, &e) < 0)
			return;
	}
	if (blockmap_prepare(b, "20261122T191517Z", &e) == 0 &&
	    blockmap_commit(b, &e) == 0)
		read_all(b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	unsigned how = (unsigned)fuzz_u64(&data, &len, 1);
	SCOPED_FREE uint8_t *p = mem_dup(data, len);
	struct blockmap *b;
	struct err e = ERR_NONE;
	int rc;

	if (len > HASHES_BYTES)
		return 0;
	if (how & 1 && len >= HEAD_BYTES)
		mend(p, len);
	fuzz_dir_put(BLOCKMAP_OBJECTS, SPAN(p, len), (off_t)len);
	fuzz_dir_put(BLOCKMAP_HASHES, SPAN(p, len), HASHES_BYTES);
	rc = blockmap_open(&b, fuzz_dir(), &owner, committed, NULL, &e);
	if (rc < 0) {
		MUST(rc == -EBADMSG || rc == -ESTALE);
		return 0;
	}
	read_all(b);
	if (how & 2)
		update(b);
	blockmap_close(b);
	return 0;
}

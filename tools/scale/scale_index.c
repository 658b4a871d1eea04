/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One index segment that names as many chunks as a database of that size has,
 * under made-up ids, and one empty file for each pack that they would fill. A
 * chunk is taken to shrink to half, so a pack of 32 MiB holds 64 MiB.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/mem.h"
#include "agent/store/codec.h"
#include "agent/store/index_internal.h"
#include "tools/scale/scale.h"

#define PACK_PLAIN_BYTES (64u << 20)
#define PACK_BYTES (32u << 20)

uint64_t
scale_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* The i-th of n ids of `len` bytes: random, and in order. */
static void
make_id(uint8_t *id, size_t len, uint64_t i, uint64_t n, uint64_t *random)
{
	uint64_t step = UINT64_MAX / n;
	uint64_t head = i * step + scale_random(random) % step;

	for (size_t j = 0; j < 8; j++)
		id[j] = (uint8_t)(head >> (56 - 8 * j));
	for (size_t j = 8; j < len; j += 8) {
		uint64_t r = scale_random(random);

		memcpy(id + j, &r, 8);
	}
}

static int
put_chunks(
    struct scale *s, struct table_builder *out, uint64_t *random, struct err *e)
{
	uint64_t n = s->size / CHUNK_BYTES;
	uint8_t key[33] = {INDEX_TAG_CHUNK}, value[INDEX_PLACE_LEN];
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < n; i++) {
		uint64_t r = scale_random(random);
		struct chunk_place at = {
		    .off = 64 + (uint32_t)(r >> 32) % PACK_BYTES,
		    .len = 60000 + (uint32_t)(r & 8191),
		    .blocks = CHUNK_BLOCKS,
		    .codec = CODEC_ZSTD};

		make_id(key + 1, 32, i, n, random);
		index_encode_place(
		    value, (uint32_t)(scale_random(random) % s->packs), &at);
		rc = table_builder_add(
		    out, SPAN(key, sizeof key), SPAN(value, sizeof value), e);
	}
	return rc;
}

static int
make_pack(struct scale *s, const uint8_t id[16], struct err *e)
{
	char hex[33], path[4096];
	int fd;

	bytes_hex(hex, id, 16);
	snprintf(path, sizeof path, "%s/packs/%.2s", s->conf->repo_url, hex);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make folder %s", path);
	snprintf(
	    path, sizeof path, "%s/packs/%.2s/%s", s->conf->repo_url, hex, hex);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, errno, "make %s", path);
	close(fd);
	return 0;
}

static int
put_packs(
    struct scale *s, struct table_builder *out, uint64_t *random, struct err *e)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < s->packs; i++) {
		uint8_t key[5] = {INDEX_TAG_PACK, (uint8_t)(i >> 24),
		    (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
		uint8_t id[TABLE_ID_LEN];

		make_id(id, sizeof id, i, s->packs, random);
		rc = make_pack(s, id, e);
		if (rc == 0)
			rc = table_builder_add(
			    out, SPAN(key, sizeof key), SPAN(id, sizeof id), e);
	}
	return rc;
}

int
scale_index(struct scale *s, struct err *e)
{
	uint64_t random = s->size;
	struct table_builder *out;
	uint8_t id[TABLE_ID_LEN];
	int rc;

	s->packs = (s->size + PACK_PLAIN_BYTES - 1) / PACK_PLAIN_BYTES;
	rc = table_builder_new(
	    &out, s->store.repo, &s->store.keys, TABLE_INDEX, e);
	if (rc == 0)
		rc = put_chunks(s, out, &random, e);
	if (rc == 0)
		rc = put_packs(s, out, &random, e);
	if (rc == 0)
		rc = table_builder_finish(TAKE(out), id, &s->index_bytes, e);
	table_builder_abort(out);
	return rc;
}

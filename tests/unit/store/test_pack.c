/* SPDX-License-Identifier: Apache-2.0 */
/* Packs: as docs/format.md says; damage is an error, never wrong data. */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <xxhash.h>

#include "agent/store/codec.h"
#include "agent/store/pack.h"

#define CHUNKS 5

struct fixture {
	struct repo *repo;
	struct keys keys;
	uint8_t id[16];
	char name[64];
	struct pack_entry entry[CHUNKS];
	uint8_t plain[CHUNKS][CHUNK_BYTES];
};

static const uint8_t blocks_of[CHUNKS] = {1, 32, 3, 2, 1};

/* Chunks of several sizes, some of noise (raw) and some not (zstd). */
static void
add_chunk(struct fixture *f, struct pack_writer *w, struct seal *s, int i)
{
	size_t len = blocks_of[i] * (size_t)CHUNK_BLOCK_BYTES, packed_len;
	uint8_t *packed = malloc(codec_bound(len) + SEAL_TAG_LEN);
	struct pack_entry *en = &f->entry[i];
	struct err e = ERR_NONE;
	struct chunk_digest *d;
	enum codec_id codec;
	struct codec *c;

	if (i % 2 == 0)
		scratch_noise(f->plain[i], len, (uint64_t)i);
	else
		scratch_rows(f->plain[i], len, (uint64_t)i);
	OK(codec_new(&c, 3, &e));
	OK(chunk_digest_new(&d, &f->keys, &e));
	OK(chunk_digest_of(d, SPAN(f->plain[i], len), &en->id, &e));
	OK(codec_pack(
	    c, SPAN(f->plain[i], len), packed, &packed_len, &codec, &e));
	assert_int_equal(codec, i % 2 == 0 ? CODEC_RAW : CODEC_ZSTD);
	en->blocks = blocks_of[i];
	en->codec = (uint8_t)codec;
	en->len = (uint32_t)packed_len + SEAL_TAG_LEN;
	en->off = pack_writer_reserve(w, en->len);
	OK(seal_frame(s, en->off, SPAN(en->id.b, 32), SPAN(packed, packed_len),
	    packed, &e));
	OK(pack_writer_put(w, en, SPAN(packed, en->len), &e));
	chunk_digest_free(d);
	codec_free(c);
	free(packed);
}

static void
begin(struct fixture *f, void **state, bool encrypted)
{
	struct err e = ERR_NONE;
	struct pack_writer *w;
	struct seal *s;

	OK(repo_open(&f->repo, *state, false, &e));
	OK(keys_generate(&f->keys, encrypted, &e));
	OK(pack_writer_new(&w, f->repo, &f->keys, &e));
	s = seal_clone(pack_writer_seal(w));
	for (int i = 0; i < CHUNKS; i++)
		add_chunk(f, w, s, i);
	seal_free(s);
	memcpy(f->id, pack_writer_id(w), 16);
	pack_name(f->name, f->id);
	OK(pack_writer_finish(w, &e));
}

static struct chunk_place
place_of(const struct fixture *f, int i)
{
	struct chunk_place at = {
	    .off = f->entry[i].off,
	    .len = f->entry[i].len,
	    .blocks = f->entry[i].blocks,
	    .codec = f->entry[i].codec,
	};

	memcpy(at.pack, f->id, 16);
	return at;
}

static int
read_one(
    struct fixture *f, struct pack_reader *p, int i, uint8_t *to, struct err *e)
{
	struct chunk_place at = place_of(f, i);

	return pack_reader_get(p, &f->entry[i].id, &at, to, e);
}

static void
check_round_trip(void **state, bool encrypted)
{
	static struct fixture f;
	static uint8_t got[CHUNK_BYTES];
	SCOPED_FREE struct pack_entry *v = NULL;
	struct err e = ERR_NONE;
	struct pack_reader *p;
	size_t n;

	begin(&f, state, encrypted);
	OK(pack_reader_new(&p, f.repo, &f.keys, &e));
	for (int i = CHUNKS - 1; i >= 0; i--) {
		OK(read_one(&f, p, i, got, &e));
		assert_memory_equal(
		    got, f.plain[i], blocks_of[i] * (size_t)CHUNK_BLOCK_BYTES);
	}
	OK(pack_directory(f.repo, &f.keys, f.id, &v, &n, &e));
	assert_int_equal(n, CHUNKS);
	for (int i = 0; i < CHUNKS; i++) {
		assert_memory_equal(v[i].id.b, f.entry[i].id.b, 32);
		assert_int_equal(v[i].off, f.entry[i].off);
		assert_int_equal(v[i].len, f.entry[i].len);
		assert_int_equal(v[i].blocks, f.entry[i].blocks);
		assert_int_equal(v[i].codec, f.entry[i].codec);
	}
	pack_reader_free(p);
	repo_close(f.repo);
}

static void
test_encrypted_round_trip(void **state)
{
	check_round_trip(state, true);
}

static void
test_plain_round_trip(void **state)
{
	check_round_trip(state, false);
}

/* What an id is made of; returns the bytes of it. */
static size_t
sha_of_blocks(const uint8_t *plain, unsigned blocks, uint8_t *out)
{
	for (unsigned i = 0; i < blocks; i++)
		EVP_Digest(plain + i * 4096u, 4096, out + i * 32u, NULL,
		    EVP_sha256(), NULL);
	return blocks * (size_t)32;
}

/* A second implementation of the plain layout, by format.md §5 alone. */
static void
test_plain_pack_by_hand(void **state)
{
	static struct fixture f;
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;
	const uint8_t *tail, *dir;
	uint64_t off;
	size_t at = 64;

	begin(&f, state, false);
	OK(repo_get_whole(f.repo, f.name, PACK_MAX_BYTES, &b, &e));
	assert_memory_equal(b.data, "neapPACK", 8);
	assert_int_equal(bytes_le16(b.data + 8), 1);
	assert_int_equal(bytes_le16(b.data + 10), 0);
	assert_memory_equal(b.data + 16, f.id, 16);
	assert_true(bytes_all_zero(b.data + 32, 32));
	tail = b.data + b.len - 32;
	assert_memory_equal(tail, "neapPEND", 8);
	off = bytes_le64(tail + 8);
	assert_int_equal(bytes_le32(tail + 16), 8 + 40 * CHUNKS + 16);
	assert_int_equal(bytes_le32(tail + 20), CHUNKS);
	assert_true(bytes_le64(tail + 24) == XXH64(tail, 24, 0));
	assert_int_equal(off + bytes_le32(tail + 16) + 32, b.len);
	dir = b.data + off;
	assert_int_equal(bytes_le32(dir), CHUNKS);
	for (int i = 0; i < CHUNKS; i++) {
		const uint8_t *en = dir + 8 + 40 * i;
		uint32_t packed = bytes_le32(en + 36);
		uint8_t leaves[CHUNK_BLOCKS * 32], sha[32];

		assert_int_equal(bytes_le32(en + 32), at);
		assert_int_equal((packed >> 20 & 31) + 1, blocks_of[i]);
		assert_int_equal(packed >> 25, i % 2);
		if (i % 2 == 0) { /* raw: the plain bytes lie there */
			size_t n =
			    sha_of_blocks(b.data + at, blocks_of[i], leaves);

			EVP_Digest(leaves, n, sha, NULL, EVP_sha256(), NULL);
			assert_memory_equal(sha, en, 32);
		}
		at += packed & 0xfffff;
	}
	assert_int_equal(at, off);
	repo_close(f.repo);
}

static void
test_chunk_ids_are_keyed(void **state)
{
	static struct fixture f;
	uint8_t leaves[CHUNK_BLOCKS * 32], mac[32];
	unsigned n;

	begin(&f, state, true);
	for (int i = 0; i < CHUNKS; i++) {
		size_t len = sha_of_blocks(f.plain[i], blocks_of[i], leaves);

		HMAC(EVP_sha256(), f.keys.id_key, 32, leaves, len, mac, &n);
		assert_memory_equal(mac, f.entry[i].id.b, 32);
	}
	repo_close(f.repo);
}

/* Put other bytes in the pack's place; the reader is new each time. */
static void
replace(struct fixture *f, struct span bytes)
{
	struct err e = ERR_NONE;

	OK(repo_remove(f->repo, f->name, &e));
	OK(repo_put_whole(f->repo, f->name, bytes, &e));
}

/* How many of the chunks and the directory still read; never wrong data. */
static int
still_reads(struct fixture *f, size_t where)
{
	static uint8_t got[CHUNK_BYTES];
	struct err e = ERR_NONE;
	struct pack_reader *p;
	struct pack_entry *v = NULL;
	int good = 0, rc;
	size_t n;

	OK(pack_reader_new(&p, f->repo, &f->keys, &e));
	for (int i = 0; i < CHUNKS; i++) {
		rc = read_one(f, p, i, got, &e);
		if (rc == 0)
			assert_memory_equal(got, f->plain[i],
			    blocks_of[i] * (size_t)CHUNK_BLOCK_BYTES);
		else if (rc != -EBADMSG && rc != -EOPNOTSUPP)
			fail_msg("at %zu: %d: %s", where, rc, e.text);
		else
			assert_text_has(e.text, f->name);
		good += rc == 0;
	}
	pack_reader_free(p);
	rc = pack_directory(f->repo, &f->keys, f->id, &v, &n, &e);
	if (rc == 0) {
		assert_int_equal(n, CHUNKS);
		for (int i = 0; i < CHUNKS; i++)
			assert_memory_equal(v[i].id.b, f->entry[i].id.b, 32);
		free(v);
	} else if (rc != -EBADMSG && rc != -EOPNOTSUPP) {
		fail_msg("at %zu: %d: %s", where, rc, e.text);
	} else {
		assert_text_has(e.text, f->name);
	}
	return good + (rc == 0);
}

static void
check_damage(void **state, bool encrypted)
{
	static struct fixture f;
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;
	size_t end;

	begin(&f, state, encrypted);
	OK(repo_get_whole(f.repo, f.name, PACK_MAX_BYTES, &b, &e));
	end = f.entry[CHUNKS - 1].off + f.entry[CHUNKS - 1].len;
	/* Everywhere in header, directory and trailer; samples between. */
	for (size_t at = 0; at < b.len; at += at < 64 || at >= end ? 1 : 911) {
		bool reserved = at >= 12 && at < 16;

		if (!encrypted && at >= 32 && at < 64)
			continue; /* the key that is not there */
		b.data[at] ^= 0x40;
		replace(&f, buf_span(&b));
		if (still_reads(&f, at) == CHUNKS + 1 && !reserved)
			fail_msg("a flip at %zu went unseen", at);
		b.data[at] ^= 0x40;
	}
	for (size_t len = 0; len < b.len; len += len < 80 ? 1 : 1777) {
		replace(&f, SPAN(b.data, len));
		if (still_reads(&f, len) > CHUNKS)
			fail_msg("a cut at %zu went unseen", len);
	}
	replace(&f, SPAN(b.data, b.len - 1));
	assert_int_equal(still_reads(&f, b.len - 1), CHUNKS);
	repo_close(f.repo);
}

static void
test_damage_is_seen(void **state)
{
	check_damage(state, true);
}

static void
test_damage_is_seen_in_plain(void **state)
{
	check_damage(state, false);
}

/* A damaged directory does not cost the chunks: the index knows their place. */
static void
test_chunks_outlive_the_directory(void **state)
{
	static struct fixture f;
	SCOPED_BUF struct buf b = {0};
	struct err e = ERR_NONE;

	begin(&f, state, true);
	OK(repo_get_whole(f.repo, f.name, PACK_MAX_BYTES, &b, &e));
	memset(b.data + b.len - 100, 0, 100);
	replace(&f, buf_span(&b));
	assert_int_equal(still_reads(&f, b.len - 100), CHUNKS);
	repo_close(f.repo);
}

static void
test_index_that_lies_is_seen(void **state)
{
	static struct fixture f;
	static uint8_t got[CHUNK_BYTES];
	struct err e = ERR_NONE;
	struct chunk_place at;
	struct pack_reader *p;

	begin(&f, state, false);
	OK(pack_reader_new(&p, f.repo, &f.keys, &e));
	/* Another chunk's place, another length, impossible values. */
	at = place_of(&f, 4);
	FAILS(-EBADMSG, pack_reader_get(p, &f.entry[0].id, &at, got, &e));
	at = place_of(&f, 0);
	at.off = 0;
	FAILS(-EBADMSG, pack_reader_get(p, &f.entry[0].id, &at, got, &e));
	at = place_of(&f, 1);
	at.blocks = 31;
	FAILS(-EBADMSG, pack_reader_get(p, &f.entry[1].id, &at, got, &e));
	at.blocks = 0;
	FAILS(-EBADMSG, pack_reader_get(p, &f.entry[1].id, &at, got, &e));
	at.blocks = 33;
	FAILS(-EBADMSG, pack_reader_get(p, &f.entry[1].id, &at, got, &e));
	at = place_of(&f, 0);
	at.codec = 5;
	FAILS(-EBADMSG, pack_reader_get(p, &f.entry[0].id, &at, got, &e));
	at = place_of(&f, 0);
	at.len = 0xfffff;
	FAILS(-EBADMSG, pack_reader_get(p, &f.entry[0].id, &at, got, &e));
	at = place_of(&f, 0);
	at.pack[3] ^= 1;
	FAILS(-ENOENT, pack_reader_get(p, &f.entry[0].id, &at, got, &e));
	pack_reader_free(p);
	repo_close(f.repo);
}

static void
test_host_key_reads_directories_only(void **state)
{
	static struct fixture f;
	SCOPED_FREE struct pack_entry *v = NULL;
	struct err e = ERR_NONE;
	struct pack_reader *p;
	size_t n;

	begin(&f, state, true);
	f.keys.has_private = false;
	memset(f.keys.private_key, 0, 32);
	OK(pack_directory(f.repo, &f.keys, f.id, &v, &n, &e));
	FAILS(-EKEYREJECTED, pack_reader_new(&p, f.repo, &f.keys, &e));
	repo_close(f.repo);
}

struct reading {
	struct fixture *f;
	struct pack_reader *p;
	int bad;
};

static void *
read_all(void *arg)
{
	struct reading *r = arg;
	uint8_t *got = malloc(CHUNK_BYTES);
	struct err e = ERR_NONE;

	for (int i = 0; i < 40; i++) {
		int k = i % CHUNKS;

		if (read_one(r->f, r->p, k, got, &e) < 0 ||
		    memcmp(got, r->f->plain[k], blocks_of[k] * 4096u) != 0)
			r->bad++;
	}
	free(got);
	return NULL;
}

/* tsan */
static void
test_many_threads_read_at_once(void **state)
{
	static struct fixture f;
	struct err e = ERR_NONE;
	struct reading r[4];
	struct pack_reader *p;
	pthread_t t[4];

	begin(&f, state, true);
	OK(pack_reader_new(&p, f.repo, &f.keys, &e));
	for (int i = 0; i < 4; i++) {
		r[i] = (struct reading){&f, p, 0};
		assert_int_equal(
		    pthread_create(&t[i], NULL, read_all, &r[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(r[i].bad, 0);
	}
	pack_reader_free(p);
	repo_close(f.repo);
}

#define IN_FOLDER(t)                                                           \
	cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    IN_FOLDER(test_encrypted_round_trip),
	    IN_FOLDER(test_plain_round_trip),
	    IN_FOLDER(test_plain_pack_by_hand),
	    IN_FOLDER(test_chunk_ids_are_keyed),
	    IN_FOLDER(test_damage_is_seen),
	    IN_FOLDER(test_damage_is_seen_in_plain),
	    IN_FOLDER(test_chunks_outlive_the_directory),
	    IN_FOLDER(test_index_that_lies_is_seen),
	    IN_FOLDER(test_host_key_reads_directories_only),
	    IN_FOLDER(test_many_threads_read_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

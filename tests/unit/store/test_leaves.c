/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves and the ids made of them: as published, as docs/format.md says, and
 * the same whoever computes them. */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>

#include "agent/store/chunk.h"
#include "agent/store/leaves.h"

#define THREADS 4
#define ROUNDS 50

static uint8_t noise[CHUNK_BYTES];

static int
make_noise(void **state)
{
	(void)state;
	scratch_noise(noise, sizeof noise, 7);
	return 0;
}

static struct leaves *
open_slow(void)
{
	struct err e = ERR_NONE;
	struct leaves *l;

	OK(leaves_evp.open(&l, &e));
	return l;
}

#ifdef NEAP_IPSEC_MB
static struct leaves *
open_fast(void)
{
	struct err e = ERR_NONE;
	struct leaves *l;

	OK(leaves_mb.open(&l, &e));
	return l;
}
#endif

/* SHA-256 of 4096 zero bytes, and of 4096 times "a". With sha256sum:
 * head -c 4096 /dev/zero | tr '\0' a | sha256sum */
static void
check_known(struct leaves *l)
{
	static const char *const want[] = {
	    "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7",
	    "c93eee2d0db02f10acc7460d9576e122dcf8cd53c4bf8dfcae1b3e74ebcfff5a",
	};
	SCOPED_FREE uint8_t *data = mem_new(CHUNK_BYTES);
	uint8_t out[CHUNK_BLOCKS][LEAF_BYTES];
	struct err e = ERR_NONE;
	char hex[65];

	for (size_t i = 1; i < CHUNK_BLOCKS; i += 2)
		memset(data + i * CHUNK_BLOCK_BYTES, 'a', CHUNK_BLOCK_BYTES);
	OK(leaves_of(l, data, CHUNK_BLOCKS, out, &e));
	for (size_t i = 0; i < CHUNK_BLOCKS; i++) {
		bytes_hex(hex, out[i], LEAF_BYTES);
		assert_string_equal(hex, want[i % 2]);
	}
	leaves_free(l);
}

static void
test_known_digests_slow(void **state)
{
	(void)state;
	check_known(open_slow());
}

#ifdef NEAP_IPSEC_MB
static void
test_known_digests_fast(void **state)
{
	(void)state;
	check_known(open_fast());
}

/* Each number of blocks: full and partly empty lanes, and the few that go
 * another way. Nothing is written behind the last leaf. */
static void
test_fast_is_slow(void **state)
{
	uint8_t a[CHUNK_BLOCKS + 1][LEAF_BYTES],
	    b[CHUNK_BLOCKS + 1][LEAF_BYTES];
	struct leaves *fast = open_fast(), *slow = open_slow();
	struct err e = ERR_NONE;

	(void)state;
	for (unsigned n = 1; n <= CHUNK_BLOCKS; n++) {
		const uint8_t *at =
		    noise + (size_t)(CHUNK_BLOCKS - n) * CHUNK_BLOCK_BYTES;

		memset(a, 0x5a, sizeof a);
		memset(b, 0x5a, sizeof b);
		OK(leaves_of(fast, at, n, a, &e));
		OK(leaves_of(slow, at, n, b, &e));
		assert_memory_equal(a, b, sizeof a);
	}
	leaves_free(fast);
	leaves_free(slow);
}

/* Where blocks lie is of no account: no alignment is asked for. */
static void
test_unaligned(void **state)
{
	uint8_t a[8][LEAF_BYTES], b[8][LEAF_BYTES];
	struct leaves *fast = open_fast(), *slow = open_slow();
	struct err e = ERR_NONE;

	(void)state;
	OK(leaves_of(fast, noise + 3, 8, a, &e));
	OK(leaves_of(slow, noise + 3, 8, b, &e));
	assert_memory_equal(a, b, sizeof a);
	leaves_free(fast);
	leaves_free(slow);
}

/* A job that the library refuses is an error, then and ever after. */
static void
test_failed_job(void **state)
{
	uint8_t out[16][LEAF_BYTES];
	struct leaves *fast = open_fast();
	struct err e = ERR_NONE;

	(void)state;
	FAILS(-EIO, leaves_of(fast, NULL, 16, out, &e));
	assert_text_has(e.text, "libipsec-mb");
	FAILS(-EIO, leaves_of(fast, noise, 16, out, &e));
	leaves_free(fast);
}

/* Where it is built in and opens, it is what chunks are hashed with. */
static void
test_fast_is_taken(void **state)
{
	struct leaves *fast = open_fast(), *l;
	struct err e = ERR_NONE;

	(void)state;
	OK(leaves_new(&l, &e));
	assert_ptr_equal(l->ops, fast->ops);
	leaves_free(l);
	leaves_free(fast);
}
#endif

/* ---- what leaves_pick makes of an implementation that is not right ---- */
enum fault { RIGHT, NOT_HERE, SWAPS, LEAVES_ONE_OUT, FAILS_JOBS };
static enum fault fault;
static unsigned closed;
static const struct leaves_ops faulty;

static int
faulty_open(struct leaves **out, struct err *e)
{
	if (fault == NOT_HERE)
		return err_set(e, -EOPNOTSUPP, "not here");
	*out = mem_new(sizeof **out);
	(*out)->ops = &faulty;
	return 0;
}

static int
faulty_of(struct leaves *l, const uint8_t *data, unsigned blocks,
    uint8_t out[][LEAF_BYTES], struct err *e)
{
	struct leaves *slow = open_slow();
	uint8_t all[CHUNK_BLOCKS][LEAF_BYTES];

	(void)l;
	assert_int_equal(leaves_of(slow, data, blocks, all, e), 0);
	leaves_free(slow);
	if (fault == FAILS_JOBS)
		return err_set(e, -EIO, "a job failed");
	if (fault == SWAPS) {
		memcpy(out[0], all[1], LEAF_BYTES);
		memcpy(out[1], all[0], LEAF_BYTES);
		memcpy(out + 2, all + 2, (blocks - 2) * (size_t)LEAF_BYTES);
		return 0;
	}
	/* Where lanes were left empty it forgets to flush. */
	if (fault == LEAVES_ONE_OUT && blocks < CHUNK_BLOCKS)
		blocks--;
	memcpy(out, all, blocks * (size_t)LEAF_BYTES);
	return 0;
}

static void
faulty_close(struct leaves *l)
{
	closed++;
	free(l);
}

static const struct leaves_ops faulty = {
    .name = "faulty",
    .open = faulty_open,
    .of = faulty_of,
    .close = faulty_close,
};

static const char *
picked(enum fault f)
{
	struct err e = ERR_NONE;
	const char *name;
	struct leaves *l;

	fault = f;
	closed = 0;
	OK(leaves_pick(&l, &faulty, &e));
	name = l->ops->name;
	leaves_free(l);
	assert_int_equal(closed, f != NOT_HERE);
	return name;
}

static void
test_right_answers_are_taken(void **state)
{
	(void)state;
	assert_string_equal(picked(RIGHT), "faulty");
}

static void
test_wrong_answers_are_not(void **state)
{
	(void)state;
	assert_string_equal(picked(NOT_HERE), "libcrypto");
	assert_string_equal(picked(SWAPS), "libcrypto");
	assert_string_equal(picked(LEAVES_ONE_OUT), "libcrypto");
	assert_string_equal(picked(FAILS_JOBS), "libcrypto");
}

/* ---- ids ---- */
/* As docs/format.md has it, with other calls than the program's. */
static void
id_by_hand(const struct keys *k, unsigned blocks, uint8_t id[32])
{
	uint8_t leaf[CHUNK_BLOCKS * 32];
	unsigned n = 0;

	for (unsigned i = 0; i < blocks; i++)
		assert_int_equal(EVP_Digest(noise + i * 4096u, 4096,
				     leaf + i * 32u, &n, EVP_sha256(), NULL),
		    1);
	if (!k->encrypted)
		assert_int_equal(
		    EVP_Digest(leaf, blocks * 32u, id, &n, EVP_sha256(), NULL),
		    1);
	else
		assert_non_null(HMAC(
		    EVP_sha256(), k->id_key, 32, leaf, blocks * 32u, id, &n));
}

static void
check_ids(bool encrypted)
{
	struct err e = ERR_NONE;
	struct chunk_digest *d;
	struct chunk_id got;
	struct keys k;
	uint8_t want[32];

	OK(keys_generate(&k, encrypted, &e));
	OK(chunk_digest_new(&d, &k, &e));
	for (unsigned n = CHUNK_BLOCKS; n >= 1; n--) {
		id_by_hand(&k, n, want);
		OK(chunk_digest_of(d, SPAN(noise, (size_t)n * 4096), &got, &e));
		assert_memory_equal(got.b, want, 32);
	}
	chunk_digest_free(d);
}

static void
test_id_keyed(void **state)
{
	(void)state;
	check_ids(true);
}

static void
test_id_plain(void **state)
{
	(void)state;
	check_ids(false);
}

/* Two blocks of zeros without a key, for whoever writes another reader. */
static void
test_id_known(void **state)
{
	static const uint8_t zeros[2 * CHUNK_BLOCK_BYTES];
	struct keys k = {.encrypted = false};
	struct err e = ERR_NONE;
	struct chunk_digest *d;
	struct chunk_id id;
	char hex[65];

	(void)state;
	OK(chunk_digest_new(&d, &k, &e));
	OK(chunk_digest_of(d, SPAN(zeros, sizeof zeros), &id, &e));
	bytes_hex(hex, id.b, sizeof id.b);
	assert_string_equal(hex,
	    "90cefbd5d8858e0ddfb9bd65d7a4920c83019fbe5149e2ee4c2ba34943a1efce");
	chunk_digest_free(d);
}

static void
test_digest_of_no_chunk(void **state)
{
	struct keys k = {.encrypted = false};
	struct err e = ERR_NONE;
	struct chunk_digest *d;

	(void)state;
	OK(chunk_digest_new(&d, &k, &e));
	chunk_digest_free(d);
}

/* ---- several at a time ---- */
struct runner {
	pthread_t thread;
	const struct keys *keys;
	unsigned wrong;
};

static void *
run(void *arg)
{
	struct runner *r = arg;
	struct err e = ERR_NONE;
	struct chunk_digest *d;
	struct chunk_id got;
	uint8_t want[32];

	r->wrong = 1;
	if (chunk_digest_new(&d, r->keys, &e) < 0)
		return NULL;
	r->wrong = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned n = i * 7 % CHUNK_BLOCKS + 1;

		id_by_hand(r->keys, n, want);
		if (chunk_digest_of(
			d, SPAN(noise, (size_t)n * 4096), &got, &e) < 0 ||
		    memcmp(got.b, want, 32) != 0)
			r->wrong++;
	}
	chunk_digest_free(d);
	return NULL;
}

static void
test_threads(void **state)
{
	struct runner r[THREADS] = {0};
	struct err e = ERR_NONE;
	struct keys k;

	(void)state;
	OK(keys_generate(&k, true, &e));
	for (int i = 0; i < THREADS; i++) {
		r[i].keys = &k;
		assert_int_equal(
		    pthread_create(&r[i].thread, NULL, run, &r[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].wrong, 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_known_digests_slow),
#ifdef NEAP_IPSEC_MB
	    cmocka_unit_test(test_known_digests_fast),
	    cmocka_unit_test(test_fast_is_slow),
	    cmocka_unit_test(test_unaligned),
	    cmocka_unit_test(test_failed_job),
	    cmocka_unit_test(test_fast_is_taken),
#endif
	    cmocka_unit_test(test_right_answers_are_taken),
	    cmocka_unit_test(test_wrong_answers_are_not),
	    cmocka_unit_test(test_id_keyed),
	    cmocka_unit_test(test_id_plain),
	    cmocka_unit_test(test_id_known),
	    cmocka_unit_test(test_digest_of_no_chunk),
	    cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, make_noise, NULL);
}

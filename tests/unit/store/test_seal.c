/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: as docs/format.md says, and nothing but the right one opens. */
#include "tests/unit/store/scratch.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <xxhash.h>

#include "agent/store/seal.h"

#define LEN 1000u

struct fixture {
	struct keys keys;
	uint8_t id[16];
	uint8_t plain[LEN], sealed[LEN + SEAL_TAG_LEN], again[LEN];
	struct seal *seal;
};

static void
begin(struct fixture *f, bool encrypted)
{
	struct err e = ERR_NONE;

	memset(f, 0, sizeof *f);
	OK(keys_generate(&f->keys, encrypted, &e));
	memset(f->id, 0x5a, sizeof f->id);
	scratch_noise(f->plain, LEN, 9);
	OK(seal_new_meta(&f->seal, &f->keys, "map", f->id, &e));
	OK(seal_frame(
	    f->seal, 7, SPAN("ab", 2), SPAN(f->plain, LEN), f->sealed, &e));
}

static int
open_it(struct fixture *f, uint64_t number, const char *extra, struct err *e)
{
	return seal_open_frame(f->seal, number, span_str(extra),
	    SPAN(f->sealed, sizeof f->sealed), f->again, e);
}

/* RFC 5869 by hand, 32 bytes of output, so one round of expand. */
static void
hkdf_by_hand(uint8_t out[32], const uint8_t *ikm, const uint8_t *salt,
    size_t salt_len, const char *info, size_t info_len)
{
	uint8_t prk[32], t[256];
	unsigned n;

	HMAC(EVP_sha256(), salt, (int)salt_len, ikm, 32, prk, &n);
	memcpy(t, info, info_len);
	t[info_len] = 1;
	HMAC(EVP_sha256(), prk, 32, t, info_len + 1, out, &n);
}

/* GCM by hand as format.md §4 has it. */
static void
frame_by_hand(uint8_t *out, const uint8_t key[32], const uint8_t id[16],
    uint64_t number, struct span extra, struct span plain)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint8_t nonce[12] = {0}, aad[64], n64[8];
	int n;

	bytes_put_le64(n64, number);
	memcpy(nonce, n64, 8);
	memcpy(aad, id, 16);
	memcpy(aad + 16, n64, 8);
	memcpy(aad + 24, extra.data, extra.len);
	assert_int_equal(
	    EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce), 1);
	EVP_EncryptUpdate(c, NULL, &n, aad, 24 + (int)extra.len);
	EVP_EncryptUpdate(c, out, &n, plain.data, (int)plain.len);
	EVP_EncryptFinal_ex(c, out + n, &n);
	EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, 16, out + plain.len);
	EVP_CIPHER_CTX_free(c);
}

static void
test_meta_frame_is_as_the_format_says(void **state)
{
	uint8_t key[32], want[LEN + SEAL_TAG_LEN];
	struct fixture f;

	(void)state;
	begin(&f, true);
	hkdf_by_hand(key, f.keys.meta_key, f.id, 16, "neap meta map", 13);
	frame_by_hand(want, key, f.id, 7, SPAN("ab", 2), SPAN(f.plain, LEN));
	assert_memory_equal(want, f.sealed, sizeof want);
	seal_free(f.seal);
}

static void
test_plain_frame_is_as_the_format_says(void **state)
{
	uint8_t in[26 + LEN];
	XXH128_canonical_t c;
	struct fixture f;

	(void)state;
	begin(&f, false);
	memcpy(in, f.id, 16);
	bytes_put_le64(in + 16, 7);
	memcpy(in + 24, "ab", 2);
	memcpy(in + 26, f.plain, LEN);
	XXH128_canonicalFromHash(&c, XXH3_128bits(in, sizeof in));
	assert_memory_equal(f.sealed, f.plain, LEN);
	assert_memory_equal(f.sealed + LEN, c.digest, 16);
	seal_free(f.seal);
}

/* The pack's key from the *repository's* side: X25519 with its private key. */
static void
test_pack_frame_is_as_the_format_says(void **state)
{
	uint8_t pub[32], secret[32], salt[64], info[26], key[32];
	uint8_t want[LEN + SEAL_TAG_LEN];
	struct err e = ERR_NONE;
	EVP_PKEY *mine, *theirs;
	EVP_PKEY_CTX *c;
	struct fixture f;
	size_t len = 32;
	struct seal *s;

	(void)state;
	begin(&f, true);
	OK(seal_new_pack(&s, &f.keys, f.id, pub, &e));
	OK(seal_frame(s, 64, SPAN("x", 1), SPAN(f.plain, LEN), f.sealed, &e));
	mine = EVP_PKEY_new_raw_private_key(
	    EVP_PKEY_X25519, NULL, f.keys.private_key, 32);
	theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, pub, 32);
	c = EVP_PKEY_CTX_new(mine, NULL);
	assert_true(EVP_PKEY_derive_init(c) > 0);
	assert_true(EVP_PKEY_derive_set_peer(c, theirs) > 0);
	assert_true(EVP_PKEY_derive(c, secret, &len) > 0);
	memcpy(salt, pub, 32);
	memcpy(salt + 32, f.keys.public_key, 32);
	memcpy(info, "neap pack ", 10);
	memcpy(info + 10, f.id, 16);
	hkdf_by_hand(key, secret, salt, 64, (char *)info, 26);
	frame_by_hand(want, key, f.id, 64, SPAN("x", 1), SPAN(f.plain, LEN));
	assert_memory_equal(want, f.sealed, sizeof want);
	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(theirs);
	EVP_PKEY_free(mine);
	seal_free(s);
	seal_free(f.seal);
}

static void
check_only_the_right_one_opens(bool encrypted)
{
	struct err e = ERR_NONE;
	struct seal *other;
	struct fixture f;

	begin(&f, encrypted);
	OK(open_it(&f, 7, "ab", &e));
	assert_memory_equal(f.again, f.plain, LEN);
	FAILS(-EBADMSG, open_it(&f, 8, "ab", &e));
	assert_text_has(e.text, "frame 8: does not open");
	FAILS(-EBADMSG, open_it(&f, 7, "ac", &e));
	FAILS(-EBADMSG, open_it(&f, 7, "", &e));
	FAILS(-EBADMSG, open_it(&f, 7 + (1ull << 32), "ab", &e));
	for (size_t bit = 0; bit < sizeof f.sealed * 8; bit += 13) {
		f.sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
		FAILS(-EBADMSG, open_it(&f, 7, "ab", &e));
		f.sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t len = 0; len < sizeof f.sealed; len += 7)
		FAILS(-EBADMSG, seal_open_frame(f.seal, 7, SPAN("ab", 2),
				    SPAN(f.sealed, len), f.again, &e));
	f.id[15] ^= 1;
	OK(seal_new_meta(&other, &f.keys, "map", f.id, &e));
	FAILS(-EBADMSG, seal_open_frame(other, 7, SPAN("ab", 2),
			    SPAN(f.sealed, sizeof f.sealed), f.again, &e));
	seal_free(other);
	/* After all these failures the same sealer still works. */
	OK(open_it(&f, 7, "ab", &e));
	assert_memory_equal(f.again, f.plain, LEN);
	seal_free(f.seal);
}

static void
test_only_the_right_frame_opens(void **state)
{
	(void)state;
	check_only_the_right_one_opens(true);
	check_only_the_right_one_opens(false);
}

static void
test_another_kind_is_another_key(void **state)
{
	struct err e = ERR_NONE;
	struct seal *other;
	struct fixture f;

	(void)state;
	begin(&f, true);
	OK(seal_new_meta(&other, &f.keys, "index", f.id, &e));
	FAILS(-EBADMSG, seal_open_frame(other, 7, SPAN("ab", 2),
			    SPAN(f.sealed, sizeof f.sealed), f.again, &e));
	seal_free(other);
	seal_free(f.seal);
}

/* A caller that ignores the error must not find unproved text there. */
static void
test_failed_open_leaves_no_text(void **state)
{
	static const uint8_t zeros[LEN];
	struct err e = ERR_NONE;
	struct fixture f;

	(void)state;
	begin(&f, true);
	f.sealed[sizeof f.sealed - 1] ^= 1;
	FAILS(-EBADMSG, open_it(&f, 7, "ab", &e));
	assert_memory_equal(f.again, zeros, LEN);
	seal_free(f.seal);
}

static void
check_in_place(bool encrypted)
{
	struct err e = ERR_NONE;
	uint8_t place[LEN + SEAL_TAG_LEN];
	struct fixture f;

	begin(&f, encrypted);
	memcpy(place, f.plain, LEN);
	OK(seal_frame(f.seal, 7, SPAN("ab", 2), SPAN(place, LEN), place, &e));
	assert_memory_equal(place, f.sealed, sizeof place);
	OK(seal_open_frame(
	    f.seal, 7, SPAN("ab", 2), SPAN(place, sizeof place), place, &e));
	assert_memory_equal(place, f.plain, LEN);
	/* An empty frame is a tag alone. */
	OK(seal_frame(f.seal, 9, SPAN(NULL, 0), SPAN(NULL, 0), place, &e));
	OK(seal_open_frame(
	    f.seal, 9, SPAN(NULL, 0), SPAN(place, SEAL_TAG_LEN), place, &e));
	seal_free(f.seal);
}

static void
test_in_place_and_empty(void **state)
{
	(void)state;
	check_in_place(true);
	check_in_place(false);
}

static void
test_host_key_seals_packs_and_cannot_open_them(void **state)
{
	struct err e = ERR_NONE;
	struct seal *s, *back;
	struct fixture f;
	struct keys host;
	uint8_t pub[32];

	(void)state;
	begin(&f, true);
	host = f.keys;
	host.has_private = false;
	memset(host.private_key, 0, 32);
	OK(seal_new_pack(&s, &host, f.id, pub, &e));
	OK(seal_frame(s, 64, SPAN(NULL, 0), SPAN(f.plain, LEN), f.sealed, &e));
	FAILS(-EKEYREJECTED, seal_open_pack(&back, &host, f.id, pub, &e));
	assert_text_has(e.text, "recovery key");
	OK(seal_open_pack(&back, &f.keys, f.id, pub, &e));
	OK(seal_open_frame(back, 64, SPAN(NULL, 0),
	    SPAN(f.sealed, sizeof f.sealed), f.again, &e));
	assert_memory_equal(f.again, f.plain, LEN);
	seal_free(back);
	/* A header of zeros: X25519 must not fall for it. */
	memset(pub, 0, sizeof pub);
	FAILS(-EBADMSG, seal_open_pack(&back, &f.keys, f.id, pub, &e));
	seal_free(s);
	seal_free(f.seal);
}

static void
test_clone_is_the_same_key(void **state)
{
	struct err e = ERR_NONE;
	struct seal *clone;
	struct fixture f;

	(void)state;
	begin(&f, true);
	clone = seal_clone(f.seal);
	seal_free(f.seal);
	f.seal = clone;
	OK(open_it(&f, 7, "ab", &e));
	assert_memory_equal(f.again, f.plain, LEN);
	seal_free(f.seal);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_meta_frame_is_as_the_format_says),
	    cmocka_unit_test(test_plain_frame_is_as_the_format_says),
	    cmocka_unit_test(test_pack_frame_is_as_the_format_says),
	    cmocka_unit_test(test_only_the_right_frame_opens),
	    cmocka_unit_test(test_another_kind_is_another_key),
	    cmocka_unit_test(test_failed_open_leaves_no_text),
	    cmocka_unit_test(test_in_place_and_empty),
	    cmocka_unit_test(test_host_key_seals_packs_and_cannot_open_them),
	    cmocka_unit_test(test_clone_is_the_same_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

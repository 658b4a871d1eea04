/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/crypto.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <pthread.h>
#include <string.h>

int
crypto_err(struct err *e, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *why = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return err_set(e, -EIO, "%s: libcrypto: %s", what,
	    why ? why : "failed without a reason");
}

static int
derive(
    const char *kdf_name, const OSSL_PARAM *params, uint8_t *out, struct err *e)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, kdf_name, NULL);
	EVP_KDF_CTX *c = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	int ok =
	    c != NULL && EVP_KDF_derive(c, out, CRYPTO_KEY_LEN, params) > 0;

	EVP_KDF_CTX_free(c);
	EVP_KDF_free(kdf);
	return ok ? 0 : crypto_err(e, kdf_name);
}

/* OSSL_PARAM takes pointers to non-const and does not write through them. */
static OSSL_PARAM
octets(const char *key, struct span s)
{
	return OSSL_PARAM_construct_octet_string(key, (void *)s.data, s.len);
}

int
crypto_hkdf(uint8_t out[CRYPTO_KEY_LEN], struct span ikm, struct span salt,
    struct span info, struct err *e)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
	    octets(OSSL_KDF_PARAM_KEY, ikm),
	    octets(OSSL_KDF_PARAM_SALT, salt),
	    octets(OSSL_KDF_PARAM_INFO, info),
	    OSSL_PARAM_construct_end(),
	};

	return derive("HKDF", params, out, e);
}

int
crypto_scrypt(uint8_t out[CRYPTO_KEY_LEN], const char *passphrase,
    struct span salt, uint64_t n, uint32_t r, uint32_t p, struct err *e)
{
	/* OpenSSL refuses more than 32 MiB unless it is told otherwise. */
	uint64_t most = 128ull * r * (n + 2) + 128ull * r * p + (1u << 20);
	OSSL_PARAM params[] = {
	    octets(OSSL_KDF_PARAM_PASSWORD, span_str(passphrase)),
	    octets(OSSL_KDF_PARAM_SALT, salt),
	    OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
	    OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
	    OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
	    OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &most),
	    OSSL_PARAM_construct_end(),
	};

	return derive("SCRYPT", params, out, e);
}

int
crypto_hmac(uint8_t out[32], const uint8_t key[CRYPTO_KEY_LEN], struct span in,
    struct err *e)
{
	size_t len = 0;

	if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key, CRYPTO_KEY_LEN,
		in.data, in.len, out, 32, &len) == NULL ||
	    len != 32)
		return crypto_err(e, "HMAC");
	return 0;
}

int
crypto_x25519_public(
    uint8_t out[32], const uint8_t private_key[32], struct err *e)
{
	size_t len = 32;
	EVP_PKEY *k = EVP_PKEY_new_raw_private_key(
	    EVP_PKEY_X25519, NULL, private_key, 32);
	int ok = k != NULL && EVP_PKEY_get_raw_public_key(k, out, &len) > 0;

	EVP_PKEY_free(k);
	return ok && len == 32 ? 0 : crypto_err(e, "X25519");
}

int
crypto_x25519(uint8_t out[32], const uint8_t private_key[32],
    const uint8_t public_key[32], struct err *e)
{
	size_t len = 32;
	EVP_PKEY *mine = EVP_PKEY_new_raw_private_key(
	    EVP_PKEY_X25519, NULL, private_key, 32);
	EVP_PKEY *theirs =
	    EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public_key, 32);
	EVP_PKEY_CTX *c = mine ? EVP_PKEY_CTX_new(mine, NULL) : NULL;
	int ok = c != NULL && theirs != NULL && EVP_PKEY_derive_init(c) > 0 &&
		 EVP_PKEY_derive_set_peer(c, theirs) > 0 &&
		 EVP_PKEY_derive(c, out, &len) > 0 && len == 32;

	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(theirs);
	EVP_PKEY_free(mine);
	return ok ? 0 : crypto_err(e, "X25519");
}

/* Fetched once: a fetch takes a lock that all threads share. */
static EVP_CIPHER *gcm;
static pthread_once_t gcm_once = PTHREAD_ONCE_INIT;

static void
gcm_fetch(void)
{
	gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
}

int
crypto_gcm_new(EVP_CIPHER_CTX **out, const uint8_t key[CRYPTO_KEY_LEN],
    int seal, struct err *e)
{
	EVP_CIPHER_CTX *c;

	pthread_once(&gcm_once, gcm_fetch);
	c = gcm ? EVP_CIPHER_CTX_new() : NULL;
	if (c == NULL ||
	    EVP_CipherInit_ex2(c, gcm, key, NULL, seal, NULL) <= 0) {
		EVP_CIPHER_CTX_free(c);
		return crypto_err(e, "AES-256-GCM");
	}
	*out = c;
	return 0;
}

/* The nonce, the additional data and the text; 1 or 0. */
static int
gcm_run(EVP_CIPHER_CTX *c, const uint8_t *nonce, struct span aad,
    struct span in, uint8_t *to)
{
	int n = 0;

	assert(in.len <= INT_MAX && aad.len <= INT_MAX);
	if (EVP_CipherInit_ex2(c, NULL, NULL, nonce, -1, NULL) <= 0)
		return 0;
	if (aad.len > 0 &&
	    EVP_CipherUpdate(c, NULL, &n, aad.data, (int)aad.len) <= 0)
		return 0;
	if (in.len > 0 &&
	    EVP_CipherUpdate(c, to, &n, in.data, (int)in.len) <= 0)
		return 0;
	return 1;
}

int
crypto_gcm_seal(EVP_CIPHER_CTX *c, const uint8_t nonce[CRYPTO_NONCE_LEN],
    struct span aad, struct span plain, uint8_t *to, struct err *e)
{
	uint8_t *tag = to + plain.len;
	uint8_t none[16];
	int n = 0;

	if (!gcm_run(c, nonce, aad, plain, to) ||
	    EVP_CipherFinal_ex(c, none, &n) <= 0 ||
	    EVP_CIPHER_CTX_ctrl(
		c, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG_LEN, tag) <= 0)
		return crypto_err(e, "AES-256-GCM");
	return 0;
}

int
crypto_gcm_open(EVP_CIPHER_CTX *c, const uint8_t nonce[CRYPTO_NONCE_LEN],
    struct span aad, struct span sealed, uint8_t *to, struct err *e)
{
	uint8_t tag[CRYPTO_TAG_LEN], none[16];
	size_t len;
	int n = 0;

	if (sealed.len < CRYPTO_TAG_LEN)
		return err_set(e, -EBADMSG, "shorter than its tag");
	len = sealed.len - CRYPTO_TAG_LEN;
	memcpy(tag, (const uint8_t *)sealed.data + len, sizeof tag);
	if (!gcm_run(c, nonce, aad, SPAN(sealed.data, len), to) ||
	    EVP_CIPHER_CTX_ctrl(
		c, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG_LEN, tag) <= 0)
		return crypto_err(e, "AES-256-GCM");
	if (EVP_CipherFinal_ex(c, none, &n) > 0)
		return 0;
	/* GCM hands out text before it has seen the tag: nobody may use it. */
	OPENSSL_cleanse(to, len);
	ERR_clear_error();
	return err_set(e, -EBADMSG, "the tag does not fit");
}

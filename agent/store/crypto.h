/*
 * The few things that keys, seals and digests want of OpenSSL's libcrypto, with
 * our errors. Internal to agent/store. No primitive of our own.
 */
#ifndef NEAP_STORE_CRYPTO_H
#define NEAP_STORE_CRYPTO_H

#include <openssl/evp.h>
#include <stdint.h>

#include "agent/core/bytes.h"
#include "agent/core/err.h"

#define CRYPTO_KEY_LEN 32
#define CRYPTO_TAG_LEN 16
#define CRYPTO_NONCE_LEN 12

/* -EIO and "what: libcrypto: reason", from OpenSSL's error queue. */
int crypto_err(struct err *e, const char *what);

/* HKDF-SHA256 to 32 bytes. */
int crypto_hkdf(uint8_t out[CRYPTO_KEY_LEN], struct span ikm, struct span salt,
    struct span info, struct err *e);
/* HMAC-SHA256. */
int crypto_hmac(uint8_t out[32], const uint8_t key[CRYPTO_KEY_LEN],
    struct span in, struct err *e);
/* scrypt to 32 bytes; takes 128 * n * r bytes of memory. */
int crypto_scrypt(uint8_t out[CRYPTO_KEY_LEN], const char *passphrase,
    struct span salt, uint64_t n, uint32_t r, uint32_t p, struct err *e);

int crypto_x25519_public(
    uint8_t out[32], const uint8_t private_key[32], struct err *e);
/* The shared secret; fails for a public key of small order. */
int crypto_x25519(uint8_t out[32], const uint8_t private_key[32],
    const uint8_t public_key[32], struct err *e);

/* A context for AES-256-GCM under `key`, to seal or to open; gives. */
int crypto_gcm_new(EVP_CIPHER_CTX **out, const uint8_t key[CRYPTO_KEY_LEN],
    int seal, struct err *e);
/* `to` takes plain.len + CRYPTO_TAG_LEN bytes; may be plain.data. */
int crypto_gcm_seal(EVP_CIPHER_CTX *c, const uint8_t nonce[CRYPTO_NONCE_LEN],
    struct span aad, struct span plain, uint8_t *to, struct err *e);
/* -EBADMSG: the tag does not fit; `to` is then zeros. */
int crypto_gcm_open(EVP_CIPHER_CTX *c, const uint8_t nonce[CRYPTO_NONCE_LEN],
    struct span aad, struct span sealed, uint8_t *to, struct err *e);

#endif

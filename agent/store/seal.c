/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/seal.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/mem.h"
#include "agent/store/crypto.h"

_Static_assert(SEAL_TAG_LEN == CRYPTO_TAG_LEN, "one tag length");

#define EXTRA_MAX 256 /* a repository name is the longest */

struct seal {
	bool encrypted;
	uint8_t file_id[SEAL_FILE_ID_LEN];
	uint8_t key[CRYPTO_KEY_LEN];
	/* Made at first use: most sealers go one way only, and the key schedule
	 * is then kept for all frames of the file. */
	EVP_CIPHER_CTX *sealing, *opening;
	/* Without encryption: on the heap, because it wants 64-byte alignment,
	 * which a stack under AddressSanitizer does not keep. */
	XXH3_state_t *hash;
};

static XXH3_state_t *
hash_new(bool encrypted)
{
	XXH3_state_t *x = encrypted ? NULL : XXH3_createState();

	assert(encrypted || x != NULL);
	return x;
}

static struct seal *
make(const struct keys *k, const uint8_t file_id[SEAL_FILE_ID_LEN])
{
	struct seal *s = mem_new(sizeof *s);

	s->encrypted = k->encrypted;
	s->hash = hash_new(s->encrypted);
	memcpy(s->file_id, file_id, sizeof s->file_id);
	return s;
}

void
seal_free(struct seal *s)
{
	if (s == NULL)
		return;
	EVP_CIPHER_CTX_free(s->sealing);
	EVP_CIPHER_CTX_free(s->opening);
	XXH3_freeState(s->hash);
	OPENSSL_cleanse(s, sizeof *s);
	free(s);
}

struct seal *
seal_clone(const struct seal *s)
{
	struct seal *c = mem_dup(s, sizeof *s);

	c->sealing = c->opening = NULL;
	c->hash = hash_new(c->encrypted);
	return c;
}

int
seal_new_meta(struct seal **out, const struct keys *k, const char *kind,
    const uint8_t file_id[SEAL_FILE_ID_LEN], struct err *e)
{
	struct seal *s = make(k, file_id);
	SCOPED_BUF struct buf info = {0};
	int rc = 0;

	if (s->encrypted) {
		buf_put(&info, "neap meta ", 10);
		buf_put(&info, kind, strlen(kind));
		rc = crypto_hkdf(s->key, SPAN(k->meta_key, sizeof k->meta_key),
		    SPAN(file_id, SEAL_FILE_ID_LEN), buf_span(&info), e);
	}
	if (rc < 0) {
		seal_free(s);
		return err_wrap(e, "make the key of a %s file", kind);
	}
	*out = s;
	return 0;
}

/* The key of a pack from the shared secret of its two public keys. */
static int
pack_key(struct seal *s, const uint8_t secret[32], const uint8_t ephemeral[32],
    const uint8_t repository[32], struct err *e)
{
	uint8_t salt[64], info[10 + SEAL_FILE_ID_LEN];

	memcpy(salt, ephemeral, 32);
	memcpy(salt + 32, repository, 32);
	memcpy(info, "neap pack ", 10);
	memcpy(info + 10, s->file_id, SEAL_FILE_ID_LEN);
	return crypto_hkdf(s->key, SPAN(secret, 32), SPAN(salt, sizeof salt),
	    SPAN(info, sizeof info), e);
}

/* An ephemeral pair; its private half lives in this function only. */
static int
new_pack_key(struct seal *s, const struct keys *k,
    uint8_t pub[SEAL_PACK_PUBLIC_LEN], struct err *e)
{
	uint8_t private_key[32], secret[32];
	int rc = clock_random(private_key, sizeof private_key, e);

	if (rc == 0)
		rc = crypto_x25519_public(pub, private_key, e);
	if (rc == 0)
		rc = crypto_x25519(secret, private_key, k->public_key, e);
	if (rc == 0)
		rc = pack_key(s, secret, pub, k->public_key, e);
	OPENSSL_cleanse(private_key, sizeof private_key);
	OPENSSL_cleanse(secret, sizeof secret);
	return rc;
}

int
seal_new_pack(struct seal **out, const struct keys *k,
    const uint8_t pack_id[SEAL_FILE_ID_LEN], uint8_t pub[SEAL_PACK_PUBLIC_LEN],
    struct err *e)
{
	uint8_t made[SEAL_PACK_PUBLIC_LEN] = {0};
	struct seal *s = make(k, pack_id);

	if (s->encrypted && new_pack_key(s, k, made, e) < 0) {
		seal_free(s);
		return err_wrap(e, "make the key of a pack");
	}
	memcpy(pub, made, sizeof made);
	*out = s;
	return 0;
}

static int
open_pack_key(struct seal *s, const struct keys *k,
    const uint8_t pub[SEAL_PACK_PUBLIC_LEN], struct err *e)
{
	uint8_t secret[32];
	int rc = crypto_x25519(secret, k->private_key, pub, e);

	if (rc < 0) /* a point of small order: no writer makes one */
		return err_set(e, -EBADMSG,
		    "the public key in the pack's header is not one");
	rc = pack_key(s, secret, pub, k->public_key, e);
	OPENSSL_cleanse(secret, sizeof secret);
	return rc;
}

int
seal_open_pack(struct seal **out, const struct keys *k,
    const uint8_t pack_id[SEAL_FILE_ID_LEN],
    const uint8_t pub[SEAL_PACK_PUBLIC_LEN], struct err *e)
{
	struct seal *s;

	if (k->encrypted && !k->has_private)
		return err_set(e, -EKEYREJECTED,
		    "this key can add backups but not read them back; use the "
		    "recovery key");
	s = make(k, pack_id);
	if (s->encrypted && open_pack_key(s, k, pub, e) < 0) {
		seal_free(s);
		return e->code;
	}
	*out = s;
	return 0;
}

/* What a frame is bound to: file id, number, extra. Returns its length. */
static size_t
binding(const struct seal *s, uint64_t number, struct span extra,
    uint8_t out[SEAL_FILE_ID_LEN + 8 + EXTRA_MAX])
{
	memcpy(out, s->file_id, SEAL_FILE_ID_LEN);
	bytes_put_le64(out + SEAL_FILE_ID_LEN, number);
	if (extra.len > 0)
		memcpy(out + SEAL_FILE_ID_LEN + 8, extra.data, extra.len);
	return SEAL_FILE_ID_LEN + 8 + extra.len;
}

static void
plain_tag(struct seal *s, uint8_t tag[SEAL_TAG_LEN], struct span bound,
    struct span payload)
{
	XXH128_canonical_t c;

	XXH3_128bits_reset(s->hash);
	XXH3_128bits_update(s->hash, bound.data, bound.len);
	XXH3_128bits_update(s->hash, payload.data, payload.len);
	XXH128_canonicalFromHash(&c, XXH3_128bits_digest(s->hash));
	memcpy(tag, c.digest, SEAL_TAG_LEN);
}

static void
nonce_of(uint8_t nonce[CRYPTO_NONCE_LEN], uint64_t number)
{
	memset(nonce, 0, CRYPTO_NONCE_LEN);
	bytes_put_le64(nonce, number);
}

int
seal_frame(struct seal *s, uint64_t number, struct span extra,
    struct span plain, uint8_t *to, struct err *e)
{
	uint8_t bound[SEAL_FILE_ID_LEN + 8 + EXTRA_MAX];
	uint8_t nonce[CRYPTO_NONCE_LEN];
	struct span aad;

	if (extra.len > EXTRA_MAX || plain.len > INT32_MAX)
		return err_set(e, -EINVAL, "frame %llu: too large to seal",
		    (unsigned long long)number);
	aad = SPAN(bound, binding(s, number, extra, bound));
	if (!s->encrypted) {
		if (plain.len > 0 && to != plain.data)
			memmove(to, plain.data, plain.len);
		plain_tag(s, to + plain.len, aad, SPAN(to, plain.len));
		return 0;
	}
	if (s->sealing == NULL && crypto_gcm_new(&s->sealing, s->key, 1, e) < 0)
		return e->code;
	nonce_of(nonce, number);
	return crypto_gcm_seal(s->sealing, nonce, aad, plain, to, e);
}

static int
open_plain(struct seal *s, struct span aad, struct span sealed, uint8_t *to,
    struct err *e)
{
	size_t len = sealed.len - SEAL_TAG_LEN;
	const uint8_t *from = sealed.data;
	uint8_t tag[SEAL_TAG_LEN];

	plain_tag(s, tag, aad, SPAN(from, len));
	if (memcmp(tag, from + len, sizeof tag) != 0)
		return err_set(e, -EBADMSG, "the tag does not fit");
	if (len > 0 && to != from)
		memmove(to, from, len);
	return 0;
}

int
seal_open_frame(struct seal *s, uint64_t number, struct span extra,
    struct span sealed, uint8_t *to, struct err *e)
{
	uint8_t bound[SEAL_FILE_ID_LEN + 8 + EXTRA_MAX];
	uint8_t nonce[CRYPTO_NONCE_LEN];
	struct span aad;
	int rc;

	if (extra.len > EXTRA_MAX || sealed.len > INT32_MAX ||
	    sealed.len < SEAL_TAG_LEN)
		return err_set(e, -EBADMSG,
		    "frame %llu: %zu bytes cannot be a sealed frame",
		    (unsigned long long)number, sealed.len);
	aad = SPAN(bound, binding(s, number, extra, bound));
	nonce_of(nonce, number);
	if (!s->encrypted)
		rc = open_plain(s, aad, sealed, to, e);
	else if (s->opening == NULL &&
		 crypto_gcm_new(&s->opening, s->key, 0, e) < 0)
		rc = e->code;
	else
		rc = crypto_gcm_open(s->opening, nonce, aad, sealed, to, e);
	if (rc == -EBADMSG)
		return err_set(e, -EBADMSG, "frame %llu: does not open: %s",
		    (unsigned long long)number,
		    s->encrypted ? "corrupt, or sealed under another key"
				 : "corrupt");
	return rc;
}

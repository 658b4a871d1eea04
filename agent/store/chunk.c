/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/chunk.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "agent/core/mem.h"
#include "agent/store/crypto.h"
#include "agent/store/leaves.h"

/* `plain` or `keyed`, by the repository's kind. */
struct chunk_digest {
	struct leaves *leaves; /* NULL until the first chunk */
	EVP_MD *sha;
	EVP_MD_CTX *plain;
	EVP_MAC_CTX *keyed; /* holds the key; re-armed for each chunk */
};

static int
make_plain(struct chunk_digest *d, struct err *e)
{
	d->sha = EVP_MD_fetch(NULL, "SHA256", NULL);
	d->plain = EVP_MD_CTX_new();
	return d->sha && d->plain ? 0 : crypto_err(e, "SHA-256");
}

static int
make_keyed(struct chunk_digest *d, const struct keys *k, struct err *e)
{
	char sha[] = "SHA256";
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha, 0),
	    OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);

	d->keyed = mac ? EVP_MAC_CTX_new(mac) : NULL;
	EVP_MAC_free(mac); /* the context holds its own reference */
	if (d->keyed == NULL ||
	    EVP_MAC_init(d->keyed, k->id_key, sizeof k->id_key, params) <= 0)
		return crypto_err(e, "HMAC-SHA256");
	return 0;
}

int
chunk_digest_new(struct chunk_digest **out, const struct keys *k, struct err *e)
{
	struct chunk_digest *d = mem_new(sizeof *d);
	int rc = k->encrypted ? make_keyed(d, k, e) : make_plain(d, e);

	if (rc < 0) {
		chunk_digest_free(d);
		return rc;
	}
	*out = d;
	return 0;
}

void
chunk_digest_free(struct chunk_digest *d)
{
	if (d == NULL)
		return;
	leaves_free(d->leaves);
	EVP_MAC_CTX_free(d->keyed);
	EVP_MD_CTX_free(d->plain);
	EVP_MD_free(d->sha);
	free(d);
}

/* The digest of all leaves, with the key where there is one. */
static int
root_of(struct chunk_digest *d, struct span leaves, struct chunk_id *out,
    struct err *e)
{
	unsigned n = 0;
	size_t len = 0;

	if (d->keyed == NULL) {
		if (EVP_DigestInit_ex2(d->plain, d->sha, NULL) <= 0 ||
		    EVP_DigestUpdate(d->plain, leaves.data, leaves.len) <= 0 ||
		    EVP_DigestFinal_ex(d->plain, out->b, &n) <= 0 ||
		    n != sizeof out->b)
			return crypto_err(e, "SHA-256");
		return 0;
	}
	if (EVP_MAC_init(d->keyed, NULL, 0, NULL) <= 0 ||
	    EVP_MAC_update(d->keyed, leaves.data, leaves.len) <= 0 ||
	    EVP_MAC_final(d->keyed, out->b, &len, sizeof out->b) <= 0 ||
	    len != sizeof out->b)
		return crypto_err(e, "HMAC-SHA256");
	return 0;
}

int
chunk_digest_of(struct chunk_digest *d, struct span plain, struct chunk_id *out,
    struct err *e)
{
	uint8_t leaf[CHUNK_BLOCKS][LEAF_BYTES];
	unsigned blocks = (unsigned)(plain.len / CHUNK_BLOCK_BYTES);
	int rc = 0;

	assert(plain.len % CHUNK_BLOCK_BYTES == 0 && blocks >= 1 &&
	       plain.len <= CHUNK_BYTES);
	if (d->leaves == NULL) /* some milliseconds: not for a job that has
				* nothing to digest */
		rc = leaves_new(&d->leaves, e);
	if (rc == 0)
		rc = leaves_of(d->leaves, plain.data, blocks, leaf, e);
	if (rc == 0)
		rc =
		    root_of(d, SPAN(leaf, (size_t)blocks * LEAF_BYTES), out, e);
	return rc;
}

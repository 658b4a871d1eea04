/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/evp.h>

#include "agent/core/mem.h"
#include "agent/store/chunk.h"
#include "agent/store/crypto.h"
#include "agent/store/leaves.h"

struct evp {
	struct leaves base;
	EVP_MD *sha;
	EVP_MD_CTX *c;
};

static void
evp_close(struct leaves *l)
{
	struct evp *v = (struct evp *)l;

	EVP_MD_CTX_free(v->c);
	EVP_MD_free(v->sha);
	free(v);
}

static int
evp_open(struct leaves **out, struct err *e)
{
	struct evp *v = mem_new(sizeof *v);

	v->base.ops = &leaves_evp;
	v->sha = EVP_MD_fetch(NULL, "SHA256", NULL);
	v->c = EVP_MD_CTX_new();
	if (v->sha == NULL || v->c == NULL) {
		evp_close(&v->base);
		return crypto_err(e, "SHA-256");
	}
	*out = &v->base;
	return 0;
}

static int
evp_of(struct leaves *l, const uint8_t *data, unsigned blocks,
    uint8_t out[][LEAF_BYTES], struct err *e)
{
	struct evp *v = (struct evp *)l;

	for (unsigned i = 0; i < blocks; i++) {
		const uint8_t *block = data + (size_t)i * CHUNK_BLOCK_BYTES;
		unsigned n = 0;

		if (EVP_DigestInit_ex2(v->c, v->sha, NULL) <= 0 ||
		    EVP_DigestUpdate(v->c, block, CHUNK_BLOCK_BYTES) <= 0 ||
		    EVP_DigestFinal_ex(v->c, out[i], &n) <= 0 ||
		    n != LEAF_BYTES)
			return crypto_err(e, "SHA-256");
	}
	return 0;
}

const struct leaves_ops leaves_evp = {
    .name = "libcrypto",
    .open = evp_open,
    .of = evp_of,
    .close = evp_close,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key file, a key slot and neap.json: all JSON, so each input is tried as
 * each of them. scrypt is played, since what it costs is all that it does.
 */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/store/neap_json.h"
#include "tests/fuzz/fuzz.h"

static uint64_t
number(const OSSL_PARAM params[], const char *name)
{
	const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, name);
	uint64_t v = 0;

	MUST(p != NULL && OSSL_PARAM_get_uint64(p, &v) == 1);
	return v;
}

int
EVP_KDF_derive(EVP_KDF_CTX *c, unsigned char *key, size_t keylen,
    const OSSL_PARAM params[])
{
	uint64_t n = number(params, OSSL_KDF_PARAM_SCRYPT_N);
	uint64_t r = number(params, OSSL_KDF_PARAM_SCRYPT_R);

	(void)c;
	/* 4 GiB at most, whatever a stranger's slot asks for. */
	MUST(n <= 1u << 20 && r >= 1 && r <= 32);
	MUST(number(params, OSSL_KDF_PARAM_SCRYPT_P) <= 16);
	memset(key, 7, keylen);
	return 1;
}

static void
key_file(const uint8_t *data, size_t len)
{
	SCOPED_FD int fd = memfd_create("key", MFD_CLOEXEC);
	SCOPED_KEYS struct keys k = {0};
	struct err e = ERR_NONE;
	char path[32];

	MUST(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	MUST(fchmod(fd, 0600) == 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (keys_load(&k, path, &e) < 0)
		MUST(e.code == -EKEYREJECTED);
	else
		MUST(k.encrypted);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	SCOPED_JSON json_t *o = NULL;
	SCOPED_KEYS struct keys k = {0};
	struct err e = ERR_NONE;

	key_file(data, len);
	o = jdoc_parse(SPAN(data, len), &e);
	if (o == NULL)
		return 0;
	keys_unwrap(&k, o, "passphrase", &e);
	neap_json_parse(o, &k, &e);
	return 0;
}

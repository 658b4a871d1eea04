/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/fs.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/core/tmpfile.h"
#include "agent/store/crypto.h"

#define KEY_FILE_MAX 4096 /* a recovery key has about 470 bytes */

#define SLOT_N 131072 /* scrypt: 128 MiB, about 0.4 s */
#define SLOT_R 8
#define SLOT_P 1
#define SLOT_N_MAX (1u << 20)
#define SLOT_R_MAX 32
#define SLOT_P_MAX 16
#define SALT_LEN 32

/* The text of a key file; wiped when it goes. */
struct key_text {
	char s[KEY_FILE_MAX];
	size_t len;
};

static void
key_text_wipe(struct key_text *t)
{
	OPENSSL_cleanse(t, sizeof *t);
}
#define SCOPED_KEY_TEXT __attribute__((cleanup(key_text_wipe)))

/* jansson keeps its own copies of the secrets: wipe them where they lie. */
static void
secret_json_free(json_t **j)
{
	const char *name;
	json_t *v;

	json_object_foreach (*j, name, v) {
		if (json_is_string(v))
			OPENSSL_cleanse((void *)json_string_value(v),
			    json_string_length(v));
	}
	json_decref(*j);
}
#define SCOPED_SECRET_JSON __attribute__((cleanup(secret_json_free)))

void
keys_wipe(struct keys *k)
{
	OPENSSL_cleanse(k, sizeof *k);
}

int
keys_generate(struct keys *k, bool encrypted, struct err *e)
{
	SCOPED_KEYS struct keys made = {.encrypted = encrypted};
	int rc = clock_random(made.repo_id, sizeof made.repo_id, e);

	if (rc == 0 && encrypted) {
		made.has_private = true;
		rc = clock_random(made.private_key, 32, e);
		if (rc == 0)
			rc = clock_random(made.id_key, 32, e);
		if (rc == 0)
			rc = clock_random(made.meta_key, 32, e);
		if (rc == 0)
			rc = crypto_x25519_public(
			    made.public_key, made.private_key, e);
	}
	if (rc < 0)
		return err_wrap(e, "make keys");
	*k = made;
	return 0;
}

static void
set_hex(json_t *o, const char *name, const void *p, size_t n)
{
	char hex[2 * 32 + 1];

	bytes_hex(hex, p, n);
	json_object_set_new(o, name, json_string(hex));
	OPENSSL_cleanse(hex, sizeof hex);
}

static int
to_text(
    const struct keys *k, bool recovery, struct key_text *out, struct err *e)
{
	SCOPED_SECRET_JSON json_t *o = json_object();
	size_t n;

	json_object_set_new(o, "neap_key", json_integer(1));
	json_object_set_new(
	    o, "kind", json_string(recovery ? "recovery" : "host"));
	set_hex(o, "repository", k->repo_id, sizeof k->repo_id);
	set_hex(o, "public_key", k->public_key, 32);
	set_hex(o, "id_key", k->id_key, 32);
	set_hex(o, "meta_key", k->meta_key, 32);
	if (recovery)
		set_hex(o, "private_key", k->private_key, 32);
	n = json_dumpb(o, out->s, sizeof out->s - 1, JSON_INDENT(2));
	if (n == 0 || n >= sizeof out->s)
		return err_sys(e, ENOMEM, "write a key as JSON");
	out->s[n] = '\n';
	out->len = n + 1;
	return 0;
}

static int
get_hex(const json_t *o, const char *name, void *out, size_t n, struct err *e)
{
	const char *hex;
	int rc = jdoc_get_str(o, name, &hex, e);

	if (rc == 0 && bytes_unhex(out, n, hex) < 0)
		return err_set(e, -EBADMSG,
		    "JSON: \"%s\" is not %zu hex digits", name, 2 * n);
	return rc;
}

/* A damaged private key would show only at the restore: compare the halves. */
static int
check_pair(const struct keys *k, struct err *e)
{
	uint8_t pub[32];
	int rc = crypto_x25519_public(pub, k->private_key, e);

	if (rc == 0 && memcmp(pub, k->public_key, sizeof pub) != 0)
		return err_set(e, -EBADMSG,
		    "its private and public key do not belong together");
	return rc;
}

static int
from_json(const json_t *o, struct keys *k, struct err *e)
{
	const char *kind;
	uint64_t version;
	int rc = jdoc_get_u64(o, "neap_key", &version, e);

	if (rc == 0 && version != 1)
		return err_set(e, -EBADMSG,
		    "key format %llu, this neap knows 1",
		    (unsigned long long)version);
	if (rc == 0)
		rc = jdoc_get_str(o, "kind", &kind, e);
	if (rc == 0 && strcmp(kind, "host") != 0 &&
	    strcmp(kind, "recovery") != 0)
		return err_set(e, -EBADMSG,
		    "its kind is neither \"host\" nor \"recovery\"");
	if (rc == 0)
		rc = get_hex(o, "repository", k->repo_id, KEYS_ID_LEN, e);
	if (rc == 0)
		rc = get_hex(o, "public_key", k->public_key, 32, e);
	if (rc == 0)
		rc = get_hex(o, "id_key", k->id_key, 32, e);
	if (rc == 0)
		rc = get_hex(o, "meta_key", k->meta_key, 32, e);
	k->encrypted = true;
	k->has_private = rc == 0 && strcmp(kind, "recovery") == 0;
	if (k->has_private)
		rc = get_hex(o, "private_key", k->private_key, 32, e);
	if (rc == 0 && k->has_private)
		rc = check_pair(k, e);
	return rc;
}

/* Whatever is wrong with a key file, the answer is that this key is none. */
static int
from_text(struct span text, struct keys *out, struct err *e)
{
	SCOPED_KEYS struct keys k = {0};
	SCOPED_SECRET_JSON json_t *o = jdoc_parse(text, e);

	if (o == NULL || from_json(o, &k, e) < 0) {
		e->code = -EKEYREJECTED;
		return err_wrap(e, "not a neap key");
	}
	*out = k;
	return 0;
}

/* The folder part of a path. */
static void
folder_of(char dir[PATH_MAX], const char *path)
{
	char *slash;

	snprintf(dir, PATH_MAX, "%s", path);
	slash = strrchr(dir, '/');
	if (slash == NULL)
		snprintf(dir, PATH_MAX, ".");
	else if (slash == dir)
		dir[1] = '\0';
	else
		*slash = '\0';
}

int
keys_save(const struct keys *k, const char *path, bool recovery, struct err *e)
{
	SCOPED_TMPFILE struct tmpfile tmp = TMPFILE_NONE;
	SCOPED_KEY_TEXT struct key_text text = {0};
	char dir[PATH_MAX];
	int rc;

	folder_of(dir, path);
	rc = fs_mkdirs(dir, 0700, e);
	if (rc == 0)
		rc = to_text(k, recovery, &text, e);
	if (rc == 0)
		rc = tmpfile_open(&tmp, AT_FDCWD, dir, 0600, e);
	if (rc == 0)
		rc = tmpfile_write(&tmp, text.s, text.len, e);
	if (rc == 0)
		rc = tmpfile_commit(&tmp, AT_FDCWD, path, e);
	if (rc == -EEXIST)
		return err_set(e, -EEXIST,
		    "key file %s: exists already, and a key file is never "
		    "replaced",
		    path);
	if (rc < 0)
		return err_wrap(e, "save key file %s", path);
	rc = fs_sync_dir_at(AT_FDCWD, dir, e);
	if (rc < 0) { /* failed means that there is none */
		unlink(path);
		return err_wrap(e, "save key file %s", path);
	}
	return 0;
}

static int
check_mode(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "key file %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(
		    e, -EKEYREJECTED, "key file %s: not a regular file", path);
	if (st.st_mode & 077) {
		err_set(e, -EKEYREJECTED,
		    "key file %s: mode %03o lets others than its owner at it",
		    path, st.st_mode & 0777);
		return err_hint(e, "chmod 600 %s", path);
	}
	return 0;
}

int
keys_load(struct keys *k, const char *path, struct err *e)
{
	SCOPED_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	SCOPED_KEY_TEXT struct key_text text = {0};
	ssize_t n;

	if (fd < 0) {
		err_sys(e, errno, "key file %s", path);
		/* No key is no key, whether it is lost or not ours to read. */
		if (e->code == -ENOENT || e->code == -ENOTDIR ||
		    e->code == -EACCES)
			e->code = -EKEYREJECTED;
		return e->code;
	}
	if (check_mode(fd, path, e) < 0)
		return e->code;
	n = pread(fd, text.s, sizeof text.s, 0);
	if (n < 0)
		return err_sys(e, errno, "key file %s", path);
	if (n == (ssize_t)sizeof text.s)
		return err_set(e, -EKEYREJECTED,
		    "key file %s: not a neap key: %d bytes or more", path,
		    KEY_FILE_MAX);
	if (from_text(SPAN(text.s, (size_t)n), k, e) < 0)
		return err_wrap(e, "key file %s", path);
	return 0;
}

/* ---- slots ------------------------------------------------------------- */

struct slot {
	uint64_t n, r, p;
	uint8_t salt[SALT_LEN], nonce[CRYPTO_NONCE_LEN];
	uint8_t sealed[KEY_FILE_MAX];
	size_t sealed_len;
};

/* The cipher of a slot, its key from the passphrase. */
static int
slot_cipher(EVP_CIPHER_CTX **out, const struct slot *s, const char *passphrase,
    int seal, struct err *e)
{
	uint8_t key[CRYPTO_KEY_LEN];
	int rc = crypto_scrypt(key, passphrase, SPAN(s->salt, SALT_LEN), s->n,
	    (uint32_t)s->r, (uint32_t)s->p, e);

	if (rc == 0)
		rc = crypto_gcm_new(out, key, seal, e);
	OPENSSL_cleanse(key, sizeof key);
	return rc;
}

static json_t *
slot_to_json(const struct slot *s)
{
	SCOPED_FREE char *sealed = mem_new(2 * s->sealed_len + 1);
	json_t *o = json_object();

	bytes_hex(sealed, s->sealed, s->sealed_len);
	json_object_set_new(o, "kind", json_string("scrypt"));
	json_object_set_new(o, "n", json_integer((json_int_t)s->n));
	json_object_set_new(o, "r", json_integer((json_int_t)s->r));
	json_object_set_new(o, "p", json_integer((json_int_t)s->p));
	set_hex(o, "salt", s->salt, SALT_LEN);
	set_hex(o, "nonce", s->nonce, sizeof s->nonce);
	json_object_set_new(o, "sealed", json_string(sealed));
	return o;
}

json_t *
keys_wrap(const struct keys *k, const char *passphrase, struct err *e)
{
	struct slot s = {.n = SLOT_N, .r = SLOT_R, .p = SLOT_P};
	SCOPED_KEY_TEXT struct key_text text = {0};
	EVP_CIPHER_CTX *c = NULL;
	int rc;

	if (!k->has_private) {
		err_set(e, -EKEYREJECTED,
		    "a passphrase stands for the recovery key, and this is not "
		    "it");
		return NULL;
	}
	rc = to_text(k, true, &text, e);
	if (rc == 0)
		rc = clock_random(s.salt, sizeof s.salt, e);
	if (rc == 0)
		rc = clock_random(s.nonce, sizeof s.nonce, e);
	if (rc == 0)
		rc = slot_cipher(&c, &s, passphrase, 1, e);
	if (rc == 0)
		rc = crypto_gcm_seal(c, s.nonce, SPAN(k->repo_id, KEYS_ID_LEN),
		    SPAN(text.s, text.len), s.sealed, e);
	EVP_CIPHER_CTX_free(c);
	if (rc < 0) {
		err_wrap(e, "put the recovery key under a passphrase");
		return NULL;
	}
	s.sealed_len = text.len + CRYPTO_TAG_LEN;
	return slot_to_json(&s);
}

static int
slot_from_json(const json_t *o, struct slot *s, struct err *e)
{
	const char *sealed, *kind = jdoc_str(o, "kind", "");
	size_t digits;
	int rc;

	if (strcmp(kind, "scrypt") != 0)
		return err_set(e, -EOPNOTSUPP,
		    "this neap does not know slots of kind \"%s\"", kind);
	rc = jdoc_get_u64(o, "n", &s->n, e);
	if (rc == 0)
		rc = jdoc_get_u64(o, "r", &s->r, e);
	if (rc == 0)
		rc = jdoc_get_u64(o, "p", &s->p, e);
	if (rc == 0)
		rc = get_hex(o, "salt", s->salt, SALT_LEN, e);
	if (rc == 0)
		rc = get_hex(o, "nonce", s->nonce, sizeof s->nonce, e);
	if (rc == 0)
		rc = jdoc_get_str(o, "sealed", &sealed, e);
	if (rc < 0)
		return rc;
	/* Bounds on what a stranger's file may cost us: 4 GiB at most. */
	if (s->n < 2 || s->n > SLOT_N_MAX || (s->n & (s->n - 1)) != 0 ||
	    s->r < 1 || s->r > SLOT_R_MAX || s->p < 1 || s->p > SLOT_P_MAX)
		return err_set(e, -EBADMSG,
		    "scrypt parameters n %llu, r %llu, p %llu out of bounds",
		    (unsigned long long)s->n, (unsigned long long)s->r,
		    (unsigned long long)s->p);
	digits = strlen(sealed);
	s->sealed_len = digits / 2;
	if (s->sealed_len < CRYPTO_TAG_LEN ||
	    s->sealed_len > sizeof s->sealed ||
	    bytes_unhex(s->sealed, s->sealed_len, sealed) < 0)
		return err_set(
		    e, -EBADMSG, "JSON: \"sealed\" is not the hex of a key");
	return 0;
}

int
keys_unwrap(
    struct keys *k, const json_t *slot, const char *passphrase, struct err *e)
{
	SCOPED_KEY_TEXT struct key_text text = {0};
	SCOPED_KEYS struct keys got = {0};
	EVP_CIPHER_CTX *c = NULL;
	struct slot s = {0};
	int rc = slot_from_json(slot, &s, e);

	if (rc == 0)
		rc = slot_cipher(&c, &s, passphrase, 0, e);
	if (rc < 0)
		return err_wrap(e, "key slot");
	rc = crypto_gcm_open(c, s.nonce, SPAN(k->repo_id, KEYS_ID_LEN),
	    SPAN(s.sealed, s.sealed_len), (uint8_t *)text.s, e);
	EVP_CIPHER_CTX_free(c);
	if (rc == -EBADMSG)
		return err_set(e, -EKEYREJECTED,
		    "the passphrase does not open this key slot");
	if (rc == 0)
		rc = from_text(
		    SPAN(text.s, s.sealed_len - CRYPTO_TAG_LEN), &got, e);
	if (rc < 0)
		return err_wrap(e, "key slot");
	*k = got;
	return 0;
}

int
keys_check_value(const struct keys *k, uint8_t out[16], struct err *e)
{
	uint8_t in[14 + KEYS_ID_LEN], mac[32];
	int rc;

	memcpy(in, "neap key check", 14);
	memcpy(in + 14, k->repo_id, KEYS_ID_LEN);
	rc = crypto_hmac(mac, k->meta_key, SPAN(in, sizeof in), e);
	if (rc < 0)
		return err_wrap(e, "key check");
	memcpy(out, mac, 16);
	return 0;
}

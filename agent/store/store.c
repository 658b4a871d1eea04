/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/store.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"

#define NEAP_JSON "neap.json"
#define NEAP_JSON_MAX (1u << 20)
#define FORMAT 1

/* ---- neap.json ---------------------------------------------------------- */

static void
set_hex(json_t *o, const char *name, const void *p, size_t n)
{
	char hex[65];

	bytes_hex(hex, p, n);
	json_object_set_new(o, name, json_string(hex));
}

static int
add_secrets(json_t *o, const struct keys *k, const char *passphrase,
    struct err *e)
{
	json_t *slots = json_array(), *slot;
	uint8_t check[16];

	json_object_set_new(o, "slots", slots);
	if (keys_check_value(k, check, e) < 0)
		return e->code;
	set_hex(o, "public_key", k->public_key, 32);
	set_hex(o, "key_check", check, sizeof check);
	if (passphrase == NULL)
		return 0;
	slot = keys_wrap(k, passphrase, e);
	if (slot == NULL)
		return e->code;
	json_array_append_new(slots, slot);
	return 0;
}

static int
describe(const struct keys *k, const char *passphrase, json_t **out,
    struct err *e)
{
	char created[CLOCK_NAME_LEN + 1];
	json_t *o = json_object();

	clock_name(created, clock_now_s());
	json_object_set_new(o, "format", json_integer(FORMAT));
	set_hex(o, "id", k->repo_id, KEYS_ID_LEN);
	json_object_set_new(o, "created", json_string(created));
	json_object_set_new(
	    o, "block_bytes", json_integer(CHUNK_BLOCK_BYTES));
	json_object_set_new(o, "chunk_blocks", json_integer(CHUNK_BLOCKS));
	json_object_set_new(o, "encryption",
	    json_string(k->encrypted ? "aes-256-gcm" : "none"));
	json_object_set_new(
	    o, "digest", json_string(k->encrypted ? "hmac-sha256" : "sha256"));
	if (k->encrypted && add_secrets(o, k, passphrase, e) < 0) {
		json_decref(o);
		return e->code;
	}
	*out = o;
	return 0;
}

static int
read_neap_json(struct repo *r, json_t **out, struct err *e)
{
	SCOPED_BUF struct buf text = {0};
	int rc = repo_get_whole(r, NEAP_JSON, NEAP_JSON_MAX, &text, e);

	if (rc == -ENOENT) {
		err_set(e, -ENOENT, "repository %s: there is none: no %s",
		    r->url, NEAP_JSON);
		return err_hint(e, "`neap init` makes one");
	}
	if (rc < 0)
		return rc == -EFBIG ? (e->code = -EBADMSG) : rc;
	*out = jdoc_parse(buf_span(&text), e);
	return *out ? 0
		    : err_wrap(e, "repository %s: %s", r->url, NEAP_JSON);
}

static int
want_u64(const json_t *o, const char *name, uint64_t want, struct err *e)
{
	uint64_t v;
	int rc = jdoc_get_u64(o, name, &v, e);

	if (rc == 0 && v != want)
		return err_set(e, -EBADMSG,
		    "JSON: \"%s\" is %llu, in format %d it is %llu", name,
		    (unsigned long long)v, FORMAT, (unsigned long long)want);
	return rc;
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

/* What neap.json says about the repository, checked; into k's public part. */
static int
parse(const json_t *o, struct keys *k, struct err *e)
{
	const char *cipher, *digest;
	uint64_t format;
	int rc = jdoc_get_u64(o, "format", &format, e);

	if (rc == 0 && format != FORMAT)
		return err_set(e, -EOPNOTSUPP,
		    "it has format %llu and this neap knows %d: use the neap "
		    "that made it, or a newer one",
		    (unsigned long long)format, FORMAT);
	if (rc == 0)
		rc = want_u64(o, "block_bytes", CHUNK_BLOCK_BYTES, e);
	if (rc == 0)
		rc = want_u64(o, "chunk_blocks", CHUNK_BLOCKS, e);
	if (rc == 0)
		rc = get_hex(o, "id", k->repo_id, KEYS_ID_LEN, e);
	if (rc == 0)
		rc = jdoc_get_str(o, "encryption", &cipher, e);
	if (rc == 0)
		rc = jdoc_get_str(o, "digest", &digest, e);
	if (rc < 0)
		return rc;
	k->encrypted = strcmp(cipher, "none") != 0;
	if ((k->encrypted && strcmp(cipher, "aes-256-gcm") != 0) ||
	    strcmp(digest, k->encrypted ? "hmac-sha256" : "sha256") != 0)
		return err_set(e, -EBADMSG,
		    "encryption \"%s\" with digest \"%s\" is not in format %d",
		    cipher, digest, FORMAT);
	if (k->encrypted)
		rc = get_hex(o, "public_key", k->public_key, 32, e);
	return rc;
}

/* ---- keys --------------------------------------------------------------- */

/* `got` must be a key of the repository that `want` and neap.json describe. */
static int
check_key(const json_t *o, const struct keys *want, const struct keys *got,
    const char *whose, struct err *e)
{
	uint8_t stored[16], mine[16];
	char a[33], b[33];
	int rc;

	if (memcmp(got->repo_id, want->repo_id, KEYS_ID_LEN) != 0) {
		bytes_hex(a, got->repo_id, KEYS_ID_LEN);
		bytes_hex(b, want->repo_id, KEYS_ID_LEN);
		return err_set(e, -EKEYREJECTED,
		    "%s is of repository %s, this one is %s", whose, a, b);
	}
	rc = get_hex(o, "key_check", stored, sizeof stored, e);
	if (rc == 0)
		rc = keys_check_value(got, mine, e);
	if (rc < 0)
		return rc;
	if (memcmp(stored, mine, sizeof mine) != 0 ||
	    memcmp(got->public_key, want->public_key, 32) != 0)
		return err_set(e, -EKEYREJECTED,
		    "%s does not fit, though it names this repository: the key "
		    "or %s was altered",
		    whose, NEAP_JSON);
	return 0;
}

static int
try_slots(const json_t *o, const struct keys *want, const char *passphrase,
    struct keys *out, struct err *e)
{
	const json_t *slots = json_object_get(o, "slots");
	size_t n = json_array_size(slots);
	int rc = -ENOENT;

	for (size_t i = 0; i < n && rc != 0; i++) {
		memcpy(out->repo_id, want->repo_id, KEYS_ID_LEN);
		rc = keys_unwrap(
		    out, json_array_get(slots, i), passphrase, e);
	}
	if (n == 0)
		return err_set(e, -EKEYREJECTED,
		    "it has no key under a passphrase: give the key file");
	if (rc == -EKEYREJECTED && n > 1)
		return err_set(e, -EKEYREJECTED,
		    "the passphrase opens none of its %zu key slots", n);
	return rc;
}

static int
find_key(const json_t *o, const struct keys *want, const struct store_how *how,
    struct keys *out, struct err *e)
{
	SCOPED_KEYS struct keys k = {0};
	const char *whose = "the passphrase's key";
	int rc;

	if (how->key_path != NULL) {
		whose = how->key_path;
		rc = keys_load(&k, how->key_path, e);
	} else if (how->passphrase != NULL) {
		rc = try_slots(o, want, how->passphrase, &k, e);
	} else {
		rc = err_set(e, -EKEYREJECTED,
		    "it is encrypted, and no key or passphrase was given");
	}
	if (rc == 0)
		rc = check_key(o, want, &k, whose, e);
	if (rc < 0)
		return rc;
	*out = k;
	return 0;
}

/* Fill in s->keys for the repository that `o` describes. */
static int
unlock(struct store *s, const json_t *o, const struct store_how *how,
    struct err *e)
{
	struct keys want = {0};
	int rc = parse(o, &want, e);

	if (rc < 0)
		return err_wrap(e, "%s", NEAP_JSON);
	bytes_hex(s->id_hex, want.repo_id, KEYS_ID_LEN);
	if (want.encrypted)
		return find_key(o, &want, how, &s->keys, e);
	/* Whoever holds the storage may have put this neap.json there, so that
	 * the next backup comes in plain. */
	if (how->key_path != NULL || how->passphrase != NULL)
		return err_set(e, -EKEYREJECTED,
		    "a key was given, but %s says that nothing is encrypted: "
		    "it was replaced, or the configuration should say "
		    "`encryption: none`",
		    NEAP_JSON);
	s->keys = want;
	return 0;
}

/* ---- open --------------------------------------------------------------- */

int
store_open(struct store *s, const struct store_how *how, struct err *e)
{
	SCOPED_STORE struct store made = {0};
	SCOPED_JSON json_t *o = NULL;
	int rc = repo_open(&made.repo, how->url, false, e);

	if (rc == -ENOENT)
		return err_hint(e, "`neap init` makes a repository");
	if (rc == 0)
		rc = read_neap_json(made.repo, &o, e);
	if (rc < 0)
		return rc;
	if (unlock(&made, o, how, e) < 0)
		return err_wrap(e, "repository %s", how->url);
	*s = made;
	made = (struct store){0};
	return 0;
}

void
store_close(struct store *s)
{
	pack_reader_free(s->packs);
	if (s->index != NULL)
		index_close(s->index);
	repo_close(s->repo);
	keys_wipe(&s->keys);
	*s = (struct store){0};
}

int
store_index(struct store *s, struct err *e)
{
	if (s->index != NULL)
		return 0;
	return index_open(&s->index, s->repo, &s->keys, e);
}

int
store_reading(struct store *s, struct err *e)
{
	int rc;

	if (s->packs != NULL)
		return 0;
	if (s->keys.encrypted && !s->keys.has_private)
		return err_set(e, -EKEYREJECTED,
		    "repository %s: this key can add backups but not read them "
		    "back; use the recovery key",
		    s->repo->url);
	rc = store_index(s, e);
	if (rc == 0)
		rc = pack_reader_new(&s->packs, s->repo, &s->keys, e);
	return rc;
}

int
store_chunk(struct store *s, const struct chunk_id *id, uint8_t *to,
    unsigned *blocks, struct err *e)
{
	struct chunk_place at;
	char hex[65];
	int rc = index_find(s->index, id, &at, e);

	if (rc == 0) {
		bytes_hex(hex, id->b, sizeof id->b);
		return err_set(e, -ENOENT,
		    "repository %s: chunk %s is not in the index",
		    s->repo->url, hex);
	}
	if (rc > 0)
		rc = pack_reader_get(s->packs, id, &at, to, e);
	if (rc < 0)
		return rc;
	*blocks = at.blocks;
	return 0;
}

/* ---- init --------------------------------------------------------------- */

static int
refuse_key_file(const char *path, struct err *e)
{
	if (path == NULL || (access(path, F_OK) < 0 && errno == ENOENT))
		return 0;
	return err_set(e, -EEXIST,
	    "key file %s: exists already, and a key file is never replaced; "
	    "it may be the only key of another repository",
	    path);
}

static int
found_file(void *arg, const char *name, uint64_t len, struct err *e)
{
	(void)len;
	return err_set(e, -EEXIST,
	    "repository %s: the folder is not empty: it has %s",
	    (const char *)arg, name);
}

static int
refuse_repository(struct repo *r, struct err *e)
{
	uint64_t len;
	int rc = repo_size(r, NEAP_JSON, &len, e);

	if (rc == 0)
		return err_set(e, -EEXIST,
		    "repository %s: there is one already", r->url);
	if (rc != -ENOENT)
		return rc;
	err_clear(e);
	return repo_list(r, "", found_file, r->url, e);
}

/* The file that makes it a repository comes last, and is durable. */
static int
put_neap_json(struct repo *r, const struct keys *k, const char *passphrase,
    struct err *e)
{
	SCOPED_JSON json_t *o = NULL;
	SCOPED_FREE char *text = NULL;
	struct err ignored = ERR_NONE;
	int rc = describe(k, passphrase, &o, e);

	if (rc < 0)
		return rc;
	text = jdoc_text(o);
	rc = repo_put_whole(r, NEAP_JSON, span_str(text), e);
	if (rc < 0)
		return rc;
	rc = repo_sync(r, e);
	if (rc < 0) /* its keys go: without them it would only be in the way */
		repo_remove(r, NEAP_JSON, &ignored);
	return rc;
}

/* Key files are durable before the repository is there: a repository without
 * its keys is of no use to anybody. */
static int
make_encrypted(struct repo *r, const struct keys *k, const char *host,
    const char *recovery, const char *passphrase, struct err *e)
{
	bool host_made = false, recovery_made = false;
	int rc = 0;

	if (host != NULL) {
		rc = keys_save(k, host, false, e);
		host_made = rc == 0;
	}
	if (rc == 0 && recovery != NULL) {
		rc = keys_save(k, recovery, true, e);
		recovery_made = rc == 0;
	}
	if (rc == 0)
		rc = put_neap_json(r, k, passphrase, e);
	if (rc < 0 && recovery_made)
		unlink(recovery);
	if (rc < 0 && host_made)
		unlink(host);
	return rc;
}

int
store_init(const char *url, bool encrypted, const char *host_key_path,
    const char *recovery_key_path, const char *passphrase, struct err *e)
{
	SCOPED_KEYS struct keys k = {0};
	struct repo *r = NULL;
	int rc;

	if (encrypted && recovery_key_path == NULL && passphrase == NULL)
		return err_set(e, -EINVAL,
		    "an encrypted repository needs a recovery key file or a "
		    "passphrase: nothing could be read back without");
	if (encrypted && refuse_key_file(host_key_path, e) < 0)
		return e->code;
	if (encrypted && refuse_key_file(recovery_key_path, e) < 0)
		return e->code;
	rc = keys_generate(&k, encrypted, e);
	if (rc == 0)
		rc = repo_open(&r, url, true, e);
	if (rc < 0)
		return rc;
	rc = refuse_repository(r, e);
	if (rc == 0 && encrypted)
		rc = make_encrypted(r, &k, host_key_path, recovery_key_path,
		    passphrase, e);
	else if (rc == 0)
		rc = put_neap_json(r, &k, NULL, e);
	repo_close(r);
	return rc;
}

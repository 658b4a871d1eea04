/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/neap_json.h"

#include <errno.h>
#include <string.h>

#include "agent/core/clock.h"
#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/store/chunk.h"

#define MAX (1u << 20)
#define FORMAT 1

static void
set_hex(json_t *o, const char *name, const void *p, size_t n)
{
	char hex[65];

	bytes_hex(hex, p, n);
	json_object_set_new(o, name, json_string(hex));
}

/* How its chunks get their ids (chunk.h). */
static const char *
digest_word(const struct keys *k)
{
	return k->encrypted ? "hmac-sha256-blocks" : "sha256-blocks";
}

static int
add_secrets(
    json_t *o, const struct keys *k, const char *passphrase, struct err *e)
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
describe(
    const struct keys *k, const char *passphrase, json_t **out, struct err *e)
{
	char created[CLOCK_NAME_LEN + 1];
	json_t *o = json_object();

	clock_name(created, clock_now_s());
	json_object_set_new(o, "format", json_integer(FORMAT));
	set_hex(o, "id", k->repo_id, KEYS_ID_LEN);
	json_object_set_new(o, "created", json_string(created));
	json_object_set_new(o, "block_bytes", json_integer(CHUNK_BLOCK_BYTES));
	json_object_set_new(o, "chunk_blocks", json_integer(CHUNK_BLOCKS));
	json_object_set_new(o, "encryption",
	    json_string(k->encrypted ? "aes-256-gcm" : "none"));
	json_object_set_new(o, "digest", json_string(digest_word(k)));
	if (k->encrypted && add_secrets(o, k, passphrase, e) < 0) {
		json_decref(o);
		return e->code;
	}
	*out = o;
	return 0;
}

int
neap_json_read(struct repo *r, json_t **out, struct err *e)
{
	SCOPED_BUF struct buf text = {0};
	int rc = repo_get_whole(r, NEAP_JSON_NAME, MAX, &text, e);

	if (rc == -ENOENT) {
		err_set(e, -ENOENT, "repository %s: there is none: no %s",
		    r->url, NEAP_JSON_NAME);
		return err_hint(e, "`neap init` makes one");
	}
	if (rc < 0)
		return rc == -EFBIG ? (e->code = -EBADMSG) : rc;
	*out = jdoc_parse(buf_span(&text), e);
	return *out ? 0
		    : err_wrap(e, "repository %s: %s", r->url, NEAP_JSON_NAME);
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

int
neap_json_hex(
    const json_t *o, const char *name, void *out, size_t n, struct err *e)
{
	const char *hex;
	int rc = jdoc_get_str(o, name, &hex, e);

	if (rc == 0 && bytes_unhex(out, n, hex) < 0)
		return err_set(e, -EBADMSG,
		    "JSON: \"%s\" is not %zu hex digits", name, 2 * n);
	return rc;
}

int
neap_json_parse(const json_t *o, struct keys *k, struct err *e)
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
		rc = neap_json_hex(o, "id", k->repo_id, KEYS_ID_LEN, e);
	if (rc == 0)
		rc = jdoc_get_str(o, "encryption", &cipher, e);
	if (rc == 0)
		rc = jdoc_get_str(o, "digest", &digest, e);
	if (rc < 0)
		return rc;
	k->encrypted = strcmp(cipher, "none") != 0;
	if (k->encrypted && strcmp(cipher, "aes-256-gcm") != 0)
		return err_set(e, -EBADMSG,
		    "encryption \"%s\" is not in format %d", cipher, FORMAT);
	if (strcmp(digest, "sha256") == 0 || strcmp(digest, "hmac-sha256") == 0)
		return err_set(e, -EOPNOTSUPP,
		    "its digest is \"%s\", which this version of neap cannot "
		    "read (it knows \"%s\" with encryption \"%s\"): use the "
		    "neap that made it",
		    digest, digest_word(k), cipher);
	if (strcmp(digest, digest_word(k)) != 0)
		return err_set(e, -EBADMSG,
		    "encryption \"%s\" with digest \"%s\" is not in format %d",
		    cipher, digest, FORMAT);
	if (k->encrypted)
		rc = neap_json_hex(o, "public_key", k->public_key, 32, e);
	return rc;
}

int
neap_json_put(
    struct repo *r, const struct keys *k, const char *passphrase, struct err *e)
{
	SCOPED_JSON json_t *o = NULL;
	SCOPED_FREE char *text = NULL;
	struct err ignored = ERR_NONE;
	int rc = describe(k, passphrase, &o, e);

	if (rc < 0)
		return rc;
	text = jdoc_text(o);
	rc = repo_put_whole(r, NEAP_JSON_NAME, span_str(text), e);
	if (rc < 0)
		return rc;
	rc = repo_sync(r, e);
	if (rc < 0) /* its keys go: without them it would only be in the way */
		repo_remove(r, NEAP_JSON_NAME, &ignored);
	return rc;
}

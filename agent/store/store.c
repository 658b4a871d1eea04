/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store/store.h"

#include <errno.h>
#include <string.h>

#include "agent/core/jdoc.h"
#include "agent/store/neap_json.h"

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
	rc = neap_json_hex(o, "key_check", stored, sizeof stored, e);
	if (rc == 0)
		rc = keys_check_value(got, mine, e);
	if (rc < 0)
		return rc;
	if (memcmp(stored, mine, sizeof mine) != 0 ||
	    memcmp(got->public_key, want->public_key, 32) != 0)
		return err_set(e, -EKEYREJECTED,
		    "%s does not fit, though it names this repository: the key "
		    "or %s was altered",
		    whose, NEAP_JSON_NAME);
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
		rc = keys_unwrap(out, json_array_get(slots, i), passphrase, e);
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
	int rc = neap_json_parse(o, &want, e);

	if (rc < 0)
		return err_wrap(e, "%s", NEAP_JSON_NAME);
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
		    NEAP_JSON_NAME);
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
		rc = neap_json_read(made.repo, &o, e);
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
	struct err first = ERR_NONE;
	struct chunk_place at;
	char hex[65];
	int rc;

	/* Two hosts may have stored it, or one again when its pack was gone:
	 * any whole copy will do. */
	for (unsigned n = 0;; n++) {
		rc = index_find_nth(s->index, id, n, &at, e);
		if (rc <= 0)
			break;
		rc = pack_reader_get(s->packs, id, &at, to, e);
		if (rc == 0) {
			*blocks = at.blocks;
			return 0;
		}
		if (first.code == 0)
			err_copy(&first, e);
	}
	if (first.code < 0)
		return err_copy(e, &first);
	if (rc < 0)
		return rc;
	bytes_hex(hex, id->b, sizeof id->b);
	err_set(e, -ENOENT, "repository %s: chunk %s is not in the index",
	    s->repo->url, hex);
	return err_hint(e, "if only the index is damaged, the next `neap "
			   "backup` finds it in the packs again");
}

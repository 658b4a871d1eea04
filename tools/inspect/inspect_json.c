/* SPDX-License-Identifier: Apache-2.0 */
/* neap.json and key files. Of a key only what is public is ever printed. */
#include <errno.h>
#include <string.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/store/neap_json.h"
#include "tools/inspect/inspect.h"

static const char *const said[] = {
    "id", "created", "encryption", "digest", "public_key", "key_check"};

static void
say_slots(struct inspect *in, const json_t *slots)
{
	const json_t *slot;
	size_t i;

	inspect_say_int(in, "slots", json_array_size(slots));
	json_array_foreach (slots, i, slot) {
		json_t *row = json_object();

		json_object_set_new(
		    row, "slot", json_string(jdoc_str(slot, "kind", "?")));
		json_object_set_new(
		    row, "n", json_integer(jdoc_int(slot, "n", 0)));
		json_object_set_new(
		    row, "r", json_integer(jdoc_int(slot, "r", 0)));
		json_object_set_new(
		    row, "p", json_integer(jdoc_int(slot, "p", 0)));
		inspect_row(in, row);
	}
}

/* Is --key's key one of this repository? */
static int
try_key(
    struct inspect *in, const json_t *o, const struct keys *want, struct err *e)
{
	uint8_t stored[16], mine[16];
	int rc = neap_json_hex(o, "key_check", stored, sizeof stored, e);

	if (rc < 0 || in->key == NULL)
		return rc;
	rc = keys_check_value(in->key, mine, e);
	if (rc < 0)
		return rc;
	if (memcmp(in->key->repo_id, want->repo_id, KEYS_ID_LEN) != 0 ||
	    memcmp(stored, mine, sizeof mine) != 0 ||
	    memcmp(in->key->public_key, want->public_key, 32) != 0)
		return err_set(e, -EKEYREJECTED,
		    "the key given is not one of this repository");
	inspect_say_str(in, "key", "fits");
	return 0;
}

int
inspect_neap_json(struct inspect *in, struct err *e)
{
	SCOPED_JSON json_t *o = NULL;
	SCOPED_KEYS struct keys k = {0};
	int rc = neap_json_read(in->repo, &o, e);

	if (rc < 0)
		return rc;
	inspect_say_int(in, "format", (uint64_t)jdoc_int(o, "format", 0));
	for (size_t i = 0; i < MEM_COUNT(said); i++)
		if (jdoc_str(o, said[i], NULL) != NULL)
			inspect_say_str(
			    in, said[i], jdoc_str(o, said[i], NULL));
	if (json_object_get(o, "slots") != NULL)
		say_slots(in, json_object_get(o, "slots"));
	rc = neap_json_parse(o, &k, e);
	if (rc == 0 && k.encrypted)
		rc = try_key(in, o, &k, e);
	return rc;
}

int
inspect_key_file(struct inspect *in, struct err *e)
{
	SCOPED_KEYS struct keys k = {0};
	int rc = keys_load(&k, in->path, e);

	if (rc < 0) {
		/* Whether it is damaged or merely readable by others are two
		 * answers here, though one for those who want to use it. */
		if (strstr(e->text, "not a neap key") != NULL)
			e->code = -EBADMSG;
		return e->code;
	}
	inspect_say_str(in, "kind", k.has_private ? "recovery" : "host");
	inspect_say_hex(in, "repository", k.repo_id, KEYS_ID_LEN);
	inspect_say_hex(in, "public_key", k.public_key, 32);
	inspect_say_str(in, "opens",
	    k.has_private ? "everything"
			  : "names, maps and records, not the data");
	return 0;
}

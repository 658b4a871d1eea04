/* SPDX-License-Identifier: Apache-2.0 */
/* A document: the record of a backup, or the proof of a restore. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/jdoc.h"
#include "agent/core/mem.h"
#include "agent/store/doc.h"
#include "tools/inspect/inspect.h"

#define HEADER_LEN 64 /* docs/format.md, "Documents" */
#define KIND_RECORD 1
#define KIND_PROOF 2

/* The name that the document is bound to; gives. */
static int
bound_name(struct inspect *in, unsigned kind, char **out, struct err *e)
{
	bool record = kind == KIND_RECORD;
	const char *folder = record ? "backups/" : "proofs/";
	SCOPED_FREE char *name = inspect_tail(in, record ? 3 : 4);

	if (name == NULL || strncmp(name, folder, strlen(folder)) != 0)
		return err_set(e, -EKEYREJECTED,
		    "it opens only under its own name, and its path does not "
		    "end in %s",
		    record ? "backups/JOB/TIME" : "proofs/JOB/TIME/CHECKED");
	*out = TAKE(name);
	return 0;
}

static int
header(struct inspect *in, struct err *e)
{
	const uint8_t *h = in->head;

	if (in->len < HEADER_LEN)
		return err_set(e, -EBADMSG,
		    "offset %llu: it ends inside its header",
		    (unsigned long long)in->len);
	inspect_say_int(in, "version", bytes_le16(h + 8));
	inspect_say_str(in, "kind",
	    h[10] == KIND_RECORD  ? "record"
	    : h[10] == KIND_PROOF ? "proof"
				  : "unknown");
	inspect_say_int(in, "flags", h[11]);
	inspect_say_int(in, "json_bytes", bytes_le32(h + 12));
	inspect_say_hex(in, "id", h + 16, 16);
	inspect_say_int(in, "codec", h[32]);
	if (bytes_le16(h + 8) != 1)
		return err_set(e, -EOPNOTSUPP,
		    "offset 8: document version %u, this neap knows 1",
		    bytes_le16(h + 8));
	if (h[10] != KIND_RECORD && h[10] != KIND_PROOF)
		return err_set(
		    e, -EBADMSG, "offset 10: no document is of kind %u", h[10]);
	if (h[11] > 1)
		return err_set(e, -EBADMSG, "offset 11: flags %#x", h[11]);
	return 0;
}

int
inspect_doc(struct inspect *in, struct err *e)
{
	SCOPED_JSON json_t *j = NULL;
	SCOPED_FREE char *name = NULL;
	SCOPED_KEYS struct keys k = {0};
	unsigned kind = in->head[10];
	int rc = header(in, e);

	if (rc == 0)
		rc = bound_name(in, kind, &name, e);
	if (rc < 0)
		return rc;
	inspect_say_str(in, "name", name);
	rc = inspect_keys(in, in->head[11] & 1, &k, e);
	if (rc < 0)
		return rc;
	rc = doc_get(in->repo, &k, kind == KIND_RECORD ? "record" : "proof",
	    name, &j, e);
	if (rc < 0)
		return rc == -EBADMSG ? err_wrap(e, "offset %d", HEADER_LEN)
				      : rc;
	inspect_say(in, "document", json_incref(j));
	return 0;
}
